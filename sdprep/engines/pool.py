"""The workers of a run, one for each device, at work side by side on one supply of images."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from sdprep.devices import parse_devices, split_device
from sdprep.engines.base import EngineConfig
from sdprep.engines.dispatch import WorkQueue
from sdprep.engines.supervisor import DeviceSupervisor
from sdprep.engines.worker_process import TICK
from sdprep.errors import ModelError, WorkerError
from sdprep.report import CancelToken
from sdprep.types import Failure, ImageItem, Result

# More deaths than images explain: this many, or one for this many images.
DEATHS = 5
IMAGES_A_DEATH = 1000
T = TypeVar("T")


class WorkerPool:
    """A worker for each device of an order, all with the model open; `note` hears once what several of them say.

    Raises SdprepError if one cannot open the model.
    """

    def __init__(self, config: EngineConfig, note: Callable[[str], None]) -> None:
        self._note, self._said = note, set[str]()
        self._bell = threading.Event()
        self._workers = [DeviceSupervisor(each, self._bell, self._say) for each in per_device(config)]
        try:
            for _ in self._side_by_side(lambda worker: worker.open(CancelToken())):
                raise AssertionError("opening a model has no outcome")
        except BaseException:
            self.close()
            raise
        self.provider = ",".join(map(_place, self._workers))

    def run(self, items: Sequence[ImageItem], stop: CancelToken) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last for each.

        Raises WorkerError if workers die too often.
        """
        supply = WorkQueue(deque(enumerate(items)), max(DEATHS, len(items) // IMAGES_A_DEATH))
        return self._side_by_side(lambda worker: worker.run(supply, stop))

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

    def _side_by_side(self, work_of: Callable[[DeviceSupervisor], Iterator[T | None]]) -> Iterator[T]:
        """What the workers' works give, as it comes. They take turns; while all give None, the bell is waited for."""
        several = len(self._workers) > 1
        going = [_at(worker, work_of(worker)) if several else work_of(worker) for worker in self._workers]
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


def per_device(config: EngineConfig) -> list[EngineConfig]:
    """A configuration for each device of `config`; decode threads are split among them, at least one for each."""
    execution = config.execution
    devices = parse_devices(execution.device)
    configs = []
    for index, device in enumerate(devices):
        threads = max(1, len(range(index, execution.decode_threads, len(devices))))
        own = replace(execution, device=device, decode_threads=threads, num_processes=len(devices))
        configs.append(replace(config, execution=own))
    return configs


def _at(worker: DeviceSupervisor, work: Iterator[T]) -> Iterator[T]:
    """The same work; what ends it says on which device."""
    try:
        yield from work
    except (WorkerError, ModelError, RuntimeError) as error:
        raise type(error)(f"{worker.device}: {error}") from error


def _place(worker: DeviceSupervisor) -> str:
    """What runs a model, with the number of the card if one was named."""
    number = split_device(worker.device)[1]
    return f"{worker.provider}:{number}" if number and worker.provider != "cpu" else worker.provider
