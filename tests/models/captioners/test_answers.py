"""What is left of an answer: no thinking, no control characters, one line, not too long."""

import pytest

from sdprep.models.base import AnswerSpec
from sdprep.models.captioners.answers import LONGEST_ANSWER, clean_answer


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a cat", "a cat"),
        ("<think>a dog? no</think>\n\na cat", "a cat"),
        ("<think>one</think>a <THINK>two\n</THINK>cat", "a cat"),
        # The template has opened the block.
        ("a dog? no</think>a cat", "a cat"),
        # The limit of tokens has ended it.
        ("<think>a dog? no, a", ""),
        ("a cat <think>or", "a cat"),
        ("[THINK]hm[/THINK]a cat", "a cat"),
        ("◁think▷hm◁/think▷a cat", "a cat"),
        ("a <thinker> cat", "a <thinker> cat"),
        ("  a\tcat\n\non  a mat\n", "a cat on a mat"),
        ("a\x1b[2Jcat\u202e\u0000", "acat"),
        ("a \x1b[1;31mred\x1b[0m cat", "a red cat"),
        (" \n ", ""),
    ],
)
def test_a_caption_is_one_clean_line(text, left):
    assert clean_answer(text, AnswerSpec()) == left


def test_lines_and_thoughts_stay_if_the_description_says_so():
    assert clean_answer("one \n\n two\x00", AnswerSpec(one_line=False)) == "one\ntwo"
    assert clean_answer("<think>hm</think>a", AnswerSpec(think="keep")) == "<think>hm</think>a"


def test_what_comes_before_certain_words_is_cut():
    spec = AnswerSpec(cut_before=("Assistant:",))
    assert clean_answer("User: what?\nAssistant: a cat", spec) == "a cat"
    assert clean_answer("a cat", spec) == "a cat"


def test_an_endless_answer_is_cut():
    assert len(clean_answer("word " * 10**6, AnswerSpec())) <= LONGEST_ANSWER
    assert clean_answer("<think>" * 200_000, AnswerSpec()) == ""
