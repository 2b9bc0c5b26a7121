"""`sdprep diff` shows what a run took out of each file and put into it, and nothing else."""

import json

import pytest


@pytest.fixture
def edited(imgs, sdprep_command):
    """Two images of which a run has edited the tag files, with their captions beside them."""
    (imgs / "a.txt").write_text("1girl, hat, smile\n")
    (imgs / "b.txt").write_text("1girl, dog\n")
    (imgs / "a.caption").write_text("a girl with a hat, who smiles at the viewer on a sunny day\n")
    sdprep_command("edit", imgs, "--remove", "hat", "--add", "trigger@first", "--yes")
    return imgs


def test_only_the_changed_tags_are_shown(edited, sdprep_command):
    shown = sdprep_command("diff", "--dir", edited)
    assert shown.out == f"{edited}/a.txt: +trigger ... -hat ...\n{edited}/b.txt: +trigger ...\n"
    assert shown.err.startswith("run ")


def test_the_changed_words_of_a_caption_are_shown(edited, sdprep_command):
    sdprep_command("edit", edited, "--captions", "--replace", "girl=woman")
    assert sdprep_command("diff", "--dir", edited).out == f"{edited}/a.caption: ... -girl +woman ...\n"


def test_an_earlier_run_is_shown_by_its_name(edited, sdprep_command):
    run = json.loads(sdprep_command("log", edited, "--json").out)["runs"][0]["run"]
    sdprep_command("edit", edited, "--add", "cat")
    assert "-hat" in sdprep_command("diff", run, "--dir", edited).out
    assert "no run is named nope" in sdprep_command("diff", "nope", "--dir", edited).err


def test_a_new_file_and_one_that_an_undo_removed_are_told_from_changed_ones(imgs, sdprep_command):
    sdprep_command("tag", imgs / "a.jpg", "--model", "demo-tag")
    assert "a.txt: (new file) +" in sdprep_command("diff", "--dir", imgs).out
    sdprep_command("undo", "--dir", imgs)
    assert "a.txt: (no file) -" in sdprep_command("diff", "--dir", imgs).out


def test_json_has_the_texts_before_and_after(edited, sdprep_command):
    found = json.loads(sdprep_command("diff", "--dir", edited, "--json").out)
    assert found["files"][1] == {
        "path": str(edited / "b.txt"), "before": "1girl, dog\n", "after": "trigger, 1girl, dog\n",
    }  # fmt: skip


def test_what_was_edited_later_is_not_in_it(edited, sdprep_command):
    (edited / "b.txt").write_text("mine")
    assert "b.txt: +trigger ...\n" in sdprep_command("diff", "--dir", edited).out


def test_a_folder_in_which_no_run_changed_a_file_is_named(imgs, sdprep_command):
    assert sdprep_command("diff", "--dir", imgs).code == 1


def test_only_the_files_below_the_folder_are_shown(edited, put_image, sdprep_command):
    put_image(edited / "sub" / "c.png")
    (edited / "sub" / "c.txt").write_text("1girl, hat\n")
    sdprep_command("edit", edited, "--add", "cat")
    assert sdprep_command("diff", "--dir", edited / "sub").out == f"{edited}/sub/c.txt: ... +cat\n"
