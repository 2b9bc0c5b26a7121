"""WebDataset copies: every byte of the source's members, and a text after each image."""

import tarfile
from pathlib import Path
from random import Random

import pytest

from sdprep.errors import UsageError
from sdprep.shards.results import Results, Shard
from sdprep.shards.store import FolderStore, Store, open_store
from sdprep.shards.table import Row, ShardFacts
from sdprep.tasks.shards.copies import copy_tars
from tests.shards.rows import record
from tests.shards.tars import IMAGES, members, tar

ROWS = [Row("a/1", "a/1.jpg", text="hat, smile"), Row("a/2", "a/2.png", "corrupt", "no image"),
        Row("a/2", "a/2.left.png", text="caf\u00e9")]  # fmt: skip
COPIED = [
    ("a/1.jpg", IMAGES["a/1.jpg"]),
    ("a/1.txt", b"hat, smile"),
    ("a/1.json", b"{}"),
    ("a/2.png", b"two"),
    ("a/2.left.png", b"left"),
    ("a/2.left.txt", "caf\u00e9".encode()),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "0000.tar"


def run_over(store: Store, tars: dict[str, Path], rows: list[Row] = ROWS) -> Results:
    """A run in which each of these tars is done."""
    results = Results(store)
    results.begin(record())
    etags = {name: open_store(str(path.parent)).find(path.name) for name, path in tars.items()}
    for shard in results.plan(lambda: (Shard(name, str(path), etags[name].etag) for name, path in tars.items())):  # type: ignore[union-attr]
        results.commit(shard.id, rows, ShardFacts("tag"))
    return results


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_copy_has_the_members_and_the_text_of_each_image(
    memory: Store, source: Path, tmp_path: Path, form: int
) -> None:
    source.write_bytes(tar(IMAGES, form=form))
    report = copy_tars(run_over(memory, {"0000": source}), FolderStore(tmp_path / "out"))
    assert members((tmp_path / "out" / "0000.tar").read_bytes()) == COPIED
    assert (report.images, report.without_result, report.shards) == (2, {"corrupt": 1}, 1)


def test_the_headers_of_the_source_are_kept(memory: Store, source: Path, tmp_path: Path) -> None:
    long = "x" * 150 + "/青い.jpg"
    source.write_bytes(data := tar({long: b"image", "b.jpg": b"b"}))
    copy_tars(run_over(memory, {"0000": source}, [Row("x", long, text="hat")]), FolderStore(tmp_path / "out"))
    copy = (tmp_path / "out" / "0000.tar").read_bytes()
    end = data.index(b"b.jpg")
    assert copy.startswith(data[:end])
    assert [name for name, _ in members(copy)] == [long, long.replace(".jpg", ".txt"), "b.jpg"]


@pytest.mark.parametrize("name", ["0000.tar.gz", "0000.TGZ"])
def test_a_tar_in_gzip_is_copied_unpacked(memory: Store, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(tar(IMAGES, "w:gz"))
    copy_tars(run_over(memory, {"0000": source}), FolderStore(tmp_path / "out"))
    assert members((tmp_path / "out" / "0000.tar").read_bytes()) == COPIED


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_of_an_incomplete_tar_the_whole_members_are_copied(memory: Store, tmp_path: Path, mode: str) -> None:
    source = tmp_path / ("0000.tar" if mode == "w" else "0000.tgz")
    data = tar({"a/1.jpg": IMAGES["a/1.jpg"], "a/3.jpg": Random(0).randbytes(500_000)}, mode)
    source.write_bytes(data[:400_000])
    copy_tars(run_over(memory, {"0000": source}), FolderStore(tmp_path / "out"))
    assert members((tmp_path / "out" / "0000.tar").read_bytes()) == COPIED[:2]


def test_a_copy_that_is_there_is_left(memory: Store, source: Path, tmp_path: Path) -> None:
    source.write_bytes(tar(IMAGES))
    results, output = run_over(memory, {"0000": source, "0001": source}), FolderStore(tmp_path / "out")
    output.put("0000.tar", b"mine")
    report = copy_tars(results, output)
    assert (output.get("0000.tar"), report.existing, report.shards) == (b"mine", 1, 2)


def test_a_source_that_has_changed_is_not_copied_and_the_others_are(
    memory: Store, source: Path, tmp_path: Path
) -> None:
    other = tmp_path / "0001.tar"
    for path in (source, other):
        path.write_bytes(tar(IMAGES))
    results, output = run_over(memory, {"0000": source, "0001": other}), FolderStore(tmp_path / "out")
    source.write_bytes(tar({"a/1.jpg": b"another"}))
    report = copy_tars(results, output)
    assert report.not_copied == {"0000": f"{source} has changed since it was planned"}
    assert [found.name for found in output.list()] == ["0001.tar"]


def test_a_tar_in_which_two_images_would_have_the_same_text_is_not_copied(
    memory: Store, source: Path, tmp_path: Path
) -> None:
    source.write_bytes(tar({"1.jpg": b"one", "1.png": b"two"}))
    results = run_over(memory, {"0000": source}, [Row("1", "1.jpg", text="hat"), Row("1", "1.png", text="cup")])
    report = copy_tars(results, FolderStore(tmp_path / "out"))
    assert report.not_copied == {"0000": "1.jpg and 1.png would both have 1.txt; export .parquet or .jsonl"}
    assert not (tmp_path / "out").exists()


def test_what_is_not_a_tar_is_not_copied(memory: Store, source: Path, tmp_path: Path) -> None:
    source.write_bytes(b"<html>" * 500)
    report = copy_tars(run_over(memory, {"0000": source}), FolderStore(tmp_path / "out"))
    assert [*report.not_copied] == ["0000"]
    assert not (tmp_path / "out").exists()


def test_a_text_never_takes_the_name_of_a_member(memory: Store, source: Path, tmp_path: Path) -> None:
    source.write_bytes(tar({"1.jpg": b"one", "1.txt": b"the caption of img2dataset"}))
    results = run_over(memory, {"0000": source}, [Row("1", "1.jpg", text="hat")])
    with pytest.raises(UsageError, match=r"1\.txt is in a source already; use another --extension"):
        copy_tars(results, FolderStore(tmp_path / "out"))
    copy_tars(results, FolderStore(tmp_path / "out"), extension=".tags")
    assert [name for name, _ in members((tmp_path / "out" / "0000.tar").read_bytes())] == ["1.jpg", "1.tags", "1.txt"]


def test_a_table_is_not_copied_as_a_tar(memory: Store, tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    source.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"a\.parquet is not a tar; export \.parquet or \.jsonl"):
        copy_tars(run_over(memory, {"0000": source}), FolderStore(tmp_path / "out"))


def test_tars_are_copied_from_a_bucket_into_a_bucket(memory: Store, s3_url: str) -> None:
    open_store(s3_url).put("in/0000.tar", tar(IMAGES))
    results = Results(memory)
    results.begin(record())
    results.plan(lambda: [Shard("0000", f"{s3_url}/in/0000.tar")])
    results.commit("0000", ROWS, ShardFacts("tag"))
    copy_tars(results, open_store(f"{s3_url}/out"))
    assert members(open_store(s3_url).get("out/0000.tar")) == COPIED
