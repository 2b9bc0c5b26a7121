"""Small copies of images, made by processes of their own: an image that breaks its decoder costs itself alone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import IO

import msgspec

from sdprep.engines.memory import limited
from sdprep.images.decode import decode
from sdprep.types import Failure, Fit, ImageItem

# Pixels of the longer side of a thumbnail, which is sharp where a point has two pixels, and of the large view.
SMALL, LARGE = 384, 2048
PROCESSES = 2
# Seconds for an image, after which its process is killed.
TIME_LIMIT = 30.0
LENGTH_BYTES = 4
# Bytes of the largest answer that is believed.
LONGEST = 64_000_000
PROGRAM = "import sys; sys.path[:] = {path!r}; from sdprep.review.decoder import main; main()"


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """A request: the image, as the folder and path of an ImageItem, and the longer side of the copy."""

    folder: bytes
    within: bytes
    is_link: bool
    side: int


class Copy(msgspec.Struct, frozen=True, array_like=True):
    """An answer: the bytes of the copy, or why there is none."""

    data: bytes
    failure: str = ""


class Decoders:
    """Processes that make copies; what was asked for last comes first."""

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self._time_limit = time_limit
        self._queue: asyncio.LifoQueue[tuple[Wanted, asyncio.Future[Copy]]] = asyncio.LifoQueue()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the processes, unless they are; the first copy that is asked for does too."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._serve()) for _ in range(PROCESSES)]

    async def copy(self, item: ImageItem, side: int) -> Copy:
        """A copy of an image whose longer side has at most so many pixels."""
        self.start()
        found: asyncio.Future[Copy] = asyncio.get_running_loop().create_future()
        wanted = Wanted(os.fsencode(item.folder), os.fsencode(item.within), item.is_link, side)
        await self._queue.put((wanted, found))
        return await found

    async def close(self) -> None:
        """End the processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _serve(self) -> None:
        """Give one request after the other to a process, which is replaced when it dies."""
        process = None
        try:
            while True:
                if process is None:
                    process = await _start()
                wanted, found = await self._queue.get()
                if found.cancelled():
                    continue
                answer = await self._ask(process, wanted)
                if answer is None:
                    await _end(process)
                    process, answer = None, Copy(b"", "its decoder crashed, or took too long")
                if not found.cancelled():
                    found.set_result(answer)
        finally:
            if process is not None:
                await _end(process)

    async def _ask(self, process: asyncio.subprocess.Process, wanted: Wanted) -> Copy | None:
        """The answer of a process; None if it dies, or is too slow."""
        try:
            return await asyncio.wait_for(_answer(process, wanted), self._time_limit)
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError, msgspec.MsgspecError):
            return None


async def _answer(process: asyncio.subprocess.Process, wanted: Wanted) -> Copy | None:
    if process.stdin is None or process.stdout is None:
        return None
    process.stdin.write(_framed(msgspec.msgpack.encode(wanted)))
    await process.stdin.drain()
    size = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "little")
    if size > LONGEST:
        return None
    return msgspec.msgpack.decode(await process.stdout.readexactly(size), type=Copy)


async def _start() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    program = PROGRAM.format(path=sys.path)
    # Ctrl-C is for the command alone.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


# In the process that decodes


def main() -> None:
    """Answer requests on stdin until it ends."""
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    while (data := _read(incoming)) is not None:
        outgoing.write(_framed(msgspec.msgpack.encode(_copied(msgspec.msgpack.decode(data, type=Wanted)))))
        outgoing.flush()


def _read(stream: IO[bytes]) -> bytes | None:
    head = stream.read(LENGTH_BYTES)
    return stream.read(int.from_bytes(head, "little")) if len(head) == LENGTH_BYTES else None


def _copied(wanted: Wanted) -> Copy:
    from PIL import Image

    folder = Path(os.fsdecode(wanted.folder))
    item = ImageItem(folder, os.fsdecode(wanted.within), folder, is_link=wanted.is_link)
    fit = Fit(wanted.side, "inside")
    decoded = limited(lambda each: decode(each, fit))(item)
    if isinstance(decoded, Failure):
        return Copy(b"", decoded.message)
    file = io.BytesIO()
    if wanted.side == SMALL:
        Image.fromarray(decoded.pixels).save(file, "WEBP", quality=75, method=2)
    else:
        Image.fromarray(decoded.pixels).save(file, "JPEG", quality=90)
    return Copy(file.getvalue())
