"""Actors that die, clusters that cannot be joined, and signals while Ray starts; stand-ins have the place of Ray."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from sdprep.engines import ray as module
from sdprep.engines.actors import ActorDeath, ActorNeeds, RayOptions
from sdprep.engines.ray import ATTEMPTS, open_actors
from sdprep.errors import UsageError, WorkerError
from sdprep.report import CancelToken
from tests.engines.ray_in_name_only import Cluster


class Upper:
    """Opens a worker that makes letters large; `deadly` ones end its actor, and so does opening without `can_open`."""

    provider = "cpu"

    def __init__(self, deadly="", *, can_open=True):
        self._deadly, self._can_open = deadly, can_open

    @contextmanager
    def open(self, *_):
        if not self._can_open:
            raise SystemExit
        yield self

    def run(self, item):
        if item in self._deadly:
            raise SystemExit
        return item.upper()


def outcomes(monkeypatch, opener, items, *, count=1, note=print, cluster=None):
    """The outcome of each item, as its actors have it."""
    (cluster or Cluster()).install(monkeypatch)
    with open_actors(opener, RayOptions(address="there:1", actors=count), ActorNeeds(1, 0), count, note) as pool:
        return dict(pool.run(iter(items), CancelToken()))


def test_each_item_has_its_outcome(monkeypatch):
    assert outcomes(monkeypatch, Upper(), "abc", count=2) == {"a": "A", "b": "B", "c": "C"}


def test_items_that_end_each_actor_are_given_up_one_after_the_other(monkeypatch):
    found = outcomes(monkeypatch, Upper("bc"), "abcd")

    assert [each for each, outcome in found.items() if isinstance(outcome, ActorDeath)] == ["b", "c"]
    assert (found["a"], found["d"]) == ("A", "D")


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_ends_in_which_actors_only_die(monkeypatch, count):
    with pytest.raises(WorkerError, match=f"^{ATTEMPTS * (count + 1) + 1} actors died, and nothing was done meanwhile"):
        outcomes(monkeypatch, Upper("abcdef"), "abcdef", count=count)


def test_a_run_ends_whose_actors_die_while_they_open(monkeypatch):
    with pytest.raises(WorkerError, match="actors died, and nothing was done meanwhile"):
        outcomes(monkeypatch, Upper(can_open=False), "a")


def test_actors_that_have_died_are_killed(monkeypatch):
    cluster = Cluster()
    outcomes(monkeypatch, Upper("b"), "ab", cluster=cluster)
    # The three that died, and the one that was there in the end.
    assert cluster.killed == ATTEMPTS + 1


def test_it_is_told_once_that_no_actor_is_ready(monkeypatch):
    notes = []
    monkeypatch.setattr(module, "PATIENCE", -1)
    outcomes(monkeypatch, Upper(), "abc", note=notes.append, cluster=Cluster(is_ready=False))
    (note,) = notes
    assert note.startswith("no actor is ready yet: each reserves 1 CPU, and then loads the model")


def test_another_version_of_sdprep_is_refused(monkeypatch):
    monkeypatch.setattr(module, "__version__", "0.2")
    actor = module._Actor([])

    error, _ = actor.open("0.1")

    assert isinstance(error, UsageError)
    assert "has sdprep 0.2, and the run was begun by 0.1" in str(error)


# A cluster that cannot be joined


def refusal(monkeypatch, error, address=None):
    """What is told if Ray answers with an error when it is asked to join."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("ray.init", refuse)
    with (
        pytest.raises((UsageError, WorkerError)) as found,
        open_actors(Upper(), RayOptions(address=address), ActorNeeds(1, 0), 1, print),
    ):
        pass
    return found.value


def test_without_a_cluster_it_is_told_how_to_name_or_start_one(monkeypatch):
    error = refusal(monkeypatch, ConnectionError("Could not find any running Ray instance."))
    assert isinstance(error, UsageError)
    assert "--ray-address local" in str(error)


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_a_cluster_that_refuses_is_not_taken_for_none(monkeypatch, address):
    refused = ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")
    refused.__cause__ = RuntimeError("Failed.\nTraceback\n  File\nInvalidAuthToken: the token is missing\n")

    error = refusal(monkeypatch, refused, address)

    assert isinstance(error, WorkerError)
    assert str(error).endswith("cluster at 10.0.0.1:6379: InvalidAuthToken: the token is missing")


# A cluster of one run


@pytest.fixture
def opened(monkeypatch):
    """What opens actors on a cluster that a function starts."""

    def opened(start, address="local"):
        monkeypatch.setattr("ray.init", start)
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
        monkeypatch.setattr(module, "ActorPool", lambda *_: type("Pool", (), {"close": lambda _: None})())
        with open_actors(Upper(), RayOptions(address=address), ActorNeeds(1, 0), 1, print):
            pass

    return opened


@pytest.mark.parametrize(("address", "stays"), [("local", False), ("head:6379", True)])
def test_the_logs_of_a_cluster_of_one_run_go_with_it(opened, tmp_path, address, stays):
    (tmp_path / "session" / "logs").mkdir(parents=True)
    context = type("Context", (), {"address_info": {"session_dir": str(tmp_path / "session")}})

    opened(lambda *_, **__: context, address)

    assert (tmp_path / "session").exists() == stays


@pytest.fixture
def ask():
    """The handler of a run, which ends it at once."""

    def terminate(number, _):
        sys.exit(128 + number)

    before = {each: signal.signal(each, terminate) for each in (signal.SIGINT, signal.SIGTERM)}
    yield terminate
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts_ends_what_has_started(opened, ask, number):
    started = []

    def start(*_, **__):
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        # As Ray does.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        opened(start)

    assert ended.value.code == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
    started[0].wait()
    assert signal.getsignal(number) is ask


def test_a_signal_that_is_lost_while_ray_starts_counts_afterwards(opened, ask):
    def start(*_, **__):
        # As where Python ignores what is raised.
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGINT)
        return type("Context", (), {"address_info": {"session_dir": None}})

    with pytest.raises(SystemExit) as ended:
        opened(start)
    assert ended.value.code == 130
