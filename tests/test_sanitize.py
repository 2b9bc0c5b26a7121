"""Characters that nobody sees, taken out of what a model says."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.captions import CaptionRules, caption_lines, clean_caption
from sdprep.rules.labels import KAOMOJI
from sdprep.sanitize import strip_invisible

JOINERS = "\u200c\u200d"
# Text in which what is taken out is not rare.
ODD = st.text(
    st.sampled_from("ab _\n\x00\x1b\x85\u00ad\u200b\u200c\u200d\u200e\u202e\u2066\u2028\ufeff\U000e0041é青👩\ufe0f")
)
TEXT = st.one_of(ODD, st.text(st.characters()))


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a \x1b[31mred\x07 hat", "a [31mred hat"),
        ("a hat\nand a\tcoat", "a hat and a coat"),
        ("a hat\r\n\x00and", "a hat and"),
        ("gpj.\u202etxt", "gpj.txt"),
        ("\u2066hidden\u2069 \u200fword\u200e", "hidden word"),
        ("zero\u200bwidth\ufeff\u2060\u00ad", "zerowidth"),
        ("one\u2028two\u2029three", "one two three"),
        ("next\x85line", "next line"),
        ("hat\U000e0068\U000e0061\U000e0074", "hat"),
        ("a\u200db \u200chat\u200d", "ab hat"),
        ("bad \udce9 byte", "bad  byte"),
    ],
)
def test_what_nobody_sees_is_taken_out(text, rest):
    assert strip_invisible(text) == rest


@pytest.mark.parametrize(
    "text", [*sorted(KAOMOJI), "1girl", "青い空", "👩‍👩‍👧", "❤️", "می‌خواهم", "क्‍ष", "naïve café", "a (b)_c", "e\u0301"]
)
def test_what_has_a_meaning_stays(text):
    assert strip_invisible(text) == text


@given(TEXT)
def test_nothing_unseen_is_left(text):
    left = {unicodedata.category(each) for each in strip_invisible(text) if each not in JOINERS}
    assert left.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert not [
        each for each in strip_invisible(text) if unicodedata.bidirectional(each) in {"LRE", "RLE", "LRO", "RLO", "PDF"}
    ]
    assert not [
        each for each in strip_invisible(text) if unicodedata.bidirectional(each) in {"LRI", "RLI", "FSI", "PDI"}
    ]


@given(TEXT)
def test_a_plain_text_is_plain(text):
    assert strip_invisible(strip_invisible(text)) == strip_invisible(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_ascii_that_can_be_seen_is_left_alone(text):
    assert strip_invisible(text) == text


@given(TEXT)
def test_a_caption_is_one_plain_line(text):
    cleaned = clean_caption(text)
    assert cleaned == strip_invisible(cleaned) == " ".join(cleaned.split())


def test_the_words_of_a_person_around_a_caption_are_left_alone():
    assert caption_lines(["a\u202e hat"], CaptionRules(prefix="p\u200b:")) == ["p\u200b: a hat"]
