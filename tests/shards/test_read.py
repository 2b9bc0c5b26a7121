"""The images of a shard come from tars, row groups and slices, in a folder, in memory and over HTTP."""

import os
import sys

import pyarrow
import pyarrow.parquet
import pytest

from sdprep.errors import NoSuchObject, UsageError
from sdprep.shards import plan as planning
from sdprep.shards import read as reading
from sdprep.shards.plan import Sources, plan_shards
from sdprep.shards.read import ChangedSource, read_shard
from sdprep.shards.results import Shard
from tests.shards.tars import tar
from tests.tasks.shards.sets import png


@pytest.fixture
def source(store, monkeypatch):
    """A store, also where one in memory would be a new one at each opening."""
    if store.url.startswith("memory"):
        for module in (planning, reading):
            monkeypatch.setattr(module, "open_store", lambda _: store)
    return store


def table(**columns):
    stream = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream, row_group_size=2)
    return stream.getvalue().to_pybytes()


def read(url, **columns):
    """Per shard, the key, the name and the bytes or the fault of each image."""
    sources = Sources.of([url], **columns)
    return {
        shard.id: [
            (each.key, each.name, each.fault.code.value if each.fault else each.data)
            for each in read_shard(shard, sources, 1000)
        ]
        for shard in plan_shards(sources)
    }


def test_a_tar_is_read(source):
    source.put("0.tar", tar({"a.png": b"one"}))

    assert read(source.url) == {"0": [("a", "a.png", b"one")]}


def test_row_groups_are_read_with_their_keys(source):
    source.put("t.parquet", table(image=[png(1), b"\xff\xd8", None], id=[7, 8, 9]))

    assert read(source.url, key_column="id") == {
        "t-0000": [("7", "000000000.png", png(1)), ("8", "000000001.jpg", b"\xff\xd8")],
        "t-0001": [("9", "000000002", "empty_file")],
    }


def test_images_of_the_hubs_datasets_are_read(source):
    source.put("t.parquet", table(jpg=[{"bytes": b"GIF8", "path": "x.gif"}, {"bytes": b"x" * 1001, "path": ""}]))

    assert read(source.url, image_column="jpg") == {
        "t-0000": [("000000000", "000000000.gif", b"GIF8"), ("000000001", "000000001", "too_large")]
    }


@pytest.mark.parametrize("values", [["1.png"], [1], [[1, 2]]])
def test_a_column_that_cannot_have_images_is_refused_with_those_that_can(source, values):
    source.put("t.parquet", table(image=values, jpg=[b"one"], url=["x"]))

    with pytest.raises(UsageError, match=r"the column image has no bytes of images; give --image-column, one of jpg$"):
        read(source.url)


@pytest.mark.parametrize(
    ("columns", "option"),
    [
        ({}, "--image-column"),
        ({"image_column": "x"}, "--image-column"),
        ({"image_column": "jpg", "key_column": "x"}, "--key-column"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(source, columns, option):
    source.put("t.parquet", table(jpg=[b"x"], text=["y"]))

    with pytest.raises(UsageError, match=f"{option}, one of jpg, text"):
        read(source.url, **columns)


def test_slices_are_read(source, monkeypatch):
    monkeypatch.setattr(planning, "SLICE", 2)
    for name in ("a.png", "b.txt", "c/1.png", "c/2.png"):
        source.put(name, name.encode())

    assert list(read(source.url).values()) == [
        [("a", "a.png", b"a.png"), ("c/1", "c/1.png", b"c/1.png")],
        [("c/2", "c/2.png", b"c/2.png")],
    ]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("0.tar", tar({"a.png": b"one"}), tar({"b.png": bytes(20_000)})),
        ("t.parquet", table(image=[b"one"]), table(image=[bytes(20_000)])),
    ],
    ids=["tar", "table"],
)
def test_a_source_that_has_changed_since_the_plan_is_told(source, name, before, after):
    source.put(name, before)
    (shard,) = plan_shards(Sources((source.url,)))
    source.put(name, after, replace=True)

    with pytest.raises(ChangedSource, match="has changed since the run was planned"):
        list(read_shard(shard, Sources((source.url,)), 1000))


@pytest.mark.parametrize("change", ["added", "deleted", "renamed", "replaced"])
def test_a_slice_whose_images_are_not_those_of_the_plan_is_told(source, change):
    for name in ("a.png", "c.png"):
        source.put(name, b"one")
    (shard,) = plan_shards(Sources((source.url,)))
    if change in ("deleted", "renamed"):
        source.delete("a.png")
    if change in ("added", "renamed"):
        source.put("b.png", b"one")
    if change == "replaced":
        source.put("a.png", b"other", replace=True)

    with pytest.raises(ChangedSource, match="has changed since the run was planned"):
        list(read_shard(shard, Sources((source.url,)), 1000))


def test_what_is_no_image_may_change_beside_a_slice(source):
    source.put("a.png", b"one")
    (shard,) = plan_shards(Sources((source.url,)))
    source.put("a.txt", b"1girl")

    assert [member.key for member in read_shard(shard, Sources((source.url,)), 1000)] == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "0.tar")

    with pytest.raises(UsageError, match="there is no such object"):
        plan_shards(Sources((f"{tmp_path}/0.tar",)))
    with pytest.raises(NoSuchObject):
        list(read_shard(Shard("0", f"{tmp_path}/0.tar"), Sources(()), 1000))


def test_what_is_gone_is_told(source):
    source.put("0.tar", tar({"a.png": b"one"}))
    (shard,) = plan_shards(Sources((source.url,)))
    source.delete("0.tar")

    with pytest.raises(NoSuchObject):
        list(read_shard(shard, Sources((source.url,)), 1000))
