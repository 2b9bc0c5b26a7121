"""How many requests a server gets: at a time, in a minute, and in a run; and what they may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sdprep.models.base import Price
from sdprep.models.captioners.server.estimate import MILLION
from sdprep.models.captioners.server.reply import Usage


class Limiter:
    """Requests at a time: one more per round of answers up to `most`, and half after the server was overloaded.

    No request starts before `paused_until`, nor faster than `per_minute`, nor before those ahead of it have had time
    for their tokens at `tokens_per_minute`. A request is expected to take as many as the last answer did, and the first
    one `tokens`. Times are those of one clock.
    """

    def __init__(
        self,
        most: int,
        per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        tokens: float = 0.0,
    ) -> None:
        self._most, self._interval = most, 60.0 / per_minute if per_minute else 0.0
        self._token_seconds, self._tokens = 60.0 / tokens_per_minute if tokens_per_minute else 0.0, tokens
        self._allowed, self._halved_at, self._next_start = float(most), -math.inf, -math.inf
        self._tokens_until = -math.inf
        self.paused_until = -math.inf

    @property
    def allowed(self) -> int:
        """Requests at a time, now."""
        return max(1, int(self._allowed))

    def wait(self, now: float, active: int) -> float:
        """Seconds until the next request may start; infinite until one of the active ends."""
        if active >= self.allowed:
            return math.inf
        return max(0.0, max(self.paused_until, self._next_start, self._tokens_until) - now)

    def start(self, now: float) -> float:
        """Count a request that starts, and return the tokens that it is expected to take."""
        self._next_start = max(now, self._next_start) + self._interval
        self._tokens_until = max(now, self._tokens_until) + self._tokens * self._token_seconds
        return self._tokens

    def succeed(self, usage: Usage | None = None, expected: float = 0.0) -> None:
        """Take note of an answer, and of the tokens that it took instead of those expected."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
        if usage is not None:
            self._tokens = usage.prompt + usage.completion
            self._tokens_until += (self._tokens - expected) * self._token_seconds

    def overload(self, began: float, now: float) -> None:
        """Take note of a request that was refused as one too many; those that began before the last such count once."""
        if began > self._halved_at:
            self._allowed, self._halved_at = max(1.0, self._allowed / 2), now

    def pause(self, now: float, seconds: float) -> None:
        """Let no request start for some time."""
        self.paused_until = max(self.paused_until, now + seconds)


@dataclass(slots=True)
class Budget:
    """What a run may ask for: no more than `max_requests`, nor more than `max_cost` pays for by `price`.

    Until the server has said how many tokens an image takes, one request at a time is made if the cost is limited. A
    request without an answer counts as if it had one: the server may ask to be paid for it.
    """

    max_requests: int | None = None
    max_cost: float | None = None
    price: Price | None = None
    longest: int = 0
    requests: int = 0
    answers: int = 0
    total: Usage = field(default_factory=Usage)
    is_counted: bool = True
    _lost: float = 0.0
    _largest: Usage = field(default_factory=Usage)

    def fault(self, active: int) -> str | None:
        """Why no further request may start, ever; None if one may, now or after those that are active."""
        if self.max_requests is not None and self.requests >= self.max_requests:
            return f"stopped after {self.requests} requests, as --max-requests says"
        if self.max_cost is not None and not active and self.cost + self._most_per_request() > self.max_cost:
            return f"stopped at a cost of {self.cost:.4f}, before it exceeds --max-cost {self.max_cost:g}"
        return None

    def has_room(self, active: int) -> bool:
        """Whether one more request may start beside the active ones."""
        if self.fault(active) is not None:
            return False
        if self.max_cost is None:
            return True
        if not self.answers:
            return active == 0
        return self.cost + (active + 1) * self._most_per_request() <= self.max_cost

    def start(self) -> None:
        """Count a request that starts."""
        self.requests += 1

    def count(self, usage: Usage | None) -> None:
        """Count an answer."""
        self.answers += 1
        if usage is None:
            self.is_counted = False
            return
        self.total = Usage(self.total.prompt + usage.prompt, self.total.completion + usage.completion)
        self._largest = Usage(
            max(self._largest.prompt, usage.prompt), max(self._largest.completion, usage.completion, self.longest)
        )

    def lose(self) -> None:
        """Count a request that may be paid for, although its answer never came."""
        self._lost += self._most_per_request()

    @property
    def cost(self) -> float:
        """What the requests so far cost at most."""
        return self._cost_of(self.total) + self._lost

    def _most_per_request(self) -> float:
        return self._cost_of(self._largest)

    def _cost_of(self, usage: Usage) -> float:
        if self.price is None:
            return 0.0
        return (usage.prompt * self.price.input + usage.completion * self.price.output) / MILLION
