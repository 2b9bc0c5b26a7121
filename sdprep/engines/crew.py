"""The workers of a run, one for each device, at work side by side on one supply of pictures."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from sdprep.engines.messages import Order
from sdprep.engines.process import TICK
from sdprep.engines.shift import Supply
from sdprep.engines.supervised import Supervised
from sdprep.types import Failure, ImageItem, Result, Stop

# More deaths than pictures explain: this many, or one for this many images.
DEATHS = 5
IMAGES_A_DEATH = 1000
T = TypeVar("T")


class Crew:
    """A worker for each device of an order, all with the model open; `note` hears once what several of them say.

    Raises SdprepError if one cannot open the model.
    """

    def __init__(self, order: Order, note: Callable[[str], None]) -> None:
        self._note, self._said = note, set[str]()
        self._bell = threading.Event()
        orders = shared_out(order)
        self._workers = [Supervised(each, self._bell, self._say) for each in orders]
        try:
            for _ in self._side_by_side([worker.open(Stop()) for worker in self._workers]):
                raise AssertionError("opening a model has no outcome")
        except BaseException:
            self.close()
            raise
        places = (_place(worker.provider, each) for worker, each in zip(self._workers, orders, strict=True))
        self.provider = ",".join(places)

    def run(self, items: Sequence[ImageItem], stop: Stop) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last for each.

        Raises WorkerError if workers die too often.
        """
        supply = Supply(deque(enumerate(items)), max(DEATHS, len(items) // IMAGES_A_DEATH))
        return self._side_by_side([worker.run(supply, stop) for worker in self._workers])

    def close(self) -> None:
        """End every process that was started."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.close()

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._note(text)

    def _side_by_side(self, works: Iterable[Iterator[T | None]]) -> Iterator[T]:
        """What several works give, as it comes. They take turns; while all give None, the bell is waited for."""
        going = list(works)
        while going:
            self._bell.clear()
            nothing_new = True
            for work in list(going):
                try:
                    found = next(work)
                except StopIteration:
                    going.remove(work)
                    nothing_new = False
                    continue
                if found is not None:
                    nothing_new = False
                    yield found
            if nothing_new:
                self._bell.wait(TICK)


def shared_out(order: Order) -> list[Order]:
    """An order for each device of an order; the threads that decode are shared out, at least one for each."""
    devices, work = order.settings.devices, order.settings.work
    orders = []
    for place, device in enumerate(devices):
        threads = len(range(place, work.workers, len(devices)))
        settings = replace(order.settings, device=device, work=replace(work, workers=max(1, threads)))
        orders.append(replace(order, settings=settings, sharers=len(devices)))
    return orders


def _place(provider: str, order: Order) -> str:
    """What runs a model, with the number of the card if one was named."""
    number = order.settings.device.partition(":")[2]
    return f"{provider}:{number}" if number and provider != "cpu" else provider
