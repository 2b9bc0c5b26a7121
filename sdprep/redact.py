"""The one place that knows what a secret looks like, for all that is shown or kept."""

from __future__ import annotations

import re

# Tokens of the Hub, what follows the name of a header or a signature, user and password of an address, its query.
SECRETS = re.compile(r"hf_\w+|(?<=(?i:Bearer) )\S+|(?<=(?i:Basic) )\S+|(?<=://)[^/@\s]+@|(?<=\?)[^\s=&]+=\S+")


def redact(text: str) -> str:
    """A text with `***` in place of tokens, passwords, and queries of addresses, which may be signed."""
    return SECRETS.sub("***", text)
