"""Tag lists from the user's files, and the thresholds in a model's own files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sdprep.config import AUTO, TagSettings
from sdprep.errors import UsageError
from sdprep.files import read_limited
from sdprep.models.base import ModelSpec
from sdprep.rules.labels import ARGMAX_CATEGORIES, NAMED_THRESHOLDS, LabelTable, TagRules, normalize_tag
from sdprep.rules.tag_lists import TagLists, parse_pairs, parse_thresholds, resolve_aliases, resolve_implications

# `--tag-thresholds` takes this instead of a file.
OF_THE_MODEL = "model"
# The largest lists that booru sites publish have about 4 MB.
LARGEST_LIST = 16 << 20
# Names listed in a message.
MOST_NAMES = 10

T = TypeVar("T")


class TagListFiles:
    """The lists of one run; `by_model` if thresholds are those of each model's label file.

    Raises UsageError with the file that cannot be read, and its line.
    """

    def __init__(self, settings: TagSettings) -> None:
        self.by_model = settings.tag_thresholds == OF_THE_MODEL
        own = None if self.by_model or settings.tag_thresholds is None else Path(settings.tag_thresholds)
        thresholds, self._thresholds_sum = _read(own, parse_thresholds)
        aliases, self._aliases_sum = _read(settings.aliases, lambda text: resolve_aliases(parse_pairs(text)))
        implied, self._implications_sum = _read(
            settings.implications, lambda text: resolve_implications(parse_pairs(text), aliases or {})
        )
        self._lists = TagLists(aliases or {}, implied or {}, thresholds or {})

    def settings(self) -> dict[str, Any]:
        """Checksums of the lists, which a text remembers."""
        thresholds = OF_THE_MODEL if self.by_model else self._thresholds_sum
        sums = {"aliases": self._aliases_sum, "implications": self._implications_sum}
        return {"tag_thresholds": thresholds, **sums}

    @property
    def shared(self) -> TagLists:
        """The lists without thresholds of label files."""
        return self._lists

    def note_unknown(self, labels: LabelTable, model: str, note: Callable[[str], None]) -> None:
        """Note tags with a threshold that are no tags of these labels."""
        if not self.by_model:
            unknown = sorted(self._lists.thresholds.keys() - {normalize_tag(name) for name in labels.names})
            if unknown:
                more = f" and {len(unknown) - MOST_NAMES} more" if len(unknown) > MOST_NAMES else ""
                note(f"--tag-thresholds: {model} has no tag called {', '.join(unknown[:MOST_NAMES])}{more}")

    def lists_for(self, labels: LabelTable, model: str) -> TagLists:
        """The lists, with the thresholds of the label file if asked for. Raises UsageError if it has none."""
        if not self.by_model:
            return self._lists
        if not labels.best_thresholds:
            raise UsageError(
                f"--tag-thresholds {OF_THE_MODEL}: {model} states no thresholds of single tags\n"
                "Give a CSV file with tag,threshold instead, or leave the option out"
            )
        pairs = zip(labels.names, labels.best_thresholds, strict=True)
        return replace(self._lists, thresholds={normalize_tag(name): threshold for name, threshold in pairs})


def with_card_thresholds(rules: TagRules, spec: ModelSpec) -> TagRules:
    """Rules with the thresholds of the model's card for "auto"; a threshold given for a category wins.

    Raises UsageError if no recommendation of the model's card is known.
    """
    if rules.threshold != AUTO:
        return rules
    if spec.threshold is None:
        raise UsageError(f"--threshold {AUTO}: no threshold is known that the makers of {spec.name} recommend")
    if isinstance(spec.threshold, float):
        return replace(rules, threshold=spec.threshold)
    given = {*rules.own_thresholds(), *ARGMAX_CATEGORIES}
    missing = {category: value for category, value in spec.threshold.items() if category not in given}
    named = {f"{category}_threshold": missing.pop(category) for category in NAMED_THRESHOLDS if category in missing}
    others = (*rules.category_threshold, *missing.items())
    return replace(rules, threshold=TagRules().threshold, category_threshold=others, **named)  # type: ignore[arg-type]


def for_categories(rules: TagRules, spec: ModelSpec) -> TagRules:
    """Rules without what is about categories that the model does not have."""
    known = spec.labels.categories if spec.labels else {}
    named = {f"{category}_threshold": None for category in NAMED_THRESHOLDS if category not in known}
    others = tuple((category, value) for category, value in rules.category_threshold if category in known)
    places = {f"{name}s" if name == "rating" else name: "none" for name in ARGMAX_CATEGORIES if name not in known}
    return replace(rules, category_threshold=others, **named, **places)  # type: ignore[arg-type]


def check_categories(rules: TagRules, specs: Sequence[ModelSpec]) -> None:
    """Raise UsageError if an option is about a category that no model has."""
    known = dict.fromkeys(category for spec in specs if spec.labels for category in spec.labels.categories)
    models = " and ".join(spec.name for spec in specs)
    named = {category: f"--{category}-threshold" for category in NAMED_THRESHOLDS}
    given = {category: named.get(category, f"--category-threshold {category}") for category in rules.own_thresholds()}
    given |= {"rating": "--ratings"} if rules.ratings != "none" else {}
    given |= {"quality": "--quality"} if rules.quality != "none" else {}
    for category, option in given.items():
        if category not in known:
            has = "it has" if len(specs) == 1 else "they have"
            verb = "has" if len(specs) == 1 else "have"
            raise UsageError(f"{option}: {models} {verb} no such category; {has} {', '.join(known)}")


def _read(path: Path | None, parse: Callable[[str], T]) -> tuple[T | None, str | None]:
    """The parsed content of a file, and a checksum of its bytes."""
    if path is None:
        return None, None
    try:
        data = read_limited(path, LARGEST_LIST)
        return parse(data.decode("utf-8")), hashlib.sha256(data).hexdigest()[:12]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
