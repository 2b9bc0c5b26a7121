"""Thumbnails that are kept: of images as they are now, in a file of bounded size that may be anything before."""

import os
import sqlite3

import pytest

from sdprep.review.thumbs import FILE, Thumbs
from sdprep.types import ImageItem


@pytest.fixture
def notes():
    return []


@pytest.fixture
def make(tmp_path, notes):
    made = []

    def one(**options):
        made.append(Thumbs(tmp_path / ".sdprep", tmp_path, notes.append, **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


def image(tmp_path, name="a.png", data=b"1"):
    (tmp_path / name).write_bytes(data)
    return ImageItem(tmp_path, name, tmp_path)


def test_a_thumbnail_is_found_again_by_the_next_session(tmp_path, make):
    item = image(tmp_path)
    first = make()
    first.keep(item, b"small")
    first.close()

    assert make().find(item) == b"small"


def test_an_image_that_changed_has_no_thumbnail_any_more(tmp_path, make):
    thumbs, item = make(), image(tmp_path)
    thumbs.keep(item, b"small")

    image(tmp_path, data=b"other")

    assert thumbs.find(item) is None


def test_the_oldest_go_when_there_are_too_many(tmp_path, make):
    thumbs = make(most_bytes=1000)
    items = [image(tmp_path, f"{number}.png") for number in range(20)]
    for item in items:
        thumbs.keep(item, b"x" * 100)

    kept = [thumbs.find(item) is not None for item in items]
    assert 5 <= sum(kept) <= 10
    assert kept == sorted(kept)


def test_a_file_that_is_too_large_is_pruned_when_it_is_opened(tmp_path, make):
    first = make()
    for number in range(10):
        first.keep(image(tmp_path, f"{number}.png"), b"x" * 100)
    first.close()

    later = make(most_bytes=500)

    assert later.find(ImageItem(tmp_path, "0.png", tmp_path)) is None
    assert later.find(ImageItem(tmp_path, "9.png", tmp_path)) is not None


@pytest.mark.parametrize("content", [b"no database", b"", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_replaced(tmp_path, make, notes, content):
    (tmp_path / ".sdprep").mkdir()
    (tmp_path / ".sdprep" / FILE).write_bytes(content)
    thumbs, item = make(), image(tmp_path)

    thumbs.keep(item, b"small")

    assert (thumbs.find(item), notes) == (b"small", [])


def test_a_file_with_a_trigger_that_came_with_the_images_is_replaced(tmp_path, make):
    (tmp_path / ".sdprep").mkdir()
    db = sqlite3.connect(tmp_path / ".sdprep" / FILE)
    db.execute("CREATE TABLE thumbs (key, size, mtime_ns, data)")
    db.execute("CREATE TRIGGER t AFTER INSERT ON thumbs BEGIN DELETE FROM thumbs; END")
    db.close()
    thumbs, item = make(), image(tmp_path)

    thumbs.keep(item, b"small")

    assert thumbs.find(item) == b"small"


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path, make, notes):
    (tmp_path / ".sdprep").mkdir()
    (tmp_path / "other").write_bytes(b"mine")
    (tmp_path / ".sdprep" / FILE).symlink_to(tmp_path / "other")
    thumbs, item = make(), image(tmp_path)

    thumbs.keep(item, b"small")

    assert thumbs.find(item) is None
    assert (tmp_path / "other").read_bytes() == b"mine"
    assert "is a link" in notes[0]


@pytest.mark.skipif(os.name == "nt", reason="folders have no permissions there")
def test_a_folder_that_cannot_be_made_is_noted_once(tmp_path, notes):
    (tmp_path / "file").write_bytes(b"")
    thumbs, item = Thumbs(tmp_path / "file" / ".sdprep", tmp_path, notes.append), image(tmp_path)

    thumbs.keep(item, b"small")

    assert thumbs.find(item) is None
    assert len(notes) == 1
