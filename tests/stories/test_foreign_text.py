"""Texts of other tools, texts that are no text, and names that two images share."""

import pytest

from sdprep.folders import SIDECAR_LIMIT
from sdprep.tasks.history.undo import undo
from tests.stories.telling import STRICT, codes, counts, tag, texts, watch_model, write

BINARY = b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x80"


@pytest.fixture
def foreign(album):
    """The album with a text of another tool beside image b."""
    write(album / "b.txt", "1girl, from elsewhere")
    return album


def test_a_foreign_text_is_kept_counted_and_named_while_the_rest_is_written(foreign):
    report = tag(foreign)

    assert counts(report) == {"written": 2, "kept": 1}
    assert report.kept_paths == ["b.png"]
    assert (foreign / "b.txt").read_bytes() == b"1girl, from elsewhere"


def test_a_foreign_text_is_kept_by_every_later_run(foreign):
    tag(foreign)

    report = tag(foreign, threshold=STRICT, update=True)

    assert report.kept_paths == ["b.png"]
    assert (foreign / "b.txt").read_bytes() == b"1girl, from elsewhere"


def test_a_kept_text_costs_no_look_of_the_model(foreign, monkeypatch):
    seen = watch_model(monkeypatch)

    tag(foreign)

    assert seen == [2]


@pytest.mark.parametrize("existing", ["append", "prepend", "overwrite"])
def test_the_three_ways_to_change_a_foreign_text_leave_other_images_as_they_are(foreign, existing):
    tag(foreign)
    others = {name: data for name, data in texts(foreign).items() if name != "b.txt"}

    report = tag(foreign, existing=existing)

    assert counts(report) == {"written": 1, "current": 2}
    assert others.items() <= texts(foreign).items()


@pytest.mark.parametrize("existing", ["append", "prepend", "overwrite"])
def test_undo_gives_a_foreign_text_back_byte_for_byte(album, existing):
    original = "\ufeff1girl,\r\nfrom elsewhere \r\n\r\n".encode()
    (album / "b.txt").write_bytes(original)
    tag(album, existing=existing)

    undo(album)

    assert texts(album) == {"b.txt": original}


def test_a_line_that_a_user_added_to_the_tags_is_kept(tagged):
    edited = (tagged / "a.txt").read_bytes() + b"and a line\n"
    (tagged / "a.txt").write_bytes(edited)

    report = tag(tagged, threshold=STRICT)

    assert report.kept_paths == ["a.png"]
    assert (tagged / "a.txt").read_bytes() == edited


def test_emptying_a_text_is_an_edit(tagged):
    write(tagged / "a.txt", "\n")

    report = tag(tagged, threshold=STRICT)

    assert report.kept_paths == ["a.png"]


def test_an_empty_line_of_another_tool_is_kept(album):
    write(album / "a.txt", "\n")

    report = tag(album)

    assert report.kept_paths == ["a.png"]
    assert (album / "a.txt").read_bytes() == b"\n"


def test_a_sidecar_of_0_bytes_belongs_to_nobody_and_is_written(album, tmp_path):
    tag(album, output_dir=tmp_path / "aside")
    write(album / "a.txt", "")

    report = tag(album)

    assert counts(report) == {"written": 3}
    assert texts(album) == texts(tmp_path / "aside")


@pytest.mark.parametrize("existing", ["append", "prepend"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "latin-1", "shift_jis", "gbk"])
def test_nothing_is_added_to_a_text_in_another_encoding(album, encoding, existing):
    words = "café, solo" if encoding == "latin-1" else "青い髪, solo"
    (album / "b.txt").write_bytes(words.encode(encoding))

    report = tag(album, existing=existing)

    assert codes(report) == {"b.png": "bad_text"}
    assert (album / "b.txt").read_bytes() == words.encode(encoding)


# No text at all


def test_a_binary_sidecar_is_kept(album):
    (album / "b.txt").write_bytes(BINARY)

    report = tag(album)

    assert report.kept_paths == ["b.png"]
    assert (album / "b.txt").read_bytes() == BINARY


@pytest.mark.parametrize("existing", ["append", "prepend"])
def test_adding_to_a_binary_sidecar_fails_and_the_rest_goes_on(album, existing):
    (album / "b.txt").write_bytes(BINARY)

    report = tag(album, existing=existing)

    assert counts(report) == {"written": 2, "failed": 1}
    assert codes(report) == {"b.png": "bad_text"}
    assert (album / "b.txt").read_bytes() == BINARY


def test_a_binary_sidecar_can_be_overwritten_and_comes_back_by_undo(album):
    (album / "b.txt").write_bytes(BINARY)
    report = tag(album, existing="overwrite")
    assert counts(report) == {"written": 3}

    undo(album)

    assert texts(album) == {"b.txt": BINARY}


def test_a_text_that_both_wrote_and_an_editor_saved_in_latin_1_is_kept(album):
    write(album / "a.txt", "café")
    tag(album, existing="append")
    saved = (album / "a.txt").read_bytes().decode("utf-8").encode("latin-1")
    (album / "a.txt").write_bytes(saved)

    report = tag(album, threshold=STRICT)

    assert report.kept_paths == ["a.png"]
    assert (album / "a.txt").read_bytes() == saved


def test_a_folder_in_the_place_of_a_sidecar_fails_and_the_rest_goes_on(album):
    (album / "b.txt").mkdir()

    report = tag(album)

    assert counts(report) == {"written": 2, "failed": 1}
    assert set(codes(report)) == {"b.png"}


@pytest.mark.parametrize("existing", ["keep", "append", "overwrite"])
def test_a_text_beyond_the_limit_fails_its_image_alone(album, existing):
    with (album / "b.txt").open("wb") as stream:
        stream.truncate(SIDECAR_LIMIT + 1)

    report = tag(album, existing=existing)

    assert codes(report) == {"b.png": "unreadable"}
    assert (album / "b.txt").stat().st_size == SIDECAR_LIMIT + 1


# Names that two images share


@pytest.fixture
def twins(album, drawings):
    """The album with a second image of the stem b."""
    (album / "b.webp").write_bytes(drawings[3])
    return album


def test_images_that_would_share_a_sidecar_both_fail_and_the_rest_goes_on(twins):
    report = tag(twins)

    assert counts(report) == {"written": 2, "failed": 2}
    assert codes(report) == {"b.png": "stem_collision", "b.webp": "stem_collision"}
    assert list(texts(twins)) == ["a.txt", "c.txt"]


def test_full_sidecar_names_are_the_way_out(twins):
    report = tag(twins, sidecar_name="full")

    assert counts(report) == {"written": 4}
    assert list(texts(twins)) == ["a.png.txt", "b.png.txt", "b.webp.txt", "c.png.txt"]


def test_a_text_that_two_images_would_share_is_left_alone(twins):
    write(twins / "b.txt", "mine")

    tag(twins, existing="overwrite")

    assert (twins / "b.txt").read_bytes() == b"mine"


def test_images_of_one_name_in_two_folders_do_not_collide(album, drawings):
    (album / "more").mkdir()
    (album / "more" / "b.webp").write_bytes(drawings[3])

    assert counts(tag(album)) == {"written": 4}
