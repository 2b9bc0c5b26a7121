"""The images of a tar, plain or packed with gzip, read once from its beginning to its end.

Whatever is wrong with a tar becomes the fault of a member: a tar that is damaged has all images before the damage.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sdprep.errors import ImageError
from sdprep.images.formats import sniff
from sdprep.sanitize import printable
from sdprep.shards.members import Member, fault_of_name, faulty, is_image, key_of, too_large
from sdprep.types import FailureCode

BLOCK = tarfile.BLOCKSIZE
GZIP = b"\x1f\x8b"
UNPACKED = 1 << 20
# The largest header of GNU tar and of pax: names of any length that a system knows fit.
LONGEST_HEADER = 1 << 20
NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
PAX = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
LINKS = {tarfile.LNKTYPE, tarfile.SYMTYPE}


class ByteStream:
    """Bytes that come in chunks; fewer than asked for come at the end alone."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def _take(self, count: int) -> Iterator[memoryview]:
        while count and (self._rest or self._next()):
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            yield part

    def _next(self) -> bool:
        # A chunk may be empty.
        while (chunk := next(self._chunks, None)) is not None:
            if chunk:
                self._rest = memoryview(chunk)
                return True
        return False

    def read(self, count: int) -> bytes:
        """The next bytes."""
        return b"".join(self._take(count))

    def skip(self, count: int) -> int:
        """Leave bytes out; how many there were."""
        return sum(map(len, self._take(count)))


@dataclass(slots=True)
class _Entry:
    """A member as its headers tell: `extended` are the values that the headers of GNU tar and of pax add."""

    info: tarfile.TarInfo
    extended: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.extended.get("path", self.info.name)

    @property
    def size(self) -> int:
        return int(self.extended.get("size", self.info.size))

    @property
    def is_sparse(self) -> bool:
        return self.info.type == tarfile.GNUTYPE_SPARSE or any(name.startswith("GNU.sparse") for name in self.extended)


def read_tar(chunks: Iterator[bytes], limit: int) -> Iterator[Member]:
    """The images of a tar, in their order; those of more than `limit` bytes are not read."""
    try:
        yield from _TarReader(ByteStream(_unpacked(chunks)), limit).members()
    except ImageError as error:
        yield Member("", "", fault=error)


class _TarReader:
    """Reads the members one after the other; ImageError tells what is wrong with the tar as a whole."""

    def __init__(self, stream: ByteStream, limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._last, self._shared = "", dict[str, str]()

    def members(self) -> Iterator[Member]:
        seen = set[str]()
        while (entry := self._next()) is not None:
            self._last = entry.name
            if entry.info.isdir() or not is_image(entry.name):
                self._skip(entry.size)
                continue
            fault = self._fault(entry, seen)
            seen.add(entry.name)
            if fault is not None:
                yield Member(key_of(entry.name), entry.name, fault=fault)
                self._skip(entry.size)
                continue
            yield (member := self._read(entry))
            if member.fault is not None:
                return

    def _fault(self, entry: _Entry, seen: set[str]) -> ImageError | None:
        if entry.name in seen:
            return ImageError(FailureCode.STEM_COLLISION, "an image before it in the tar has the same name")
        if entry.info.type in LINKS:
            return ImageError(FailureCode.UNREADABLE, "it is a link, and links in a tar are not followed")
        if not entry.info.isreg() or entry.is_sparse:
            return ImageError(FailureCode.UNREADABLE, "it is not a plain file")
        if entry.size > self._limit:
            return too_large(self._limit)
        return fault_of_name(entry.name)

    def _read(self, entry: _Entry) -> Member:
        data = self._stream.read(entry.size)
        if len(data) < entry.size:
            return faulty(entry.name, FailureCode.TRUNCATED, f"the tar ends within it, after {len(data)} bytes of it")
        self._stream.skip(-entry.size % BLOCK)
        return Member(key_of(entry.name), entry.name, data)

    def _skip(self, size: int) -> None:
        """Leave out the content of a member up to the next header. Raises ImageError if the tar ends before."""
        size += -size % BLOCK
        if self._stream.skip(size) < size:
            raise ImageError(FailureCode.TRUNCATED, f"the tar ends in {printable(self._last)}")

    def _next(self) -> _Entry | None:
        """The next member; None at the end."""
        extended = dict(self._shared)
        while (block := self._stream.read(BLOCK)) != bytes(BLOCK):
            info = self._header(block)
            if info.type in NAMES:
                extended[NAMES[info.type]] = self._long(info).rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type in PAX:
                values = self._pax(self._long(info))
                extended |= values
                if info.type == tarfile.XGLTYPE:
                    self._shared |= values
            else:
                while info.type == tarfile.GNUTYPE_SPARSE and block[482 if info.offset == 0 else 504]:
                    block, info.offset = self._stream.read(BLOCK).ljust(BLOCK, b"\0"), 1
                return self._checked(_Entry(info, extended))
        return None

    def _header(self, block: bytes) -> tarfile.TarInfo:
        if len(block) < BLOCK and (self._last or not block):
            if not block and not self._last:
                raise ImageError(FailureCode.EMPTY_FILE, "the tar has 0 bytes")
            raise ImageError(FailureCode.TRUNCATED, f"the tar ends after {printable(self._last)}, without an end mark")
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if self._last:
                raise self._damage() from error
            what = sniff(block)
            message = "it is not a tar" if what is None else f"it is not a tar but {what}"
            raise ImageError(FailureCode.CORRUPT, message) from error

    def _long(self, info: tarfile.TarInfo) -> bytes:
        """The content of a header that has more about the next member."""
        if not 0 <= info.size <= LONGEST_HEADER:
            raise self._damage()
        data = self._stream.read(info.size)
        self._stream.skip(-info.size % BLOCK)
        return data

    def _pax(self, data: bytes) -> dict[str, str]:
        values = {}
        while data.rstrip(b"\0"):
            length, _, rest = data.partition(b" ")
            if not length.isdigit() or not len(length) < int(length) <= len(data):
                raise self._damage()
            name, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
            values[name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
            data = data[int(length) :]
        return values

    def _checked(self, entry: _Entry) -> _Entry:
        if not entry.extended.get("size", "0").isdecimal() or entry.size < 0:
            raise self._damage()
        return entry

    def _damage(self) -> ImageError:
        after = f" after {printable(self._last)}" if self._last else ""
        return ImageError(FailureCode.CORRUPT, f"the tar is damaged{after}; what follows cannot be read")


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes of a tar, out of gzip if they are in it. Raises ImageError if that is damaged."""
    first = next(chunks, b"")
    while len(first) < len(GZIP) and (more := next(chunks, b"")):
        first += more
    if not first.startswith(GZIP):
        yield first
        yield from chunks
        return
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    packed = first
    while packed:
        before = unpack.copy()
        try:
            yield unpack.decompress(packed, UNPACKED)
        except zlib.error as error:
            yield from _before_damage(before, packed)
            raise ImageError(FailureCode.CORRUPT, f"the gzip of the tar is damaged: {error}") from error
        packed = unpack.unconsumed_tail
        if unpack.eof:
            # Several files of gzip may follow each other, and padding may follow these.
            packed = unpack.unused_data.lstrip(b"\0")
            unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
        packed = packed or next(chunks, b"")


def _before_damage(unpack: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """What can be unpacked before the damage: a call that finds it loses what it has unpacked, so a byte per call."""
    with suppress(zlib.error):
        for place in range(len(packed)):
            yield unpack.decompress(packed[place : place + 1])
