"""Sidecars are build products: each row of the table of what a command does, as somebody would live through it."""

import pytest

from tests.stories.telling import (
    ALBUM,
    SIDECARS,
    STRICT,
    counts,
    hide_models,
    renew_times,
    tag,
    tag_by_default,
    tags_of,
    texts,
    watch_model,
    write,
)

# Absent


def test_images_without_tags_get_them(album):
    report = tag(album)

    assert counts(report) == {"written": 3}
    assert list(texts(album)) == list(SIDECARS)
    assert all(tags_of(album / name) for name in SIDECARS)


def test_deleted_tags_come_back_from_the_stored_result_without_the_model(tagged, monkeypatch):
    before = texts(tagged)
    (tagged / "b.txt").unlink()
    hide_models(monkeypatch)

    report = tag(tagged)

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(tagged) == before


def test_refresh_runs_the_model_again_for_all_images(tagged, monkeypatch):
    (tagged / "b.txt").unlink()
    seen = watch_model(monkeypatch)

    report = tag(tagged, refresh=True)

    assert sum(seen) == 3
    assert counts(report) == {"written": 1, "current": 2}


# Exactly what this run would write


def test_a_second_run_finds_everything_current_without_the_model(tagged, monkeypatch):
    before = texts(tagged)
    hide_models(monkeypatch)

    report = tag(tagged)

    assert counts(report) == {"current": 3}
    assert texts(tagged) == before


def test_text_of_unknown_origin_that_this_run_would_write_is_current(tagged):
    (tagged / "d.png").write_bytes((tagged / "a.png").read_bytes())
    (tagged / "d.txt").write_bytes((tagged / "a.txt").read_bytes())

    assert counts(tag(tagged)) == {"current": 4}


def test_text_of_unknown_origin_that_this_run_would_write_is_sdpreps_from_then_on(tagged):
    (tagged / "d.png").write_bytes((tagged / "a.png").read_bytes())
    (tagged / "d.txt").write_bytes((tagged / "a.txt").read_bytes())
    tag(tagged)

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"written": 4}
    assert (tagged / "d.txt").read_bytes() == (tagged / "a.txt").read_bytes()


def test_an_edit_that_was_taken_back_by_hand_leaves_the_text_current(tagged):
    original = (tagged / "a.txt").read_bytes()
    write(tagged / "a.txt", "something else")
    tag(tagged)
    (tagged / "a.txt").write_bytes(original)

    assert counts(tag(tagged)) == {"current": 3}


# sdprep's and untouched; a stated setting or the image has changed


def test_another_threshold_rewrites_what_sdprep_wrote_without_loading_the_model(tagged, monkeypatch):
    usual = {name: set(tags_of(tagged / name)) for name in SIDECARS}
    hide_models(monkeypatch)

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert all(set(tags_of(tagged / name)) < usual[name] for name in SIDECARS)


def test_going_back_to_the_first_threshold_gives_the_first_bytes(tagged):
    before = texts(tagged)
    tag(tagged, threshold=STRICT)

    tag(tagged, threshold=0.35)

    assert texts(tagged) == before


@pytest.mark.parametrize(
    "explicit",
    [
        {"general_threshold": STRICT},
        {"remove_underscore": True},
        {"exclude": ("simple_background",)},
        {"ratings": "first"},
        {"caption_separator": " | "},
    ],
    ids=lambda explicit: next(iter(explicit)),
)
def test_any_stated_setting_that_changes_the_text_rewrites_it_without_the_model(tagged, monkeypatch, explicit):
    before = texts(tagged)
    hide_models(monkeypatch)

    report = tag(tagged, **explicit)

    assert counts(report) == {"written": 3}
    assert all(after != before[name] for name, after in texts(tagged).items())


def test_a_stated_setting_that_gives_the_same_text_leaves_it_current(tagged):
    report = tag(tagged, exclude=("a_tag_that_no_image_has",))

    assert counts(report) == {"current": 3}
    assert report.other_settings == 0


def test_stating_the_value_that_a_text_was_made_with_changes_nothing(tagged):
    report = tag(tagged, threshold=0.35, model="demo-tag", remove_underscore=False)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 0


def test_a_replaced_image_gets_new_tags(tagged, drawings):
    before = texts(tagged)
    (tagged / "b.png").write_bytes(drawings[3])

    report = tag(tagged)

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(tagged)["b.txt"] != before["b.txt"]


def test_an_image_replaced_by_another_of_the_album_needs_no_model(tagged, monkeypatch):
    (tagged / "b.png").write_bytes((tagged / "a.png").read_bytes())
    hide_models(monkeypatch)

    tag(tagged)

    assert (tagged / "b.txt").read_bytes() == (tagged / "a.txt").read_bytes()


def test_an_image_that_was_only_touched_keeps_its_tags_without_the_model(tagged, monkeypatch):
    renew_times(tagged)
    hide_models(monkeypatch)

    assert counts(tag(tagged)) == {"current": 3}


# sdprep's and untouched; only unstated defaults differ


def test_another_default_leaves_the_text_current_and_says_how_many(tagged, monkeypatch):
    before = texts(tagged)
    hide_models(monkeypatch)

    report = tag_by_default(tagged, threshold=STRICT)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 3
    assert texts(tagged) == before


def test_a_run_without_the_flags_of_the_first_leaves_its_texts_alone(album):
    tag(album, threshold=STRICT, remove_underscore=True)
    before = texts(album)

    report = tag_by_default(album)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 0
    assert texts(album) == before


def test_update_brings_other_settings_in_line_without_the_model(tagged, monkeypatch):
    before = texts(tagged)
    hide_models(monkeypatch)

    report = tag_by_default(tagged, threshold=STRICT, update=True)

    assert counts(report) == {"written": 3}
    assert all(after != before[name] for name, after in texts(tagged).items())


def test_after_update_nothing_is_said_of_other_settings(tagged):
    tag_by_default(tagged, threshold=STRICT, update=True)

    report = tag_by_default(tagged, threshold=STRICT)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 0


def test_update_leaves_a_users_text_alone(tagged):
    write(tagged / "a.txt", "mine")

    report = tag_by_default(tagged, threshold=STRICT, update=True)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (tagged / "a.txt").read_bytes() == b"mine"


# Edited by the user, written by another tool, or by another task


def test_an_edited_text_is_kept_and_named_whatever_is_stated(tagged):
    write(tagged / "b.txt", "my own words\n")

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"written": 2, "kept": 1}
    assert report.kept_paths == ["b.png"]
    assert (tagged / "b.txt").read_bytes() == b"my own words\n"


def test_texts_of_another_tool_are_kept_before_a_model_is_loaded(album, monkeypatch):
    for name in SIDECARS:
        write(album / name, f"from elsewhere, {name}")
    hide_models(monkeypatch)

    report = tag(album)

    assert counts(report) == {"kept": 3}
    assert report.kept_paths == list(ALBUM)
    assert texts(album) == {name: f"from elsewhere, {name}".encode() for name in SIDECARS}


def test_keeping_does_not_depend_on_refresh(tagged):
    write(tagged / "b.txt", "mine")

    report = tag(tagged, refresh=True)

    assert counts(report) == {"current": 2, "kept": 1}
    assert (tagged / "b.txt").read_bytes() == b"mine"
