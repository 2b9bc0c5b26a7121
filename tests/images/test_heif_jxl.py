"""HEIC and JPEG XL: decoded with the extra, and without it refused with the command that installs it."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdprep.errors import ImageError
from sdprep.images import heif_jxl
from sdprep.images.decode import decode, open_rgb, read_size
from sdprep.images.heif_jxl import jxl_size, recognised
from sdprep.installation import here
from sdprep.types import Decoded, Failure, FailureCode, Fit, ImageItem
from tests.corpus import HEIC, JXL, JXL_BOMB, PLAIN
from tests.images.files import FORMATS, NOISE, encoded, item_of, plain

KINDS = {"HEIF": ("heic", HEIC, "pillow_heif"), "JXL": ("jxl", JXL, "pillow_jxl")}
WITH_BOTH = pytest.mark.skipif(
    not all(find_spec(module) for _, _, module in KINDS.values()), reason="sdprep[heic] is not installed"
)


def register() -> None:
    """Have Pillow write the two formats too."""
    for kind, (_, data, _) in KINDS.items():
        heif_jxl.prepare(kind, data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_bytes_tell_the_format(kind: str) -> None:
    assert recognised(KINDS[kind][1]) == kind


@pytest.mark.parametrize("kind", FORMATS)
def test_no_other_format_is_taken_for_one_of_them(kind: str) -> None:
    assert recognised(encoded(NOISE, kind)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_extra_its_command_is_named(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(heif_jxl, "find_spec", lambda _: None)
    (tmp_path / "a.jpg").write_bytes(KINDS[kind][1])
    for act in (lambda: open_rgb(KINDS[kind][1]), lambda: read_size(ImageItem.at(tmp_path / "a.jpg"))):
        with pytest.raises(ImageError, match=re.escape(here().install_extra("heic"))) as caught:
            act()
        assert caught.value.code is FailureCode.MISSING_DECODER


@pytest.mark.parametrize("kind", KINDS)
def test_an_extra_that_cannot_be_loaded_is_named_with_the_reason(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    suffix, data, module = KINDS[kind]
    (tmp_path / f"{module}.py").write_text("raise ImportError('libfar.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / f"a.{suffix}").write_bytes(data)

    outcome = decode(item_of(tmp_path / f"a.{suffix}"), Fit(8, "squash"))

    assert isinstance(outcome, Failure)
    assert outcome.code is FailureCode.MISSING_DECODER
    assert f"{module} is installed but cannot be loaded (libfar.so.1" in outcome.message
    with pytest.raises(ImageError, match=r"cannot be loaded \(libfar"):
        read_size(ImageItem.at(tmp_path / f"a.{suffix}"))


@WITH_BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_with_the_extra_it_is_decoded(kind: str, tmp_path: Path) -> None:
    suffix, data, _ = KINDS[kind]
    (tmp_path / f"a.{suffix}").write_bytes(data)
    outcome = decode(item_of(tmp_path / f"a.{suffix}"), Fit(8, "squash"))
    assert isinstance(outcome, Decoded)
    assert outcome.warnings == ()
    np.testing.assert_allclose(outcome.pixels.mean((0, 1)), PLAIN, atol=3)
    assert read_size(ImageItem.at(tmp_path / f"a.{suffix}")) == (32, 24)


@WITH_BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_put_on_white(kind: str) -> None:
    register()
    found = open_rgb(encoded(plain("RGBA", (255, 0, 0, 0), (32, 32)), kind)).getpixel((9, 9))
    np.testing.assert_allclose(found, (255, 255, 255), atol=2)


@WITH_BOTH
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_file_that_ends_early_is_truncated(kind: str, share: float) -> None:
    register()
    data = encoded(NOISE, kind)
    with pytest.raises(ImageError) as caught:
        open_rgb(data[: int(len(data) * share)])
    assert caught.value.code in (FailureCode.TRUNCATED, FailureCode.CORRUPT)


def sideways() -> bytes:
    """An EXIF block that says: turn me."""
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


@WITH_BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_made_up_where_no_part_can_be_had(kind: str) -> None:
    register()
    data = encoded(NOISE, kind)
    with pytest.raises(ImageError):
        open_rgb(data[: len(data) * 9 // 10], Fit(8, "squash", allow_truncated=True))


@WITH_BOTH
def test_a_heic_is_turned_once() -> None:
    register()
    assert open_rgb(encoded(plain("RGB", 0, (64, 32)), "HEIF", exif=sideways())).size == (32, 64)


@WITH_BOTH
def test_the_stream_of_a_jpeg_xl_says_what_is_upright_and_not_its_exif() -> None:
    register()
    assert open_rgb(encoded(plain("RGB", 0, (64, 32)), "JXL", exif=sideways())).size == (64, 32)


@WITH_BOTH
def test_a_jpeg_in_the_coat_of_jpeg_xl_is_turned_by_its_exif(tmp_path: Path) -> None:
    register()
    plain("RGB", 0, (64, 32)).save(tmp_path / "a.jpg", exif=sideways())
    with Image.open(tmp_path / "a.jpg") as image:
        data = encoded(image, "JXL", lossless_jpeg=True)
    assert open_rgb(data).size == (32, 64)


@WITH_BOTH
@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (33, 7), (640, 480), (1024, 768), (3000, 1000), (2, 700)])
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size: tuple[int, int], container: bool) -> None:
    register()
    assert jxl_size(encoded(plain("RGB", 0, size), "JXL", use_container=container)) == size


@WITH_BOTH
def test_the_size_of_a_jpeg_xl_is_known_though_metadata_comes_before_it() -> None:
    register()
    assert jxl_size(encoded(plain("RGB", 0, (64, 32)), "JXL", exif=sideways() + bytes(9000))) == (64, 32)


@WITH_BOTH
def test_a_bomb_of_jpeg_xl_is_not_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened, which decodes it"))
    (tmp_path / "a.jxl").write_bytes(JXL_BOMB)
    with pytest.raises(ImageError) as caught:
        open_rgb(JXL_BOMB)
    assert caught.value.code is FailureCode.TOO_LARGE
    assert read_size(ImageItem.at(tmp_path / "a.jxl")) == (2**30, 2**30)


def test_a_jpeg_xl_that_its_decoder_turns_has_its_sides_changed() -> None:
    # 8 pixels high, 16 wide, not all default, extra fields, orientation 6 of 8.
    bits = [(1, 1), (0, 5), (7, 3), (0, 1), (1, 1), (5, 3)]
    value, place = 0, 0
    for number, width in bits:
        value |= number << place
        place += width
    assert jxl_size(b"\xff\x0a" + value.to_bytes(8, "little")) == (8, 16)
