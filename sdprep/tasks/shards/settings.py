"""The settings of a run over shards, besides those of its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdprep.engines.actors import RayOptions
from sdprep.errors import UsageError
from sdprep.shards.plan import Sources

# Megabytes of images that are in hand as files.
SPOOL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """Which shards a process works on, and where the results go.

    It begins with those of part `index` of `count`; with `steal`, those of others follow that nobody has done.
    `spool` is in MB. With `ray`, actors of a cluster work on them. `stated` has the options of the task that were
    stated, by name.
    """

    results: str
    sources: Sources
    index: int = 0
    count: int = 1
    steal: bool = True
    spool: int = SPOOL
    ray: RayOptions | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            last = self.count - 1
            raise UsageError(f"--shard {self.index}/{self.count}: the first number counts from 0 to {last}")
