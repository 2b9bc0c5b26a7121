"""Filters as users write them, and what a fault shows."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.where.parse import Where, parse
from sdprep.rules.where.tree import And, Not, Number, Or, Pattern, Text
from tests.rules.where.filters import trees


def fault(text: str) -> str:
    with pytest.raises(UsageError) as raised:
        parse(text)
    return str(raised.value)


def test_and_binds_more_than_or_and_not_more_than_and() -> None:
    found = parse("tag:a OR NOT tag:b AND tokens>75").tree
    assert found == Or((tag("a"), And((Not(tag("b")), Number("tokens", ">", "75")))))


def tag(name: str) -> Text:
    return Text("tag", Pattern((name,)))


def test_parentheses_group() -> None:
    assert parse("(tag:a OR tag:b) AND tag:c").tree == And((Or((tag("a"), tag("b"))), tag("c")))


def test_words_may_be_in_any_case() -> None:
    assert parse("Tag:a and not TAG:b or tag:c").tree == parse("tag:a AND NOT tag:b OR tag:c").tree


def test_a_tag_may_have_its_own_parentheses() -> None:
    assert parse("(tag:miku_(vocaloid))").tree == tag("miku_(vocaloid)")
    assert parse("score(miku_(vocaloid))<0.5").tree == Number("score", "<", "0.5", "miku_(vocaloid)")


def test_quotes_hold_a_value_with_spaces_together_and_wildcards_count_in_them() -> None:
    assert parse('caption:"a girl*"').tree == Text("caption", Pattern(("a girl", "*", "")))
    assert parse("tag:'long hair'").tree == tag("long hair")


def test_a_backslash_takes_the_meaning_of_a_wildcard_or_a_quote() -> None:
    assert parse(r"tag:\?").tree == tag("?")
    assert parse(r'tag:"\"x\" \*_\*"').tree == tag('"x" *_*')


def test_any_other_backslash_is_one() -> None:
    assert parse(r"tag:miku_\(vocaloid\)").tree == tag(r"miku_\(vocaloid\)")


@pytest.mark.parametrize("text", ["tokens>75", "tokens > 75", "tokens:>75", "tokens: > 75"])
def test_a_comparison_may_have_a_colon_and_spaces(text: str) -> None:
    assert parse(text).tree == Number("tokens", ">", "75")


def test_a_number_after_a_colon_is_equal() -> None:
    assert parse("width:1024").tree == parse("width==1024").tree == Number("width", "=", "1024")


def test_a_ratio_may_be_written_as_two_numbers() -> None:
    found = parse("ratio>=16/9").tree
    assert isinstance(found, Number)
    assert found.value == 16 / 9


def test_a_double_inversion_is_none() -> None:
    assert parse("NOT (NOT tag:a)").tree == parse("NOT NOT tag:a").tree == tag("a")


def test_a_filter_says_what_has_to_be_read() -> None:
    assert parse("path:sub/* AND NOT (ratio>1 OR tag:a)").fields == {"rel", "width", "height", "tags"}
    assert parse("score(hat)>0.5 AND NOT score(x)>1").scored == {"hat", "x"}


# Faults: the text with a caret at the place, and what was expected there.


def test_a_fault_shows_where_it_is() -> None:
    assert fault("tag:hat AND tokens>abc") == (
        "--where: expected a number such as 75, 0.5 or 16/9\n"
        "  tag:hat AND tokens>abc\n"
        "                     ^"
    )  # fmt: skip


def test_two_conditions_without_a_word_between_them_are_a_fault() -> None:
    assert fault("tag:long hair") == (
        '--where: expected AND, OR or the end; a value with spaces needs quotes, as in tag:"long hair"\n'
        "  tag:long hair\n"
        "           ^"
    )


def test_the_caret_stands_below_wide_characters_too() -> None:
    assert fault("tag:初音 x").splitlines()[1:] == ["  tag:初音 x", "           ^"]


def test_a_long_filter_is_shown_around_its_fault() -> None:
    _, text, caret = fault(" AND ".join(["tag:a"] * 100) + " AND x:y AND " + " AND ".join(["tag:b"] * 100)).splitlines()
    assert len(text) < 100
    assert text[caret.index("^")] == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a condition such as tag:hat or tokens>75"),
        ("tag:a AND", "expected a condition"),
        ("tag:a AND OR tag:b", "OR is not a field"),
        ("tga:hat", "did you mean tag?"),
        ("hat", "hat is not a field: fields are tag, caption"),
        ("tag=hat", "expected : and a value after tag, as in tag:hat"),
        ("tag: hat", "expected a value after tag:"),
        ('tag:""', "expected a value after tag:"),
        ('tag:"hat', "this quote has no end"),
        ("(tag:a", "this ( has no )"),
        ("(tag:a tag:b)", "expected AND, OR or )"),
        ("tag:a)", "there is no ( for this )"),
        ("tokens", "expected one of = != < <= > >= after tokens"),
        ("ratio=1/0", "expected a number that is not infinite"),
        (f"width>{'9' * 400}", "expected a number that is not infinite"),
        ("score<0.5", "expected a tag in parentheses after score"),
        ("score(hat<0.5", "this ( has no )"),
        ("score(*hair)<0.5", "expected one tag without wildcards"),
        ("score( )<0.5", "expected )"),
        ("source:me", "expected one of machine, user, mixed"),
        ("missing:captions", "expected one of tags, caption"),
        ("failed:x*", "expected one of empty_file, not_an_image"),
        ("(" * 51 + "tag:a" + ")" * 51, "more than 50 parentheses are nested"),
    ],
)
def test_a_fault_says_what_was_expected(text: str, message: str) -> None:
    assert message in fault(text)


SOUP = st.lists(st.sampled_from(r'tag: score( ) " \ * NOT AND OR hat > 5 / width ='.split())).map(" ".join)


@given(st.one_of(st.text(), SOUP))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    with suppress(UsageError):
        assert isinstance(parse(text), Where)


@given(trees())
def test_a_filter_prints_as_what_it_was_read_from(tree: object) -> None:
    assert parse(str(tree)).tree == tree
