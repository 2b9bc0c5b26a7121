"""What every store does: it lists in order, reads parts, and never replaces an object unless asked to."""

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sdprep.errors import NoSuchObject, StoreError, UsageError
from sdprep.shards import store as module
from sdprep.shards.store import FolderStore, Store, open_store, split_url


def names(store: Store, prefix: str = "", after: str = "", last: str | None = None) -> list[str]:
    return [found.name for found in store.list(prefix, after, last)]


def test_an_object_is_read_as_it_was_put(store: Store) -> None:
    assert store.put("data/a.bin", b"0123456789")
    assert store.get("data/a.bin") == b"0123456789"


def test_a_part_of_an_object_is_read_alone(store: Store) -> None:
    store.put("a.bin", b"0123456789")
    parts = [store.get("a.bin", 2, 5), store.get("a.bin", 7), store.get("a.bin", 0, 0), store.get("a.bin", 8, 99)]
    assert parts == [b"234", b"789", b"", b"89"]


def test_a_second_object_of_a_name_is_refused_and_the_first_one_stays(store: Store) -> None:
    assert [store.put("a", b"first"), store.put("a", b"second")] == [True, False]
    assert store.get("a") == b"first"


def test_an_object_is_replaced_where_that_is_asked_for(store: Store) -> None:
    store.put("a", b"first")
    assert store.put("a", b"second", replace=True)
    assert store.get("a") == b"second"


def test_one_of_several_writers_wins(store: Store) -> None:
    texts = [b"%d" % number * 1000 for number in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        won = list(pool.map(lambda text: store.put("data/one", text), texts))
    assert won.count(True) == 1
    assert store.get("data/one") == texts[won.index(True)]


def test_objects_are_listed_in_the_order_of_their_names(store: Store) -> None:
    for name in ("b", "a/b", "a.b", "a/a", "a-b"):
        store.put(name, b"x")
    assert names(store) == ["a-b", "a.b", "a/a", "a/b", "b"]
    assert names(store, "a/") == ["a/a", "a/b"]
    assert names(store, "missing/") == []


def test_a_listing_goes_on_after_a_name(store: Store) -> None:
    for name in ("a", "b", "c/d"):
        store.put(name, b"x")
    assert names(store, after="a") == ["b", "c/d"]


def test_a_listing_ends_at_a_name(store: Store) -> None:
    every = ["a", "b-", "b/a", "b/c/d", "b/c/e", "b0", "c/d"]
    for name in every:
        store.put(name, b"x")
    for first, last in itertools.product(every, every):
        assert names(store, after=first, last=last) == [name for name in every if first < name <= last]


def test_a_folder_is_asked_only_for_the_part_that_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1", "b/1", "b/2", "b/3", "c/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed, asked, stored_file = [], [], module._stored_file
    scandir = os.scandir
    monkeypatch.setattr(module.os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr(module, "_stored_file", lambda *given: asked.append(given[0]) or stored_file(*given))

    assert names(FolderStore(tmp_path), after="b/1", last="b/2") == ["b/2"]
    assert ([path.name for path in listed], asked) == ([tmp_path.name, "b"], ["b/2"])


def test_size_and_etag_are_the_same_in_a_list_and_alone(store: Store) -> None:
    store.put("a", b"12345")
    (listed,) = store.list()
    assert (listed.size, store.find("a"), store.find("b")) == (5, listed, None)


def test_the_etag_changes_with_the_content(store: Store) -> None:
    store.put("a", b"one")
    before = store.find("a")
    store.put("a", b"other", replace=True)
    after = store.find("a")
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


def test_an_object_is_read_in_chunks_with_its_etag(store: Store) -> None:
    data = os.urandom(20 << 20)
    store.put("large", data)
    opened = store.open("large")
    assert b"".join(opened.chunks) == data
    assert opened.found == store.find("large")


def test_names_with_spaces_signs_and_other_scripts_come_back(store: Store) -> None:
    name = "a b/100% #1 青い.tar"
    store.put(name, b"x")
    assert names(store) == [name]
    assert store.get(name) == b"x"


def test_an_unknown_object_is_named(store: Store) -> None:
    for read in (store.get, lambda name: b"".join(store.open(name).chunks)):
        with pytest.raises(NoSuchObject, match="missing/a"):
            read("missing/a")


def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: Store) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert names(store) == []


# Folders


def test_a_writer_that_was_killed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / ".a.0123456789abcdef.tmp").write_bytes(b"half")
    assert names(store) == []
    assert store.put("a", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_writer_that_was_killed_when_its_object_was_there_is_tidied_up_and_one_at_work_is_not(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("data/a.b", b"whole")
    for name in (".a.b.0123456789abcdef.tmp", ".c.0123456789abcdef.tmp"):
        (tmp_path / "data" / name).write_bytes(b"x")

    store.tidy("data/")
    store.tidy("none/")

    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".c.0123456789abcdef.tmp", "a.b"]


@pytest.mark.skipif(sys.platform == "win32", reason="about POSIX")
def test_links_to_files_are_listed_and_those_to_folders_or_nothing_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "file").symlink_to("a")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to(".")
    assert names(FolderStore(tmp_path)) == ["a", "file"]


@pytest.mark.skipif(sys.platform == "win32", reason="about POSIX")
def test_a_pipe_is_not_a_file_to_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert names(FolderStore(tmp_path)) == []


def test_a_folder_without_links_takes_an_object_and_says_that_the_last_writer_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = FolderStore(tmp_path)
    assert [store.put("a", b"first"), store.put("a", b"second"), store.overwrites] == [True, False, True]
    assert store.get("a") == b"first"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"/file/.* cannot be written: .*\. Give a folder that you can write to"):
        FolderStore(tmp_path / "file").put("a", b"x")


# URLs


@pytest.mark.parametrize("url", ["http://host/a", "ftp://host/a", "memory:///"])
def test_other_urls_are_refused_with_those_that_work(url: str) -> None:
    with pytest.raises(UsageError, match=r"is not supported; use s3://, gs://, az://, hf:// or a folder"):
        open_store(url)


def test_a_url_without_a_bucket_is_refused() -> None:
    with pytest.raises(UsageError, match=r"s3:///a cannot be opened: Unable to recognise URL"):
        open_store("s3:///a")


def test_half_of_the_credentials_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(UsageError, match=r"s3://bucket/a cannot be opened: Missing AccessKeyId"):
        open_store("s3://bucket/a")


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}").put("a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://b/data/a.tar", ("s3://b/data", "a.tar")),
        ("s3://b/a.tar", ("s3://b", "a.tar")),
        ("data/a.tar", ("data", "a.tar")),
        ("a.tar", (".", "a.tar")),
        ("/a.tar", ("/", "a.tar")),
    ],
)
def test_an_object_is_its_folder_and_its_name(url: str, parts: tuple[str, str]) -> None:
    assert split_url(url) == parts
