"""Every image of the corpus is decoded to what it shows, or refused for its reason."""

from pathlib import Path

import numpy as np
import pytest

from sdprep.errors import ImageError
from sdprep.images.decode import decode, open_rgb
from sdprep.types import Failure, Fit
from tests.corpus import Trap, traps
from tests.images.files import item_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
TRAPS = traps()
SOUND = [trap for trap in TRAPS if trap.looks is not None and trap.tag == "ok"]
# These are found before an image is decoded.
BEFORE = ("stem_collision", "unreadable")
BROKEN = [trap for trap in TRAPS if trap.tag not in ("ok", *BEFORE)]


def name_of(trap: Trap) -> str:
    return ascii(trap.rel)[:60]


def test_there_are_enough_of_them() -> None:
    assert len({trap.name for trap in TRAPS}) == len(TRAPS) >= 80


@pytest.mark.parametrize("trap", SOUND, ids=name_of)
def test_a_sound_image_looks_as_it_should(trap: Trap) -> None:
    assert trap.looks is not None
    found = open_rgb(trap.data)
    assert found.size == trap.looks.size
    # A lossy format is off where colours meet; over all it is not.
    distance = np.abs(np.asarray(found, dtype=float) - np.asarray(trap.looks, dtype=float))
    assert distance.mean() <= 10
    assert np.abs(np.asarray(found).mean((0, 1)) - np.asarray(trap.looks).mean((0, 1))).max() <= 3


@pytest.mark.parametrize("trap", BROKEN, ids=name_of)
def test_a_broken_file_is_refused_for_its_reason(trap: Trap, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(trap.data)
    outcome = decode(item_of(tmp_path / "a"), Fit(8, "pad"))
    assert isinstance(outcome, Failure)
    assert outcome.code.value == trap.tag, outcome.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("html.jpg", "a web page"),
        ("html-with-a-mark.png", "a web page"),
        ("svg.png", "an SVG"),
        ("git-lfs.jpg", "Git LFS"),
        ("pdf.jpg", "a PDF"),
        ("eps.png", "an EPS"),
        ("tiff.png", "a TIFF"),
        ("fits.png", "a FITS"),
        ("msp.png", "an MSP"),
        ("icon.png", "an icon"),
        ("jpeg-2000.jpg", "a JPEG 2000"),
        ("video.jpg", "a video"),
        ("zip.png", "a ZIP"),
        ("text.png", "not an image that sdprep can read"),
    ],
)
def test_a_file_that_is_no_image_is_called_by_its_name(name: str, words: str) -> None:
    (trap,) = [each for each in TRAPS if each.name == name]
    with pytest.raises(ImageError, match=f"{words}.*, whatever its name"):
        open_rgb(trap.data)
