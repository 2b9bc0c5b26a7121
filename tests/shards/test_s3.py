"""What is told when a bucket cannot be used, by a real server over HTTP."""

import pytest
from moto import settings

from sdprep.errors import StoreError
from sdprep.shards.plan import Sources, plan_shards
from sdprep.shards.results import Results
from sdprep.shards.store import open_store
from sdprep.shards.table import ShardFacts
from tests.shards.rows import record, rows_of, shards


@pytest.fixture
def strict(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bucket of a server that asks for credentials, and knows none."""
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    return s3_url


def test_wrong_credentials_are_told_with_where_they_come_from(strict: str) -> None:
    for use in (Results.record, lambda results: results.begin(record()), Results.done):
        with pytest.raises(StoreError) as caught:
            use(Results.at(strict))
        lines = str(caught.value).splitlines()
        assert len(lines) == 1
        assert "access was refused (InvalidAccessKeyId). Check the credentials in the environment: AWS_ACC" in lines[0]


@pytest.mark.usefixtures("s3_url")
def test_a_tar_in_a_bucket_that_is_not_there_tells_of_the_bucket() -> None:
    with pytest.raises(StoreError, match=r"^s3://elsewhere: there is no such bucket"):
        plan_shards(Sources.of(["s3://elsewhere/00.tar"]))


@pytest.mark.parametrize("use", [Results.record, Results.done, lambda results: results.begin(record())])
def test_a_bucket_that_is_not_there_is_named(s3_url: str, use) -> None:
    with pytest.raises(StoreError) as caught:
        use(Results.at("s3://elsewhere/tags"))
    assert str(caught.value) == (
        "s3://elsewhere: there is no such bucket. Check its name, AWS_REGION and AWS_ENDPOINT_URL"
    )


def test_a_server_that_does_not_answer_is_named(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError) as caught:
        Results.at(s3_url).record()
    assert str(caught.value) == (
        f"{s3_url}/_sdprep/run.json: http://127.0.0.1:9 does not answer. Check AWS_ENDPOINT_URL and the network"
    )


def test_a_server_without_conditional_requests_is_noticed_and_the_first_rows_stay(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    results = Results.at(s3_url)
    results.begin(record())
    (shard,) = shards(1)
    assert results.store.overwrites
    assert [results.commit(shard.id, rows, ShardFacts("tag")) for rows in (rows_of(shard), [])] == [True, False]
    assert results.rows(shard.id, "tag") == rows_of(shard)


def test_a_large_object_is_created_once(s3_url: str) -> None:
    store = open_store(s3_url)
    data = bytes(30 << 20)
    assert [store.put("large", data), store.put("large", b"other")] == [True, False]
    assert store.get("large", (30 << 20) - 2) == bytes(2)
