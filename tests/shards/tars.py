"""Tars as tests need them."""

import io
import tarfile
from collections.abc import Mapping

IMAGES = {"a/1.jpg": b"\xff\xd8one" * 200, "a/1.json": b"{}", "a/2.png": b"two", "a/2.left.png": b"left"}


def tar(members: Mapping[str, bytes], mode: str = "w", form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar with these members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=form) as file:  # type: ignore[call-overload]
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.uname = len(data), 1_700_000_000, "someone"
            file.addfile(header, io.BytesIO(data))
    return stream.getvalue()


def members(data: bytes) -> list[tuple[str, bytes]]:
    """The members of a tar in their order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return [(member.name, (file.extractfile(member) or io.BytesIO()).read()) for member in file]
