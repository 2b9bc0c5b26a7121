"""How a caption and tags become one text."""

import pytest

from sdprep.texts.exchange.sample import join, lines_of, one_line


@pytest.mark.parametrize(
    ("caption", "tags", "text"),
    [
        ("a girl", "1girl, solo", "a girl, 1girl, solo"),
        ("a girl", None, "a girl"),
        ("a girl", "", "a girl"),
        (None, "1girl, solo", "1girl, solo"),
        ("", "1girl", "1girl"),
        (None, None, ""),
        # Trainers take one line of several captions: each has the tags.
        ("a girl\na child", "1girl", "a girl, 1girl\na child, 1girl"),
        ("a girl\n\n", "1girl\nsolo", "a girl, 1girl, solo"),
        # Nothing is changed without need.
        ("two\n\nparagraphs", None, "two\n\nparagraphs"),
    ],
)
def test_a_caption_is_followed_by_the_tags(caption: str | None, tags: str | None, text: str) -> None:
    assert join(caption, tags) == text


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        ("a, b", "a, b"),
        ("a\nb", "a, b"),
        ("a,\nb,\n", "a, b"),
        ("a\n\n b c\n", "a, b c"),
        ("a,,  b", "a,,  b"),
        ("", ""),
    ],
)
def test_tags_in_lines_become_one_line(tags: str, line: str) -> None:
    assert one_line(tags) == line


def test_blank_lines_are_not_captions() -> None:
    assert lines_of("a\n \n b \n") == ["a", "b"]
