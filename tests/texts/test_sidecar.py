"""How sidecars are named, read and written."""

import codecs
import itertools
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import ImageError
from sdprep.folders import Folders
from sdprep.texts.sidecar import decode_text, encode_text, read_text, sidecar_collisions, sidecar_path
from sdprep.types import FailureCode, ImageItem, ImageWarning

NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")


def items(*names: str) -> list[ImageItem]:
    return [ImageItem(Path("/d"), name, Path("/d")) for name in names]


def colliding(*names: str, extension: str = ".txt", naming: str = "stem") -> list[str]:
    return [failure.item.rel for failure in sidecar_collisions(items(*names), extension, naming)]


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
        assert read_text(folders.at(""), "a.txt") == (None, None)


def test_a_sidecar_of_no_bytes_is_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with Folders(tmp_path) as folders:
        assert read_text(folders.at(""), "a.txt") == ("", ImageWarning.EMPTY_SIDECAR)


def test_a_sidecar_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with Folders(tmp_path) as folders, pytest.raises(ImageError, match=r"a\.txt is neither") as caught:
        read_text(folders.at(""), "a.txt")
    assert caught.value.code is FailureCode.BAD_TEXT


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    text = decode_text(data)
    assert text is None or isinstance(text, str)


# Two images, one sidecar


def test_images_of_one_stem_would_share_a_sidecar() -> None:
    assert colliding("a.jpg", "a.png", "b.png") == ["a.jpg", "a.png"]


def test_of_many_images_that_share_a_sidecar_each_message_names_a_few() -> None:
    names = ["".join(letters) + ".png" for letters in itertools.product(*("aA", "bB", "cC", "dD"))]
    names[0] = "abcd.jpg"
    failures = sidecar_collisions(items(*names), ".txt", "stem")
    assert len(failures) == 16
    assert all(" and 11 more would share" in failure.message for failure in failures)


def test_images_of_one_stem_in_two_folders_do_not_collide() -> None:
    assert colliding("a.jpg", "sub/a.png") == []


def test_full_naming_tells_images_of_one_stem_apart() -> None:
    assert colliding("a.jpg", "a.png", naming="full") == []


def test_stems_that_differ_in_case_collide_where_case_does_not_count() -> None:
    assert colliding("A.jpg", "a.png") == ["A.jpg", "a.png"]


def test_images_whose_own_names_differ_in_case_alone_do_not_collide() -> None:
    assert colliding("A.jpg", "a.jpg") == []


def test_stems_that_differ_in_unicode_form_collide() -> None:
    assert colliding(f"{NFC}.jpg", f"{NFD}.png") == [f"{NFC}.jpg", f"{NFD}.png"]


def test_three_images_of_one_stem_all_fail() -> None:
    assert colliding("a.jpg", "A.jpg", "a.png") == ["a.jpg", "A.jpg", "a.png"]


def test_only_the_last_extension_of_a_name_is_cut_for_its_sidecar() -> None:
    assert colliding("a.v1.png", "a.v2.png") == []


def test_a_collision_names_both_images_and_the_way_out() -> None:
    failure = sidecar_collisions(items("a.jpg", "a.png"), ".txt", "stem")[0]
    assert failure.code is FailureCode.STEM_COLLISION
    assert all(part in failure.message for part in ("a.jpg, a.png", "--sidecar-name full"))
