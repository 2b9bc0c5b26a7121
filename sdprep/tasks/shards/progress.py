"""How far a run over shards has come, also within a shard, which may take hours."""

from __future__ import annotations

from collections.abc import Sequence

from sdprep.report import Listener
from sdprep.shards.results import Shard


class Progress:
    """Tells a listener how far shards are: in images where their numbers are known, else in bytes, or in shards."""

    def __init__(self, listener: Listener, shards: Sequence[Shard]) -> None:
        self._listener = listener
        if all(shard.count is not None for shard in shards):
            self._unit, amounts = "images", [shard.count or 0 for shard in shards]
        elif all(shard.size for shard in shards):
            self._unit, amounts = "bytes", [shard.size for shard in shards]
        else:
            self._unit, amounts = "shards", [1] * len(shards)
        self._amounts = {shard.id: amount for shard, amount in zip(shards, amounts, strict=True)}
        self._seen = 0

    def begin(self, doing: str) -> None:
        """The shards are begun."""
        self._listener.stage(doing, sum(self._amounts.values()), self._unit)

    def see(self, size: int) -> None:
        """An image of so many bytes has an outcome."""
        step = {"images": 1, "bytes": size, "shards": 0}[self._unit]
        self._seen += step
        self._listener.advance(step)

    def end(self, shard: Shard) -> None:
        """A shard has an outcome. What was seen of its images may be more than it, as in a tar that is packed."""
        self._listener.advance(self._amounts[shard.id] - self._seen)
        self._seen = 0
