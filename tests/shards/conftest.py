"""Each test with a `store` runs on a folder, in memory, and on an S3 server over HTTP."""

from pathlib import Path

import pytest
from obstore.store import MemoryStore

from sdprep.shards.store import BucketStore, FolderStore, Store, open_store
from tests.shards.s3 import s3_server, s3_url  # noqa: F401 - fixtures


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    if request.param == "memory":
        return BucketStore("memory://store", MemoryStore())
    return open_store(request.getfixturevalue("s3_url"))
