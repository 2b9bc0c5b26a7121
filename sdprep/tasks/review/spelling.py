"""How a dataset writes its tags, for tags that the page offers."""

from __future__ import annotations

from collections.abc import Mapping

from sdprep.rules.labels import KAOMOJI, normalize_tag

EMOTICONS = {normalize_tag(tag): tag for tag in KAOMOJI}


class Spellings:
    """The spelling of tags by their normalized form; `vocabulary` may grow, and has the normalized form by spelling."""

    def __init__(self, vocabulary: Mapping[str, str]) -> None:
        self._vocabulary = vocabulary
        self._known, self._read, self._has_underscores = dict[str, str](), 0, False

    def of(self, tag: str) -> str:
        """A normalized tag as the dataset writes it first; another one has underscores if most tags there do."""
        if len(self._vocabulary) != self._read:
            self._learn()
        if tag in self._known:
            return self._known[tag]
        return EMOTICONS.get(tag) or (tag.replace(" ", "_") if self._has_underscores else tag)

    def _learn(self) -> None:
        found = list(self._vocabulary.items())
        self._read = len(found)
        self._known = {normalized: tag for tag, normalized in reversed(found)}
        names = [tag for tag, _ in found if tag not in KAOMOJI]
        self._has_underscores = sum("_" in tag for tag in names) > sum(" " in tag for tag in names)
