"""Random filters and records."""

import string

from hypothesis import strategies as st

from sdprep.rules.labels import normalize_tag
from sdprep.rules.where.record import Record
from sdprep.rules.where.tree import CHOICES, NUMBERS, OPERATORS, TEXTS, And, Node, Not, Number, Or, Pattern, Text

# Few letters, so that patterns match often, and those that mean something.
LITERAL = st.text("abAé_ (*?\\[]\"'", max_size=4)
WORDS = st.text("abAé_ ([]", min_size=1, max_size=5)


def patterns() -> st.SearchStrategy[Pattern]:
    return st.lists(st.tuples(st.sampled_from("*?"), LITERAL), max_size=3).flatmap(
        lambda rest: LITERAL.map(lambda first: Pattern((first, *(part for pair in rest for part in pair))))
    )


def texts() -> st.SearchStrategy[Node]:
    def of(field: str) -> st.SearchStrategy[Node]:
        if field in CHOICES:
            return st.sampled_from([(each,) for each in CHOICES[field]] + [("", "*", "")]).map(
                lambda parts: Text(field, Pattern(parts))
            )
        return patterns().filter(lambda each: each.parts != ("",)).map(lambda each: Text(field, each))

    return st.sampled_from(sorted(TEXTS)).flatmap(of)


def numbers() -> st.SearchStrategy[Node]:
    spelled = st.sampled_from(["0", "1", "2.", ".5", "0.25", "16/9", "4/2", "75"])
    tag = LITERAL.filter(lambda text: text.strip() != "")
    return st.builds(
        lambda field, operator, number, tag: Number(field, operator, number, tag if field == "score" else ""),
        st.sampled_from(sorted(NUMBERS)),
        st.sampled_from([each for each in OPERATORS if each != "=="]),
        spelled,
        tag,
    )


def joined(kind: type[And] | type[Or], parts: list[Node]) -> Node:
    flat = [each for part in parts for each in (part.parts if isinstance(part, kind) else (part,))]
    return kind(tuple(flat))


def trees() -> st.SearchStrategy[Node]:
    return st.recursive(
        st.one_of(texts(), numbers()),
        lambda inner: st.one_of(
            inner.map(lambda part: part.part if isinstance(part, Not) else Not(part)),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: joined(And, parts)),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: joined(Or, parts)),
        ),
        max_leaves=8,
    )


def records() -> st.SearchStrategy[Record]:
    tags = st.lists(WORDS.map(normalize_tag), max_size=4).map(tuple)
    name = st.text(string.ascii_lowercase[:3] + "É*_", min_size=1, max_size=3)
    return st.builds(
        Record,
        rel=st.lists(name, min_size=1, max_size=3).map("/".join),
        tags=tags,
        caption=st.text("abAé_ \n", max_size=8),
        missing=st.sampled_from([(), ("tags",), ("caption",), ("tags", "caption")]),
        width=st.integers(0, 3),
        height=st.integers(0, 3),
        tokens=st.sampled_from([0, 1, 74, 75, 76]),
        scores=st.dictionaries(WORDS.map(normalize_tag), st.sampled_from([0.25, 0.5, 1.0]), max_size=2),
        rating=st.sampled_from(["", "general", "a"]),
        source=st.sampled_from([(), ("machine",), ("user", "machine"), ("mixed",)]),
        models=st.sampled_from([(), ("a",), ("wd", "blip")]),
        failed=st.sampled_from(["", "corrupt", "truncated"]),
    )
