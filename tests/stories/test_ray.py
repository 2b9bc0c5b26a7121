"""Runs on a Ray cluster whose actors, nodes and drivers are killed: in the end each image has one row."""

import json
import os
import signal
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from sdprep.engines.actors import ActorNeeds, RayOptions
from sdprep.engines.ray import open_actors
from sdprep.errors import MissingExtra, UsageError, WorkerError
from sdprep.report import CancelToken
from tests.shards.tars import tar
from tests.tasks.shards.deadly import DECODER, always, held, once
from tests.tasks.shards.sets import png, rows, run, write_tars

pytest.importorskip("ray", reason="Ray is not installed")

from tests.tasks.shards.cluster import add_node, driver, three_nodes

# Ray leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# Seconds for what takes a fraction of one.
PATIENCE = 60


@pytest.fixture(scope="module")
def cluster():
    with three_nodes() as found:
        yield found


@pytest.fixture
def members(tmp_path):
    """Four tars of two images; the names of these."""
    return write_tars(tmp_path, 4, images=2)


@pytest.fixture
def finish():
    """What waits for a driver: its exit code, its report, and what it has said."""
    started = []

    def wait(process):
        started.append(process)
        out, said = process.communicate(timeout=PATIENCE)
        return process.returncode, out, said

    yield wait
    for each in started:
        each.kill()


def put(folder, shard, image):
    """Put an image in the place of the first one of a tar."""
    (folder / f"{shard:02}.tar").write_bytes(tar({f"{shard}000.png": image, f"{shard}001.png": png(shard * 1000 + 1)}))


def hold(folder, shard):
    """Have the actor that does a shard wait; the folder where that is told."""
    place = folder / f"hold{shard}"
    place.mkdir()
    put(folder, shard, held(png(shard * 1000), place))
    return place


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def let_go_after(*places):
    """Let actors go on when all of them are held and the block has ended; inside, what they have told is known."""
    until(lambda: all((place / "held").exists() for place in places))
    yield [json.loads((place / "held").read_text()) for place in places]
    for place in places:
        (place / "go").touch()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def found_rows(folder):
    return sorted(row.member for row in rows(folder / "out"))


def test_a_shard_whose_actor_is_killed_once_is_done_by_another(cluster, tmp_path, members, finish):
    put(tmp_path, 1, once(png(1000), tmp_path / "killed"))

    code, out, said = finish(driver(cluster, tmp_path, "--json", decoder=DECODER))

    assert code == 0, said
    assert (tmp_path / "killed").exists()
    # Nothing but the report is on stdout.
    report = json.loads(out)
    assert (report["written"], report["provider"]) == (len(members), "fake")
    assert report["shards"] == {"found": 4, "before": 0, "done": 4, "damaged": 0, "failed": 0, "remaining": 0}
    assert found_rows(tmp_path) == members


def test_a_shard_that_kills_each_actor_is_given_up_and_the_others_are_done(cluster, tmp_path, members, finish):
    put(tmp_path, 1, always(png(1000)))

    code, _, said = finish(driver(cluster, tmp_path, decoder=DECODER))

    assert code == 3, said
    assert "gave up the shard 01: 3 actors died while at work on it" in said
    assert found_rows(tmp_path) == [each for each in members if not each.startswith("1")]

    # Where nothing kills it, the same command does it.
    assert run(tmp_path / "out", tmp_path).exit_code == 0
    assert found_rows(tmp_path) == members


def test_the_shards_of_a_node_that_vanishes_are_done_by_another(cluster, tmp_path, members, finish):
    places = [hold(tmp_path, 0), hold(tmp_path, 1)]
    process = driver(cluster, tmp_path, decoder=DECODER)
    with let_go_after(*places):
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    code, _, said = finish(process)
    add_node(cluster)

    assert code == 0, said
    assert found_rows(tmp_path) == members


def test_a_driver_that_is_killed_leaves_no_actor_and_the_same_command_goes_on(cluster, tmp_path, members, finish):
    place = hold(tmp_path, 2)
    process = driver(cluster, tmp_path, decoder=DECODER)
    with let_go_after(place) as (told,):
        process.kill()
        until(lambda: not is_alive(told["actor"]))
        finish(process)

    code, _, said = finish(driver(cluster, tmp_path, decoder=DECODER))

    assert code == 0, said
    assert found_rows(tmp_path) == members


def test_ctrl_c_ends_the_batch_and_leaves_nothing_behind(cluster, tmp_path, members, finish):
    place = hold(tmp_path, 2)
    process = driver(cluster, tmp_path, "--actors", "1", decoder=DECODER)
    with let_go_after(place) as (told,):
        process.send_signal(signal.SIGINT)
        until(lambda: process.stderr.readline().startswith("finishing the current batch"))
    code, _, said = finish(process)

    assert code == 130, said
    until(lambda: not is_alive(told["actor"]))
    assert not Path(told["spool"]).exists()
    assert found_rows(tmp_path) == [each for each in members if each < "2"]


def test_a_second_ctrl_c_leaves_nothing_behind_either(cluster, tmp_path, finish):
    write_tars(tmp_path, 1, images=2)
    place = hold(tmp_path, 0)
    process = driver(cluster, tmp_path, decoder=DECODER)
    until((place / "held").exists)
    told = json.loads((place / "held").read_text())
    process.send_signal(signal.SIGINT)
    until(lambda: process.stderr.readline().startswith("finishing the current batch"))
    process.send_signal(signal.SIGINT)
    code, _, said = finish(process)

    assert code == 130, said
    until(lambda: not is_alive(told["actor"]))
    assert not Path(told["spool"]).exists()
    assert found_rows(tmp_path) == []


def test_two_drivers_share_the_work_of_one_results(cluster, tmp_path, members, finish):
    both = [driver(cluster, tmp_path, "--json", "--actors", "1") for _ in range(2)]
    ended = [finish(each) for each in both]

    assert [code for code, _, _ in ended] == [0, 0], ended
    assert sum(json.loads(out)["shards"]["done"] for _, out, _ in ended) == 4
    assert found_rows(tmp_path) == members


class Refusing:
    """Opens nothing."""

    def __init__(self, error):
        self._error = error

    def open(self, sharers, _, note):
        note(f"one of {sharers}")
        raise self._error


class Unreadable:
    """Cannot be read where it is sent to, as with another version of a package."""

    def __reduce__(self):
        return import_module, ("no_such_module",)


def outcomes(cluster, opener, note=print):
    with open_actors(opener, RayOptions(address=cluster.address), ActorNeeds(1), 2, note) as pool:
        return list(pool.run(iter("ab"), CancelToken()))


def test_the_error_of_a_model_ends_the_run_as_it_is(cluster):
    notes = []
    with pytest.raises(MissingExtra, match="onnxruntime is not installed"):
        outcomes(cluster, Refusing(MissingExtra("onnxruntime", "tag")), notes.append)
    assert notes == ["one of 1"]


def test_a_machine_without_a_package_ends_the_run(cluster):
    with pytest.raises(WorkerError, match=r"cannot read what it was sent: .*no_such_module"):
        outcomes(cluster, Unreadable())


def test_a_run_that_no_machine_has_room_for_is_refused(cluster):
    with (
        pytest.raises(UsageError, match="no machine of the Ray cluster has 2 CPUs for an actor"),
        open_actors(Refusing(UsageError("no")), RayOptions(address=cluster.address), ActorNeeds(2), 2, print),
    ):
        pass
