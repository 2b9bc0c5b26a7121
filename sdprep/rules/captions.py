"""From a model's captions to the lines that are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# A phrase of up to this many words that stands this many times in a row is no sentence any more.
LONGEST_PHRASE, MOST_IN_A_ROW = 6, 3
VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How captions become lines: how many, what stands before and behind each, and words that are left out."""

    captions: int = 1
    prefix: str = ""
    suffix: str = ""
    drop_words: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """The rules by name, as they are remembered of a text."""
        return {**asdict(self), "drop_words": list(self.drop_words)}


def caption_lines(texts: Sequence[str], rules: CaptionRules) -> list[str]:
    """The lines of a sidecar: the first captions that differ, without dropped words, between prefix and suffix."""
    return [_framed(text, rules) for text in written_captions(texts, rules)]


def written_captions(texts: Sequence[str], rules: CaptionRules) -> dict[str, int]:
    """The captions that become lines, before prefix and suffix, each with the place of its text among those given."""
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        if cleaned := without_words(clean_caption(text), rules.drop_words):
            places.setdefault(cleaned, place)
    return dict(list(places.items())[: rules.captions])


def clean_caption(text: str) -> str:
    """A caption on one line with single spaces, as a sidecar holds it."""
    return re.sub(r"\s+", " ", text).strip()


def without_words(text: str, words: Sequence[str]) -> str:
    """A caption without some words, whatever their case; an article before one is made to fit the next word."""
    if not words:
        return text
    unwanted = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    gone = rf"(?:(?:{unwanted})(?!\S)\s*)+"
    text = re.sub(rf"(?<!\S)(an?) {gone}(\S?)", _with_article, text, flags=re.IGNORECASE)
    return re.sub(rf"(?<!\S){gone}", "", text, flags=re.IGNORECASE).strip()


def _with_article(match: re.Match[str]) -> str:
    article, letter = match[1], match[2]
    fitting = article[0] + ("n" if letter.lower() in VOWELS else "")
    return f"{fitting} {letter}" if letter else ""


def _framed(text: str, rules: CaptionRules) -> str:
    """A caption between prefix and suffix, parted by a space; a suffix that begins with a sign follows at once."""
    framed = f"{rules.prefix.strip()} {text}".strip()
    suffix = rules.suffix.strip()
    return framed + suffix if suffix[:1] in set(",.;:!?") else f"{framed} {suffix}".strip()


def repeats(words: Sequence[object]) -> bool:
    """Whether a phrase of words or tokens stands three times in a row, as in captions that have lost their thread."""
    return any(
        all(words[start + place] == words[start + place + length] for place in range(length * (MOST_IN_A_ROW - 1)))
        for length in range(1, LONGEST_PHRASE + 1)
        for start in range(len(words) - length * MOST_IN_A_ROW + 1)
    )
