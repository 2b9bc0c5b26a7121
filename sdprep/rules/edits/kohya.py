"""Tags as kohya's clean_captions_and_tags.py writes them, faults included; source: kohya-ss/sd-scripts 48d368f.

`configs/rules/kohya.toml` has the same rules without the faults.
"""

from __future__ import annotations

import re

# What that script takes for a tag about one of several people.
_LENGTH = re.compile(r"(long|short|medium) hair")
_COLOR = re.compile(r"[\w-]+ hair")
_FAMILIES = (
    _LENGTH,
    re.compile(r"(bob|hime) cut"),
    re.compile(r"[\w-]+ eyes"),
    re.compile(r"[\w-]+ sleeves|sleeveless"),
    re.compile(
        r"ponytail|braid|ahoge|twintails|[\w-]+ bun|single (hair|side) bun|two side up|two tails|[\w-]+ braid|sidelocks"
    ),
)
_WORD = re.compile(r"[\w-]+|hair ornament")


def clean_tags(text: str) -> str:
    """The tags of a text that are left: only comma and space separate, and a rating ends the list."""
    text = "^_^".join(part.replace("_", " ") for part in text.split("^_^"))
    text = text.partition(", rating")[0]
    tags = text.split(", ")
    if "girls" in text or "boys" in text:
        tags = _without_families(tags)
    for word in [tag for tag in tags if _WORD.fullmatch(tag)]:
        if any(re.fullmatch(rf"(\w+ )+{word}", tag) for tag in tags):
            tags = [tag for tag in tags if tag != word]
    return ", ".join(tags)


def _without_families(tags: list[str]) -> list[str]:
    """The tags without those of a family that has several, and without hair colors unless there is one."""
    for family in _FAMILIES:
        found = [tag for tag in tags if family.fullmatch(tag)]
        if len(found) > 1:
            tags = [tag for tag in tags if tag not in found]
    colors = [tag for tag in tags if _COLOR.fullmatch(tag) and not _LENGTH.fullmatch(tag)]
    return [tag for tag in tags if len(colors) < 2 or tag not in colors]
