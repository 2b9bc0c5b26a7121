"""The messages between a command and its worker through two pipes: small and typed, never a pixel.

A message is MessagePack behind its length in four bytes. Messages are decoded by their types and nothing in them is
ever run, since a worker reads untrusted files. Paths travel as the bytes that the file system knows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from sdprep.engines.base import EngineConfig
from sdprep.report import StageTime
from sdprep.types import FailureCode, ImageWarning

LENGTH_BYTES = 4
# The answer of a tagger with a million labels has a tenth of this.
LONGEST_MESSAGE = 64 * 2**20
T = TypeVar("T")


# To the worker


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message: the model to open; with `limit_memory`, decoding is given a limit of memory."""

    config: EngineConfig
    limit_memory: bool


class Image(msgspec.Struct, frozen=True, tag=True):
    """An image to decode and predict, by a number of the run."""

    number: int
    folder: Path
    within: Path
    is_link: bool = False
    prompt: str = ""


class Flush(msgspec.Struct, frozen=True, tag=True):
    """Finish what was sent; more may follow."""


class StopNow(msgspec.Struct, frozen=True, tag=True):
    """The current batch is the last."""


# From the worker


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded, and this runs it."""

    provider: str


class Decoding(msgspec.Struct, frozen=True, tag=True):
    """The worker is about to read and decode this image."""

    number: int


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """The image waits for memory, and its time limit with it."""

    number: int


class Resumed(msgspec.Struct, frozen=True, tag=True):
    """The image has waited, and is decoded next."""

    number: int


class DecodingDone(msgspec.Struct, frozen=True, tag=True):
    """The image is decoded, or has failed without harm."""

    number: int


class Predicting(msgspec.Struct, frozen=True, tag=True):
    """The worker is about to show the model these images."""

    numbers: tuple[int, ...]


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The result of an image, as the catalog stores it, with its width and height."""

    number: int
    digest: bytes
    data: bytes
    warnings: tuple[ImageWarning, ...] = ()
    size: tuple[int, int] | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An image has no result, and why."""

    number: int
    code: FailureCode
    message: str
    digest: bytes | None


class Timings(msgspec.Struct, frozen=True, tag=True):
    """What the stages took for the group; sent before its end if the configuration asks for it."""

    stages: dict[str, StageTime]


class GroupDone(msgspec.Struct, frozen=True, tag=True):
    """Every image of the group has been reported, or the worker has stopped as it was told to."""


class WorkerNote(msgspec.Struct, frozen=True, tag=True):
    """Something the user should know."""

    text: str


class KnownError(msgspec.Struct, frozen=True, tag=True):
    """An error of `errors.py`, by its class, ended the worker."""

    kind: str
    message: str


class UnexpectedError(msgspec.Struct, frozen=True, tag=True):
    """A bug ended the worker."""

    traceback: str


ToWorker = Start | Image | Flush | StopNow
FromWorker = (
    Ready
    | WorkerNote
    | Decoding
    | Waiting
    | Resumed
    | DecodingDone
    | Predicting
    | Answer
    | Failed
    | Timings
    | GroupDone
    | KnownError
    | UnexpectedError
)


def encode(message: object) -> bytes:
    """A message or its part as MessagePack."""
    return msgspec.msgpack.encode(message, enc_hook=_to_wire)


def write(stream: IO[bytes], message: ToWorker | FromWorker) -> None:
    """Send a message at once. Raises OSError if nobody reads."""
    data = encode(message)
    stream.write(len(data).to_bytes(LENGTH_BYTES, "little") + data)
    stream.flush()


def read(stream: IO[bytes], kind: type[T]) -> T | None:
    """The next message; None at the end, also if it comes in the midst of a message, and for one of enormous length.

    A decoder that a hostile image has taken over could claim any length.
    """
    head = stream.read(LENGTH_BYTES)
    size = int.from_bytes(head, "little")
    data = stream.read(size) if len(head) == LENGTH_BYTES and size <= LONGEST_MESSAGE else b""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_from_wire) if data and len(data) == size else None


def _to_wire(value: object) -> object:
    if isinstance(value, Path):
        return os.fsencode(value)
    raise NotImplementedError(f"{type(value).__name__} does not travel")


def _from_wire(kind: type, value: Any) -> object:
    if kind is Path:
        return Path(os.fsdecode(value))
    raise NotImplementedError(f"{kind.__name__} does not travel")
