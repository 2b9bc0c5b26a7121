"""The key of a server: read from the environment, sent to the server, and shown nowhere."""

from __future__ import annotations

import os

from sdprep.errors import UsageError

# What is shorter, such as "none" for a server that wants any key, is no secret but a word that captions may have.
SHORTEST_SECRET = 8


class Key:
    """A secret, or none; it has no text that could be printed."""

    __slots__ = ("_secret", "_value")

    def __init__(self, value: str = "") -> None:
        self._value = value
        self._secret = value if len(value) >= SHORTEST_SECRET else ""

    def __repr__(self) -> str:
        return "Key(***)"

    def headers(self) -> dict[str, str]:
        """The header that a request needs."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def removed_from(self, text: str) -> str:
        """A text of the server without the key, which an error message may repeat."""
        return text.replace(self._secret, "***") if self._secret else text

    def removed_from_bytes(self, data: bytes) -> bytes:
        """The bytes of a response without the key."""
        return data.replace(self._secret.encode(), b"***") if self._secret else data


def read_key(variable: str | None) -> Key:
    """The key in an environment variable. Raises UsageError if the variable is not set, or holds no key.

    No option has it: options are stored in logs and in the history of a shell.
    """
    if variable is None:
        return Key()
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(f"the environment variable {variable}, which key_env names, is not set: put the key into it")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(f"the environment variable {variable}, which key_env names, holds no key")
    return Key(value)
