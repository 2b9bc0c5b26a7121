"""What a response or its absence means for an image and for the run: an answer, another try, a failure, or the end."""

from __future__ import annotations

from dataclasses import dataclass

from sdprep.models.captioners.server.connection import NoResponse, NotConnected, Response
from sdprep.models.captioners.server.reply import Malformed, Reply, read_fault, read_reply
from sdprep.types import FailureCode

# What passes by itself.
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
OVERLOADED = frozenset({429, 503, 529})
OF_THE_IMAGE = frozenset({400, 413, 415, 422})
QUOTA = ("insufficient_quota", "exceeded your current quota", "billing")
# What services say in an error of an image or a prompt that they filter out (Azure, Model Studio, OpenRouter).
FILTERED = (b'"content_filter"', b'"data_inspection_failed"', b'"flagged_input"')
REASONS = {
    401: "it wants a key, or another one",
    402: "there is no credit left",
    403: "it does not allow this",
    404: "it has no such model, or the address is wrong",
}


@dataclass(frozen=True, slots=True)
class Again:
    """The request is made again later: after `pause`, which then holds for all, or after a time of the sender's choice.

    With `at_once` it never reached the server. A request that `may_be_paid` may have been answered without our knowing.
    With `is_down` the server itself failed, and another one may not.
    """

    message: str
    pause: float | None = None
    overloaded: bool = False
    at_once: bool = False
    may_be_paid: bool = False
    is_down: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The image has no answer."""

    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server finds fault with this request; another image, or another form of it, may do."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """The run cannot go on."""

    message: str


Outcome = Reply | Again | Failed | Refused | Fatal


def outcome_of(response: Response) -> Outcome:
    """What a response means."""
    if response.status == 200:
        try:
            return read_reply(response)
        except Malformed as error:
            return Again(str(error), may_be_paid=True)
    fault = read_fault(response)
    said = f"the server answered {response.status}" + (f": {fault}" if fault else "")
    if response.status == 429 and any(word in response.body.decode("utf-8", "replace").lower() for word in QUOTA):
        return Fatal(f"{said}\n{REASONS[402]}")
    if 400 <= response.status < 500 and any(word in response.body for word in FILTERED):
        return Failed(FailureCode.REFUSED, said)
    if response.status in PASSING:
        overloaded = response.status in OVERLOADED
        return Again(said, response.retry_after(), overloaded, is_down=response.status >= 500 and not overloaded)
    if 300 <= response.status < 400:
        place = response.headers.get("location", "another address")
        return Fatal(
            f"the server redirects to {place[:200]}\nImages are not sent on: give that address, if you trust it"
        )
    if response.status in OF_THE_IMAGE:
        return Refused(response.status, said)
    reason = REASONS.get(response.status)
    return Fatal(f"{said}\n{reason[0].upper()}{reason[1:]}" if reason else said)


def outcome_of_error(error: NotConnected | NoResponse) -> Outcome:
    """What it means that there is no response."""
    if isinstance(error, NotConnected):
        return Fatal(str(error)) if error.is_tls else Again(f"the server cannot be reached: {error}", is_down=True)
    return Again(str(error), at_once=error.was_idle, may_be_paid=True, is_down=not error.was_idle)
