"""The results as one file: for trainers that read tables, for kohya's, and for any tool."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from sdprep.errors import UsageError
from sdprep.shards.results import Results, Shard
from sdprep.shards.store import Store
from sdprep.shards.table import Row, ShardFacts
from sdprep.tasks.shards import export as module
from sdprep.tasks.shards.export import export, format_of
from sdprep.texts.exchange import parquet
from tests.shards.rows import finished, record

ROW = {
    "file_name": "000000.jpg",
    "text": "1girl",
    "width": 64,
    "height": 48,
    "key": "000000",
    "shard": "00000",
    "sha256": "00" * 32,
}


def test_a_parquet_file_has_a_row_for_each_image_with_a_result(memory: Store, tmp_path: Path) -> None:
    report = export(finished(memory, 3), tmp_path / "meta.parquet", "parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "meta.parquet").to_pylist()
    assert (len(rows), rows[0]) == (3, ROW)
    assert (report.images, report.without_result, report.shards, report.remaining) == (3, {"truncated": 3}, 3, 0)


def test_a_parquet_file_of_several_groups_has_all_rows_in_order(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP", 2)
    export(finished(memory, 5), tmp_path / "meta.parquet", "parquet")
    file = pyarrow.parquet.ParquetFile(tmp_path / "meta.parquet")
    assert file.num_row_groups == 3
    assert file.read().column("shard").to_pylist() == ["00000", "00001", "00002", "00003", "00004"]


def test_json_lines_have_the_same_rows(memory: Store, tmp_path: Path) -> None:
    export(finished(memory, 2), tmp_path / "meta.jsonl", "jsonl")
    first, second = (json.loads(line) for line in (tmp_path / "meta.jsonl").read_text().splitlines())
    assert (first, second["shard"]) == (ROW, "00001")


def test_a_metadata_json_has_what_kohyas_trainers_read(memory: Store, tmp_path: Path) -> None:
    export(finished(memory, 2), tmp_path / "meta.json", "json")
    entry = {"tags": "1girl", "image_size": [64, 48]}
    assert json.loads((tmp_path / "meta.json").read_text()) == {"000000.jpg": entry, "000010.jpg": entry}


def test_a_metadata_json_names_the_images_of_tables_by_their_keys(memory: Store, tmp_path: Path) -> None:
    results = Results(memory)
    results.begin(record())
    results.plan(lambda: [Shard("0", "t.parquet", row_group=0)])
    keys = {"000000000": "000000000", "000000001": "cat", "000000002": "dogs/rex.webp"}
    rows = [Row(key, f"{number}.jpg", text="hat") for number, key in keys.items()]
    results.commit("0", rows, ShardFacts("tag"))

    export(results, tmp_path / "meta.json", "json")

    assert list(json.loads((tmp_path / "meta.json").read_text())) == ["000000000.jpg", "cat.jpg", "dogs/rex.webp"]


def test_two_images_of_one_name_are_not_one_entry(memory: Store, tmp_path: Path) -> None:
    results = finished(memory, 2, done=0)
    for shard in ("00000", "00001"):
        results.commit(shard, [Row("a", "a.jpg", text="hat")], ShardFacts("tag"))
    with pytest.raises(UsageError, match=r"a\.jpg is an image of the shards 00000 and 00001"):
        export(results, tmp_path / "meta.json", "json")
    assert [*tmp_path.iterdir()] == []


def test_a_metadata_json_that_no_reader_could_hold_is_refused(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 1)
    with pytest.raises(UsageError, match=r"export \.jsonl or \.parquet"):
        export(finished(memory, 2), tmp_path / "meta.json", "json")


def test_shards_that_are_not_done_are_counted(memory: Store, tmp_path: Path) -> None:
    report = export(finished(memory, 5, done=2), tmp_path / "meta.jsonl", "jsonl")
    assert (report.images, report.shards, report.remaining) == (2, 2, 3)


def test_an_existing_file_is_replaced_only_on_request(memory: Store, tmp_path: Path) -> None:
    results, file = finished(memory, 1), tmp_path / "meta.jsonl"
    file.write_text("mine")
    with pytest.raises(UsageError, match="exists already; use --overwrite"):
        export(results, file, "jsonl")
    assert file.read_text() == "mine"
    export(results, file, "jsonl", overwrite=True)
    assert json.loads(file.read_text()) == ROW


def test_a_folder_that_is_not_there_is_named(memory: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*/missing"):
        export(finished(memory, 1), tmp_path / "missing" / "meta.jsonl", "jsonl")


def test_a_run_with_nothing_done_gives_a_table_without_rows(memory: Store, tmp_path: Path) -> None:
    report = export(finished(memory, 2, done=0), tmp_path / "meta.parquet", "parquet")
    assert (pyarrow.parquet.read_table(tmp_path / "meta.parquet").num_rows, report.remaining) == (0, 2)


@pytest.mark.parametrize(
    ("output", "stated", "found"),
    [
        ("a.parquet", None, "parquet"),
        ("a.JSON", None, "json"),
        ("a", "jsonl", "jsonl"),
        ("s3://b/a", "webdataset", "webdataset"),
    ],
)
def test_the_format_is_stated_or_that_of_the_name(output: str, stated: module.Format | None, found: str) -> None:
    assert format_of(output, stated, None) == found


@pytest.mark.parametrize(
    ("output", "extension", "message"),
    [
        ("folder", None, "or give a folder and --format webdataset"),
        ("s3://b/meta.parquet", None, "only webdataset takes a URL"),
        ("meta.parquet", ".tags", "--extension has no effect for parquet"),
    ],
)
def test_what_cannot_be_exported_is_refused(output: str, extension: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        format_of(output, None, extension)
