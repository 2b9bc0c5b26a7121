"""Small files are read in order, in one thread while that computes and in several while it waits."""

import gc
import threading

import pytest

from sdprep.report import CancelToken
from sdprep.tasks import reading
from sdprep.tasks.reading import THREADS, read_groups, without_collector


@pytest.fixture
def clock(monkeypatch):
    """Reading some groups takes two seconds, of which this thread computes `share`."""
    now = {"share": 2.0, "time": 0.0, "cpu": 0.0}

    def thread_time() -> float:
        now["time"] += 1
        now["cpu"] += now["share"]
        return now["cpu"]

    monkeypatch.setattr(reading.time, "thread_time", thread_time)
    monkeypatch.setattr(reading.time, "monotonic", lambda: now["time"])
    return now


def threads_of(groups: int) -> tuple[list[int], set[str]]:
    names: set[str] = set()

    def read(number: int) -> list[int]:
        names.add(threading.current_thread().name)
        return [number, number]

    found = [each for some in read_groups(read, range(groups), CancelToken()) for each in some]
    return found, names


def test_what_is_read_comes_in_order(clock) -> None:
    assert threads_of(100)[0] == [number for number in range(100) for _ in range(2)]


def test_reading_that_computes_stays_in_one_thread(clock) -> None:
    assert threads_of(10 * THREADS)[1] == {threading.current_thread().name}


def test_reading_that_waits_goes_on_in_several_threads(clock) -> None:
    clock["share"] = 0.1
    found, names = threads_of(10 * THREADS)
    assert len(names) > 1
    assert found == [number for number in range(10 * THREADS) for _ in range(2)]


def test_after_a_stop_no_further_groups_are_read(clock) -> None:
    stop = CancelToken()
    read = read_groups(lambda number: [number], range(100), stop)
    first = list(next(read))
    stop.exit_code = 130
    assert (first, list(read)) == (list(range(2 * THREADS)), [])


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_collector_rests_inside_and_is_as_before_after_an_error(was_enabled):
    @without_collector()
    def interrupted():
        raise KeyboardInterrupt(gc.isenabled())

    before = gc.isenabled()
    try:
        (gc.enable if was_enabled else gc.disable)()
        with pytest.raises(KeyboardInterrupt, match="False"):
            interrupted()
        assert gc.isenabled() == was_enabled
    finally:
        (gc.enable if before else gc.disable)()
