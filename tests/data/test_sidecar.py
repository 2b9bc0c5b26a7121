"""How sidecars are named, read and written."""

import codecs
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.data import sidecar
from sdprep.data.sidecar import decode_text, encode_text, read_bytes, read_text, replace_file, sidecar_path
from sdprep.errors import ImageError
from sdprep.types import FailureCode

ROOT = Path(__file__).resolve().parents[2]
ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")


@pytest.mark.parametrize(
    ("name", "naming", "expected"),
    [
        ("a.jpg", "stem", "a.txt"),
        ("a.jpg", "full", "a.jpg.txt"),
        ("a.b.png", "stem", "a.b.txt"),
        ("spaces  .png", "stem", "spaces  .txt"),
        ("日本.webp", "stem", "日本.txt"),
    ],
)
def test_a_sidecar_is_named_after_its_picture(name: str, naming: str, expected: str) -> None:
    assert sidecar_path(Path("d") / name, ".txt", naming) == Path("d") / expected


def test_the_bytes_of_a_name_that_is_no_unicode_are_kept() -> None:
    target = Path(os.fsdecode(b"caf\xe9.png"))
    assert os.fsencode(sidecar_path(target, ".txt", "stem")) == b"caf\xe9.txt"


@pytest.mark.parametrize(
    "data",
    [
        "é 日本".encode(),
        codecs.BOM_UTF8 + "é 日本".encode(),
        codecs.BOM_UTF16_LE + "é 日本".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "é 日本".encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16-le", "utf-16-be"],
)
def test_text_is_read_in_the_encodings_that_editors_write(data: bytes) -> None:
    assert decode_text(data) == "é 日本"


@pytest.mark.parametrize("data", [b"caf\xe9", codecs.BOM_UTF16_LE + b"a", b"\x80"])
def test_bytes_that_are_no_text_are_not_guessed_at(data: bytes) -> None:
    assert decode_text(data) is None


@pytest.mark.parametrize("text", ["a, b", "a, b\n", "a, b\n\n"])
def test_a_text_is_written_with_one_final_newline(text: str) -> None:
    assert encode_text(text) == b"a, b\n"


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_text_without_content_is_a_lone_newline(text: str) -> None:
    assert encode_text(text) == b"\n"


def test_a_text_is_written_without_a_byte_order_mark() -> None:
    assert encode_text("é") == b"\xc3\xa9\n"


def test_a_missing_sidecar_has_no_bytes_and_no_text(tmp_path: Path) -> None:
    assert (read_bytes(tmp_path / "a.txt"), read_text(tmp_path / "a.txt", tmp_path)) == (None, None)


def test_a_sidecar_of_no_bytes_is_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert read_text(tmp_path / "a.txt", tmp_path) == ""


def test_a_sidecar_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ImageError, match=r"a\.txt is neither") as caught:
        read_text(tmp_path / "a.txt", tmp_path)
    assert caught.value.code is FailureCode.BAD_TEXT


def put(path: Path, data: bytes = b"new") -> None:
    replace_file(path, data, path.with_name("short.tmp"))


def test_a_file_is_made(tmp_path: Path) -> None:
    put(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_file_is_replaced_and_no_temporary_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    put(tmp_path / "a.txt")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"new")]


def test_a_hard_link_to_the_old_file_keeps_the_old_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    os.link(tmp_path / "a.txt", tmp_path / "backup.txt")
    put(tmp_path / "a.txt")
    assert (tmp_path / "backup.txt").read_bytes() == b"old"


@ON_POSIX
def test_the_mode_of_the_old_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    (tmp_path / "a.txt").chmod(0o640)
    put(tmp_path / "a.txt")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_when_replacing_fails_the_old_bytes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    (tmp_path / "a.txt").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        put(tmp_path / "a.txt")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


@ON_POSIX
def test_a_full_disk_leaves_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "a.txt").write_bytes(b"old")
    monkeypatch.setattr(sidecar, "_no_follow", lambda *_: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path / "a.txt")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


@ON_POSIX
@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "short.tmp").symlink_to(tmp_path / target)
    with pytest.raises(FileExistsError):
        put(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


@ON_POSIX
def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "a.txt").symlink_to(tmp_path / "target")
    put(tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").is_symlink()
    assert ((tmp_path / "a.txt").read_bytes(), (tmp_path / "target").read_bytes()) == (b"new", b"precious")


# Links and pipes


@ON_POSIX
def test_a_link_is_read_as_long_as_it_stays_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "set" / "sub").mkdir(parents=True)
    (tmp_path / "set" / "b.txt").write_bytes(b"mine")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "set" / "sub" / "a.txt").symlink_to("../b.txt")
    (tmp_path / "set" / "sub" / "c.txt").symlink_to("../../secret")
    assert sidecar.read_inside(tmp_path / "set" / "sub" / "a.txt", tmp_path / "set") == b"mine"
    with pytest.raises(ImageError, match=r"c\.txt is a link that leaves") as caught:
        sidecar.read_inside(tmp_path / "set" / "sub" / "c.txt", tmp_path / "set")
    assert caught.value.code is FailureCode.UNREADABLE


@ON_POSIX
def test_a_link_through_links_is_judged_by_its_end(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "set" / "b.txt").symlink_to("../secret")
    (tmp_path / "set" / "a.txt").symlink_to("b.txt")
    with pytest.raises(ImageError, match="leaves"):
        sidecar.read_inside(tmp_path / "set" / "a.txt", tmp_path / "set")


@ON_POSIX
def test_a_link_to_nothing_and_a_ring_of_links_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("gone.txt")
    (tmp_path / "b.txt").symlink_to("b.txt")
    assert sidecar.read_inside(tmp_path / "a.txt", tmp_path) is None
    with pytest.raises((ImageError, OSError)):
        sidecar.read_inside(tmp_path / "b.txt", tmp_path)


@ON_POSIX
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    for call in ("read_inside(path, path.parent)", "read_bytes(path)"):
        script = (
            f"import sys; from pathlib import Path; from sdprep.data.sidecar import *; path = Path(sys.argv[1]); {call}"
        )
        # In a process of its own: a reader that waits does so for ever.
        said = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "a.txt")], cwd=ROOT, capture_output=True, timeout=60
        )
        assert b"is no ordinary file" in said.stderr


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    text = decode_text(data)
    assert text is None or isinstance(text, str)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are limited elsewhere otherwise")
def test_a_sidecar_of_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    put(path)
    assert path.read_bytes() == b"new"
