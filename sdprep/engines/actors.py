"""What an engine of several machines is asked for, and what its actors are sent; nothing of this needs Ray."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sdprep.errors import UsageError
from sdprep.report import CancelToken
from sdprep.sanitize import printable

T_contra = TypeVar("T_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Worker(Protocol[T_contra, A_co]):
    """What does one piece of work after the other; `provider` is what runs its model."""

    provider: str

    def run(self, item: T_contra, /) -> A_co:
        """Do a piece of work. Raises SdprepError if no other one could be done either."""


class Opener(Protocol[T_contra, A_co]):
    """What an actor is sent, pickled; it opens its worker on the node of the actor."""

    def open(
        self, sharers: int, stop: CancelToken, note: Callable[[str], None]
    ) -> AbstractContextManager[Worker[T_contra, A_co]]:
        """The worker, one of `sharers` on this machine. Raises SdprepError, which ends the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Which cluster, and how many actors; without a number, as many as the cluster has room for now.

    Without an `address`, it is that of RAY_ADDRESS or of a cluster that this machine is part of.
    """

    address: str | None = None
    actors: int | None = None

    def __post_init__(self) -> None:
        if self.address is not None and "://" in self.address:
            raise UsageError(
                f"--ray-address {printable(self.address)}: give HOST:PORT of the cluster, from one of its machines\n"
                "From elsewhere, submit the command: ray job submit --address http://HOST:8265 -- sdprep ..."
            )


@dataclass(frozen=True, slots=True)
class ActorNeeds:
    """What each actor reserves; `gpus` None is one if the cluster has any."""

    cpus: int
    gpus: int | None = None

    def __str__(self) -> str:
        cpus = "1 CPU" if self.cpus == 1 else f"{self.cpus} CPUs"
        return f"{cpus} and 1 GPU" if self.gpus else cpus

    def fitting(self, node: dict[str, Any]) -> int:
        """How many such actors a node has room for."""
        has: dict[str, float] = node["Resources"] if node["Alive"] else {}
        many = int(has.get("CPU", 0) // self.cpus)
        return min(many, int(has.get("GPU", 0) // self.gpus)) if self.gpus else many


@dataclass(frozen=True, slots=True)
class ActorDeath:
    """The death of an actor, and of the work that it was at: that is not tried again."""

    reason: str
