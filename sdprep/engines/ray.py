"""Ray: actors, one per GPU or per some CPUs, each of which does one piece of work after the other with one model.

Ray Core alone: no pixels and no results travel, only what is to be done and what came of it. The only place of Ray.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from itertools import islice
from types import FrameType
from typing import Any, Generic, TypeVar

from sdprep import __version__
from sdprep.engines.actors import ActorDeath, ActorNeeds, Opener, RayOptions
from sdprep.errors import MissingExtra, SdprepError, UsageError, WorkerError, shortened
from sdprep.report import CancelToken
from sdprep.sanitize import printable

# This address starts a cluster for one run, on this machine.
LOCAL = "local"
# Actors that may die over one piece of work until it is given up.
ATTEMPTS = 3
# At most this many seconds pass between two checks for cancellation.
TICK = 0.25
# Seconds until a user is told that no actor is ready, and for an actor without work to end by itself.
PATIENCE, GRACE = 30.0, 5.0
# Bytes of Ray's shared memory on this machine, instead of 30 % of all; little of it is used.
OBJECT_STORE = 100_000_000
# Methods of an actor in this group run beside the others.
CONTROL = "control"

T = TypeVar("T")
A = TypeVar("A")


def check_installed() -> None:
    """Raise MissingExtra if Ray is not installed."""
    if find_spec("ray") is None:
        raise MissingExtra("ray", "ray")


@contextmanager
def open_actors(
    opener: Opener[T, A], options: RayOptions, needs: ActorNeeds, most: int, note: Callable[[str], None]
) -> Iterator[ActorPool[T, A]]:
    """Actors of a cluster, `most` at most. Raises UsageError and WorkerError if there can be none.

    On leaving, they are gone, and so is a cluster that was started for them.
    """
    with _stdout_aside(), _connected(options.address):
        needs, room = _placed(needs, options.actors)
        pool = ActorPool(opener, needs, min(most, options.actors or room), note)
        try:
            yield pool
        finally:
            pool.close()


class ActorPool(Generic[T, A]):
    """Actors that share a queue of work; one that dies is replaced, and what it was at is done again."""

    def __init__(self, opener: Opener[T, A], needs: ActorNeeds, count: int, note: Callable[[str], None]) -> None:
        import ray

        self._needs, self._count, self._note = needs, count, cache(note)
        self._actor = ray.remote(concurrency_groups={CONTROL: 1})(_Actor).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        # Once for all actors: it may hold lists of tags.
        self._sent = ray.put((opener, needs, count))
        self._opening: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, T]] = {}
        self._idle: list[Any] = []
        self._next: deque[T] = deque()
        self._deaths: Counter[T] = Counter()
        self._in_vain = 0
        self._providers = set[str]()

    @property
    def provider(self) -> str:
        """What runs the model, on all actors so far."""
        return ",".join(sorted(self._providers))

    def run(self, items: Iterator[T], cancel: CancelToken) -> Iterator[tuple[T, A | ActorDeath]]:
        """The outcome of each piece of work that was reached; once cancelled, each actor ends what it is at early.

        Raises the error of an actor that could not open its worker, or could do no work at all, and WorkerError if
        actors die too often.
        """
        for _ in range(self._count):
            self._start()
        began = time.monotonic()
        while not cancel and self._assign(items):
            if not self._providers and time.monotonic() - began > PATIENCE:
                self._note(
                    f"no actor is ready yet: each reserves {self._needs}, and then loads the model; "
                    "ray status shows what is free"
                )
            yield from self._answers()
        if cancel:
            yield from self._stopped(cancel)

    def close(self) -> None:
        """Have actors give up what they are at, close what they have opened, and end; kill those that do not."""
        import ray

        working = [actor for actor, _ in self._working.values()]
        for actor in working:
            self._stop(actor, at_once=True)
        closing = [actor.close.remote() for actor in (*self._idle, *working)]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=GRACE)
        for actor in (*self._idle, *working, *self._opening.values()):
            ray.kill(actor)
        self._idle, self._opening, self._working = [], {}, {}

    def _stop(self, actor: Any, *, at_once: bool = False) -> None:
        actor.stop.options(concurrency_group=CONTROL).remote(at_once)

    def _start(self) -> None:
        # In a list, the actor gets it only when it asks for it.
        actor = self._actor.remote([self._sent])
        self._opening[actor.open.remote(__version__)] = actor

    def _assign(self, items: Iterator[T]) -> bool:
        """Give work to actors without; False if all is done."""
        while True:
            if not self._next:
                self._next.extend(islice(items, 1))
            if not self._next or not self._idle:
                return bool(self._next or self._working)
            actor, item = self._idle.pop(), self._next.popleft()
            self._working[actor.run.remote(item)] = actor, item

    def _answers(self) -> Iterator[tuple[T, A | ActorDeath]]:
        """What actors have answered meanwhile."""
        import ray

        for reference in ray.wait([*self._opening, *self._working], timeout=TICK)[0]:
            if reference in self._opening:
                self._opened(reference)
            else:
                yield from self._worked(reference)

    def _opened(self, reference: Any) -> None:
        actor = self._opening.pop(reference)
        answer = self._answer(reference, actor)
        if isinstance(answer, ActorDeath):
            self._start()
        else:
            self._providers.add(answer)
            self._idle.append(actor)

    def _worked(self, reference: Any) -> Iterator[tuple[T, A | ActorDeath]]:
        actor, item = self._working.pop(reference)
        answer = self._answer(reference, actor)
        if not isinstance(answer, ActorDeath):
            self._in_vain = 0
            self._idle.append(actor)
            yield item, answer
            return
        self._deaths[item] += 1
        if self._deaths[item] < ATTEMPTS:
            self._next.append(item)
        else:
            yield item, answer
        self._start()

    def _answer(self, reference: Any, actor: Any) -> Any:
        """What an actor has answered. One that has died is killed, as it may live on where it cannot be reached.

        Raises the error that it answers with, and WorkerError if actors die too often.
        """
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError

        try:
            value, notes = ray.get(reference)
        except RayTaskError as error:
            raise RuntimeError(f"in an actor:\n{error}") from error
        except RayError as error:
            reason = _told(error)
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise WorkerError(f"no actor can be made: {reason}") from error
            ray.kill(actor)
            self._in_vain += 1
            if self._in_vain > ATTEMPTS * (self._count + 1):
                raise WorkerError(f"{self._in_vain} actors died, and nothing was done meanwhile: {reason}") from error
            return ActorDeath(reason)
        for text in notes:
            self._note(text)
        if isinstance(value, SdprepError):
            raise value
        return value

    def _stopped(self, cancel: CancelToken) -> Iterator[tuple[T, A]]:
        """What came of the work that actors were at when the run was cancelled."""
        import ray

        for actor, _ in self._working.values():
            self._stop(actor)
        while self._working and time.monotonic() < cancel.deadline:
            for reference in ray.wait([*self._working], timeout=TICK)[0]:
                actor, item = self._working.pop(reference)
                answer = self._answer(reference, actor)
                if not isinstance(answer, ActorDeath):
                    self._idle.append(actor)
                    yield item, answer


class _Actor(Generic[T, A]):
    """An actor as Ray runs it. Errors for the user are answers, since Ray would make other errors of them."""

    def __init__(self, sent: list[Any]) -> None:
        self._sent, self._stack, self._stop = sent, ExitStack(), CancelToken()
        self._notes: list[str] = []

    def open(self, version: str) -> tuple[str | SdprepError, list[str]]:
        """Open the worker; the answer is what runs its model."""

        import ray

        def opened() -> str:
            if version != __version__:
                raise UsageError(
                    f"{platform.node()} has sdprep {__version__}, and the run was begun by {version}\n"
                    "Install the same version on all machines of the cluster"
                )
            try:
                sent: tuple[Opener[T, A], ActorNeeds, int] = ray.get(self._sent[0])
            except ray.exceptions.RayError as error:
                raise WorkerError(f"{platform.node()} cannot read what it was sent: {_told(error)}") from error
            opener, needs, count = sent
            node = ray.get_runtime_context().get_node_id()
            fitting = sum(needs.fitting(each) for each in ray.nodes() if each["NodeID"] == node)
            sharers = max(1, min(count, fitting))
            self._worker = self._stack.enter_context(opener.open(sharers, self._stop, self._notes.append))
            return self._worker.provider

        return self._answer(opened)

    def run(self, item: T) -> tuple[A | SdprepError, list[str]]:
        """Do a piece of work."""
        return self._answer(lambda: self._worker.run(item))

    def stop(self, at_once: bool) -> None:
        """End early what `run` is at, after the batch in hand unless `at_once`."""
        if at_once:
            self._stop.deadline = time.monotonic()
        self._stop.exit_code = 128 + signal.SIGINT

    def close(self) -> None:
        """Close the worker."""
        self._stack.close()

    def _answer(self, do: Callable[[], Any]) -> tuple[Any, list[str]]:
        try:
            value = do()
        except SdprepError as error:
            value = error
        notes, self._notes[:] = [*self._notes], []
        return value, notes


def _placed(needs: ActorNeeds, actors: int | None) -> tuple[ActorNeeds, int]:
    """What actors reserve on this cluster, and how many of them it has room for.

    Raises UsageError if there is room for none, unless so many as `actors` shall wait for it.
    """
    import ray

    nodes = ray.nodes()
    if needs.gpus is None:
        needs = ActorNeeds(needs.cpus, int(any(node["Resources"].get("GPU") for node in nodes if node["Alive"])))
    room = sum(map(needs.fitting, nodes))
    if not room and actors is None:
        raise UsageError(
            f"no machine of the Ray cluster has {needs} for an actor; set --workers and --device\n"
            "With --actors, the run waits for such machines"
        )
    return needs, room


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to a cluster; that of LOCAL is started before and stopped after."""
    if address != LOCAL:
        # It is read when Ray is imported: a cluster that is gone is told in a minute, and not in fifteen.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    # No telemetry.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE} if address == LOCAL else {}
    folder = None
    try:
        try:
            with _starting():
                context = ray.init(address or "auto", log_to_driver=False, logging_level="ERROR", **own)
                folder = context.address_info["session_dir"]
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _unreachable(address, error) from error
        yield
    finally:
        ray.shutdown()
        if address == LOCAL and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _starting() -> Iterator[None]:
    """Inside, Ray is started, and takes no signal for itself. If that is interrupted, what it has started ends."""
    from unittest.mock import patch  # takes as long as all else here to import

    import psutil  # Ray brings it
    import ray

    before = psutil.Process().children()
    came: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        came.append(number)
        handlers[number](number, frame)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {int(each): handler for each in numbers if callable(handler := signal.getsignal(each))}
    for each in handlers:
        signal.signal(each, take)
    try:
        with patch.object(signal, "signal"):
            yield
    except BaseException:
        ray.shutdown()
        # What Ray does not know yet. The last one ends others, which outlive it if it is killed.
        for process in reversed([each for each in psutil.Process().children() if each not in before]):
            with suppress(psutil.Error):
                process.terminate()
                process.wait(GRACE)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    # Python ignores what a handler raises while it forks.
    for number in came:
        handlers[number](number, None)


def _unreachable(address: str | None, error: Exception) -> SdprepError:
    # Where a cluster was found, there is a cause.
    if address in (None, "auto") and isinstance(error, ConnectionError) and error.__cause__ is None:
        return UsageError(
            "this machine is part of no Ray cluster, and RAY_ADDRESS is not set\n"
            "Name one with --ray-address HOST:PORT, or start one for this run with --ray-address local"
        )
    where = f"the Ray cluster at {printable(address)}" if address else "the Ray cluster"
    # A cause may be a whole traceback.
    cause = f": {printable(str(error.__cause__).strip().splitlines()[-1])}" if error.__cause__ else ""
    return WorkerError(f"{where} cannot be joined: {_told(error)}{cause}")


def _told(error: Exception) -> str:
    """What Ray says of an error, on one line."""
    return shortened(printable(" ".join(str(error).split())))


@contextmanager
def _stdout_aside() -> Iterator[None]:
    """Inside, what Ray and its processes print on stdout goes to stderr: stdout is data."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
