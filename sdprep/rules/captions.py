"""From a model's caption to the line that is written."""

from __future__ import annotations

import re


def clean_caption(text: str) -> str:
    """A caption on one line with single spaces, as a sidecar holds it."""
    return re.sub(r"\s+", " ", text).strip()
