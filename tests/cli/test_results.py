"""`sdprep results` as it is typed: what it prints, what it writes, and its exit codes."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from sdprep.config import TagSettings
from sdprep.demo import IMAGES
from sdprep.shards.results import FailedShard, Results
from sdprep.shards.store import FolderStore
from tests.shards.rows import finished
from tests.shards.tars import IMAGES as MEMBERS
from tests.shards.tars import members, tar
from tests.tasks.shards.made import results_of
from tests.tasks.shards.test_copies import COPIED, run_over


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A run of which two of three shards are done."""
    return finished(FolderStore(tmp_path / "tags"), 3, done=2)


def test_status_shows_shards_images_rate_and_hosts(sdprep_command, results: Results) -> None:
    done = sdprep_command("results", "status", "tags")
    assert done.out.splitlines() == [
        "tag with demo-tag",
        "shards: 3: 2 done, 0 given up, 1 remaining",
        "images: 4: 2 ok, 2 truncated",
        "rate: 1.0 images per second, 0 min left at this rate",
        "",
        "host   shards  images  images per second of a process",
        "node0       1       2                             1.0",
        "node1       1       2                             1.0",
    ]
    assert (done.code, done.err) == (0, "")


def test_status_as_json_is_one_object(sdprep_command, results: Results) -> None:
    found = json.loads(sdprep_command("results", "status", "tags", "--json").out)
    assert (found["schema"], found["shards"]) == (1, {"found": 3, "done": 2, "failed": 0, "remaining": 1, "damaged": 0})
    assert (found["images"], found["seconds_left"]) == ({"ok": 2, "truncated": 2}, 2.0)


def test_a_shard_that_was_given_up_is_named_with_what_to_do(sdprep_command, results: Results) -> None:
    results.set_failure("00002", FailedShard(3, "the source has changed"))
    done = sdprep_command("results", "status", "tags")
    assert done.code == 3
    assert done.err.splitlines() == [
        "given up: 00002 (data/00002.tar): the source has changed",
        "sdprep results retry tags has the next run try them again",
    ]


def test_retry_names_the_shards(sdprep_command, results: Results) -> None:
    results.set_failure("00002", FailedShard(3, "the source has changed"))
    done = sdprep_command("results", "retry", "tags", "--outcome", "truncated", "--dry-run")
    assert done.out.splitlines() == ["00002: the source has changed", "00000: 1 truncated", "00001: 1 truncated"]
    assert done.err == "3 shards would be tried again by the next run\n"
    sdprep_command("results", "retry", "tags", "--outcome", "truncated")
    assert (results.done(), results.failed()) == ({}, {})


def test_export_tells_what_it_left_out(sdprep_command, results: Results, tmp_path: Path) -> None:
    done = sdprep_command("results", "export", "tags", "-o", "meta.jsonl")
    assert done.code == 0
    assert len((tmp_path / "meta.jsonl").read_text().splitlines()) == 2
    assert done.err.splitlines() == [
        "incomplete: 1 shard is not done, so its images are missing",
        "images without a result: 2 truncated",
        "results export: 2 images of 2 shards: meta.jsonl",
    ]


def test_export_as_json_has_its_counts(sdprep_command, results: Results) -> None:
    found = json.loads(sdprep_command("results", "export", "tags", "-o", "meta.parquet", "--json").out)
    assert (found["images"], found["without_result"], found["remaining"]) == (2, {"truncated": 2}, 1)


def test_export_of_tars_goes_on_where_it_ended(sdprep_command, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    run_over(FolderStore(tmp_path / "tags"), {"a": tmp_path / "a.tar"})
    words = ("results", "export", "tags", "-o", "copies", "--format", "webdataset")
    first, second = sdprep_command(*words), sdprep_command(*words)
    assert members((tmp_path / "copies" / "a.tar").read_bytes()) == COPIED
    assert first.err.endswith("results export: 2 images of 1 shard: copies\n")
    assert second.err == "results export: 0 images of 1 shard, 1 shard was there already: copies\n"


def test_a_tar_that_cannot_be_copied_is_named(sdprep_command, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    run_over(FolderStore(tmp_path / "tags"), {"a": tmp_path / "a.tar"})
    (tmp_path / "a.tar").unlink()
    done = sdprep_command("results", "export", "tags", "-o", "copies", "--format", "webdataset")
    assert done.code == 3
    assert done.err.startswith(f"not copied: a: {tmp_path}/a.tar: there is no such file\n")


def test_imported_results_become_sidecars_without_a_model_and_undo_removes_them(sdprep_command, tmp_path: Path) -> None:
    for folder in ("seen", "imgs"):
        (tmp_path / folder).mkdir()
        for name in ("aka.jpg", "kuro.png"):
            shutil.copy(IMAGES / name, tmp_path / folder)
    results_of(FolderStore(tmp_path / "tags"), tmp_path / "seen", TagSettings(model="demo-tag"))
    shutil.copy(IMAGES / "sora.webp", tmp_path / "imgs")
    done = sdprep_command("results", "import", "tags", "imgs")
    assert done.err.splitlines()[-3:] == [
        "without a result: 1 image (sora.webp)",
        "results import: 3 images: 2 imported",
        "write the sidecars with: sdprep tag imgs --model demo-tag",
    ]
    (tmp_path / "imgs" / "sora.webp").unlink()
    assert "stored results only" in sdprep_command("tag", "imgs", "--model", "demo-tag").err
    assert (tmp_path / "imgs" / "aka.txt").read_bytes() == (tmp_path / "seen" / "aka.txt").read_bytes()
    assert sdprep_command("undo", "--dir", "imgs").code == 0
    assert [*(tmp_path / "imgs").glob("*.txt")] == []


@pytest.mark.parametrize("words", [("status",), ("retry",), ("export", "-o", "a.json"), ("import", ".")])
def test_a_place_without_results_is_an_error(sdprep_command, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = sdprep_command("results", words[0], "nothing", *words[1:])
    assert (done.code, done.err.splitlines()[-1]) == (1, "sdprep: error: nothing has no results of sdprep")


def test_a_bucket_without_the_extra_says_how_to_install_it(sdprep_command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    done = sdprep_command("results", "status", "s3://bucket/tags")
    assert done.code == 5
    assert "obstore is not installed. Install it with: " in done.err
    assert '[shards]"' in done.err


def test_results_without_pyarrow_say_how_to_install_it(
    sdprep_command, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = sdprep_command("results", "status", "tags")
    assert done.code == 5
    assert "pyarrow is not installed. Install it with: " in done.err
