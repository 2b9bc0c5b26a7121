"""What images may take while they are decoded, and while they wait for the model."""

import mmap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdprep.engines.memory import ByteSemaphore, limit_memory, split_budget
from sdprep.engines.stages import contained, decode_ahead
from sdprep.models.execution import Execution
from sdprep.types import Decoded, Failure, FailureCode, Fit
from tests.images.files import item_of


class Scale:
    """Weighs what is inside at one time."""

    def __init__(self):
        self.inside, self.most, self.alone, self._lock = 0, 0, 0, threading.Lock()
        self.people = 0

    @contextmanager
    def weigh(self, weight):
        with self._lock:
            self.inside, self.people = self.inside + weight, self.people + 1
            self.most = max(self.most, self.inside)
            self.alone = max(self.alone, self.people if weight > 100 else 0)
        try:
            yield
        finally:
            with self._lock:
                self.inside, self.people = self.inside - weight, self.people - 1


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60), st.integers(1, 8))
def test_all_pass_and_never_more_than_the_whole_is_taken(wishes, threads):
    budget, scale = ByteSemaphore(100), Scale()

    def work(wanted):
        with budget.share(wanted), scale.weigh(wanted):
            return wanted

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(work, wishes)) == wishes

    assert scale.most <= 100
    assert budget.free == 100


@given(st.lists(st.sampled_from([1, 40, 1000]), min_size=1, max_size=40))
def test_who_wants_more_than_the_whole_is_alone(wishes):
    budget, scale = ByteSemaphore(100), Scale()

    def work(wanted):
        with budget.share(wanted), scale.weigh(wanted):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, wishes))

    assert scale.alone <= 1


def test_a_share_is_waited_for_until_another_is_given_back():
    budget, waits, order = ByteSemaphore(10), threading.Event(), []

    @contextmanager
    def held():
        waits.set()
        yield
        order.append("no longer held")

    def second():
        with budget.share(5, held):
            order.append("second")

    with budget.share(6):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        order.append("first")
    thread.join()

    assert order == ["first", "no longer held", "second"]


def test_a_small_wish_does_not_pass_by_a_large_one_that_was_there_before():
    budget, waits, order = ByteSemaphore(10), [threading.Event(), threading.Event()], []

    def work(wanted, place):
        @contextmanager
        def held():
            waits[place].set()
            yield

        with budget.share(wanted, held):
            order.append(wanted)

    threads = [threading.Thread(target=work, args=pair) for pair in ((1000, 0), (1, 1))]
    with budget.share(2):
        for place, thread in enumerate(threads):
            thread.start()
            assert waits[place].wait(60)
    for thread in threads:
        thread.join()

    assert order == [1000, 1]


def test_a_share_is_given_back_where_decoding_fails():
    budget = ByteSemaphore(10)

    def fail():
        with budget.share(7):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()

    assert budget.free == 10


def test_images_in_order_come_through_a_budget_that_holds_only_one(tmp_path):
    items = []
    for number in range(12):
        Image.new("RGB", (100, 50 + number)).save(tmp_path / f"{number:02}.png")
        items.append(item_of(tmp_path / f"{number:02}.png"))
    budget, scale, fit = ByteSemaphore(5 * 100 * 61), Scale(), Fit(8, "squash")

    def decode(item):
        with scale.weigh(1):
            return Failure(item, FailureCode.CORRUPT, "never mind")

    limited = limit_memory(decode, budget, fit, lambda _: contextmanager(lambda: iter([None]))())
    found = list(decode_ahead(items, limited, 4, 6))

    assert [each.item for each in found] == items
    assert scale.most == 1


@pytest.mark.parametrize("raises", [True, False], ids=["an exception", "a failure"])
def test_an_image_for_which_memory_runs_out_is_tried_once_more_alone(tmp_path, raises):
    items = []
    for number in range(12):
        Image.new("RGB", (10, 5 + number)).save(tmp_path / f"{number:02}.png")
        items.append(item_of(tmp_path / f"{number:02}.png"))
    budget, tried = ByteSemaphore(100_000), []

    def decode(item):
        tried.append(item)
        alone = budget.free == 0
        if item == items[3] or (item == items[7] and not alone):
            if raises:
                raise MemoryError
            return Failure(item, FailureCode.OUT_OF_MEMORY, "too much")
        return Decoded(item, b"", np.zeros((1, 1, 3), np.uint8))

    limited = contained(limit_memory(decode, budget, Fit(8, "squash"), lambda _: nullcontext()))
    found = list(decode_ahead(items, limited, 4, 6))

    assert [each.code.value for each in found if isinstance(each, Failure)] == ["out_of_memory"]
    assert [tried.count(item) for item in items] == [2 if number in (3, 7) else 1 for number in range(12)]
    assert budget.free == budget.total


@pytest.mark.parametrize(
    ("refusals", "expected"), [(0, ["corrupt"]), (1, ["corrupt", "done"]), (2, ["corrupt", "out_of_memory"])]
)
def test_what_a_decoder_calls_damage_is_a_lack_of_memory_where_there_is_none(tmp_path, monkeypatch, refusals, expected):
    Image.new("RGB", (10, 5)).save(tmp_path / "a.png")
    item, left, tried, real = item_of(tmp_path / "a.png"), [OSError] * refusals, [], mmap.mmap

    def refuse(*arguments):
        if left:
            raise left.pop()
        return real(*arguments)

    monkeypatch.setattr(mmap, "mmap", refuse)

    def decode(item):
        tried.append(item)
        if len(tried) == 2 and refusals == 1:
            return Decoded(item, b"", np.zeros((1, 1, 3), np.uint8))
        return Failure(item, FailureCode.CORRUPT, "broken data stream")

    found = limit_memory(decode, ByteSemaphore(100_000), Fit(8, "squash"), lambda _: nullcontext())(item)

    assert len(tried) == len(expected)
    assert (found.code.value if isinstance(found, Failure) else "done") == expected[-1]


def test_a_header_is_read_within_the_budget_too(tmp_path, monkeypatch):
    Image.new("RGB", (10, 5)).save(tmp_path / "a.png")
    item, free, budget = item_of(tmp_path / "a.png"), [], ByteSemaphore(100_000)
    monkeypatch.setattr("sdprep.engines.memory.estimate_memory", lambda *_: free.append(budget.free) or 300)

    def decode(item):
        free.append(budget.free)
        return Failure(item, FailureCode.CORRUPT, "never mind")

    limit_memory(decode, budget, Fit(8, "squash"), lambda _: nullcontext())(item)

    assert free == [100_000 - item.path.stat().st_size, 100_000 - 300]


@pytest.mark.parametrize(
    ("execution", "memory", "ahead"),
    [
        (Execution(decode_threads=2), 512, 16),
        (Execution(batch_size=32), 512, 64),
        (Execution(batch_size=1, decode_threads=8), 512, 16),
        (Execution(batch_size=1000), 512, 212),
        (Execution(batch_size=1000, num_processes=4), 512, 53),
        (Execution(), 1, 1),
    ],
)
def test_images_that_wait_have_a_quarter_of_the_memory_and_decoding_the_rest(execution, memory, ahead):
    budget, found = split_budget(execution, memory, 448)

    assert found == ahead
    assert budget.total * execution.num_processes == pytest.approx(memory * 750_000)
