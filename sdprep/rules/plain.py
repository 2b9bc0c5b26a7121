"""Text of a model without characters that nobody sees.

They can break a line, turn the reading direction, move the cursor of a terminal, or carry words that only a machine
reads. The two joiners stay where they join letters or emoji beyond ASCII: family emoji, Persian and Indic words.
"""

from __future__ import annotations

import re

# C0 and C1 controls, and the separators of lines and paragraphs: what stands for space stays one.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Soft hyphen, marks and overrides of direction, what has no width, notes between lines, tags, and lone surrogates.
UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
JOINERS = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
SPACES = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")


def plain(text: str) -> str:
    """A text without unseen characters; a run of controls that part words is a space."""
    if text.isascii() and text.isprintable():
        return text
    text = CONTROL.sub(lambda run: " " if SPACES.intersection(run[0]) else "", text)
    return JOINERS.sub("", UNSEEN.sub("", text))
