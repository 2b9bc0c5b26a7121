"""What tag rules are about: the labels of a tagger, the rules themselves, and when two tags are the same."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from sdprep.choices import check_choices
from sdprep.sanitize import check_text_option

# Emoticons that are tags: here an underscore is a mouth or an eye, not a space. The nineteen names come from the
# Danbooru tag list, as the Waifu Diffusion taggers' own demo protects them.
KAOMOJI = frozenset("0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split())
# Scores below this are not stored, so no threshold can reach below it.
STORED_FLOOR = 0.01
# Categories of which the best label is taken, whatever its score, instead of all that reach a threshold.
ARGMAX_CATEGORIES = ("rating", "quality")
# The threshold that is found anew for every image.
MCUT = "mcut"
# Categories whose threshold has an option of its own, as kohya's tagger has them.
NAMED_THRESHOLDS = ("general", "character", "copyright", "artist", "meta", "model")
# Where the best rating or quality tag is written.
Place = Literal["none", "first", "last"]


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a tagger in the order of its outputs, with the category of each.

    `best_thresholds` has the threshold of each, where the label file states one.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    best_thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TagRules:
    """How scores become tags. A category's own threshold, where given, replaces `threshold`, which may be "mcut".

    `category_threshold` has (category, threshold) pairs for categories without a field of their own. `exclude` has
    tags, wildcards and `/regular expressions/`. `implied` says what becomes of tags that others imply: "drop" or
    "add". `tag_replacement` are (old, new) pairs, an empty new one drops the tag. `ratings` and `quality` say where
    the best of them stands: "none", "first" or "last". `order` is "confidence", "csv" (that of the labels) or
    "alphabetical". `always_first_tags` only moves tags that are there; `prefix` and `suffix` are always there. At
    most `max_tags` predicted tags are kept; ratings, qualities, prefix and suffix are not counted.
    """

    threshold: float | str = 0.35
    general_threshold: float | None = None
    character_threshold: float | None = None
    copyright_threshold: float | None = None
    artist_threshold: float | None = None
    meta_threshold: float | None = None
    model_threshold: float | None = None
    category_threshold: tuple[tuple[str, float], ...] = ()
    remove_underscore: bool = False
    exclude: tuple[str, ...] = ()
    implied: Literal["drop", "add"] = "drop"
    tag_replacement: tuple[tuple[str, str], ...] = ()
    character_tag_expand: bool = False
    character_tags_first: bool = False
    always_first_tags: tuple[str, ...] = ()
    ratings: Place = "none"
    quality: Place = "none"
    order: Literal["confidence", "csv", "alphabetical"] = "confidence"
    max_tags: int | None = None
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    escape_parentheses: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        check_text_option(
            prefix=self.prefix,
            suffix=self.suffix,
            always_first_tags=self.always_first_tags,
            tag_replacement=[tag for pair in self.tag_replacement for tag in pair],
        )

    def own_thresholds(self) -> dict[str, float]:
        """The thresholds of single categories that were given."""
        named = {category: getattr(self, f"{category}_threshold") for category in NAMED_THRESHOLDS}
        return {**{name: value for name, value in named.items() if value is not None}, **dict(self.category_threshold)}

    def threshold_of(self, category: str) -> float | None:
        """The threshold that a label of this category must reach; None if every image has its own."""
        own = self.own_thresholds().get(category)
        if own is not None:
            return own
        return None if isinstance(self.threshold, str) else self.threshold

    def settings(self) -> dict[str, Any]:
        """The rules by name, as they are remembered of a text."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


@lru_cache(maxsize=65536)
def normalize_tag(tag: str) -> str:
    """A tag reduced to what is meant by it: underscores, escaped parentheses and letter case make no difference."""
    return tag.strip().replace("\\(", "(").replace("\\)", ")").replace("_", " ").casefold()


def format_tag(tag: str, *, remove_underscore: bool) -> str:
    """A tag as it is written: with spaces for underscores where that is asked for, emoticons left alone."""
    if remove_underscore and tag not in KAOMOJI:
        return tag.replace("_", " ")
    return tag
