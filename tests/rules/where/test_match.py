"""Which images a filter chooses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.labels import normalize_tag
from sdprep.rules.where.match import COMPARE, fold
from sdprep.rules.where.parse import Where, parse
from sdprep.rules.where.record import Record
from sdprep.rules.where.tree import And, Node, Not, Number, Or, Pattern
from tests.rules.where.filters import records, trees

IMAGE = Record(
    rel="sub/Été/img_10.png",
    tags=("1girl", "long hair", "hatsune miku (vocaloid)", ">_<"),
    caption="A girl with a hat.\nShe smiles.",
    width=1920,
    height=1080,
    tokens=80,
    scores={"hat": 0.25, "long hair": 0.75},
    rating="sensitive",
    source=("machine", "user"),
    models=("wd-v1-4-swinv2-tagger-v2",),
    failed="truncated",
)
NOTHING = Record("a.png", missing=("tags", "caption"))


def matches(text: str, record: Record = IMAGE) -> bool:
    return parse(text).matcher(record.tags)(record)


@pytest.mark.parametrize(
    "text",
    [
        "tag:1girl",
        "tag:Long_Hair",
        'tag:"long hair"',
        "tag:*hair",
        "tag:?girl",
        r"tag:hatsune_miku_\(vocaloid\)",
        "tag:hatsune_miku_(vocaloid)",
        "tag:hatsune*(vocaloid)",
        "caption:HAT",
        'caption:"girl with"',
        "caption:girl*smiles",
        "path:sub/*",
        "path:*.png",
        "name:img_??.png",
        "folder:sub/été",
        "width>=1920",
        "height<2000",
        "ratio=16/9",
        "ratio>1.5",
        "tokens>75",
        "score(hat)<0.5",
        "score(Long_Hair)>=0.75",
        "rating:sensitive",
        "source:user",
        "source:m*",
        "model:wd-*",
        "failed:*",
        "NOT missing:tags",
        'tag:1girl AND NOT tag:hat AND path:sub/* AND tokens>75 AND score(hat)<0.5 AND source:user',
    ],
)  # fmt: skip
def test_an_image_is_chosen(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "tag:hair",
        "tag:girl",
        r"tag:\*hair",
        "caption:cat",
        "path:Été/*",
        "path:sub",
        "name:img",
        "folder:sub",
        "ratio=4/3",
        "rating:general",
        "source:mixed",
        "model:wd",
        "failed:corrupt",
        "missing:caption",
    ],
)
def test_an_image_is_not_chosen(text: str) -> None:
    assert not matches(text)


def test_an_accent_may_be_encoded_either_way() -> None:
    assert matches("folder:sub/E\u0301te\u0301")


def test_the_top_folder_is_an_empty_text() -> None:
    assert matches('folder:""', NOTHING)
    assert not matches('folder:""')


@pytest.mark.parametrize("field", ["width", "height", "ratio", "score(hat)"])
@pytest.mark.parametrize("operator", COMPARE)
def test_what_is_not_known_fits_no_comparison(field: str, operator: str) -> None:
    assert not matches(f"{field}{operator}0", NOTHING)


def test_a_score_below_the_lowest_that_is_stored_is_0() -> None:
    assert matches("score(cat)<0.01")


def test_an_image_without_any_text_has_no_tokens() -> None:
    assert matches("tokens=0", NOTHING)


def test_tags_may_be_learnt_one_after_the_other() -> None:
    matcher = parse("tag:*hair").matcher()
    assert not matcher(IMAGE)
    matcher.learn(["long hair"])
    assert matcher(IMAGE)


def test_thousands_of_conditions_are_no_problem() -> None:
    text = " OR ".join(f"(tag:{number} AND tokens>{number})" for number in range(5000))
    assert matches(text, Record("a.png", tags=("4999",), tokens=5000))


def test_a_pattern_takes_no_time_that_explodes() -> None:
    caption = "ab" * 20_000
    assert not matches("caption:" + "a*b" * 20 + "*c", Record("a.png", caption=caption))


# The same, the slow way.


def is_like(parts: tuple[str, ...], text: str) -> bool:
    """Whether a text is like a pattern, by trying everything."""
    first, *rest = parts
    if not text.startswith(first):
        return False
    text = text[len(first) :]
    if not rest:
        return not text
    wild, after = rest[0], tuple(rest[1:])
    ends = range(len(text) + 1) if wild == "*" else range(1, 2) if text else ()
    return any(is_like(after, text[end:]) for end in ends)


def as_tag(pattern: Pattern) -> tuple[str, ...]:
    """The parts of a pattern as tags are compared, without what is around the whole."""
    first, *rest = pattern.parts
    if not rest:
        return (normalize_tag(first),)
    return tuple(normalize_tag(f"x{part}x")[1:-1] for part in (first.lstrip(), *rest[:-1], rest[-1].rstrip()))


def holds(node: Node, record: Record) -> bool:
    """Whether a condition holds, word by word."""
    if isinstance(node, And):
        return all(holds(part, record) for part in node.parts)
    if isinstance(node, Or):
        return any(holds(part, record) for part in node.parts)
    if isinstance(node, Not):
        return not holds(node.part, record)
    if isinstance(node, Number):
        value = number_of(node, record)
        return value is not None and COMPARE[node.operator](value, node.value)
    parts = tuple(map(fold, node.pattern.parts))
    if node.field == "tag":
        return any(is_like(as_tag(node.pattern), each) for each in record.tags)
    if node.field == "caption":
        parts = ("", "*", *parts, "*", "")
    *_, name = record.rel.split("/")
    values = {
        "caption": [record.caption],
        "path": [record.rel],
        "name": [name],
        "folder": ["/".join(record.rel.split("/")[:-1])],
        "rating": [record.rating] if record.rating else [],
        "source": record.source,
        "model": record.models,
        "missing": record.missing,
        "failed": [record.failed] if record.failed else [],
    }
    return any(is_like(parts, fold(each)) for each in values[node.field])


def number_of(node: Number, record: Record) -> float | None:
    """The number that is compared; None where it is not known."""
    if node.field == "tokens":
        return record.tokens
    if node.field == "score":
        return record.scores.get(normalize_tag(node.tag), 0) if record.scores else None
    if node.field == "ratio":
        return record.width / record.height if record.height else None
    return {"width": record.width, "height": record.height}[node.field] or None


@given(trees(), st.lists(records(), max_size=4))
def test_a_filter_chooses_what_its_conditions_say(tree: Node, some: list[Record]) -> None:
    matcher = Where(tree).matcher(tag for record in some for tag in record.tags)
    assert [matcher(record) for record in some] == [holds(tree, record) for record in some]
