"""Files that a stranger may have sized are read within a limit."""

import errno
import os
from pathlib import Path

import pytest

from sdprep.files import read_limited


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"words" * 1000)
    assert read_limited(tmp_path / "a", 5000) == b"words" * 1000


def test_an_empty_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert read_limited(tmp_path / "a", 0) == b""


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 5,000 bytes") as caught:
        read_limited(tmp_path / "a", 5000)
    assert caught.value.errno == errno.EFBIG


def test_a_file_that_grows_beyond_the_limit_while_it_is_read_is_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    read = os.read

    def growing(descriptor: int, size: int) -> bytes:
        with path.open("ab") as stream:
            stream.write(b"x" * 100)
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(OSError, match="larger than 50 bytes"):
        read_limited(path, 50)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(PermissionError, match="not a regular file"):
        read_limited(tmp_path / "a", 5000)
