"""Results in memory, and a bucket over HTTP."""

import pytest
from obstore.store import MemoryStore

from sdprep.shards.store import BucketStore, Store
from tests.shards.s3 import s3_server, s3_url  # noqa: F401 - fixtures


@pytest.fixture
def memory() -> Store:
    return BucketStore("memory://results", MemoryStore())
