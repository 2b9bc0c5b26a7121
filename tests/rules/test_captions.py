"""From a model's captions to the lines that are written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.captions import CaptionRules, caption_lines, clean_caption, has_repetition, is_blank, without_words
from sdprep.sanitize import strip_invisible


def test_a_caption_is_written_on_one_line() -> None:
    assert clean_caption("a girl\nwith a hat\r\nsmiling") == "a girl with a hat smiling"


def test_runs_of_white_space_become_one_space() -> None:
    assert clean_caption("a  girl\t\twith a\u3000hat") == "a girl with a hat"


def test_white_space_at_the_ends_is_dropped() -> None:
    assert clean_caption(" a girl ") == "a girl"


def test_a_caption_of_white_space_alone_is_empty() -> None:
    assert clean_caption(" \n\t ") == ""


def test_letters_punctuation_and_case_stay_as_the_model_gave_them() -> None:
    assert clean_caption("A girl's hat, half-red.") == "A girl's hat, half-red."


@given(st.text())
def test_cleaning_a_clean_caption_changes_nothing(text: str) -> None:
    assert clean_caption(clean_caption(text)) == clean_caption(text)


@given(st.text())
def test_cleaning_keeps_every_character_that_is_seen_and_no_white_space(text: str) -> None:
    assert "".join(clean_caption(text).split()) == "".join(strip_invisible(text).split())


# Lines


def lines(*texts: str, **rules: object) -> list[str]:
    return caption_lines(texts, CaptionRules(**rules))  # type: ignore[arg-type]


def test_of_several_captions_the_first_is_written() -> None:
    assert lines("a girl", "a cat") == ["a girl"]


def test_as_many_captions_are_written_as_are_asked_for() -> None:
    assert lines("a girl", "a cat", "a dog", captions=2) == ["a girl", "a cat"]


def test_the_same_caption_is_not_written_twice() -> None:
    assert lines("a girl", " a  girl", "a cat", captions=2) == ["a girl", "a cat"]


def test_an_empty_caption_is_no_line() -> None:
    assert lines(" ", "a cat") == ["a cat"]


@pytest.mark.parametrize(
    ("prefix", "suffix", "line"),
    [
        ("sks,", "", "sks, a girl"),
        ("sks, ", " in a style", "sks, a girl in a style"),
        ("", ", masterpiece", "a girl, masterpiece"),
        ("", ".", "a girl."),
    ],
)
def test_a_prefix_and_a_suffix_frame_the_caption(prefix: str, suffix: str, line: str) -> None:
    assert lines("a girl", prefix=prefix, suffix=suffix) == [line]


def test_every_line_is_framed() -> None:
    assert lines("a girl", "a cat", captions=2, prefix="x") == ["x a girl", "x a cat"]


def test_a_line_break_in_the_frame_makes_no_second_line() -> None:
    assert lines("a girl", prefix="sks\n\nphoto,", suffix="\r\nin\na style\n") == ["sks photo, a girl in a style"]


# Words that are left out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arafed woman with a hat", "woman with a hat"),
        ("there is an arafed man", "there is a man"),
        ("there is an arafed old man", "there is an old man"),
        ("a araffe arafed owl", "an owl"),
        ("An Arafed man", "A man"),
        ("a man in a hat, arafed", "a man in a hat"),
        ("a man in a hat, arafed.", "a man in a hat."),
        ("a cat, arafed, on grey", "a cat, on grey"),
        ("a cat, arafed. a dog", "a cat. a dog"),
        ("a cat. arafed, a dog", "a cat. a dog"),
        ("a cat arafed, on grey", "a cat, on grey"),
        ("a cat, arafed, araffe, on grey", "a cat, on grey"),
        ("an arafed, smiling man", "a smiling man"),
        ("there is an arafed, a man", "there is a man"),
        ("there is an arafed.", "there is."),
        ("arafed, a man", "a man"),
        ("arafed.", ""),
        ("an arafed, araffe owl", "an owl"),
        ("araffe.com", "araffe.com"),
        ("an unarafed man", "an unarafed man"),
        ("an arafed", ""),
        ("a arafed-looking man", "a arafed-looking man"),
    ],
)
def test_dropped_words_leave_a_sentence_behind(text: str, expected: str) -> None:
    assert without_words(text, ("arafed", "araffe")) == expected


def test_nothing_is_dropped_unless_it_is_asked_for() -> None:
    assert lines("arafed woman") == ["arafed woman"]


def test_a_caption_of_dropped_words_alone_makes_place_for_the_next() -> None:
    assert lines("arafed", "a cat", drop_words=("arafed",)) == ["a cat"]


def test_a_dropped_phrase_goes_as_a_whole() -> None:
    assert without_words("a man in the air, in the sky", ("in the air",)) == "a man, in the sky"


PARTS = ["a", "an", "owl", "man", "arafed", "x", ",", "arafed,", "x.", "owl,", "man."]
WORDS = st.lists(st.sampled_from(PARTS), max_size=12).map(" ".join)


@given(WORDS)
def test_no_dropped_word_is_left(text: str) -> None:
    assert "arafed" not in re.findall(r"\w+", without_words(text, ("arafed",)))


@given(WORDS)
def test_every_other_word_is_left(text: str) -> None:
    kept = without_words(text, ("arafed", "x"))
    assert re.findall("owl|man", kept) == re.findall("owl|man", text)


@given(WORDS)
def test_dropping_words_a_second_time_changes_nothing(text: str) -> None:
    once = without_words(text, ("arafed", "x"))
    assert without_words(once, ("arafed", "x")) == once


@given(WORDS)
def test_a_caption_without_the_words_stays_to_the_letter(text: str) -> None:
    assert without_words(text, ("hat",)) == text


# Captions that repeat themselves


@pytest.mark.parametrize(
    "text",
    [
        "a man with a man with a man with a hat",
        "a very very very long coat",
        "a girl and a girl and a girl and",
        "Hat hat HAT",
    ],
)
def test_a_phrase_three_times_in_a_row_is_a_repetition(text: str) -> None:
    assert has_repetition(text.casefold().split())


@pytest.mark.parametrize(
    "text", ["", "a girl with a hat and a girl with a bow", "a man and a man and a woman", "a very very long coat"]
)
def test_a_sentence_that_only_sounds_alike_is_none(text: str) -> None:
    assert not has_repetition(text.split())


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), WORDS, WORDS)
def test_any_short_phrase_three_times_is_found(phrase: list[str], before: str, after: str) -> None:
    assert has_repetition([*before.split(), *phrase * 3, *after.split()])


# Blank captions


@pytest.mark.parametrize("text", ["", ".", "...", " , . ", "[PAD] [SEP].", "</s>", "<unk><unk>", "<|endoftext|>", "-"])
def test_a_caption_without_a_word_is_blank(text: str) -> None:
    assert is_blank([text])
    assert is_blank([text, "!"])


@pytest.mark.parametrize("text", ["a", "1", "\u72ac", "a <b> c", "[PAD] dog", "[cat]"])
def test_a_caption_with_one_word_is_not_blank(text: str) -> None:
    assert not is_blank([text])
    assert not is_blank(["", text])


def test_no_caption_at_all_is_blank() -> None:
    assert is_blank([])
