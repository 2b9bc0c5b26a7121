"""The labels of a tagger, the tag rules, and when two tags are the same."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sdprep.choices import check_choices
from sdprep.rules.shapes import setting
from sdprep.sanitize import check_text_option

# Emoticons that are tags: here an underscore is a mouth or an eye, not a space. The nineteen names come from the
# Danbooru tag list, as the Waifu Diffusion taggers' own demo protects them.
KAOMOJI = frozenset("0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split())
# Scores below this are not stored, so no threshold can be lower.
STORED_FLOOR = 0.01
# Categories of which only the label with the highest score is taken, without a threshold.
ARGMAX_CATEGORIES = ("rating", "quality")
# The threshold that is computed for each image.
MCUT = "mcut"
# Categories whose threshold has its own option, as in kohya's tagger.
NAMED_THRESHOLDS = ("general", "character", "copyright", "artist", "meta", "model")
# The order of categories where tags are ordered by them; "people" are the tags that count them.
CATEGORY_ORDER = ("people", "character", "copyright", "artist", "general", "meta", "rating", "quality")
# What hides a parenthesis from a trainer that reads weights like (tag:1.2).
ESCAPES = re.compile(r"\\+(?=[()])")
# Where the best rating or quality tag is written.
Place = Literal["none", "first", "last"]


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a tagger in the order of its outputs, with the category of each.

    `best_thresholds` has the threshold of each label, if the label file has thresholds.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    best_thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TagRules:
    """How scores become tags. A category's own threshold, where given, replaces `threshold`, which may be "mcut".

    `category_threshold` has (category, threshold) pairs for categories without a field of their own. `exclude` has
    tags, wildcards and `/regular expressions/`. `implied` drops or adds tags that others imply: "drop" or "add".
    `tag_replacement` has (old, new) pairs; an empty new one drops the tag. `ratings` and `quality` are the position of
    the best one: "none", "first" or "last". `order` is "confidence", "csv" (the order of the labels), "alphabetical" or
    "category". `always_first_tags` moves tags that occur, and takes what `exclude` takes; `prefix` and `suffix` are
    always added. At most `max_tags` predicted tags are kept, not counting ratings, qualities, prefix and suffix.
    `category_order` is the order of categories for "category"; `artist_prefix` precedes each tag of an artist.
    """

    threshold: float | str = setting(0.35, shapes="text")
    general_threshold: float | None = setting(None, shapes="text")
    character_threshold: float | None = setting(None, shapes="text")
    copyright_threshold: float | None = setting(None, shapes="text")
    artist_threshold: float | None = setting(None, shapes="text")
    meta_threshold: float | None = setting(None, shapes="text")
    model_threshold: float | None = setting(None, shapes="text")
    category_threshold: tuple[tuple[str, float], ...] = setting((), shapes="text")
    remove_underscore: bool = setting(False, shapes="text")
    exclude: tuple[str, ...] = setting((), shapes="text")
    implied: Literal["drop", "add"] = setting("drop", shapes="text")
    tag_replacement: tuple[tuple[str, str], ...] = setting((), shapes="text")
    character_tag_expand: bool = setting(False, shapes="text")
    character_tags_first: bool = setting(False, shapes="text")
    always_first_tags: tuple[str, ...] = setting((), shapes="text")
    ratings: Place = setting("none", shapes="text")
    quality: Place = setting("none", shapes="text")
    order: Literal["confidence", "csv", "alphabetical", "category"] = setting("confidence", shapes="text")
    category_order: tuple[str, ...] = setting(CATEGORY_ORDER, shapes="text")
    artist_prefix: str = setting("", shapes="text")
    max_tags: int | None = setting(None, shapes="text")
    prefix: tuple[str, ...] = setting((), shapes="text")
    suffix: tuple[str, ...] = setting((), shapes="text")
    escape_parentheses: bool = setting(False, shapes="text")

    def __post_init__(self) -> None:
        check_choices(self)
        check_text_option(
            prefix=self.prefix,
            suffix=self.suffix,
            always_first_tags=self.always_first_tags,
            tag_replacement=[tag for pair in self.tag_replacement for tag in pair],
            artist_prefix=self.artist_prefix,
        )

    def own_thresholds(self) -> dict[str, float]:
        """The thresholds that were given for single categories."""
        named = {category: getattr(self, f"{category}_threshold") for category in NAMED_THRESHOLDS}
        return {**{name: value for name, value in named.items() if value is not None}, **dict(self.category_threshold)}

    def threshold_of(self, category: str) -> float | None:
        """The threshold of this category; None if it is computed for each image."""
        own = self.own_thresholds().get(category)
        if own is not None:
            return own
        return None if isinstance(self.threshold, str) else self.threshold


def fold(text: str) -> str:
    """A text as it is compared: letter case does not count, nor how accents are encoded."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


@lru_cache(maxsize=65536)
def normalize_tag(tag: str) -> str:
    """A tag as it is compared, everywhere: two tags are the same if this is the same for both.

    Underscores are spaces; letter case does not count, nor how accents are encoded, nor the backslashes before a
    parenthesis.
    """
    tag = fold(tag.strip().replace("_", " "))
    return ESCAPES.sub("", tag) if "\\" in tag else tag


def merge_spellings(counts: Mapping[str, int]) -> dict[str, int]:
    """How often each tag occurs, the most frequent first, with all spellings of it under the most frequent one."""
    totals, names = Counter[str](), dict[str, str]()
    for tag, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        totals[normalize_tag(tag)] += count
        names.setdefault(normalize_tag(tag), tag)
    return {names[key]: count for key, count in totals.most_common()}


def escape_parentheses(tag: str) -> str:
    r"""A tag with `\(` and `\)` for parentheses, where that is not done yet."""
    return re.sub(r"(?<!\\)[()]", r"\\\g<0>", tag)


def format_tag(tag: str, *, remove_underscore: bool) -> str:
    """A tag as it is written: with spaces for underscores if wanted, except in emoticons."""
    if remove_underscore and tag not in KAOMOJI:
        return tag.replace("_", " ")
    return tag
