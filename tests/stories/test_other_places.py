"""Sidecars and catalogs that do not lie beside the images: `--output-dir` and `--catalog`."""

import shutil
from pathlib import Path

import pytest

from sdprep.catalog.session import AccessMode, CatalogSession
from sdprep.errors import CatalogError
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import (
    CATALOG,
    STRICT,
    codes,
    counts,
    everything,
    hide_models,
    tag,
    tags_of,
    texts,
    write,
)


@pytest.fixture
def nested(album, drawings):
    """The album with a subfolder of one more image."""
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])
    return album


@pytest.fixture
def out(tmp_path):
    """A folder for the texts, which does not exist yet."""
    return tmp_path / "texts" / "of-album"


# --output-dir


def test_an_output_folder_mirrors_the_tree_and_leaves_the_images_folder_untouched(nested, out):
    before = everything(nested)

    report = tag(nested, output_dir=out)

    assert counts(report) == {"written": 4}
    assert list(texts(out)) == ["a.txt", "b.txt", "c.txt", "sub/d.txt"]
    assert everything(nested) == before


def test_an_output_folder_holds_the_catalog(nested, out):
    tag(nested, output_dir=out)

    assert (out / CATALOG).is_file()


def test_an_output_folder_holds_the_catalog_even_if_the_images_have_one(tagged, out):
    before = everything(tagged)

    tag(tagged, output_dir=out)

    assert (out / CATALOG).is_file()
    assert everything(tagged) == before


def test_a_second_run_into_an_output_folder_is_current_without_the_model(nested, out, monkeypatch):
    tag(nested, output_dir=out)
    hide_models(monkeypatch)

    assert counts(tag(nested, output_dir=out)) == {"current": 4}


def test_another_threshold_rewrites_an_output_folder_without_the_model(nested, out, monkeypatch):
    tag(nested, output_dir=out)
    hide_models(monkeypatch)

    assert counts(tag(nested, output_dir=out, threshold=STRICT)) == {"written": 4}


def test_a_text_that_a_user_edited_in_an_output_folder_is_kept(nested, out):
    tag(nested, output_dir=out)
    write(out / "sub" / "d.txt", "mine")

    report = tag(nested, output_dir=out, threshold=STRICT)

    assert report.kept_paths == ["sub/d.png"]
    assert (out / "sub" / "d.txt").read_bytes() == b"mine"


def test_images_may_move_while_their_output_folder_stays(nested, out, tmp_path, monkeypatch):
    tag(nested, output_dir=out)
    moved = Path(shutil.move(nested, tmp_path / "elsewhere"))
    hide_models(monkeypatch)

    assert counts(tag(moved, output_dir=out)) == {"current": 4}


def test_undo_in_an_output_folder_takes_its_texts_away(nested, out):
    tag(nested, output_dir=out)

    undo(out)

    assert texts(out) == {}


def test_an_output_folder_in_a_folder_with_a_catalog_has_its_own(tagged, drawings):
    out = tagged / "out"

    tag(tagged, output_dir=out)

    assert (out / CATALOG).is_file()
    assert list(texts(out)) == ["a.txt", "b.txt", "c.txt"]


def test_a_users_text_beside_the_image_is_kept_and_nothing_takes_its_place_in_the_output_folder(album, out):
    write(album / "a.txt", "mine, beside the image")

    report = tag(album, output_dir=out)

    assert counts(report) == {"written": 2, "kept": 1}
    assert report.kept_paths == ["a.png"]
    assert list(texts(out)) == ["b.txt", "c.txt"]


def test_append_takes_a_users_text_beside_the_image_and_writes_only_to_the_output_folder(album, out):
    write(album / "a.txt", "mine, beside the image")
    before = everything(album)

    report = tag(album, output_dir=out, existing="append")
    again = tag(album, output_dir=out, existing="append")

    assert (counts(report), counts(again)) == ({"written": 3}, {"current": 3})
    assert tags_of(out / "a.txt")[:2] == ["mine", "beside the image"]
    assert len(tags_of(out / "a.txt")) > 2
    assert everything(album) == before


def test_what_sdprep_wrote_beside_the_images_is_not_the_users_for_an_output_folder(tagged, out):
    assert counts(tag(tagged, output_dir=out, threshold=STRICT)) == {"written": 3}


def test_a_text_beside_the_image_that_is_not_text_is_not_appended_to(album, out):
    (album / "a.txt").write_bytes(b"\xff\xfe\xfd")

    report = tag(album, output_dir=out, existing="append")

    assert codes(report) == {"a.png": "bad_text"}
    assert list(texts(out)) == ["b.txt", "c.txt"]


# --catalog


@pytest.fixture
def named(tmp_path):
    """The path of a catalog that lies elsewhere, in a folder that does not exist yet."""
    return tmp_path / "memory" / "album.sqlite"


def test_a_named_catalog_is_used_instead_of_one_beside_the_images(album, named):
    report = tag(album, catalog=named)

    assert counts(report) == {"written": 3}
    assert named.is_file()
    assert not (album / ".sdprep").exists()


def test_a_named_catalog_is_used_instead_of_the_nearest(tagged, named):
    report = tag(tagged, catalog=named, threshold=STRICT)

    assert counts(report) == {"kept": 3}


def test_a_named_catalog_remembers_the_texts(album, named, monkeypatch):
    tag(album, catalog=named)
    hide_models(monkeypatch)

    assert counts(tag(album, catalog=named, threshold=STRICT)) == {"written": 3}


def test_a_named_catalog_of_two_folders_keeps_them_apart(album, drawings, tmp_path, named):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(drawings[3])
    tag(album, catalog=named)
    tag(other, catalog=named)

    assert counts(tag(album, catalog=named)) == {"current": 3}
    assert tags_of(other / "a.txt") != tags_of(album / "a.txt")


def test_undo_with_a_named_catalog(album, named):
    write(album / "a.txt", "mine")
    tag(album, catalog=named, existing="overwrite")

    undo(album, catalog=named)

    assert texts(album) == {"a.txt": b"mine"}


def test_the_log_of_a_named_catalog(album, named):
    tag(album, catalog=named)

    assert [entry.changed for entry in log(album, catalog=named)] == [3]


def test_a_named_catalog_may_be_the_one_of_another_folder(tagged, tmp_path, drawings, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "copy.png").write_bytes((tagged / "a.png").read_bytes())
    hide_models(monkeypatch)

    report = tag(other, catalog=tagged / CATALOG)

    assert counts(report) == {"written": 1}
    assert (other / "copy.txt").read_bytes() == (tagged / "a.txt").read_bytes()


def test_a_named_catalog_and_an_output_folder_go_together(nested, out, named):
    before = everything(nested)

    tag(nested, output_dir=out, catalog=named)

    assert named.is_file()
    assert not (out / ".sdprep").exists()
    assert everything(nested) == before


def test_a_folder_that_is_reached_through_a_link_is_the_same_dataset(tagged, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tagged, target_is_directory=True)
    hide_models(monkeypatch)

    assert counts(tag(tmp_path / "link", threshold=STRICT)) == {"written": 3}


def test_a_file_in_the_place_of_the_catalogs_folder_is_refused_with_a_way_out(album):
    write(album / ".sdprep", "a file")

    with pytest.raises(CatalogError, match="--catalog"):
        tag(album)


def test_the_catalog_beside_the_images_is_opened_once_for_an_output_folder(tagged, out, monkeypatch):
    opened = []
    at = CatalogSession.at
    monkeypatch.setattr(
        CatalogSession, "at", lambda session, file: opened.append((session._access.mode, file)) or at(session, file)
    )
    monkeypatch.setattr("sdprep.tasks.annotation.planner.CHUNK", 1)

    tag(tagged, output_dir=out)

    assert opened.count((AccessMode.READ, tagged / CATALOG)) == 1
