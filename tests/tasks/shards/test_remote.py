"""What actors are sent: it is read there as it was here, and a machine that would make other results is refused."""

import pickle
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sdprep.config import CaptionSettings
from sdprep.engines.actors import ActorDeath, ActorNeeds, RayOptions
from sdprep.engines.ray import ATTEMPTS
from sdprep.errors import MissingExtra, ModelError, NoSuchObject, StoreError, UsageError
from sdprep.models.files.hub import find_local
from sdprep.report import CancelToken
from sdprep.shards.plan import Sources
from sdprep.shards.read import ChangedSource
from sdprep.shards.results import Results, RunRecord, Shard
from sdprep.shards.table import ShardFacts
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.tasks.shards import remote as module
from sdprep.tasks.shards.remote import RemoteShards, RemoteWorkers, needs_of
from sdprep.tasks.shards.work import Ending, ShardTask
from sdprep.tasks.tag import Tagging
from tests.engines.engine import FAKES
from tests.tasks.shards.sets import run, settings, write_tars


def sent(folder: Path, **values: object) -> RemoteShards:
    """What a run over no shards sends to its actors, as it arrives there."""
    chosen = settings(**values)
    tagging = Tagging(chosen, note=print)
    files = find_local(tagging.spec)
    assert files is not None
    job = tagging.job(files)
    record = RunRecord("tag", "fake-tag", dict(job.request.settings), job.result_key or {}, {}, {"pillow": "0.1"})
    results = Results.at(str(folder / "out"))
    results.begin(record)
    task = ShardTask(results, Sources(()), tagging.spec, job, 1_000_000, 2)
    return pickle.loads(pickle.dumps(RemoteShards.of(task, engine_config(tagging.spec, files, chosen), record)))


def opened(remote: RemoteShards) -> None:
    with remote.open(1, CancelToken(), print):
        pass


@pytest.fixture
def same_pillow(monkeypatch):
    monkeypatch.setattr(module, "pillow_version", "0.2")


def test_lists_of_tags_travel_by_their_content(tmp_path):
    aliases = tmp_path / "aliases.csv"
    aliases.write_text("antecedent,consequent\nkimono,dress\n")

    remote = sent(tmp_path, aliases=aliases)
    aliases.unlink()

    assert remote.task.job.reader.lists.shared.aliases == {"kimono": "dress"}


def test_a_worker_opens_where_everything_is_the_same(tmp_path, same_pillow):
    remote = sent(tmp_path)
    with remote.open(1, CancelToken(), print) as worker:
        assert worker.provider == "fake"


def test_another_major_version_of_pillow_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"(?s)cannot take part in .*pillow"):
        opened(sent(tmp_path))


def test_other_weights_are_refused(tmp_path, same_pillow, monkeypatch):
    remote = sent(tmp_path)
    found = remote.config.files
    monkeypatch.setattr(module, "ensure_downloaded", lambda *_: type(found)(found.folder, None, "0" * 64))

    with pytest.raises(ModelError, match="has other files of fake-tag"):
        opened(remote)


def test_a_model_of_the_hub_is_asked_for_at_the_commit_of_the_run(tmp_path, same_pillow, monkeypatch):
    remote = sent(tmp_path)
    repo = msgspec.structs.replace(remote.config.spec.source, repo="owner/name", revision="main")
    spec = msgspec.structs.replace(remote.config.spec, source=repo)
    config = replace(remote.config, spec=spec, files=replace(remote.config.files, revision="c0ffee"))
    asked = []

    def download(spec, _):
        asked.append(spec.source.revision)
        return config.files

    monkeypatch.setattr(module, "ensure_downloaded", download)
    opened(replace(remote, config=config))

    assert asked == ["c0ffee"]


def test_results_in_a_folder_that_is_not_shared_are_refused(tmp_path, same_pillow):
    remote = sent(tmp_path)
    (tmp_path / "out").rename(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="that all machines of the cluster share"):
        opened(remote)
    assert not (tmp_path / "out").exists()


def test_results_travel_as_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results.at("out")
    results.store.overwrites = True

    there = pickle.loads(pickle.dumps(results))

    assert there.store.url == (tmp_path / "out").as_posix()
    assert there.store.overwrites


@pytest.mark.parametrize(
    "error",
    [ChangedSource("s3://a/b.tar"), NoSuchObject("no such object"), MissingExtra("ray", "ray"), UsageError("no")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_travels_keeps_its_class_and_message(error):
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there)) == (type(error), str(error))


# A shard whose actors die


class Dying:
    """A pool in which each shard is given up."""

    provider = "fake"

    def run(self, shards, _):
        return ((shard, ActorDeath("SIGKILL")) for shard in shards)


@pytest.fixture
def results(tmp_path):
    return Results.at(str(tmp_path / "out"))


def ending(results):
    ((_, outcome),) = RemoteWorkers(Dying(), results, CancelToken()).outcomes(iter([Shard("0", "0.tar")]))
    return outcome.ending


def test_a_shard_whose_actors_died_is_recorded_as_one_attempt(results):
    assert ending(results) is Ending.GIVEN_UP
    found = results.failure("0")
    assert found is not None
    assert found.attempts == 1
    assert found.error.startswith(f"{ATTEMPTS} actors died")


def test_a_shard_that_was_committed_before_its_actor_died_is_done(results):
    results.commit("0", [], ShardFacts("tag"))
    assert ending(results) is Ending.DONE_BY_OTHERS
    assert results.failure("0") is None


# Actors


@pytest.mark.parametrize(
    ("values", "needs"),
    [
        ({}, ActorNeeds(1, None)),
        ({"device": "cpu"}, ActorNeeds(1, 0)),
        ({"provider": "cpu"}, ActorNeeds(1, 0)),
        ({"device": "cuda"}, ActorNeeds(1, 1)),
    ],
)
def test_an_actor_reserves_its_threads_and_a_gpu_if_it_can_use_one(values, needs):
    chosen = settings(**values)
    assert needs_of(chosen, Tagging(settings(), note=print).spec) == needs


def test_a_gpu_cannot_be_chosen_since_ray_does_that():
    with pytest.raises(UsageError, match="Ray gives each actor a GPU; use --device cuda"):
        needs_of(settings(device="cuda:1"), Tagging(settings(), note=print).spec)


def test_limits_of_one_process_are_refused():
    chosen = CaptionSettings(model=str(FAKES / "fake-caption.toml"), max_requests=5, server="http://localhost:1/v1")
    with pytest.raises(UsageError, match="several actors cannot keep to them"):
        needs_of(chosen, Tagging(settings(), note=print).spec)


@pytest.mark.parametrize(("cpus", "gpus", "many"), [(2, 0, 4), (2, 1, 2), (16, 0, 0), (2, None, 4)])
def test_a_node_has_room_for_as_many_actors_as_its_cpus_and_gpus_allow(cpus, gpus, many):
    node = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}
    assert ActorNeeds(cpus, gpus).fitting(node) == many
    assert ActorNeeds(cpus, gpus).fitting({**node, "Alive": False}) == 0


def test_an_address_of_the_client_is_refused_with_what_to_do_instead():
    with pytest.raises(UsageError, match="ray job submit"):
        RayOptions(address="ray://head:10001")


def test_a_run_of_which_all_is_done_starts_no_ray(tmp_path, monkeypatch):
    write_tars(tmp_path, 2)
    run(tmp_path / "out", tmp_path)

    def refuse(*_):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(module, "open_actors", refuse)
    assert run(tmp_path / "out", tmp_path, ray=RayOptions()).exit_code == 0


def test_stored_results_need_no_cluster(tmp_path):
    write_tars(tmp_path, 1)
    run(tmp_path / "out", tmp_path)

    with pytest.raises(UsageError, match="--engine ray is for images"):
        run(tmp_path / "anew", tmp_path / "out", ray=RayOptions())
