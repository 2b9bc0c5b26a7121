"""The body of a request for a caption, in the words that the server takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

# What a server that refuses a field calls it, and what its user is told once it is left out.
OPTIONAL = ("response_format", "seed")
SYSTEM = re.compile(r"\bsystem\b.{0,40}\b(role|message|prompt|instruction)|\brole\b.{0,40}\bsystem\b", re.IGNORECASE)
TOKENS = re.compile(r"\bmax_tokens\b")
# What ends a turn or stands for an image in the templates of models. The server writes them itself: a tag or a name
# that looks like one would become one. Which of them are real, only the server knows.
CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<\|\w{1,40}>|<\w{1,40}\|>|</?(?:image|img|video|s|bos|eos|pad)>"
    r"|<(?:start|end)_of_(?:turn|image)>|<__media__>|\[/?(?:INST|IMG|IMG_BREAK|IMG_END|SYSTEM_PROMPT)\]"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server differs from the usual: what it calls the limit of tokens, and what it does not take."""

    tokens: str = "max_tokens"
    dropped: frozenset[str] = frozenset()
    merges_system: bool = False

    def after(self, fault: str, question: Question) -> Dialect | None:
        """The dialect to try after the server has refused a request with this fault; None if no other would help."""
        if self.tokens == "max_tokens" and TOKENS.search(fault) and "max_completion_tokens" in fault:
            return replace(self, tokens="max_completion_tokens")
        for name in OPTIONAL:
            if re.search(rf"\b{name}\b", fault) and name in question.fields.keys() - self.dropped:
                return replace(self, dropped=self.dropped | {name})
        if question.system and not self.merges_system and SYSTEM.search(fault):
            return replace(self, merges_system=True)
        if self.tokens == "max_tokens" and TOKENS.search(fault):
            return replace(self, tokens="max_completion_tokens")
        return None

    def notes(self, before: Dialect) -> list[str]:
        """What differs from `before`, for the user."""
        notes = [f"the server does not take {name}: it is left out" for name in sorted(self.dropped - before.dropped)]
        if self.tokens != before.tokens:
            notes.append(f"the server takes {self.tokens} instead of {before.tokens}")
        if self.merges_system and not before.merges_system:
            notes.append("the server takes no system prompt: it goes before the prompt")
        return notes


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about an image; `fields` are those of the body that are stated besides.

    A second try after a wrong answer says the `fault` of that.
    """

    model: str
    prompt: str
    system: str = ""
    max_tokens: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    def body(self, image_url: str, dialect: Dialect) -> bytes:
        """The body of the request as JSON; the image comes before the text, as models are trained."""
        asked = "\n\n".join(filter(None, (self.prompt, self._schema_in_words(dialect), self.fault)))
        system, prompt = map(_without_control, (self.system, asked))
        if dialect.merges_system:
            system, prompt = "", f"{system}\n\n{prompt}" if system else prompt
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": image_url}}]
        if prompt:
            parts.append({"type": "text", "text": prompt})
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": parts})
        body: dict[str, Any] = {"model": self.model, "stream": False}
        if self.max_tokens is not None:
            body[dialect.tokens] = self.max_tokens
        body |= {name: value for name, value in self.fields.items() if name not in dialect.dropped}
        return msgspec.json.encode(body | {"messages": messages})

    def _schema_in_words(self, dialect: Dialect) -> str:
        """The schema of the answer, for a server that does not take it as a field; empty if there is none."""
        form = self.fields.get("response_format")
        asked = form.get("json_schema") if isinstance(form, dict) else None
        if "response_format" not in dialect.dropped or not isinstance(asked, dict) or "schema" not in asked:
            return ""
        schema = msgspec.json.encode(asked["schema"]).decode()
        return f"Answer with a JSON object alone that fits this JSON Schema: {schema}"


def _without_control(text: str) -> str:
    """A text without what looks like a control token, also once others inside it are removed."""
    before = None
    while text != before:
        before, text = text, CONTROL.sub("", text)
    return text
