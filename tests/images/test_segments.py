"""A JPEG that was cut is told from a whole one by its data; a PNG is read whatever its metadata."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdprep.errors import ImageError, SdprepError
from sdprep.images.decode import open_rgb, read_size
from sdprep.images.opening import estimate_memory
from sdprep.types import Decoded, Failure, FailureCode, Fit, ImageWarning
from tests.images.files import NOISE, SQUARE, chunk, decoded, encoded, item_of

LARGE = NOISE.resize((403, 277))
END = b"\xff\xd9"
KINDS: list[dict[str, Any]] = [
    {}, {"subsampling": 0}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 4}, {"restart_marker_rows": 1},
]  # fmt: skip
SIGNATURE, PIXELS = b"\x89PNG\r\n\x1a\n", encoded(NOISE)
TEXT = chunk(b"tEXt", b"Comment\0prompt")
DAMAGED = TEXT[:-1] + bytes([TEXT[-1] ^ 1])
LARGE_TEXT = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 1_100_000))
LARGE_PROFILE = chunk(b"iCCP", b"RGB\0\0" + zlib.compress(b"a" * 1_100_000))
METADATA = {"checksum": DAMAGED, "text above 1 MB": LARGE_TEXT, "profile above 1 MB": LARGE_PROFILE}


def png_with(extra: bytes, *, at: int = len(SIGNATURE) + 25) -> bytes:
    return PIXELS[:at] + extra + PIXELS[at:]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.93])
def test_half_a_jpeg_that_ends_in_an_end_marker_is_truncated(mode: str, options: dict[str, Any], part: float) -> None:
    data = encoded(LARGE.convert(mode), "JPEG", **options)
    open_rgb(data)
    with pytest.raises(ImageError) as caught:
        open_rgb(data[: int(part * len(data))] + END)
    assert caught.value.code is FailureCode.TRUNCATED


def test_a_jpeg_that_is_cut_between_restart_intervals_is_truncated() -> None:
    data = encoded(LARGE, "JPEG", restart_marker_rows=1)
    at = data.index(b"\xff\xd4")
    with pytest.raises(ImageError) as caught:
        open_rgb(data[:at] + END)
    assert caught.value.code is FailureCode.TRUNCATED


@pytest.mark.parametrize("part", [0.2, 0.5])
def test_half_a_progressive_jpeg_is_truncated(part: float) -> None:
    data = encoded(LARGE, "JPEG", progressive=True)
    open_rgb(data)
    with pytest.raises(ImageError) as caught:
        open_rgb(data[: int(part * len(data))] + END)
    assert caught.value.code is FailureCode.TRUNCATED


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [*KINDS, {"progressive": True}, {"quality": 5}], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (200, 100)])
def test_a_grey_jpeg_is_whole(mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    grey = Image.new("RGB", size, (128, 128, 128)).convert(mode)
    grey.paste(NOISE.resize((size[0] // 2, size[1] // 2 or 1)).convert(mode), (0, 0)) if size[0] > 1 else None
    open_rgb(encoded(grey, "JPEG", **options))


def test_half_a_jpeg_with_an_end_marker_is_read_where_that_is_allowed(tmp_path: Path) -> None:
    data = encoded(LARGE, "JPEG")
    result = decoded(tmp_path, data[: len(data) // 2] + END, Fit(8, "squash", allow_truncated=True))
    assert isinstance(result, Decoded)
    assert result.warnings == (ImageWarning.TRUNCATED,)


@pytest.mark.parametrize("extra", METADATA.values(), ids=METADATA)
@pytest.mark.parametrize("at", [len(SIGNATURE) + 25, len(PIXELS) - 12], ids=["before the pixels", "after the pixels"])
def test_a_png_with_unreadable_metadata_has_its_pixels(tmp_path: Path, extra: bytes, at: int) -> None:
    data = png_with(extra, at=at)
    assert open_rgb(data).tobytes() == NOISE.tobytes()
    (tmp_path / "a.png").write_bytes(data)
    assert read_size(item_of(tmp_path / "a.png")) == NOISE.size
    assert estimate_memory(item_of(tmp_path / "a.png"), SQUARE) > len(data)


@pytest.mark.parametrize("extra", METADATA.values(), ids=METADATA)
def test_a_png_with_unreadable_metadata_is_named(tmp_path: Path, extra: bytes) -> None:
    result = decoded(tmp_path, png_with(extra), name="a.png")
    assert isinstance(result, Decoded)
    assert result.warnings == (ImageWarning.METADATA,)


def test_a_png_with_readable_metadata_has_no_warning(tmp_path: Path) -> None:
    result = decoded(tmp_path, png_with(TEXT), name="a.png")
    assert isinstance(result, Decoded)
    assert result.warnings == ()


def test_a_rotation_beside_unreadable_metadata_counts(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    turned = chunk(b"eXIf", tags.tobytes()[6:])
    assert open_rgb(png_with(DAMAGED + turned)).size == (NOISE.height, NOISE.width)


def test_a_png_whose_transparency_has_a_wrong_checksum_is_not_read() -> None:
    transparent = chunk(b"tRNS", bytes(6))
    data = png_with(transparent[:-1] + bytes([transparent[-1] ^ 1]))
    with pytest.raises(ImageError) as caught:
        open_rgb(data)
    assert caught.value.code is FailureCode.NOT_AN_IMAGE


def test_a_png_whose_size_has_a_wrong_checksum_is_not_read() -> None:
    at = len(SIGNATURE) + 24
    data = PIXELS[:at] + bytes([PIXELS[at] ^ 1]) + DAMAGED + PIXELS[at + 1 :]
    with pytest.raises(ImageError) as caught:
        open_rgb(data)
    assert caught.value.code is FailureCode.NOT_AN_IMAGE


def test_a_png_with_unreadable_metadata_that_also_ends_early_is_truncated() -> None:
    with pytest.raises(ImageError) as caught:
        open_rgb(png_with(DAMAGED)[:-300])
    assert caught.value.code is FailureCode.TRUNCATED


def test_a_png_of_millions_of_chunks_is_given_up_soon() -> None:
    tiny = struct.pack(">I", 0) + b"teXt" + bytes(4)
    with pytest.raises(ImageError):
        open_rgb(png_with(tiny * 600_000))


def test_no_message_holds_the_address_of_an_object(tmp_path: Path) -> None:
    stream = io.BytesIO()
    texts = [str(ImageError(FailureCode.CORRUPT, f"no {stream!r}")), str(SdprepError(f"no {stream!r}")),
             str(SdprepError(f"no {open_rgb!r}"))]  # fmt: skip
    for data in (b"BM" + bytes(80), SIGNATURE + bytes(60), b"\xff\xd8\xff\xe0" + bytes(90), b"GIF89a" + bytes(40)):
        found = decoded(tmp_path, data)
        assert isinstance(found, Failure)
        texts.append(found.message)
    assert [text for text in texts if "0x" in text] == []
