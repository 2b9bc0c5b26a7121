"""One request for one image: its JPEG, its body, and what its outcome means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

from sdprep.models.base import AnswerSpec
from sdprep.models.captioners.answers import clean_answer
from sdprep.models.captioners.server.address import Address
from sdprep.models.captioners.server.body import Dialect, Question
from sdprep.models.captioners.server.connection import Connection, NoResponse, NotConnected
from sdprep.models.captioners.server.images import data_url, smaller_jpeg
from sdprep.models.captioners.server.key import Key
from sdprep.models.captioners.server.outcome import Failed, Outcome, Refused, outcome_of, outcome_of_error
from sdprep.models.captioners.server.reply import Reply
from sdprep.sanitize import redact
from sdprep.types import Caption, FailureCode

# A server may load the model for the first request.
FIRST_SECONDS, LATER_SECONDS = 600.0, 300.0


@dataclass(slots=True)
class Job:
    """A caption to ask for: the caption of this `number` of the image that `key` names.

    `first_began` and `began` are when its first and its last request began, `attempts` is their number since the last
    answer; the flags tell which second tries it has had. `cut` is an answer that was cut, while a longer one is asked
    for.
    """

    key: Hashable
    question: Question
    jpeg: bytes
    number: int = 0
    first_began: float | None = None
    began: float = 0.0
    attempts: int = 0
    dialect: Dialect | None = None
    was_empty: bool = False
    was_shrunk: bool = False
    cut: Caption | None = None


@dataclass(slots=True)
class Client:
    """Makes requests to a server and remembers its dialect; for several threads, each with a connection of its own."""

    address: Address
    key: Key
    answer: AnswerSpec
    max_bytes: int
    note: Callable[[str], None]
    dialect: Dialect = Dialect()
    has_answered: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connection(self) -> Connection:
        """A connection for one thread."""
        return Connection(self.address, self.key)

    def ask(self, job: Job, connection: Connection) -> Outcome:
        """Make one request; what the server says in it is free of the key."""
        dialect = job.dialect or self.dialect
        body = job.question.body(data_url(job.jpeg), dialect)
        try:
            seconds = LATER_SECONDS if self.has_answered else FIRST_SECONDS
            response = connection.post(self.address.chat, body, seconds)
        except (NotConnected, NoResponse) as error:
            return self._redacted(outcome_of_error(error))
        outcome = self._redacted(outcome_of(response))
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
        text = clean_answer(reply.text, self.answer)
        caption = Caption(text, 0 if reply.usage is None else reply.usage.completion, "length" if is_cut else "stop")
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

    def _learn(self, dialect: Dialect) -> None:
        with self._lock:
            before, self.dialect = self.dialect, dialect
        for text in dialect.notes(before):
            self.note(text)

    def _redacted(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Reply):
            text, refusal = map(self.key.removed_from, (outcome.text, outcome.refusal))
            return replace(outcome, text=text, refusal=refusal)
        return replace(outcome, message=redact(self.key.removed_from(outcome.message)))
