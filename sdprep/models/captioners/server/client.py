"""One request for one image: its JPEG, its body, and what its outcome means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sdprep.models.base import AnswerSpec
from sdprep.models.captioners.answers import clean_answer, json_answer
from sdprep.models.captioners.server.address import Address
from sdprep.models.captioners.server.body import Dialect, Question
from sdprep.models.captioners.server.connection import Connection, NoResponse, NotConnected
from sdprep.models.captioners.server.images import data_url, smaller_jpeg
from sdprep.models.captioners.server.key import Key
from sdprep.models.captioners.server.outcome import Failed, Outcome, Refused, outcome_of, outcome_of_error
from sdprep.models.captioners.server.reply import Reply, is_listed
from sdprep.models.captioners.server.requests import RequestLog
from sdprep.sanitize import redact
from sdprep.types import Caption, FailureCode

# A server may load the model for the first request.
FIRST_SECONDS, LATER_SECONDS = 600.0, 300.0


@dataclass(slots=True)
class Job:
    """A caption to ask for: the caption of this `number` of the image that `key` names.

    `first_began` and `began` are when its first and its last request began, `attempts` is their number since the last
    answer; the flags tell which second tries it has had. `cut` is an answer that was cut, while a longer one is asked
    for. `name` is what the request log calls it, `tokens` what its last request is
    expected to take.
    """

    key: Hashable
    question: Question
    jpeg: bytes
    number: int = 0
    name: str = ""
    first_began: float | None = None
    began: float = 0.0
    tokens: float = 0.0
    attempts: int = 0
    dialect: Dialect | None = None
    was_empty: bool = False
    was_malformed: bool = False
    was_shrunk: bool = False
    cut: Caption | None = None


@dataclass(slots=True)
class Client:
    """Makes requests to a server and remembers its dialect; for several threads, each with a connection of its own."""

    address: Address
    key: Key
    answer: AnswerSpec
    schema: Mapping[str, Any]
    max_bytes: int
    note: Callable[[str], None]
    log: RequestLog | None = None
    dialect: Dialect = Dialect()
    has_answered: bool = False
    _others: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connection(self) -> Connection:
        """A connection for one thread."""
        return Connection(self.address, self.key)

    def ask(self, job: Job, connection: Connection) -> Outcome:
        """Make one request; what the server says in it is free of the key."""
        if self.log is not None:
            self.log.start(job.name)
        outcome = self._redacted(self._ask(job, connection))
        if isinstance(outcome, Reply):
            self._compare_model(job.question.model, outcome.model)
        elif self.log is not None:
            self.log.end(job.name)
        return outcome

    def _ask(self, job: Job, connection: Connection) -> Outcome:
        dialect = job.dialect or self.dialect
        body = job.question.body(data_url(job.jpeg), dialect)
        try:
            seconds = LATER_SECONDS if self.has_answered else FIRST_SECONDS
            response = connection.post(self.address.chat, body, seconds)
        except (NotConnected, NoResponse) as error:
            return outcome_of_error(error)
        outcome = outcome_of(response)
        if isinstance(outcome, Reply):
            self.has_answered = True
            if job.dialect is not None:
                self._learn(job.dialect)
        return outcome

    def second_try(self, job: Job, outcome: Outcome) -> bool:
        """Whether the request is made once more in another form: in the words that the server takes, or smaller."""
        if not isinstance(outcome, Refused):
            return False
        if (dialect := (job.dialect or self.dialect).after(outcome.message, job.question)) is not None:
            job.dialect = dialect
            return True
        if outcome.status == 413 and not job.was_shrunk:
            job.jpeg, job.was_shrunk = smaller_jpeg(job.jpeg, self.max_bytes), True
            return True
        return False

    def read(self, job: Job, reply: Reply) -> Caption | Failed | None:
        """The caption in an answer; None if the job asks once more, as the answer was cut or empty."""
        if reply.refusal or reply.finish_reason == "content_filter":
            return Failed(FailureCode.REFUSED, f"the model refuses: {reply.refusal or 'filtered by the server'}"[:300])
        is_cut = reply.finish_reason == "length"
        if self.schema and reply.text.strip() and (not is_cut or job.cut is not None):
            return self._read_json(job, reply)
        # Half of a JSON object is no caption.
        text = "" if self.schema else clean_answer(reply.text, self.answer)
        tokens = 0 if reply.usage is None else reply.usage.completion
        caption = Caption(text, tokens, "length" if is_cut else "stop", served=reply.served)
        if is_cut and job.cut is None and job.question.max_tokens is not None:
            job.cut = caption
            job.question = replace(job.question, max_tokens=2 * job.question.max_tokens)
            return None
        if text:
            return caption
        if job.cut is not None and job.cut.text:
            return job.cut
        if not job.was_empty:
            job.was_empty = True
            return None
        return Failed(FailureCode.EMPTY_ANSWER, "the model answered with nothing, twice")

    def _read_json(self, job: Job, reply: Reply) -> Caption | Failed | None:
        try:
            text = json_answer(reply.text, self.schema, self.answer)
        except ValueError as error:
            if job.was_malformed:
                return Failed(FailureCode.MALFORMED, f"the answer is {error}")
            job.was_malformed = True
            fault = f"Your last answer was {error}. Answer with the JSON object alone."
            job.question = replace(job.question, fault=fault)
            return None
        return Caption(text, 0 if reply.usage is None else reply.usage.completion, "stop", served=reply.served)

    def _learn(self, dialect: Dialect) -> None:
        with self._lock:
            before, self.dialect = self.dialect, dialect
        for text in dialect.notes(before):
            self.note(text)

    def _compare_model(self, asked: str, served: str) -> None:
        """Note once that the server answers with another model than the one that is asked for."""
        if not served or is_listed(asked, [served]) or is_listed(served, [asked]):
            return
        with self._lock:
            is_new = served not in self._others
            self._others.add(served)
        if is_new:
            self.note(f"{self.address.name} was asked for {asked} and answers with {served}")

    def _redacted(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Reply):
            texts = (outcome.text, outcome.refusal, outcome.model, outcome.fingerprint)
            text, refusal, model, fingerprint = map(self.key.removed_from, texts)
            return replace(outcome, text=text, refusal=refusal, model=model, fingerprint=fingerprint)
        return replace(outcome, message=redact(self.key.removed_from(outcome.message)))
