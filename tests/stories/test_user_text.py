"""A sidecar that the user and sdprep wrote together: the user's part stays, the machine's part follows the rules."""

import pytest

from sdprep.tasks.history.undo import undo
from tests.stories.telling import (
    LOOSE,
    STRICT,
    counts,
    hide_models,
    tag,
    tag_by_default,
    tags_of,
    texts,
    write,
)


@pytest.fixture
def machine(album, tmp_path):
    """The tags that the machine alone gives to image a, as text."""
    tag(album, output_dir=tmp_path / "aside")
    return (tmp_path / "aside" / "a.txt").read_text(encoding="utf-8").rstrip("\n")


@pytest.fixture
def appended(album, machine):
    """The album where the user had written to image a, and tags were appended."""
    write(album / "a.txt", "my trigger, a Thing")
    tag(album, existing="append")
    return album


def without(text, *gone):
    return ", ".join(tag for tag in text.split(", ") if tag not in gone)


def test_append_puts_the_tags_after_the_users_text(album, machine):
    write(album / "a.txt", "my trigger, a Thing")

    report = tag(album, existing="append")

    assert counts(report) == {"written": 3}
    assert (album / "a.txt").read_text(encoding="utf-8") == f"my trigger, a Thing, {machine}\n"


def test_prepend_puts_the_tags_before_the_users_text(album, machine):
    write(album / "a.txt", "my trigger, a Thing")

    tag(album, existing="prepend")

    assert (album / "a.txt").read_text(encoding="utf-8") == f"{machine}, my trigger, a Thing\n"


def test_overwrite_puts_the_tags_in_place_of_the_users_text(album, machine):
    write(album / "a.txt", "my trigger, a Thing")

    tag(album, existing="overwrite")

    assert (album / "a.txt").read_text(encoding="utf-8") == f"{machine}\n"


def test_append_leaves_the_users_spelling_as_it_is(album, machine):
    mine = "My  Trigger ,thing,,  (weird:1.2)"
    write(album / "a.txt", mine)

    tag(album, existing="append")

    assert (album / "a.txt").read_text(encoding="utf-8") == f"{mine}, {machine}\n"


def test_append_does_not_repeat_a_tag_that_the_user_has_in_another_spelling(album, machine):
    write(album / "a.txt", "Simple Background")

    tag(album, existing="append")

    rest = without(machine, "simple_background")
    assert (album / "a.txt").read_text(encoding="utf-8") == f"Simple Background, {rest}\n"


def test_appending_a_second_time_adds_nothing(appended, monkeypatch):
    before = texts(appended)
    hide_models(monkeypatch)

    report = tag(appended, existing="append")

    assert counts(report) == {"current": 3}
    assert texts(appended) == before


def test_after_an_append_another_threshold_recomputes_the_machines_part_alone(appended, machine, monkeypatch):
    hide_models(monkeypatch)

    report = tag(appended, threshold=STRICT)

    assert counts(report) == {"written": 3}
    mine, theirs = tags_of(appended / "a.txt")[:2], tags_of(appended / "a.txt")[2:]
    assert mine == ["my trigger", "a Thing"]
    assert set(theirs) < set(machine.split(", "))


def test_after_an_append_the_first_threshold_gives_the_first_text_again(appended):
    before = texts(appended)
    tag(appended, threshold=LOOSE)

    tag(appended, threshold=0.35)

    assert texts(appended) == before


def test_after_a_prepend_the_machines_part_stays_in_front(album):
    write(album / "a.txt", "my trigger, a Thing")
    tag(album, existing="prepend")

    tag(album, threshold=STRICT)

    tags = tags_of(album / "a.txt")
    assert tags[-2:] == ["my trigger", "a Thing"]
    assert len(tags) > 2


def test_after_an_append_only_unstated_defaults_change_nothing(appended):
    before = texts(appended)

    report = tag_by_default(appended, threshold=STRICT)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 3
    assert texts(appended) == before


def test_after_an_append_update_brings_the_machines_part_in_line(appended):
    report = tag_by_default(appended, threshold=STRICT, update=True)

    assert counts(report) == {"written": 3}
    assert tags_of(appended / "a.txt")[:2] == ["my trigger", "a Thing"]


def test_after_an_append_refresh_gives_the_same_bytes(appended):
    before = texts(appended)

    report = tag(appended, refresh=True)

    assert counts(report) == {"current": 3}
    assert texts(appended) == before


def test_after_an_append_a_replaced_image_renews_the_machines_part_alone(appended, drawings):
    before = tags_of(appended / "a.txt")
    (appended / "a.png").write_bytes(drawings[3])

    report = tag(appended)

    after = tags_of(appended / "a.txt")
    assert counts(report) == {"written": 1, "current": 2}
    assert after[:2] == ["my trigger", "a Thing"]
    assert after[2:] != before[2:]


def test_after_an_append_another_separator_neither_changes_nor_repeats_the_users_tags(album, machine):
    write(album / "a.txt", "my trigger, simple_background")
    tag(album, existing="append")

    tag(album, caption_separator=" | ")

    rest = without(machine, "simple_background").replace(", ", " | ")
    assert (album / "a.txt").read_text(encoding="utf-8") == f"my trigger, simple_background | {rest}\n"


def test_a_text_edited_after_an_append_is_kept(appended):
    edited = (appended / "a.txt").read_text(encoding="utf-8").replace("simple_background, ", "")
    write(appended / "a.txt", edited)

    report = tag(appended, threshold=STRICT)

    assert report.kept_paths == ["a.png"]
    assert (appended / "a.txt").read_text(encoding="utf-8") == edited


def test_a_tag_that_the_user_removed_is_not_put_back_by_appending_again(appended, machine):
    write(appended / "a.txt", f"my trigger, a Thing, {without(machine, 'simple_background')}\n")

    report = tag(appended, existing="append")

    assert counts(report) == {"current": 3}
    assert "simple_background" not in tags_of(appended / "a.txt")


def test_a_tag_that_the_user_removed_is_not_put_back_by_any_later_run(appended, machine):
    write(appended / "a.txt", f"my trigger, a Thing, {without(machine, 'simple_background')}\n")
    tag(appended, existing="append")

    report = tag(appended, threshold=LOOSE, remove_underscore=True)

    assert counts(report) == {"written": 3}
    assert not {"simple_background", "simple background"} & set(tags_of(appended / "a.txt"))


def test_a_tag_that_the_user_removed_from_the_machines_own_text_is_not_put_back_either(tagged):
    left = [tag for tag in tags_of(tagged / "a.txt") if tag != "simple_background"]
    write(tagged / "a.txt", ", ".join(left))

    tag(tagged, existing="append", threshold=LOOSE)

    assert "simple_background" not in tags_of(tagged / "a.txt")
    assert set(left) < set(tags_of(tagged / "a.txt"))


def test_what_the_user_wrote_into_the_machines_part_is_the_users_from_then_on(appended, machine):
    write(appended / "a.txt", f"my trigger, a Thing, {machine}, a late thought\n")
    tag(appended, existing="append")

    tag(appended, threshold=STRICT)

    assert tags_of(appended / "a.txt")[:3] == ["my trigger", "a Thing", "a late thought"]


def test_appending_after_an_edit_leaves_the_users_spelling_as_it_is(album, machine):
    write(album / "a.txt", "My  Trigger ,thing")
    tag(album, existing="append")
    write(album / "a.txt", f"My  Trigger ,other thing, {machine}\n")

    tag(album, existing="append")

    assert (album / "a.txt").read_text(encoding="utf-8") == f"My  Trigger ,other thing, {machine}\n"


def test_a_machine_tag_that_the_user_respelled_keeps_the_users_spelling(appended, machine):
    respelt = machine.replace("simple_background", "Simple Background")
    write(appended / "a.txt", f"my trigger, a Thing, {respelt}\n")

    tag(appended, existing="append", threshold=LOOSE)

    assert "Simple Background" in tags_of(appended / "a.txt")
    assert "simple_background" not in tags_of(appended / "a.txt")


def test_overwrite_replaces_a_text_that_both_wrote(appended, machine):
    report = tag(appended, existing="overwrite")

    assert counts(report) == {"written": 1, "current": 2}
    assert (appended / "a.txt").read_text(encoding="utf-8") == f"{machine}\n"


def test_undo_after_overwriting_a_text_that_both_wrote_gives_the_user_the_part_back(appended):
    before = texts(appended)
    tag(appended, existing="overwrite")

    undo(appended)
    tag(appended, threshold=STRICT)

    assert texts(appended) != before
    assert tags_of(appended / "a.txt")[:2] == ["my trigger", "a Thing"]


def test_overwrite_replaces_an_edited_text(tagged):
    before = texts(tagged)
    write(tagged / "a.txt", "my own words")

    report = tag(tagged, existing="overwrite")

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(tagged) == before


def test_an_overwritten_text_is_the_machines_from_then_on(album):
    write(album / "a.txt", "my own words")
    tag(album, existing="overwrite")

    assert counts(tag(album, threshold=STRICT)) == {"written": 3}


def test_append_to_a_text_that_sdprep_wrote_adds_nothing(tagged):
    before = texts(tagged)

    report = tag(tagged, existing="append")

    assert counts(report) == {"current": 3}
    assert texts(tagged) == before


def test_append_to_an_empty_text_gives_the_machines_tags(album, machine):
    write(album / "a.txt", "\n")

    tag(album, existing="append")

    assert (album / "a.txt").read_text(encoding="utf-8") == f"{machine}\n"
