"""The bytes of an image, what else they may be, and what a failure to decode depends on."""

import errno
import hashlib
import io
import os
import struct
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from sdprep.errors import ImageError
from sdprep.images import decoder
from sdprep.images.decoder import DECODER, decoder_of, failure_of, file_digest, file_limit, read_file
from sdprep.images.formats import sniff
from sdprep.types import MAX_PIXELS, Failure, FailureCode, ImageItem

ITEM = ImageItem.at(Path("/a.png"))


def test_a_file_at_rest_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    real, reads = decoder.read_stream, []
    monkeypatch.setattr(decoder, "read_stream", lambda *given: reads.append(given) or real(*given))
    assert (read_file(ImageItem.at(tmp_path / "a")), len(reads)) == (b"bytes", 1)


def test_a_file_that_was_replaced_while_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").write_bytes(b"newer")
    real = decoder.read_stream

    def read(file: int, limit: int, name: str) -> bytes:
        data = real(file, limit, name)
        if (tmp_path / "b").exists():
            (tmp_path / "b").replace(tmp_path / "a")
        return data

    monkeypatch.setattr(decoder, "read_stream", read)
    assert read_file(ImageItem.at(tmp_path / "a")) == b"newer"


def test_a_file_that_keeps_changing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"")
    real = decoder.read_stream

    def read(file: int, limit: int, name: str) -> bytes:
        data = real(file, limit, name)
        (tmp_path / "a").write_bytes(data + b"more")
        return data

    monkeypatch.setattr(decoder, "read_stream", read)
    with pytest.raises(ImageError, match="another program changes it") as caught:
        read_file(ImageItem.at(tmp_path / "a"))
    assert caught.value.code is FailureCode.CHANGING


@pytest.fixture
def enormous(tmp_path: Path) -> Path:
    """A file that has one byte more than the largest image needs; on disk it takes nothing."""
    path = tmp_path / "enormous.png"
    with path.open("wb") as stream:
        stream.truncate(file_limit(MAX_PIXELS) + 1)
    return path


@pytest.mark.parametrize("look", [read_file, file_digest])
def test_no_byte_of_a_file_beyond_the_limit_is_read(
    enormous: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[ImageItem], bytes]
) -> None:
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(decoder, "CHUNK", "none")
    with pytest.raises(ImageError, match="its file is larger than 864 MB; --max-pixels sets this limit") as caught:
        look(ImageItem.at(enormous))
    assert caught.value.code is FailureCode.TOO_LARGE


@pytest.mark.parametrize("look", [read_file, file_digest])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes in folders there")
def test_a_pipe_in_the_place_of_an_image_holds_nobody_up(tmp_path: Path, look: Callable[[ImageItem], bytes]) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError) as caught:
        look(ImageItem.at(tmp_path / "a.png"))
    assert caught.value.code is FailureCode.UNREADABLE


@pytest.mark.parametrize("look", [read_file, file_digest])
@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
@pytest.mark.parametrize("swapped", ["sub/a.png", "sub"])
def test_no_link_that_has_taken_the_place_of_an_image_or_its_folder_is_followed_out(
    tmp_path: Path, look: Callable[[ImageItem], bytes], swapped: str
) -> None:
    (tmp_path / "set" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"private")
    if swapped == "sub":
        (tmp_path / "set" / "sub").rmdir()
    (tmp_path / "set" / swapped).symlink_to(tmp_path / "elsewhere" / ("" if swapped == "sub" else "a.png"))
    with pytest.raises(ImageError, match="link") as caught:
        look(ImageItem(tmp_path / "set", "sub/a.png", tmp_path / "set"))
    assert caught.value.code is FailureCode.UNREADABLE


def test_a_digest_is_that_of_all_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert file_digest(ImageItem.at(tmp_path / "a")) == hashlib.sha256(data).digest()


def test_a_file_that_grows_beyond_the_limit_while_it_is_hashed_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(bytes(decoder.CHUNK * 2))
    monkeypatch.setattr(decoder, "file_limit", lambda _: decoder.CHUNK + 1)
    grown = io.BytesIO(bytes(decoder.CHUNK * 2))
    grown.fileno = lambda: 0  # type: ignore[method-assign]
    monkeypatch.setattr(os, "fstat", lambda _: Path(os.devnull).stat())
    monkeypatch.setattr(decoder, "open_item", lambda *_: grown)
    with pytest.raises(ImageError) as caught:
        file_digest(ImageItem.at(tmp_path / "a"))
    assert caught.value.code is FailureCode.TOO_LARGE


# What an exception says of an image


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ImageError(FailureCode.TRUNCATED, "cut"), FailureCode.TRUNCATED, "cut"),
        (MemoryError(), FailureCode.OUT_OF_MEMORY, "decoding it takes more memory than is available"),
        (
            OSError(errno.ENOMEM, "no memory"),
            FailureCode.OUT_OF_MEMORY,
            "decoding it takes more memory than is available",
        ),
        (OSError(errno.EIO, "a bad disk"), FailureCode.UNREADABLE, "a bad disk"),
        (struct.error("short"), FailureCode.CORRUPT, "error: short"),
        (RecursionError("deep"), FailureCode.CORRUPT, "RecursionError: deep"),
        (AssertionError(), FailureCode.CORRUPT, "AssertionError: "),
        (type("PanicException", (BaseException,), {})("Rust"), FailureCode.CORRUPT, "PanicException: Rust"),
        (ValueError("x" * 10**6), FailureCode.CORRUPT, f"ValueError: {'x' * 488}..."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_any_exception_becomes_a_failure_with_a_code(error: BaseException, code: FailureCode, message: str) -> None:
    assert failure_of(ITEM, error, b"digest") == Failure(ITEM, code, message, b"digest")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_is_about_no_image_is_raised_again(error: BaseException) -> None:
    with pytest.raises(type(error)):
        failure_of(ITEM, error)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0", b"plain text", b"<?xml version='1.0'?><note/>"])
def test_what_is_not_known_has_no_name(data: bytes) -> None:
    assert sniff(data) is None


def test_a_drawing_behind_the_head_of_its_xml_has_a_name() -> None:
    assert sniff(b"<?xml version='1.0'?>\n<!-- x -->\n<svg/>") == "an SVG drawing"


def test_usual_settings_do_not_make_another_decoder() -> None:
    assert decoder_of(DECODER, MAX_PIXELS, allow_truncated=False) == DECODER


@pytest.mark.parametrize(("max_pixels", "allow_truncated"), [(5, False), (MAX_PIXELS, True)])
def test_a_setting_that_lets_other_images_in_does(max_pixels: int, allow_truncated: bool) -> None:
    assert decoder_of(DECODER, max_pixels, allow_truncated=allow_truncated).startswith(f"{DECODER} ")


def test_a_decoder_that_is_added_makes_another_one() -> None:
    assert decoder._named("pillow") == f"/pillow-{metadata.version('pillow')}"
    assert decoder._named("no-such-distribution") == ""
