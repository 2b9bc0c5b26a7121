"""From a model's caption to the line that is written."""

from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.captions import clean_caption


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
def test_cleaning_keeps_every_character_that_is_not_white_space(text: str) -> None:
    assert "".join(clean_caption(text).split()) == "".join(text.split())
