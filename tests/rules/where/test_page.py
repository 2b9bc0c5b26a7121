"""docs/where.md: each field is there, and each expression chooses what the page says."""

import re
from pathlib import Path

from sdprep.errors import UsageError
from sdprep.rules.where.parse import parse
from sdprep.rules.where.record import Record
from sdprep.rules.where.tree import NUMBERS, TEXTS

PAGE = (Path(__file__).parents[3] / "docs" / "where.md").read_text(encoding="utf-8")
IMAGES = [
    Record("a.png", ("hat", "1girl"), "A girl with a red hat", width=1024, height=1024, source=("machine",),
           models=("wd-swinv2",), scores={"hat": 0.9}),
    Record("sub/b.png", ("long hair", "dog"), missing=("caption",), width=2048, height=512, source=("machine",),
           models=("eva02",), scores={"hat": 0.4}),
    Record("sub/deep/c.jpg", ("cat",), "a cat", width=400, height=1024, source=("user",), scores={"hat": 0.1}),
    Record("d.webp", missing=("tags", "caption"), width=768, height=768, source=()),
    Record("e.png", ("hat", "hair ornament", "dog", "1girl"), "hat of a girl", width=1024, height=768,
           source=("mixed", "machine"), models=("wd-swinv2",), scores={"hat": 0.3}),
]  # fmt: skip
EXAMPLES = {
    "missing:caption": "sub/b.png d.webp",
    "tag:hat AND NOT tag:*hair*": "a.png",
    '(tag:dog OR tag:cat) AND NOT tag:"1girl"': "sub/b.png sub/deep/c.jpg",
    "score(hat)>=0.3 AND NOT tag:hat": "sub/b.png",
    "source:user OR source:mixed": "sub/deep/c.jpg e.png",
    "source:machine AND model:wd-*": "a.png e.png",
    "path:sub/* AND name:*.png": "sub/b.png",
    "width<512 OR height<512": "sub/deep/c.jpg",
    "ratio>2 OR ratio<1/2": "sub/b.png sub/deep/c.jpg",
    'caption:"a girl*hat"': "a.png",
}


def cells(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]


def test_the_page_has_every_field() -> None:
    named = {name.split("(")[0] for row in cells("Fields") for name in re.findall("`([^`]+)`", row[0])}
    assert named == {*TEXTS, *NUMBERS}


def test_the_example_of_each_field_is_right() -> None:
    for row in cells("Fields"):
        assert parse(row[-1].strip("`")).fields


def test_each_example_chooses_what_the_page_says() -> None:
    expressions = [row[0].strip("`") for row in cells("Examples")]
    assert expressions == [*EXAMPLES]
    for text, expected in EXAMPLES.items():
        matcher = parse(text).matcher(tag for image in IMAGES for tag in image.tags)
        assert (text, [image.rel for image in IMAGES if matcher(image)]) == (text, expected.split())


def test_the_error_on_the_page_is_the_one_that_is_printed() -> None:
    try:
        parse("tag:hat AND tokens>abc")
    except UsageError as error:
        shown = "".join(f"    {line}\n" for line in f"sdprep: error: {error}".splitlines())
    assert shown in PAGE
