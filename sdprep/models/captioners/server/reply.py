"""Reading what a server answers: a caption, why it ended, and what it cost; also as an event stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sdprep.errors import shortened
from sdprep.models.captioners.server.connection import Response
from sdprep.sanitize import strip_invisible
from sdprep.types import Served

LONGEST_FAULT, LONGEST_NAME = 300, 100
# No request takes so many tokens.
MOST_TOKENS = 10**9
# How an answer ends that the server broke off, in the words of different servers.
BROKEN_OFF = ("error", "abort", "cancelled", "time_limit", "insufficient_system_resource")


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that a request took, as the server counts them."""

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its text, why it ended, the refusal if it is one, and its tokens if the server counts them.

    `model` and `fingerprint` are what the server says that it ran.
    """

    text: str
    finish_reason: str
    refusal: str = ""
    usage: Usage | None = None
    model: str = ""
    fingerprint: str = ""

    @property
    def served(self) -> Served:
        """What the server says about the answer, besides its text."""
        return Served(self.model, self.fingerprint, None if self.usage is None else self.usage.prompt)


class Malformed(Exception):  # noqa: N818 - what became of an answer
    """An answer is not what the API says."""


def read_reply(response: Response) -> Reply:
    """The answer in a response. Raises Malformed."""
    if is_page(response):
        raise Malformed("the server answered with a web page")
    body = response.body.lstrip()
    if response.headers.get("content-type", "").startswith("text/event-stream") or body.startswith((b"data:", b":")):
        reply = _read_stream(body)
    else:
        reply = _read_whole(body)
    if reply.finish_reason in BROKEN_OFF:
        raise Malformed("the server broke the answer off")
    return reply


def read_fault(response: Response) -> str:
    """What a response says is wrong, in one line; empty if it does not say."""
    if is_page(response):
        return "it answered with a web page"
    try:
        table = _table(response.body)
    except Malformed:
        return _one_line(response.body.decode("utf-8", "replace"))
    return _fault_words(table.get("error") or table.get("message") or table.get("detail") or "")


def read_models(response: Response) -> list[str] | None:
    """The names of the models that a server lists; None if it does not list them."""
    try:
        listed = _table(response.body).get("data")
    except Malformed:
        return None
    if response.status != 200 or not isinstance(listed, list):
        return None
    return [each["id"] for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]


def is_listed(model: str, listed: list[str]) -> bool:
    """Whether a model is among those that a server names, which may leave out or add a tag or a folder."""
    return any(each in (model, f"{model}:latest") or each.endswith(f"/{model}") for each in listed)


def is_page(response: Response) -> bool:
    """Whether a response is a web page."""
    return response.body.lstrip()[:1] == b"<"


def _read_whole(body: bytes) -> Reply:
    """The answer in one piece. Raises Malformed."""
    table = _table(body)
    if (fault := table.get("error")) and not table.get("choices"):
        raise Malformed(_fault_words(fault))
    choice = _first_choice(table)
    message = _as_table(choice.get("message"))
    model, fingerprint = _names(table)
    return Reply(
        text=_content(message.get("content")),
        finish_reason=str(choice.get("finish_reason") or ""),
        refusal=_one_line(_content(message.get("refusal"))),
        usage=_usage(table),
        model=model,
        fingerprint=fingerprint,
    )


def _read_stream(body: bytes) -> Reply:
    """The answer in the events of a stream. Raises Malformed if it ends before the answer does."""
    text, refusal, reason, usage, is_done, model, fingerprint = "", "", "", None, False, "", ""
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            is_done = True
            break
        table = _table(data)
        if fault := table.get("error"):
            raise Malformed(_fault_words(fault))
        usage = _usage(table) or usage
        named = _names(table)
        model, fingerprint = named[0] or model, named[1] or fingerprint
        if not table.get("choices"):
            continue
        choice = _first_choice(table)
        delta = _as_table(choice.get("delta") or choice.get("message"))
        text += _content(delta.get("content"))
        refusal += _content(delta.get("refusal"))
        reason = str(choice.get("finish_reason") or reason)
    if not is_done and not reason:
        raise Malformed("the answer was cut")
    return Reply(text, reason, _one_line(refusal), usage, model, fingerprint)


def _table(data: bytes) -> dict[str, Any]:
    """What JSON says. Strictness would lose answers that are paid for: servers write NaN, and halves of emoji."""
    try:
        found = json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise Malformed("the answer is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("the answer is not a JSON object")
    return found


def _as_table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_choice(table: dict[str, Any]) -> dict[str, Any]:
    choices = table.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Malformed("the answer has no choices")
    return choices[0]


def _content(value: object) -> str:
    """The text of a message: a string, or a list of parts, of which only text counts."""
    if isinstance(value, list):
        parts = [part for part in value if isinstance(part, dict) and part.get("type") in ("text", "output_text", None)]
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return value if isinstance(value, str) else ""


def _usage(table: dict[str, Any]) -> Usage | None:
    usage = _as_table(table.get("usage"))
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    if not (0 <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS):
        return None
    return Usage(prompt, completion)


def _names(table: dict[str, Any]) -> tuple[str, str]:
    """The model that answered, and the fingerprint of the system that ran it."""
    names = (table.get("model"), table.get("system_fingerprint"))
    model, fingerprint = (_one_line(name)[:LONGEST_NAME] if isinstance(name, str) else "" for name in names)
    return model, fingerprint


def _fault_words(fault: object) -> str:
    table = _as_table(fault)
    words = table.get("message") or table.get("code") or table.get("type") if table else fault
    return _one_line(words if isinstance(words, str) else json.dumps(words, ensure_ascii=False, separators=(",", ":")))


def _one_line(text: str) -> str:
    return shortened(" ".join(strip_invisible(text[: 4 * LONGEST_FAULT]).split()))[:LONGEST_FAULT]
