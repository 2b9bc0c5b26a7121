"""The workers of a run, one per device, which share one queue of images."""

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
from sdprep.report import CancelToken, StageTime
from sdprep.types import Failure, ImageItem, Result

# A run ends when more workers die than this, or than one per so many images: then images are not the cause.
MIN_DEATHS = 5
IMAGES_PER_DEATH = 1000
T = TypeVar("T")


class WorkerPool:
    """A worker for each device, all with the model loaded; what several of them note is passed to `note` once.

    Raises SdprepError if one of them cannot load the model.
    """

    def __init__(self, config: EngineConfig, note: Callable[[str], None]) -> None:
        self._note, self._noted = note, set[str]()
        self._most_deaths = config.most_deaths
        self._wakeup = threading.Event()
        self._workers = [DeviceSupervisor(each, self._wakeup, self._note_once) for each in per_device(config)]
        try:
            for _ in self._interleave(lambda worker: worker.open(CancelToken())):
                raise AssertionError("opening a model has no outcome")
        except BaseException:
            self.close()
            raise
        self.provider = ",".join(map(_provider_on, self._workers))
        self.timings: dict[str, StageTime] = {}

    def run(self, items: Sequence[ImageItem], cancel: CancelToken) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; once cancelled, each worker finishes its current batch.

        Raises WorkerError if workers die too often; the images without an outcome may then be run again.
        """
        explained = max(MIN_DEATHS, len(items) // IMAGES_PER_DEATH)
        queue = WorkQueue(deque(enumerate(items)), explained if self._most_deaths is None else self._most_deaths)
        self.timings = queue.timings
        outcomes: Iterator[Result | Failure] = self._interleave(lambda worker: worker.run(queue, cancel))
        try:
            yield from outcomes
        except BaseException:
            # What the others are at would be taken for outcomes of the next run.
            self.close()
            raise

    def close(self) -> None:
        """Kill every process that was started, and wait until all are gone."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.close()

    def _note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)

    def _interleave(self, start: Callable[[DeviceSupervisor], Iterator[T | None]]) -> Iterator[T]:
        """What the generators of the workers yield, in turn. While all of them yield None, it waits for `wakeup`."""
        several = len(self._workers) > 1
        active = [_name_device(worker, start(worker)) if several else start(worker) for worker in self._workers]
        while active:
            self._wakeup.clear()
            nothing_new = True
            for generator in list(active):
                try:
                    found = next(generator)
                except StopIteration:
                    active.remove(generator)
                    nothing_new = False
                    continue
                if found is not None:
                    nothing_new = False
                    yield found
            if nothing_new:
                self._wakeup.wait(TICK)


def per_device(config: EngineConfig) -> list[EngineConfig]:
    """A configuration for each device of `config`; decode threads are split among them, at least one for each."""
    execution = config.execution
    devices = parse_devices(execution.device)
    configs = []
    for index, device in enumerate(devices):
        threads = max(1, len(range(index, execution.decode_threads, len(devices))))
        own = replace(
            execution, device=device, decode_threads=threads, num_processes=len(devices) * execution.num_processes
        )
        configs.append(replace(config, execution=own))
    return configs


def _name_device(worker: DeviceSupervisor, outcomes: Iterator[T]) -> Iterator[T]:
    """The same outcomes; an error that ends them names the device."""
    try:
        yield from outcomes
    except (WorkerError, ModelError, RuntimeError) as error:
        raise type(error)(f"{worker.device}: {error}") from error


def _provider_on(worker: DeviceSupervisor) -> str:
    """What runs a model, with the number of the GPU if one was given."""
    number = split_device(worker.device)[1]
    return f"{worker.provider}:{number}" if number and worker.provider != "cpu" else worker.provider
