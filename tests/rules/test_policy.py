"""What a command does with an existing sidecar."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.mixed_text import USER, MixedText, Part
from sdprep.rules.policy import Action, Decision, SidecarState, SidecarStatus, TextRequest, changed_settings, decide

THEN = {"model": "demo-tag", "threshold": 0.35}
MACHINE = Part("tag", ("1girl", "solo"), settings=THEN, digest=b"image")
MINE, CAPTION = Part(USER, ("mine",)), Part("caption", ("a girl",), settings={"model": "blip"}, digest=b"image")
STATE = SidecarState("tag", "1girl, solo", b"image", MixedText((MACHINE,)))
MIXED = SidecarState("tag", "mine, 1girl, solo", b"image", MixedText((MINE, MACHINE)))
USERS = replace(MIXED, content=MixedText((Part(USER, (MIXED.text,)),)))
CAPTIONED = SidecarState("caption", "a girl", b"image", MixedText((CAPTION,)))
REQUEST = TextRequest("tag", THEN)
OTHER = {**THEN, "threshold": 0.5}


def on_disk(text: str | None = "1girl, solo\n", state: SidecarState | None = STATE, **changes: Any) -> SidecarStatus:
    return SidecarStatus(text, state, **{"digest": b"image", **changes})


def action(disk: SidecarStatus, **request: Any) -> Action:
    return decide(disk, replace(REQUEST, **request)).action


def test_a_missing_sidecar_is_written() -> None:
    assert decide(SidecarStatus(None), REQUEST) == Decision(Action.REPLACE)


def test_a_sidecar_that_was_deleted_is_written_again() -> None:
    assert action(on_disk(None)) is Action.REPLACE


def test_sdpreps_unmodified_text_is_up_to_date() -> None:
    assert decide(on_disk(), REQUEST) == Decision(Action.CURRENT)


@pytest.mark.parametrize("text", ["1girl, solo", "1girl, solo\r\n", "\ufeff1girl, solo\n\n"])
def test_byte_order_mark_line_ends_and_final_newlines_are_not_an_edit(text: str) -> None:
    assert action(on_disk(text)) is Action.CURRENT


def test_a_text_that_sdprep_never_wrote_is_kept() -> None:
    assert decide(on_disk("mine", None), REQUEST) == Decision(Action.KEEP)


def test_an_empty_line_that_sdprep_never_wrote_is_kept() -> None:
    assert action(on_disk("\n", None)) is Action.KEEP


def test_a_text_that_both_wrote_and_that_was_emptied_is_merged_again() -> None:
    assert action(on_disk(None, MIXED, is_emptied=True)) is Action.COMBINE


@pytest.mark.parametrize(
    ("disk", "existing"),
    [
        (on_disk(None, MIXED), "keep"),
        (on_disk(None, STATE, is_emptied=True), "append"),
        (on_disk(None, None, is_emptied=True), "append"),
        (on_disk(None, USERS, is_emptied=True), "keep"),
        (on_disk(None, CAPTIONED, is_emptied=True), "keep"),
        (on_disk(None, MIXED, is_emptied=True), "overwrite"),
    ],
)
def test_any_other_sidecar_that_is_gone_or_was_emptied_is_written(disk: SidecarStatus, existing: str) -> None:
    assert action(disk, existing=existing) is Action.REPLACE


@pytest.mark.parametrize(
    ("existing", "expected"),
    [("overwrite", Action.REPLACE), ("append", Action.COMBINE), ("prepend", Action.COMBINE), ("keep", Action.KEEP)],
)
def test_a_text_that_is_known_to_be_the_users_is_treated_as_one(existing: str, expected: Action) -> None:
    disk = on_disk(MIXED.text, USERS)
    assert action(disk, existing=existing, settings=OTHER, explicit=frozenset({"threshold"})) is expected


def test_a_text_that_was_edited_is_kept() -> None:
    assert action(on_disk("1girl")) is Action.KEEP


def test_the_text_of_another_task_is_kept() -> None:
    assert action(on_disk(), task="caption") is Action.KEEP


def test_an_explicit_setting_that_differs_rewrites_sdpreps_text() -> None:
    assert action(on_disk(), settings=OTHER, explicit=frozenset({"threshold"})) is Action.REPLACE


def test_an_explicit_setting_that_does_not_differ_rewrites_nothing() -> None:
    assert action(on_disk(), explicit=frozenset({"threshold"})) is Action.CURRENT


def test_a_default_that_differs_leaves_the_text_and_is_reported() -> None:
    assert decide(on_disk(), replace(REQUEST, settings=OTHER)) == Decision(Action.CURRENT, other_settings=True)


def test_update_rewrites_a_text_whose_defaults_differ() -> None:
    assert action(on_disk(), settings=OTHER, update=True) is Action.REPLACE


def test_update_leaves_a_text_of_the_same_settings() -> None:
    assert action(on_disk(), update=True) is Action.CURRENT


def test_refresh_rewrites_sdpreps_text() -> None:
    assert action(on_disk(), refresh=True) is Action.REPLACE


def test_another_image_under_the_same_name_rewrites_sdpreps_text() -> None:
    assert action(on_disk(digest=b"another")) is Action.REPLACE


def test_the_users_text_about_another_image_is_kept_and_reported() -> None:
    assert decide(on_disk("mine", digest=b"another"), REQUEST) == Decision(Action.KEEP, image_changed=True)


def test_an_image_that_was_not_read_does_not_count_as_changed() -> None:
    assert not on_disk(digest=None).image_changed


@pytest.mark.parametrize("existing", ["keep", "append", "prepend", "overwrite"])
def test_sdpreps_own_text_is_current_whatever_happens_to_other_text(existing: str) -> None:
    assert action(on_disk(), existing=existing) is Action.CURRENT


@pytest.mark.parametrize(
    ("existing", "expected"),
    [("overwrite", Action.REPLACE), ("append", Action.COMBINE), ("prepend", Action.COMBINE), ("keep", Action.KEEP)],
)
@pytest.mark.parametrize("disk", [on_disk("mine", None), on_disk("1girl")], ids=["foreign", "edited"])
def test_existing_says_what_happens_to_a_users_text(disk: SidecarStatus, existing: str, expected: Action) -> None:
    assert action(disk, existing=existing) is expected


def test_the_generated_part_of_a_mixed_text_is_replaced_in_place() -> None:
    disk = on_disk(MIXED.text, MIXED)
    assert action(disk, settings=OTHER, explicit=frozenset({"threshold"})) is Action.COMBINE


def test_a_mixed_text_is_replaced_whole_only_when_overwriting_is_asked_for() -> None:
    assert action(on_disk(MIXED.text, MIXED), existing="overwrite") is Action.REPLACE


def test_a_mixed_text_of_the_same_settings_is_current() -> None:
    assert action(on_disk(MIXED.text, MIXED), existing="append") is Action.CURRENT


def test_a_setting_that_did_not_exist_then_counts_only_if_it_is_explicit() -> None:
    now = {**THEN, "order": "csv"}
    assert changed_settings(THEN, TextRequest("tag", now)) == frozenset()
    assert changed_settings(THEN, TextRequest("tag", now, frozenset({"order"}))) == {"order"}


def test_a_setting_that_no_longer_exists_does_not_count() -> None:
    assert changed_settings({**THEN, "gone": 1}, REQUEST) == frozenset()


OTHER_MODEL = {**THEN, "model": "other-tag"}


@pytest.mark.parametrize("existing", ["append", "prepend"])
def test_a_second_models_tags_are_added_to_those_of_the_first(existing: str) -> None:
    assert action(on_disk(), settings=OTHER_MODEL, existing=existing) is Action.COMBINE


def test_without_append_a_stated_model_takes_the_place_of_the_first() -> None:
    assert action(on_disk(), settings=OTHER_MODEL, explicit=frozenset({"model"})) is Action.REPLACE


def test_the_part_of_another_task_does_not_count() -> None:
    both = SidecarState("tag", "a girl, 1girl, solo", b"image", MixedText((CAPTION, MACHINE)))
    assert action(on_disk(both.text, both)) is Action.CURRENT
    assert action(on_disk(both.text, both), settings=OTHER, stated=frozenset({"threshold"})) is Action.COMBINE
    assert action(on_disk(both.text, both), existing="overwrite") is Action.REPLACE


def test_a_setting_that_was_stated_then_and_is_forgotten_now_rewrites_the_part() -> None:
    then = replace(STATE, content=MixedText((replace(MACHINE, settings={**OTHER, "stated": ["threshold"]}),)))
    assert action(on_disk(state=then)) is Action.REPLACE


@pytest.mark.parametrize(("existing", "position"), [("append", (MACHINE, MINE)), ("prepend", (MINE, MACHINE))])
def test_a_part_on_the_other_side_of_the_users_is_moved(existing: str, position: tuple[Part, ...]) -> None:
    state = SidecarState("tag", MixedText(position).text, b"image", MixedText(position))
    assert action(on_disk(state.text, state), existing=existing) is Action.COMBINE
    assert action(on_disk(state.text, state)) is Action.CURRENT


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (on_disk(None), Action.REPLACE),
        (on_disk("\n"), Action.REPLACE),
        (on_disk(" \t\r\n", None), Action.REPLACE),
        (on_disk("mine", None), Action.KEEP),
        (on_disk(digest=b"another"), Action.KEEP),
        (on_disk(), Action.CURRENT),
    ],
)
def test_fill_writes_only_where_nothing_is(disk: SidecarStatus, expected: Action) -> None:
    assert action(disk, existing="fill") is expected


TEXTS = st.sampled_from([None, "", "mine", "1girl, solo", "1girl, solo\r\n", "mine, 1girl, solo", "mine, 1girl"])
STATES = st.sampled_from([None, STATE, MIXED])
DIGESTS = st.sampled_from([None, b"image", b"x"])
DISKS = st.builds(on_disk, TEXTS, STATES, digest=DIGESTS) | st.builds(
    on_disk, st.none(), STATES, digest=DIGESTS, is_emptied=st.just(True)
)
REQUESTS = st.builds(
    TextRequest,
    st.sampled_from(["tag", "caption"]),
    st.sampled_from([THEN, OTHER, {**OTHER, "order": "csv"}]),
    st.frozensets(st.sampled_from(["threshold", "order", "model", "batch_size"])),
    st.sampled_from(["keep", "overwrite", "append", "prepend"]),
    st.booleans(),
    st.booleans(),
)


def is_the_users(disk: SidecarStatus, request: TextRequest) -> bool:
    """Whether the user, another tool or another task wrote all of the text."""
    return disk.text is not None and (disk.state is None or not disk.unmodified or request.task != "tag")


@given(DISKS, REQUESTS)
def test_the_users_text_is_only_replaced_when_overwriting_is_asked_for(
    disk: SidecarStatus, request: TextRequest
) -> None:
    if is_the_users(disk, request):
        assert (decide(disk, request).action is Action.REPLACE) == (request.existing == "overwrite")


@given(DISKS, REQUESTS)
def test_the_users_text_is_only_added_to_when_that_is_asked_for(disk: SidecarStatus, request: TextRequest) -> None:
    if is_the_users(disk, request):
        assert (decide(disk, request).action is Action.COMBINE) == (request.existing in ("append", "prepend"))


@given(DISKS, REQUESTS)
def test_the_users_part_of_a_mixed_text_is_only_dropped_when_overwriting_is_asked_for(
    disk: SidecarStatus, request: TextRequest
) -> None:
    if (
        disk.state is MIXED
        and (disk.text is not None or disk.is_emptied)
        and request.task == "tag"
        and request.existing != "overwrite"
    ):
        assert decide(disk, request).action is not Action.REPLACE


@given(DISKS, REQUESTS)
def test_with_any_settings_a_missing_sidecar_is_written(disk: SidecarStatus, request: TextRequest) -> None:
    assert disk.text is not None or decide(disk, request).action in (Action.REPLACE, Action.COMBINE)


@given(DISKS, REQUESTS)
def test_no_text_of_the_user_is_called_current(disk: SidecarStatus, request: TextRequest) -> None:
    assert not (is_the_users(disk, request) and decide(disk, request).action is Action.CURRENT)
