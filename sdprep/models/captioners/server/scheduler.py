"""Keeps requests going: threads that ask, tries that wait for their time, and answers as they arrive."""

from __future__ import annotations

import heapq
import math
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from sdprep.errors import ServerError, starting_threads
from sdprep.models.captioners.server.client import Client, Job
from sdprep.models.captioners.server.limits import Budget, Limiter
from sdprep.models.captioners.server.outcome import Again, Failed, Fatal, Refused
from sdprep.models.captioners.server.reply import Reply
from sdprep.types import Caption, FailureCode, NoAnswer

MOST_ATTEMPTS, MOST_SECONDS = 6, 600.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
# So many images that fail in a row with one message are not at fault.
FAILURES_IN_A_ROW = 10
# A wait that is longer is announced.
LONG_WAIT = 10.0
# How long a server that fails is left alone, if there is another.
AWAY = 60.0
# How often a run that waits for answers looks whether it is cancelled.
TICK = 0.2

Finished = tuple[Job, Caption | NoAnswer]


class Clock:
    """The time, waiting, and chance."""

    def now(self) -> float:
        """Seconds of a clock that is never set back."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        """Wait until the condition is notified, or for some seconds; they may be infinite."""
        condition.wait(None if seconds == math.inf else seconds)

    def delay(self, most: float) -> float:
        """A time before another try: anything up to `most`, so that tries do not come all at once."""
        return random.uniform(0, most)


@dataclass(slots=True)
class Endpoint:
    """A server that is asked, with what runs there; one that fails gets no request before `back_at`."""

    client: Client
    limiter: Limiter
    active: int = 0
    back_at: float = -math.inf


class Scheduler:
    """Asks servers for the captions of jobs; a job that waits for another try holds up no other.

    Each server is asked up to `most` at a time: whichever is free takes the next job. `note` gets what the user should
    know. Jobs come from one thread and answers go to another.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], budget: Budget, most: int, note: Callable[[str], None], clock: Clock
    ) -> None:
        self._endpoints, self._budget, self._most = endpoints, budget, most * len(endpoints)
        self._note, self._clock = note, clock
        lock = threading.Lock()
        # What the threads that ask wait for, the one that adds jobs, and the one that takes answers.
        self._changed, self._room, self._arrived = (threading.Condition(lock) for _ in range(3))
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._finished: deque[Finished] = deque()
        self._active, self._retries = 0, 0
        self._is_complete = self._is_ended = self._is_broken = False
        self._error: BaseException | None = None
        self._last_failure, self._failures = "", 0

    def start(self) -> None:
        """Start the threads that ask."""
        with starting_threads():
            for number in range(self._most):
                endpoint = self._endpoints[number % len(self._endpoints)]
                threading.Thread(target=self._serve, args=(endpoint,), name="request", daemon=True).start()

    # The side that adds jobs

    def wait_for_room(self) -> bool:
        """Wait until another job is needed; False once none is."""
        with self._changed:
            while not self._is_ended and (
                len(self._ready) >= self._most or len(self._ready) + len(self._later) + self._active >= 2 * self._most
            ):
                self._room.wait()
            return not self._is_ended

    def add(self, job: Job) -> None:
        """Take a job."""
        with self._changed:
            self._ready.append(job)
            # Not every thread may take it: its server may be away.
            self._changed.notify_all()

    def complete(self, error: BaseException | None = None) -> None:
        """There are no more jobs, since all are there or `error` came between; it is raised where answers are taken."""
        with self._changed:
            self._is_complete = True
            if error is not None:
                self._end(error)
            self._wake()

    # The side that takes answers

    def finished(self, is_cancelled: Callable[[], bool]) -> Generator[Finished]:
        """The answers as they arrive. Once cancelled, or after an error, only requests in flight are waited for.

        Raises ServerError after the last of them if the server refuses all, and the error of `complete`.
        """
        while True:
            with self._changed:
                while not self._finished and not self._is_over():
                    if is_cancelled():
                        self._end()
                    self._arrived.wait(TICK)
                if not self._finished:
                    break
                found = self._finished.popleft()
            yield found
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Start no further request."""
        with self._changed:
            self._end()

    def _is_over(self) -> bool:
        nothing_left = self._is_complete and not self._ready and not self._later
        return self._is_broken or (not self._active and (self._is_ended or nothing_left))

    def _end(self, error: BaseException | None = None) -> None:
        if self._error is None:
            self._error = error
        self._is_ended = True
        # An answer that was only too short is better than none.
        for job in (*self._ready, *(job for _, _, job in self._later)):
            if job.cut is not None and job.cut.text:
                self._finished.append((job, job.cut))
        self._ready.clear()
        self._later.clear()
        self._wake()

    def _wake(self) -> None:
        for waiting in (self._changed, self._room, self._arrived):
            waiting.notify_all()

    # The threads that ask

    def _serve(self, endpoint: Endpoint) -> None:
        connection = endpoint.client.connection()
        try:
            while (job := self._take(endpoint)) is not None:
                outcome = endpoint.client.ask(job, connection)
                if endpoint.client.second_try(job, outcome):
                    self._settle(endpoint, job, None)
                elif isinstance(outcome, Reply):
                    self._settle_reply(endpoint, job, outcome)
                else:
                    self._settle(endpoint, job, outcome)
        except BaseException as error:  # noqa: BLE001 - it is raised where answers are taken
            with self._changed:
                self._is_broken = True
                self._end(error)
        finally:
            connection.close()

    def _take(self, endpoint: Endpoint) -> Job | None:
        """The next job, once its request may start; None if there are no more."""
        with self._changed:
            while not self._is_ended and not (self._is_complete and self._is_over()):
                now = self._clock.now()
                while self._later and self._later[0][0] <= now:
                    self._ready.appendleft(heapq.heappop(self._later)[2])
                wait = self._wait(endpoint, now)
                if wait <= 0:
                    return self._started(endpoint, self._ready.popleft(), now)
                if not self._is_ended:
                    self._clock.wait(self._changed, wait)
            self._wake()
            return None

    def _wait(self, endpoint: Endpoint, now: float) -> float:
        """Seconds until a request to a server may start."""
        if not self._ready:
            return self._later[0][0] - now if self._later else math.inf
        if (reason := self._budget.fault(self._active)) is not None:
            self._note(f"{reason}; run the command again to go on")
            self._end()
            return math.inf
        if not self._budget.has_room(self._active):
            return math.inf
        # Where all have failed, any may be asked.
        away = endpoint.back_at - now if self._has_another(endpoint, now) else 0.0
        return max(away, endpoint.limiter.wait(now, endpoint.active))

    def _has_another(self, endpoint: Endpoint, now: float) -> bool:
        return any(each is not endpoint and each.back_at <= now for each in self._endpoints)

    def _started(self, endpoint: Endpoint, job: Job, now: float) -> Job:
        self._active += 1
        endpoint.active += 1
        self._room.notify()
        job.tokens = endpoint.limiter.start(now)
        self._budget.start()
        job.began, job.attempts = now, job.attempts + 1
        if job.first_began is None:
            job.first_began = now
        return job

    def _settle_reply(self, endpoint: Endpoint, job: Job, reply: Reply) -> None:
        answer = endpoint.client.read(job, reply)
        with self._changed:
            self._active -= 1
            endpoint.active -= 1
            endpoint.limiter.succeed(reply.usage, job.tokens)
            self._budget.count(reply.usage)
            self._failures, job.attempts = 0, 0
            if self._budget.max_cost is not None and not self._budget.is_counted:
                self._end(
                    ServerError("the server does not count tokens, so --max-cost cannot be kept; use --max-requests")
                )
            if answer is None:
                self._ask_again(job, self._clock.now())
            elif isinstance(answer, Failed):
                self._finished.append((job, NoAnswer(answer.code, answer.message)))
            else:
                self._finished.append((job, answer))
            self._wake()

    def _settle(self, endpoint: Endpoint, job: Job, outcome: Again | Failed | Refused | Fatal | None) -> None:
        """Take note of a request without an answer; with None it is made again at once, in another form."""
        with self._changed:
            self._active -= 1
            endpoint.active -= 1
            now = self._clock.now()
            if outcome is None:
                self._ask_again(job, now)
            elif isinstance(outcome, Again):
                self._settle_again(endpoint, job, outcome, now)
            elif isinstance(outcome, Fatal):
                self._end(ServerError(f"{endpoint.client.address.name}: {outcome.message}"))
            elif isinstance(outcome, Failed):
                self._failures = 0
                self._finished.append((job, NoAnswer(outcome.code, outcome.message)))
            else:
                self._fail(job, outcome.message)
            self._wake()

    def _settle_again(self, endpoint: Endpoint, job: Job, outcome: Again, now: float) -> None:
        if outcome.may_be_paid:
            self._budget.lose()
        if outcome.overloaded:
            endpoint.limiter.overload(job.began, now)
        is_left = outcome.is_down and self._has_another(endpoint, now)
        if is_left:
            if endpoint.back_at <= now:
                self._note(f"{endpoint.client.address.name} gets no request for {AWAY:.0f} s: {outcome.message}")
            endpoint.back_at = now + AWAY
        if outcome.pause is not None:
            if outcome.pause > MOST_SECONDS:
                self._end(
                    ServerError(
                        f"{outcome.message}\nIt asks to wait for {outcome.pause:,.0f} s: run the command again then"
                    )
                )
                return
            if outcome.pause > LONG_WAIT and now >= endpoint.limiter.paused_until:
                self._note(f"waiting for {outcome.pause:.0f} s, as the server asks")
            endpoint.limiter.pause(now, outcome.pause)
        if job.attempts >= MOST_ATTEMPTS or now - (job.first_began or now) >= MOST_SECONDS:
            self._fail(job, f"{outcome.message} ({job.attempts} tries)")
        elif is_left or outcome.at_once or outcome.pause:
            self._ask_again(job, now)
        else:
            self._ask_again(job, now + self._clock.delay(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (job.attempts - 1))))

    def _ask_again(self, job: Job, due: float) -> None:
        if not self._is_ended:
            self._retries += 1
            heapq.heappush(self._later, (due, self._retries, job))
        elif job.cut is not None and job.cut.text:
            self._finished.append((job, job.cut))

    def _fail(self, job: Job, message: str) -> None:
        self._finished.append((job, NoAnswer(FailureCode.REQUEST_FAILED, message)))
        kind = re.sub(r"\d+", "", message)
        self._failures = self._failures + 1 if kind == self._last_failure else 1
        self._last_failure = kind
        if self._failures >= FAILURES_IN_A_ROW:
            self._end(
                ServerError(
                    f"{message}\nSo did {self._failures} images in a row: the server or its settings are at fault"
                )
            )
