"""Text that the user and sdprep wrote together."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.labels import normalize_tag
from sdprep.rules.mixed_text import (
    MOST_REMOVED,
    USER,
    MixedText,
    Part,
    normalize,
    place_part,
    read_parts,
    user_text,
    without_repeats,
)
from sdprep.rules.tags import split_tags

SIDES = ("append", "prepend")


def known(user: str, generated: list[str], removed: tuple[str, ...] = (), joiner: str = ", ") -> MixedText:
    """A text with a part of the user's and one of a model."""
    return MixedText((Part(USER, (user,)), Part("tag", tuple(generated), joiner)), removed)


def merged(
    text: MixedText, pieces: list[str], position: str = "append", joiner: str = ", ", others: tuple[str, ...] = ()
) -> MixedText:
    own = Part("tag", tuple(pieces), joiner)
    return without_repeats(place_part(text, own, position), own, [joiner, *others])


def combine(user: str, pieces: list[str], position: str = "append", joiner: str = ", ") -> str:
    return merged(user_text(user), pieces, position, joiner).text


def generated(text: MixedText) -> tuple[str, ...]:
    return tuple(piece for part in text.generated for piece in part.pieces)


def read(text: str, before: MixedText, joiner: str = ", ", position: str = "append") -> MixedText:
    return read_parts(text, before, position, [joiner])


def test_generated_tags_are_appended_to_the_users() -> None:
    assert combine("mine, best", ["1girl", "solo"]) == "mine, best, 1girl, solo"


def test_generated_tags_are_prepended_to_the_users() -> None:
    assert combine("mine, best", ["1girl", "solo"], "prepend") == "1girl, solo, mine, best"


def test_a_generated_caption_becomes_a_line_of_its_own() -> None:
    assert combine("my words", ["a girl"], joiner="\n") == "my words\na girl"


@pytest.mark.parametrize("position", SIDES)
def test_without_a_users_part_there_is_no_separator(position: str) -> None:
    assert combine("", ["1girl"], position) == "1girl"


@pytest.mark.parametrize("position", SIDES)
def test_without_a_generated_part_the_users_stays_as_it_is(position: str) -> None:
    assert combine("mine,best", [], position) == "mine,best"


@pytest.mark.parametrize("same", ["long hair", "Long_Hair", "LONG HAIR"])
def test_a_tag_that_the_user_has_in_any_spelling_is_not_added(same: str) -> None:
    assert combine(same, ["long_hair", "solo"]) == f"{same}, solo"


@pytest.mark.parametrize("user", ["mine,", "mine, ", "mine , "])
def test_a_separator_at_the_end_of_a_users_text_makes_no_empty_tag(user: str) -> None:
    text = combine(user, ["solo"])
    assert [tag.strip() for tag in text.split(",")] == ["mine", "solo"]


def test_a_tag_that_the_user_removed_is_remembered() -> None:
    assert read("mine, solo", known("mine", ["1girl", "solo"])).removed == ("1girl",)


def test_a_tag_that_the_user_removed_is_not_added_again() -> None:
    parts = read("mine, solo", known("mine", ["1girl", "solo"]))
    assert merged(parts, ["1girl", "solo", "smile"]).text == "mine, solo, smile"


def test_what_was_removed_earlier_is_not_added_again() -> None:
    parts = read("mine, solo", known("mine", ["solo"], ("1girl",)))
    assert parts.removed == ("1girl",)


def test_a_tag_removed_twice_in_two_spellings_is_remembered_once() -> None:
    parts = read("mine", known("mine", ["long_hair"], ("Long Hair",)))
    assert [normalize_tag(tag) for tag in parts.removed] == ["long hair"]


def test_a_tag_that_the_user_added_becomes_the_users() -> None:
    assert read("mine, 1girl, new", known("mine", ["1girl"])).user == "mine, new"


def test_a_text_without_a_known_state_is_all_the_users() -> None:
    assert user_text("mine,best \n").user == "mine,best "


def test_a_text_without_a_generated_part_is_all_the_users() -> None:
    parts = read("mine,best", known("mine", [], ("1girl",)))
    assert (parts.user, generated(parts), parts.removed) == ("mine,best", (), ("1girl",))


def test_the_blank_lines_and_indents_of_an_edited_caption_stay() -> None:
    parts = known("first\n\n  second", ["a girl"], joiner="\n")
    assert read("first\n\n  second, longer\na girl", parts, "\n").user == "first\n\n  second, longer"


def test_the_spacing_of_a_users_edited_tags_stays() -> None:
    parts = known("mine,best", ["1girl"])
    assert read("mine,best,new, 1girl", parts).user == "mine,best,new"


def test_a_generated_tag_that_contains_the_separator_is_still_generated() -> None:
    parts = read("mine new long hair solo", known("mine", ["long hair", "solo"], joiner=" "), " ")
    assert (parts.user, parts.removed) == ("mine new", ())


def test_a_generated_tag_is_not_looked_for_inside_one_that_contains_the_separator() -> None:
    parts = read("mine, hair, long, hair", known("mine", ["hair", "long, hair"]))
    assert (parts.user, parts.removed) == ("mine", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n", "a"),
        ("a\r\nb\r\n\r\n", "a\nb"),
        ("\ufeffa", "a"),
        ("\n", ""),
        (" a ", " a "),
        ("a\r", "a"),
    ],
)
def test_texts_are_compared_without_byte_order_mark_carriage_returns_and_final_newlines(
    text: str, expected: str
) -> None:
    assert normalize(text) == expected


@given(st.text(st.sampled_from("ab \n\r\ufeff,")) | st.text())
def test_normalizing_a_normal_text_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


WORDS = st.sampled_from(
    "mine Best 1girl solo long_hair long\u00a0hair smile ^_^ o_o x_(y) \u9752\u3044\u9aea ß SS".split(" ")
)
PIECES = st.lists(WORDS, max_size=6, unique_by=normalize_tag)
JOINERS = st.sampled_from([", ", ",", " | ", "\n"])


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[MixedText, list[str], str, str]:
    """A merged text, the generated pieces, the side and the joiner."""
    joiner, position = draw(JOINERS), draw(st.sampled_from(SIDES))
    pieces = draw(PIECES)
    theirs = replace(user_text(joiner.join(draw(PIECES))), removed=tuple(draw(PIECES)))
    return merged(theirs, pieces, position, joiner), pieces, position, joiner


@given(mixtures())
def test_splitting_gives_the_users_part_back(mixture: tuple) -> None:
    parts, _, position, joiner = mixture
    assert read(parts.text, parts, joiner, position).user == parts.user


@given(mixtures())
def test_splitting_an_unmodified_text_finds_nothing_newly_removed(mixture: tuple) -> None:
    parts, _, position, joiner = mixture
    assert {normalize_tag(tag) for tag in read(parts.text, parts, joiner, position).removed} == {
        normalize_tag(tag) for tag in parts.removed
    }


@given(mixtures())
def test_merging_twice_is_merging_once(mixture: tuple) -> None:
    parts, pieces, position, joiner = mixture
    assert merged(read(parts.text, parts, joiner, position), pieces, position, joiner).text == parts.text


@given(mixtures(), st.data())
def test_nothing_that_the_user_removes_returns(mixture: tuple, data: st.DataObject) -> None:
    parts, pieces, position, joiner = mixture
    gone = data.draw(st.sampled_from(generated(parts))) if generated(parts) else None
    edited = joiner.join(
        piece for piece in split_tags(parts.text, joiner) if gone is None or normalize_tag(piece) != normalize_tag(gone)
    )
    again = merged(read(edited, parts, joiner, position), pieces, position, joiner).text
    kept = {normalize_tag(piece) for piece in split_tags(parts.user, joiner)}
    removed = {normalize_tag(piece) for piece in [*parts.removed, *([gone] if gone else [])]} - kept
    assert removed.isdisjoint(normalize_tag(piece) for piece in split_tags(again, joiner))


@given(mixtures(), PIECES)
def test_the_users_pieces_survive_any_new_generated_part(mixture: tuple, newer: list[str]) -> None:
    parts, _, position, joiner = mixture
    again = merged(read(parts.text, parts, joiner, position), newer, position, joiner).text
    pieces = split_tags(again, joiner)
    assert [piece for piece in pieces if piece in split_tags(parts.user, joiner)] == split_tags(parts.user, joiner)


@given(mixtures())
def test_no_generated_piece_repeats_one_of_the_user(mixture: tuple) -> None:
    parts, _, _, joiner = mixture
    assert {normalize_tag(piece) for piece in generated(parts)}.isdisjoint(
        map(normalize_tag, split_tags(parts.user, joiner))
    )


def test_of_too_many_removed_tags_the_latest_are_remembered() -> None:
    older = tuple(map(str, range(MOST_REMOVED)))
    removed = read("mine", known("mine", ["latest"], older)).removed
    assert (len(removed), removed[0], removed[-1]) == (MOST_REMOVED, "1", "latest")


def test_a_tag_that_the_user_typed_beside_the_same_generated_tag_is_the_users() -> None:
    assert read("mine, solo, 1girl, solo", known("mine", ["1girl", "solo"])).user == "mine, solo"


@pytest.mark.parametrize("theirs", ["mine | long_hair", "mine; Long Hair|x", "mine\nlong hair", "mine、long hair; b"])
def test_a_tag_between_any_separators_is_not_added_again(theirs: str) -> None:
    others = ("|", ";", "\n", "、")
    assert generated(merged(user_text(theirs), ["long_hair", "solo"], others=others)) == ("solo",)


def test_a_tag_with_escaped_parentheses_is_the_same_tag() -> None:
    assert combine(r"x \(y\)", ["x_(y)", "solo"]) == r"x \(y\), solo"


def test_a_tag_of_several_words_is_found_where_a_space_separates() -> None:
    parts = merged(user_text("mine long hair"), ["long hair", "hair band"], joiner=" ")
    assert generated(parts) == ("hair band",)


def test_a_piece_that_the_user_wrote_and_removed_is_not_added_again() -> None:
    parts = read("mine, 1girl", known("mine, solo", ["1girl"]))
    assert merged(parts, ["1girl", "solo"]).text == "mine, 1girl"


@pytest.mark.parametrize("position", SIDES)
def test_the_indents_of_the_users_lines_stay(position: str) -> None:
    parts = merged(user_text("  first\n\n\tsecond"), ["a girl"], position, "\n")
    edited = parts.text + " longer" if position == "prepend" else "  new\n" + parts.text
    theirs = "  first\n\n\tsecond longer" if position == "prepend" else "  new\n  first\n\n\tsecond"
    assert read(edited, parts, "\n", position).user == theirs
