"""How sidecars are named, read and written."""

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import ImageError
from sdprep.folders import Folders
from sdprep.texts.sidecar import decode_text, encode_text, read_text, sidecar_path
from sdprep.types import FailureCode


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
def test_a_sidecar_is_named_after_its_image(name: str, naming: str, expected: str) -> None:
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


UNSURE = {
    "utf-16 without mark": "solo, 1girl".encode("utf-16-le"),
    "the other utf-16 without mark": "solo, 1girl".encode("utf-16-be"),
    "utf-32": "solo".encode("utf-32"),
    "utf-32 without mark": "solo".encode("utf-32-le"),
    "utf-16 with the mark of the other": codecs.BOM_UTF16_BE + "a\n, b".encode("utf-16-le") + b"\xff\xff",
    "iso-2022-jp": "青い髪".encode("iso2022_jp"),
    "gbk": "蓝色头发".encode("gbk"),
    "shift-jis": "青い髪".encode("shift_jis"),
    "latin-1": "café".encode("latin-1"),
    "utf-8, then utf-16": b"solo\n" + "1girl".encode("utf-16-le"),
    "utf-16, then utf-8": "solo\n".encode("utf-16") + b"1girl, blue_hair\n",
    "utf-8, then latin-1": "é".encode() + "é".encode("latin-1"),
}


@pytest.mark.parametrize("data", UNSURE.values(), ids=UNSURE)
def test_a_text_of_another_encoding_or_of_two_is_not_taken_for_text(data: bytes) -> None:
    assert decode_text(data) is None


@pytest.mark.parametrize(
    "text",
    ["蓝色头发的女孩，独自一人，看着观众，微笑，户外，天空，白色连衣裙", "青い髪の少女", "파란 머리", "🙂\ta\r\nb"],
)
def test_text_of_any_script_is_read_as_utf_8_and_as_utf_16_with_mark(text: str) -> None:
    assert decode_text(text.encode("utf-8")) == decode_text(text.encode("utf-16")) == text


@pytest.mark.parametrize("text", ["a, b", "a, b\n", "a, b\n\n"])
def test_a_text_is_written_with_one_final_newline(text: str) -> None:
    assert encode_text(text) == b"a, b\n"


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_text_without_content_is_a_lone_newline(text: str) -> None:
    assert encode_text(text) == b"\n"


def test_a_text_is_written_without_a_byte_order_mark() -> None:
    assert encode_text("é") == b"\xc3\xa9\n"


def test_a_missing_sidecar_has_no_text(tmp_path: Path) -> None:
    with Folders(tmp_path) as folders:
        assert read_text(folders.at(""), "a.txt") is None


def test_a_sidecar_of_no_bytes_is_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with Folders(tmp_path) as folders:
        assert read_text(folders.at(""), "a.txt") == ""


def test_a_sidecar_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with Folders(tmp_path) as folders, pytest.raises(ImageError, match=r"a\.txt is neither") as caught:
        read_text(folders.at(""), "a.txt")
    assert caught.value.code is FailureCode.BAD_TEXT


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    text = decode_text(data)
    assert text is None or isinstance(text, str)
