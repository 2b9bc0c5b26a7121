"""`sdprep demo`: everything once, on a machine without network."""

import subprocess
import sys

import pytest

from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.tasks.demo import copy_images

COUNT = len([path for path in IMAGES.rglob("*") if path.is_file()])


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def twice(start, tmp_path_factory):
    """A demo, and another in the same folder."""
    folder = tmp_path_factory.mktemp("demo")
    return [finish(start("demo", "shown", cwd=folder)) for _ in range(2)]


def test_a_demo_succeeds(twice):
    assert twice[0][0] == 0


def test_a_demo_writes_a_caption_and_tags_for_every_image(twice):
    assert twice[0][2].count(f"{COUNT} images: {COUNT} written") == 3


def test_a_demo_shows_a_caption_that_is_true(twice):
    assert "caption of red-hair-hat.jpg: a girl with long red hair" in twice[0][1]


def test_a_second_demo_finds_everything_up_to_date(twice):
    assert twice[1][2].count(f"{COUNT} images: 0 written, {COUNT} up to date") == 3


def test_a_second_demo_shows_the_same(twice):
    assert twice[1][1] == twice[0][1]


@pytest.fixture
def refused(sdprep_command, tmp_path):
    """A demo in a folder where another image has the name of one of the demo's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kuro.png").write_bytes(b"my own image")
    return sdprep_command("demo", "mine")


def test_a_demo_refuses_to_overwrite_a_file_that_is_not_its_own(refused):
    assert (refused.code, "kuro.png" in refused.err) == (2, True)


def test_an_image_of_any_size_is_told_from_one_of_the_demo_unread(tmp_path, monkeypatch):
    with (tmp_path / "kuro.png").open("wb") as stream:
        stream.truncate(6 * 2**30)
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: b"" if path.is_relative_to(IMAGES) else 1 / 0)

    with pytest.raises(UsageError, match=r"kuro\.png is not an image of the demo"):
        copy_images(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_no_image_of_a_demo_is_written_through_a_link(tmp_path):
    name = next(path.name for path in IMAGES.iterdir() if path.is_file())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).symlink_to(tmp_path / "elsewhere")

    copy_images(tmp_path / "mine")

    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "mine" / name).read_bytes() == (IMAGES / name).read_bytes()


def test_a_demo_that_is_refused_leaves_the_file(refused, tmp_path):
    assert (tmp_path / "mine" / "kuro.png").read_bytes() == b"my own image"


def test_a_demo_that_is_refused_copies_nothing(refused, tmp_path):
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kuro.png"]
