"""Tags that are never to be written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.exclude import TagSet, Wildcard, compile_exclusion, parse_exclusions

KNOWN = ("1girl", "2girls", "long_hair", "short_hair", "hair_bow", "?", "!?", "*_*", "/\\/\\/\\")


def excluded(*entries: str) -> list[str]:
    exclusion = TagSet(entries, KNOWN)
    return [tag for tag in KNOWN if tag in exclusion]


@pytest.mark.parametrize("entry", ["long_hair", "long hair", "Long Hair"])
def test_a_name_excludes_its_tag_in_every_spelling(entry: str) -> None:
    assert excluded(entry) == ["long_hair"]


def test_a_name_does_not_exclude_longer_tags() -> None:
    assert excluded("hair") == []


@pytest.mark.parametrize("entry", ["*_hair", "* hair", "*HAIR"])
def test_a_star_stands_for_any_letters(entry: str) -> None:
    assert excluded(entry) == ["long_hair", "short_hair"]


def test_a_question_mark_stands_for_one_letter() -> None:
    assert excluded("?girl*") == ["1girl", "2girls"]


def test_brackets_in_a_wildcard_mean_themselves() -> None:
    assert [tag in TagSet(["*[b]"], ()) for tag in ("a_[b]", "a_b")] == [True, False]


def test_a_regular_expression_is_searched_for() -> None:
    assert excluded("/girls?$/") == ["1girl", "2girls"]


@pytest.mark.parametrize("entry", ["/LONG_/", "/long /"])
def test_a_regular_expression_sees_both_spellings_and_any_case(entry: str) -> None:
    assert excluded(entry) == ["long_hair"]


@pytest.mark.parametrize("entry", ["?", "*_*", "/\\/\\/\\"])
def test_an_entry_that_is_the_name_of_a_tag_means_that_tag_alone(entry: str) -> None:
    assert excluded(entry) == [entry]


def test_a_broken_regular_expression_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"/\(/ is not a valid regular expression"):
        compile_exclusion("/(/")


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a, b ,,c", ("a", "b", "c")),
        ("/x{1,2}/", ("/x{1,2}/",)),
        ("a,/x{1,2}/ , b*", ("a", "/x{1,2}/", "b*")),
        ("/a/,/b/", ("/a/", "/b/")),
        ("/half,b", ("/half", "b")),
        ("//,b", ("//", "b")),
        (r"a\,b,c", ("a,b", "c")),
        (r"/a\,b/,c", (r"/a\,b/", "c")),
    ],
)
def test_a_list_is_split_at_commas_outside_regular_expressions(text: str, entries: tuple[str, ...]) -> None:
    assert parse_exclusions(text) == entries


@given(st.lists(st.text("abc*?_ ", min_size=1).map(str.strip).filter(bool), max_size=5))
def test_entries_without_commas_and_slashes_come_out_as_they_went_in(entries: list[str]) -> None:
    assert parse_exclusions(",".join(entries)) == tuple(entries)


@given(st.text(), st.text(max_size=5))
def test_nothing_is_excluded_by_an_empty_list(tag: str, other: str) -> None:
    assert tag not in TagSet((), (other,))


# Wildcards take time in proportion to the text


@given(st.text("ab*?", max_size=8), st.text("abc", max_size=8))
def test_a_wildcard_matches_what_the_same_regular_expression_does(pattern: str, text: str) -> None:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert Wildcard(pattern).search(text) == bool(re.fullmatch(expression, text, re.DOTALL))


@pytest.mark.parametrize("pattern", ["*" * 2000 + "Z", "a*" * 500 + "Z", "*a" * 500 + "Z", "?*" * 500 + "Z"])
def test_a_wildcard_that_a_regular_expression_never_finishes_is_answered(pattern: str) -> None:
    assert "a" * 600 not in TagSet([pattern], ())
    assert "a" * 600 + "z" in TagSet([pattern], ())


@pytest.mark.parametrize("pattern", ["(" * 5000 + ")" * 5000, "a{99999999999}"])
def test_a_regular_expression_beyond_the_limits_of_python_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is not a valid regular expression"):
        compile_exclusion(f"/{pattern}/")


def test_a_regular_expression_with_underscores_also_excludes_a_tag_that_is_written_with_spaces() -> None:
    assert "Long Hair" in TagSet(["/^long_hair$/"], [])
