"""What users live through with `sdprep edit`: what is shown is what is written, and undo gives the first bytes."""

import os

import pytest

from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import MergeSettings, PathOptions
from sdprep.errors import FolderInUse, NoSidecars
from sdprep.report import CancelToken
from sdprep.rules.edits.operations import Operation
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.texts.edit import plan
from sdprep.tasks.texts.plan import apply
from tests.stories.telling import (
    CATALOG,
    LOOSE,
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

# The same tags as different programs write them.
WRITINGS = {
    "a.txt": b"1girl, hat\n",
    "b.txt": "\ufeff1girl,hat\r\n".encode(),
    "c.txt": "\ufeff1girl; hat".encode("utf-16-le"),
}


def operations(*pairs, **single):
    return [Operation(name, value) for name, value in (*pairs, *single.items())]


def edit(folder, *pairs, settings=MergeSettings(), edited="tags", **single):
    return apply(plan(folder, operations(*pairs, **single), settings, edited=edited))


@pytest.fixture
def written(album):
    """The album with tag files of a user."""
    for name, data in WRITINGS.items():
        (album / name).write_bytes(data)
    return album


def test_an_edit_keeps_the_encoding_the_separator_and_the_line_ends_of_each_file(written):
    report = edit(written, ("add", "solo"), ("remove", "hat"))

    assert counts(report) == {"written": 3}
    assert texts(written) == {
        "a.txt": b"1girl, solo\n",
        "b.txt": "\ufeff1girl,solo\r\n".encode(),
        "c.txt": "\ufeff1girl; solo".encode("utf-16-le"),
    }


@pytest.mark.parametrize("more", [(), [("drop_rare", "1")]])
def test_a_tag_that_takes_the_place_of_another_is_separated_as_that_was(written, more):
    (written / "a.txt").write_bytes(b"1girl\nhat\n")

    edit(written, ("remove", "hat"), ("add", "cap"), *more)

    assert texts(written) == {
        "a.txt": b"1girl\ncap\n",
        "b.txt": "\ufeff1girl,cap\r\n".encode(),
        "c.txt": "\ufeff1girl; cap".encode("utf-16-le"),
    }


def test_undo_gives_the_first_bytes_and_can_itself_be_undone(written):
    edit(written, add="solo@first")
    edited = texts(written)

    assert counts(undo(written)) == {"written": 3}
    assert texts(written) == WRITINGS
    undo(written)
    assert texts(written) == edited


def test_what_the_plan_shows_is_what_is_written(written):
    made = plan(written, operations(("add", "solo"), ("sort", "")))
    shown = {change.path.name: change.after for change in made.changes}

    apply(made)

    assert texts(written) == shown


def test_a_plan_writes_nothing(written):
    before = everything(written)
    plan(written, operations(add="solo"))
    assert everything(written) == before


def test_an_edit_that_changes_nothing_writes_nothing_and_is_no_run(written):
    before = everything(written)

    report = edit(written, ("add", "hat"), ("remove", "absent"))

    assert counts(report) == {"current": 3}
    assert report.run is None
    assert everything(written) == before


def test_a_file_that_was_changed_after_the_plan_is_left_and_named(written):
    made = plan(written, operations(add="solo"))
    write(written / "b.txt", "changed meanwhile")
    (written / "c.txt").unlink()

    report = apply(made)

    assert counts(report) == {"written": 1, "kept": 2}
    assert report.kept_reasons == {"changed_meanwhile": ["b.png", "c.png"]}
    assert texts(written) == {"a.txt": b"1girl, hat, solo\n", "b.txt": b"changed meanwhile"}


def test_an_image_without_a_tag_file_gets_none(written):
    (written / "b.txt").unlink()

    report = edit(written, add="solo")

    assert counts(report) == {"written": 2, "kept": 1}
    assert report.missing_paths == ["b.png"]
    assert not (written / "b.txt").exists()


def test_without_any_tag_file_there_is_nothing_to_do(album):
    with pytest.raises(NoSidecars, match=r"none of the 3 images has a tag file \(a\.txt\)"):
        edit(album, add="solo")
    assert not (album / CATALOG).exists()


def test_a_run_of_tag_keeps_what_was_edited(tagged, monkeypatch):
    edit(tagged, add="my trigger@first")
    edited = texts(tagged)
    hide_models(monkeypatch)

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"kept": 3}
    assert list(report.kept_reasons) == ["edited"]
    assert texts(tagged) == edited


def test_a_tag_that_was_removed_stays_out_when_a_run_appends(tagged, monkeypatch):
    gone = tags_of(tagged / "a.txt")[0]
    edit(tagged, remove=gone)
    hide_models(monkeypatch)

    tag(tagged, existing="append", threshold=LOOSE)

    assert gone not in tags_of(tagged / "a.txt")
    assert len(tags_of(tagged / "a.txt")) > 1


def test_a_tag_that_was_removed_after_the_image_was_renamed_stays_out_too(tagged, monkeypatch):
    gone = tags_of(tagged / "a.txt")[0]
    (tagged / "sub").mkdir()
    for name in ("a.png", "a.txt"):
        (tagged / name).rename(tagged / "sub" / name)
    edit(tagged, remove=gone)
    hide_models(monkeypatch)

    tag(tagged, existing="append", threshold=LOOSE)

    assert gone not in tags_of(tagged / "sub" / "a.txt")


def test_a_text_that_an_edit_gives_back_is_sdpreps_again(tagged, monkeypatch):
    hide_models(monkeypatch)
    edit(tagged, add="mine")
    edit(tagged, remove="mine")

    assert counts(tag(tagged, threshold=STRICT)) == {"written": 3}


def test_a_file_that_a_power_cut_emptied_is_edited_as_it_was(tagged):
    before = tags_of(tagged / "a.txt")
    (tagged / "a.txt").write_bytes(b"")

    report = edit(tagged, add="mine")

    assert counts(report) == {"written": 3}
    assert tags_of(tagged / "a.txt") == [*before, "mine"]


def test_a_file_in_an_unknown_encoding_fails_with_its_name_and_the_byte_and_the_others_are_edited(written):
    (written / "b.txt").write_bytes("1girl, 帽子".encode("gb18030"))

    report = edit(written, add="solo")

    assert counts(report) == {"written": 2, "failed": 1}
    [failure] = report.failures
    assert failure["path"], failure["code"] == ("b.png", "bad_text")
    assert "b.txt" in failure["message"]
    assert "byte 9 cannot be read" in failure["message"]
    assert "sdprep import --encoding gb18030" in failure["message"]
    assert (written / "b.txt").read_bytes() == "1girl, 帽子".encode("gb18030")


def test_a_link_that_leads_out_of_the_folder_is_not_followed(written, tmp_path):
    outside = write(tmp_path / "outside.txt", "1girl, hat")
    (written / "b.txt").unlink()
    (written / "b.txt").symlink_to(outside)

    report = edit(written, add="solo")

    assert codes(report) == {"b.png": "unreadable"}
    assert outside.read_bytes() == b"1girl, hat"


def test_images_that_share_a_tag_file_fail_as_in_every_command(written):
    (written / "a.jpg").write_bytes((written / "a.png").read_bytes())

    report = edit(written, add="solo")

    assert codes(report) == {"a.jpg": "stem_collision", "a.png": "stem_collision"}
    assert (written / "a.txt").read_bytes() == WRITINGS["a.txt"]


def test_captions_are_edited_and_tags_are_not(written):
    write(written / "a.caption", "a girl with a hat\n")

    report = edit(written, edited="caption", replace="girl=woman")

    assert counts(report) == {"written": 1, "kept": 2}
    assert (written / "a.caption").read_bytes() == b"a woman with a hat\n"
    assert texts(written) == WRITINGS


def test_files_in_an_output_folder_are_edited_and_images_stay_alone(album, tmp_path):
    paths = PathOptions(output_dir=tmp_path / "out")
    tag(album, output_dir=tmp_path / "out")
    before = everything(album)

    report = edit(album, settings=MergeSettings(paths=paths), add="mine")

    assert counts(report) == {"written": 3}
    assert tags_of(tmp_path / "out" / "a.txt")[-1] == "mine"
    assert everything(album) == before


def test_a_stop_between_two_groups_leaves_the_rest_and_the_same_edit_goes_on(written, monkeypatch):
    monkeypatch.setattr("sdprep.tasks.texts.plan.GROUP", 1)
    stop = CancelToken()

    class StopsAfterOne:
        note = stage = staticmethod(lambda *_: None)

        def advance(self, _=1):
            stop.exit_code = 130

    report = apply(plan(written, operations(add="solo")), listener=StopsAfterOne(), stop=stop)

    assert counts(report) == {"written": 1, "remaining": 2}
    assert report.exit_code == 130
    assert counts(edit(written, add="solo")) == {"written": 2, "current": 1}


def test_an_edit_of_several_datasets_takes_all_their_locks_before_the_first_change(written, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.png", "a.txt"):
        (other / name).write_bytes((written / name).read_bytes())
    edit(other, add="first")
    made = plan([written, other], operations(add="solo"))
    access = CatalogAccess("tag", AccessMode.ADD, lambda _: None)

    with CatalogSession([other], access) as held:
        held.of(other)
        with pytest.raises(FolderInUse):
            apply(made)
    assert texts(written) == WRITINGS

    assert counts(apply(made)) == {"written": 4}


def test_log_names_the_operations_and_restore_gives_the_text_of_before(written):
    edit(written, ("add", "solo"), ("sort", ""))

    assert (log(written)[-1].command, log(written)[-1].changed) == ("edit", 3)
    assert log(written)[-1].stated == {"add": "solo", "sort": True}
    assert [each.excerpt for each in file_versions(written / "a.txt")] == ["1girl, hat", "1girl, hat, solo"]
    restore(written / "a.txt")
    assert (written / "a.txt").read_bytes() == WRITINGS["a.txt"]


def test_a_dry_run_of_undo_names_the_files(written):
    edit(written, add="solo")
    edited = texts(written)

    report = undo(written, dry_run=True)

    assert [each["change"] for each in report.planned] == ["restore"] * 3
    assert texts(written) == edited


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_mode_of_a_file_stays(written):
    (written / "a.txt").chmod(0o640)
    edit(written, add="solo")
    assert (written / "a.txt").stat().st_mode & 0o777 == 0o640
