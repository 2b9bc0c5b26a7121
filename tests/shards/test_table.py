"""The rows of a shard come back from its object as they went in, and other tools read it."""

import io
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.catalog.results import encode_caption
from sdprep.errors import StoreError
from sdprep.shards.table import OK, Row, ShardFacts, decode_facts, decode_rows, encode_rows
from sdprep.types import Caption, FailureCode
from tests.shards.rows import scores

TAGS, CAPTIONS = ShardFacts("tag"), ShardFacts("caption")
TAGGED = Row("0001", "0001.jpg", digest=b"\1" * 32, width=640, height=480, text="1girl, hat", tags=("1girl", "hat"),
             result=scores((0, 0.9), (70_000, 0.5)), warnings=("misnamed",))  # fmt: skip
FAILED = Row("0002", "0002.jpg", "truncated", "12 of 30 lines", digest=b"\2" * 32)


def facts_of(data: bytes) -> ShardFacts:
    return decode_facts(len(data), lambda start, end: data[start:end], "it")


def test_a_row_has_its_tags_and_a_failure_has_its_reason() -> None:
    assert decode_rows(encode_rows([TAGGED, FAILED], TAGS), "tag", "it") == [TAGGED, FAILED]


def test_a_caption_has_its_score_and_the_captions_beside_it() -> None:
    caption = Caption("a hat", 4, "stop", -0.25, (Caption("a cap", 3, "length", -0.5),))
    row = Row("a", "a.jpg", text="a hat", result=encode_caption(caption))
    unscored = replace(row, member="b.jpg", result=encode_caption(Caption("a hat", 4, "stop")))
    rows = [row, unscored, FAILED]
    assert decode_rows(encode_rows(rows, CAPTIONS), "caption", "it") == rows


def test_a_shard_without_images_is_a_table_too() -> None:
    data = encode_rows([], TAGS)
    assert (decode_rows(data, "tag", "it"), facts_of(data).counts) == ([], {})


pieces = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
answers = st.none() | st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1, width=16)), max_size=5).map(
    lambda pairs: scores(*pairs)
)
outcomes = st.sampled_from([OK, *(code.value for code in FailureCode)])
rows_of_any_kind = st.builds(
    Row,
    pieces,
    pieces,
    outcomes,
    pieces,
    digest=st.none() | st.binary(min_size=32, max_size=32),
    width=st.none() | st.integers(0, 2**32 - 1),
    height=st.none() | st.integers(0, 2**32 - 1),
    text=st.none() | pieces,
    tags=st.lists(pieces, max_size=3).map(tuple),
    result=answers,
    warnings=st.lists(pieces, max_size=2).map(tuple),
)


@given(st.lists(rows_of_any_kind, max_size=4))
def test_every_row_comes_back_and_every_image_is_counted_once(rows: list[Row]) -> None:
    data = encode_rows(rows, TAGS)
    assert decode_rows(data, "tag", "it") == rows
    assert sum(facts_of(data).counts.values()) == sum(row.member != "" for row in rows)


def test_what_is_wrong_with_a_whole_shard_does_not_count_as_an_image() -> None:
    facts = facts_of(encode_rows([TAGGED, Row("", "", "corrupt", "the tar is damaged")], TAGS))
    assert (facts.counts, facts.damage) == ({"ok": 1}, "corrupt")


def test_the_footer_has_the_outcomes_and_the_facts_of_the_shard() -> None:
    facts = replace(TAGS, etag="x1", provider="CPU", host="node3", ended=1e9, seconds=2.5)
    found = facts_of(encode_rows([TAGGED, FAILED, TAGGED], facts))
    assert found == replace(facts, counts={"ok": 2, "truncated": 1})


def test_a_long_footer_is_read_whole() -> None:
    counts = replace(TAGS, host="h" * 200_000)
    assert facts_of(encode_rows([TAGGED], counts)).host == counts.host


def test_other_tools_read_the_table() -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(encode_rows([TAGGED, FAILED], TAGS)))
    (first, second) = table.to_pylist()
    assert (first["key"], first["width"], first["tags"], first["label"]) == ("0001", 640, ["1girl", "hat"], [0, 70_000])
    assert first["p"] == pytest.approx([0.9, 0.5], abs=1e-3)
    assert (first["sha256"], second["outcome"], second["text"]) == ("01" * 32, "truncated", None)


@pytest.mark.parametrize("data", [b"", b"<html>", b"PAR1" + b"\0" * 30 + b"PAR1", b"PAR1" + b"\xff" * 30 + b"PAR1"])
def test_what_is_not_a_table_is_named(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"data/x is not the table of a shard: .*\nDelete it, and"):
        decode_rows(data, "tag", "data/x")
    with pytest.raises(StoreError, match=r"data/x is not the table of a shard: .*\nDelete it, and"):
        decode_facts(len(data), lambda start, end: data[start:end], "data/x")


@given(st.data())
def test_a_damaged_table_is_an_error_and_never_a_crash(draw: Any) -> None:
    data = bytearray(encode_rows([TAGGED, FAILED], TAGS))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    with suppress(StoreError):
        decode_rows(bytes(data), "tag", "it")


def test_a_table_of_a_newer_sdprep_is_refused() -> None:
    with pytest.raises(StoreError, match=r"written by a newer sdprep \(schema 9\)"):
        facts_of(encode_rows([], replace(TAGS, schema=9)))


def test_a_table_of_another_task_is_named() -> None:
    with pytest.raises(StoreError, match="it has no column caption"):
        decode_rows(encode_rows([TAGGED], TAGS), "caption", "it")


def test_facts_are_json_that_anyone_reads() -> None:
    metadata = pyarrow.parquet.read_metadata(io.BytesIO(encode_rows([TAGGED], TAGS))).metadata
    assert msgspec.json.decode(metadata[b"sdprep"])["counts"] == {"ok": 1}
