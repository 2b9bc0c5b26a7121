"""Datasets of the Hub as sources, by fsspec: here its file system in memory stands in for that of the Hub."""

from pathlib import Path

import fsspec
import pytest

from sdprep.errors import NoSuchObject, StoreError, UsageError
from sdprep.shards.hub import HubStore
from sdprep.shards.store import open_store


@pytest.fixture
def store() -> HubStore:
    files = fsspec.filesystem("memory")
    files.store.clear()
    for name in ("b.tar", "a/1.tar", "a-1.tar"):
        files.pipe(f"/datasets/owner/name/{name}", b"0123456789")
    return HubStore("hf:///datasets/owner/name", files)


def test_files_are_listed_in_the_order_of_their_names(store: HubStore) -> None:
    assert [found.name for found in store.list()] == ["a-1.tar", "a/1.tar", "b.tar"]
    assert [found.name for found in store.list("a", after="a-1.tar")] == ["a/1.tar"]


def test_files_and_parts_of_them_are_read(store: HubStore) -> None:
    assert (store.get("b.tar"), store.get("b.tar", 2, 4), store.get("b.tar", 8)) == (b"0123456789", b"23", b"89")
    opened = store.open("b.tar")
    assert (b"".join(opened.chunks), opened.found) == (b"0123456789", store.find("b.tar"))


def test_a_folder_is_not_a_file_and_a_missing_file_is_named(store: HubStore) -> None:
    assert [store.find("a"), store.find("missing")] == [None, None]
    for read in (store.get, store.open):
        with pytest.raises(NoSuchObject, match=r"hf:///datasets/owner/name/missing: there is no such file"):
            read("missing")


def test_nothing_is_written(store: HubStore, tmp_path: Path) -> None:
    for write in (lambda: store.put("a", b""), lambda: store.put_file("a", tmp_path), lambda: store.delete("a")):
        with pytest.raises(UsageError, match="is only read; write to a folder or a bucket"):
            write()


def test_an_error_of_the_client_is_told_in_one_line(store: HubStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("Cannot reach https://huggingface.co: offline mode is enabled.\nUnset HF_HUB_OFFLINE")

    monkeypatch.setattr(store._files, "info", fail)
    with pytest.raises(
        StoreError, match=r"owner/name/a: Cannot reach https://huggingface.co: offline mode is enabled.$"
    ):
        store.find("a")


def test_a_url_of_the_hub_is_opened_without_a_request() -> None:
    assert open_store("hf://datasets/owner/name/").url == "hf://datasets/owner/name"
