"""Tags that the page offers are written as the dataset writes its own."""

import pytest

from sdprep.rules.labels import normalize_tag
from sdprep.tasks.review.spelling import Spellings


def spellings(*tags):
    return Spellings({tag: normalize_tag(tag) for tag in tags})


def test_a_tag_of_the_dataset_keeps_its_first_spelling():
    assert spellings("Long_hair", "long hair").of("long hair") == "Long_hair"


@pytest.mark.parametrize(
    ("known", "offered"), [("black_hair", "long_hair"), ("black hair", "long hair"), ("hat", "long hair")]
)
def test_another_tag_is_written_as_most_of_them_are(known, offered):
    assert spellings(known, "^_^").of("long hair") == offered


def test_an_emoticon_keeps_its_underscore():
    assert spellings("black hair").of("^ ^") == "^_^"


def test_tags_that_come_later_count():
    vocabulary = {}
    found = Spellings(vocabulary)
    assert found.of("long hair") == "long hair"
    vocabulary["long_hair"] = "long hair"
    assert found.of("long hair") == "long_hair"
