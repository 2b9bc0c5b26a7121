"""Reads the images of shards into the spool, in a thread of its own, while others are at work on those before them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sdprep.errors import starting_threads
from sdprep.report import CancelToken
from sdprep.shards.members import Member
from sdprep.shards.results import Shard
from sdprep.shards.spool import Spool
from sdprep.shards.table import Row
from sdprep.types import ImageItem

# Seconds between two checks for cancellation, and those that a read which has begun may take after the end.
TICK, GRACE = 0.25, 5.0


@dataclass(slots=True)
class Chunk:
    """Images that are in hand together; `places` are those of the images that the model has to see."""

    rows: list[Row] = field(default_factory=list)
    places: dict[ImageItem, int] = field(default_factory=dict)

    def add(self, member: Member, item: ImageItem | None) -> None:
        """Add an image, which is a file of the spool unless it has a fault."""
        if item is not None:
            self.places[item] = len(self.rows)
        if member.fault is None:
            self.rows.append(Row(member.key, member.name))
        else:
            self.rows.append(Row(member.key, member.name, member.fault.code.value, str(member.fault)))


@dataclass(slots=True, eq=False)
class _Reading:
    """What was read of a shard: the next chunk, and the sizes of all its files. `error` ended it."""

    shard: Shard
    chunk: Chunk = field(default_factory=Chunk)
    sizes: dict[ImageItem, int] = field(default_factory=dict)
    is_asked_for: bool = False
    is_begun: bool = False
    is_read: bool = False
    is_dropped: bool = False
    error: BaseException | None = None


class ReadAhead:
    """Reads shards one after the other, ahead of whoever works on their images, as far as the spool has room.

    A chunk has what was read by the time that it is asked for, `least` images or more unless the shard ends or there is
    no room for them. `read` gives the images of a shard, none larger than the spool. One that `is_done` before it is
    begun is not read ahead.
    """

    def __init__(
        self,
        spool: Spool,
        read: Callable[[Shard], Iterator[Member]],
        is_done: Callable[[str], bool],
        *,
        least: int,
        prompt: str,
    ) -> None:
        self._spool, self._read, self._is_done = spool, read, is_done
        self._least, self._prompt = least, prompt
        self._readings: deque[_Reading] = deque()
        # Of the images that are files, and of the one that waits until there is room.
        self._used = self._waiting = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def chunks(self, shard: Shard, following: Shard | None, stop: CancelToken) -> Iterator[Chunk]:
        """The images of a shard, until cancelled; then those of the `following` one are read.

        Raises what reading raises, as soon as that is known.
        """
        reading = self._begin(shard, following)
        try:
            while (chunk := self._next(reading, stop)) is not None:
                yield chunk
        finally:
            with self._changed:
                self._drop(reading)

    def release(self, item: ImageItem) -> int:
        """Delete the file of an image of the shard that is in hand; how many bytes it had."""
        with self._changed:
            size = self._readings[0].sizes.pop(item)
            self._delete(item, size)
        return size

    def close(self) -> None:
        """End the reading. A store that does not answer is not waited for."""
        with self._changed:
            self._is_closed = True
            for reading in list(self._readings):
                self._drop(reading)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(GRACE)

    def _begin(self, shard: Shard, following: Shard | None) -> _Reading:
        """Have a shard read next, unless it was begun already, and then the following one; others are dropped."""
        with self._changed:
            while self._readings and self._readings[0].shard != shard:
                self._drop(self._readings[0])
            for each in (shard, following):
                if each is not None and each not in [reading.shard for reading in self._readings]:
                    self._readings.append(_Reading(each))
            reading = self._readings[0]
            reading.is_asked_for = True
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="read ahead", daemon=True)
            with starting_threads():
                self._thread.start()
        return reading

    def _next(self, reading: _Reading, stop: CancelToken) -> Chunk | None:
        """The next chunk; None at the end, and once cancelled."""
        with self._changed:
            while not (reading.is_read or self._is_full or len(reading.chunk.places) >= self._least):
                if stop:
                    return None
                self._changed.wait(TICK)
            if reading.error is not None:
                raise reading.error
            if reading.is_read and not reading.chunk.rows:
                return None
            chunk, reading.chunk = reading.chunk, Chunk()
            return chunk

    @property
    def _is_full(self) -> bool:
        return self._used > 0 and self._used + self._waiting > self._spool.size

    def _drop(self, reading: _Reading) -> None:
        """Forget a reading, and delete its files."""
        if reading.is_dropped:
            return
        reading.is_dropped = True
        self._readings.remove(reading)
        self._empty(reading)
        self._changed.notify_all()

    def _empty(self, reading: _Reading) -> None:
        while reading.sizes:
            self._delete(*reading.sizes.popitem())

    def _delete(self, item: ImageItem, size: int) -> None:
        self._spool.remove(item)
        self._used -= size
        if self._waiting:
            self._changed.notify_all()

    # In the thread

    def _serve(self) -> None:
        while (reading := self._wait_for_reading()) is not None:
            try:
                if not self._is_done_by_others(reading):
                    for member in self._read(reading.shard):
                        if not self._take(reading, member):
                            break
            except BaseException as error:  # noqa: BLE001 - it is raised where the images are asked for
                reading.error = error
            with self._changed:
                reading.is_read = True
                self._changed.notify_all()

    def _wait_for_reading(self) -> _Reading | None:
        with self._changed:
            while not self._is_closed:
                for reading in self._readings:
                    if not reading.is_begun:
                        reading.is_begun = True
                        return reading
                self._changed.wait()
        return None

    def _is_done_by_others(self, reading: _Reading) -> bool:
        """Whether a shard that is read ahead is done, and is then not read."""
        if reading.is_asked_for or not self._is_done(reading.shard.id):
            return False
        with self._changed:
            # It is read if it was asked for meanwhile, by who has found it not done.
            if not reading.is_asked_for:
                self._drop(reading)
        return reading.is_dropped

    def _take(self, reading: _Reading, member: Member) -> bool:
        """Make an image a file and add it to the chunk, once there is room; False if nobody wants it any more."""
        with self._changed:
            self._waiting = len(member.data)
            while self._is_full and not reading.is_dropped:
                self._changed.notify_all()
                self._changed.wait()
        if reading.is_dropped:
            return False
        item = None if member.fault is not None else self._spool.add(member.data, member.suffix, self._prompt)
        with self._changed:
            self._waiting = 0
            if item is not None:
                self._used += len(member.data)
                reading.sizes[item] = len(member.data)
            if reading.is_dropped:
                self._empty(reading)
                return False
            reading.chunk.add(member, item)
            if len(reading.chunk.places) >= self._least:
                self._changed.notify_all()
        return True
