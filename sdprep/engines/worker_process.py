"""A worker process as its parent sees it: it can be sent messages, read from, and killed."""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import IO

from sdprep import errors
from sdprep.engines.protocol import (
    FromWorker,
    KnownError,
    Ready,
    Start,
    ToWorker,
    UnexpectedError,
    WorkerNote,
    read,
    write,
)
from sdprep.errors import SdprepError, WorkerError, lacks_memory, starting_threads
from sdprep.report import CancelToken

# The new process finds packages where this one does, and nothing is imported before it knows them.
PROGRAM = "import sys; sys.path[:] = {path!r}; from sdprep.engines.worker import main; main()"
# At most this many seconds pass between two checks for cancellation and for images whose time has run out.
TICK = 0.25
# Seconds for a killed process to go away; one that hangs inside a driver may never do so.
KILL_TIMEOUT = 10.0
LAST_LINES, LINE_BYTES = 20, 4096
# The exit code of a worker that has run out of memory.
OUT_OF_MEMORY_CODE = 70


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker has ended by itself or was killed; `reason` says how."""

    reason: str


class WorkerProcess:
    """A worker that was started; `wakeup` is set whenever it has sent a message.

    Raises WorkerError if the system cannot start it.
    """

    def __init__(self, start: Start, wakeup: threading.Event) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise WorkerError("this program has no Python that could be started; use --workers 0")
        program = PROGRAM.format(path=sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C is for this process alone, also before the other can say that it ignores it.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise WorkerError(f"{sys.executable} cannot be started: {error}; --workers 0 needs no process") from error
        self._wakeup = wakeup
        self._inbox: SimpleQueue[FromWorker | None] = SimpleQueue()
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._no_memory: str | None = None
        self._readers = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._read_stderr)]
        # A program that does not close its engine would otherwise end while the readers hold locks, and abort.
        atexit.register(self.end)
        try:
            with starting_threads():
                for thread in self._readers:
                    thread.start()
        except BaseException:
            self.end()
            raise
        self.send(start)

    def send(self, message: ToWorker) -> None:
        """Send a message. If the worker is dead, `receive` reports it."""
        with suppress(OSError):
            write(self._stream(self._process.stdin), message)

    def receive(self) -> FromWorker | WorkerExit | None:
        """The next message; None if none has come.

        Raises the error of `errors.py` that ended the worker, or RuntimeError with the traceback of a defect.
        """
        try:
            message = self._inbox.get_nowait()
        except Empty:
            return None
        if message is None:
            return WorkerExit(self._reason())
        if isinstance(message, KnownError):
            kind: type[SdprepError] = getattr(errors, message.kind, SdprepError)
            # Some classes make their message themselves: it is made already.
            raise kind.__new__(kind, message.message)
        if isinstance(message, UnexpectedError):
            raise RuntimeError(f"in the worker:\n{message.traceback}")
        return message

    def until_ready(self, stop: CancelToken, note: Callable[[str], None]) -> Generator[None, None, str]:
        """Yield None while the model is being loaded, and return what runs it, or "" if cancelled before.

        Raises WorkerError if it dies before, and what ended it otherwise.
        """
        while not stop:
            message = self.receive()
            if message is None:
                yield
            elif isinstance(message, WorkerNote):
                note(message.text)
            elif isinstance(message, Ready):
                return message.provider
            elif isinstance(message, WorkerExit):
                raise WorkerError(f"the worker ended before its model was loaded{self._why(message.reason)}")
        return ""

    def kill(self) -> None:
        """Kill it, however busy it is, without waiting. Messages that it has sent can still be received."""
        self._process.kill()

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        atexit.unregister(self.end)
        self.kill()
        self._wait()
        if self._process.returncode is not None:
            for thread in self._readers:
                if thread.ident is not None:
                    thread.join()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                # What was not sent is lost with it.
                with suppress(OSError):
                    self._stream(stream).close()

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:
            raise AssertionError("a pipe of the worker was not opened")
        return stream

    def _listen(self) -> None:
        while (message := read(self._stream(self._process.stdout), FromWorker)) is not None:  # type: ignore[arg-type]
            self._inbox.put(message)
            self._wakeup.set()
        self._inbox.put(None)
        self._wakeup.set()

    def _read_stderr(self) -> None:
        stream = self._stream(self._process.stderr)
        while line := stream.readline(LINE_BYTES):
            if text := line.decode("utf-8", "replace").strip():
                self._last_lines.append(text)
                if self._no_memory is None and lacks_memory(text):
                    # A long traceback may follow it.
                    self._no_memory = text

    def _wait(self) -> None:
        # One that stays is ended by the kernel when a driver lets go of it.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_TIMEOUT)

    def _why(self, reason: str) -> str:
        """What to tell of an early end: what it printed of memory, else how it ended and its last line."""
        # OpenBLAS ends a process for which it gets no thread by the signal of Ctrl-C.
        if self._no_memory is not None:
            return f", since memory is short or limited (ulimit -v): {self._no_memory}"
        return f" ({reason})" + (f": {self._last_lines[-1]}" if self._last_lines else "")

    def _reason(self) -> str:
        """How it ended: by a signal, by its exit code."""
        self._wait()
        code = self._process.poll()
        self._readers[1].join(KILL_TIMEOUT)
        if code is None:
            return "its pipe ended"
        if code < 0:
            known = {each.value: each.name for each in signal.Signals}
            name = known.get(-code, f"signal {-code}")
            return f"{name}, as the system sends it when memory runs out" if name == "SIGKILL" else name
        if code == OUT_OF_MEMORY_CODE:
            return "memory that ran out"
        return f"exit code {code}" if code < 256 else f"exit code {code:#x}"
