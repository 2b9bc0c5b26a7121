"""Tags in the order of their categories, as the base models that were trained on such captions want them.

Besides the categories of label files there is "people": the tags that count them. Trainers of Illustrious, NoobAI and
Anima put those, characters and series before everything that describes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sdprep.rules.labels import normalize_tag

T = TypeVar("T")
GENERAL, PEOPLE, QUALITY, ARTIST = "general", "people", "quality", "artist"
# Danbooru's tags for how many people there are; more than five are "6+girls".
_COUNT = re.compile(r"(\d+\+?|multiple )(girl|boy|other)s?|solo|no humans")


# Words for quality that users write before or behind the tags, which most taggers do not know.
_QUALITY = re.compile(
    r"masterpiece|(best|amazing|great|good|high|normal|average|low|bad|worst) quality|(very )?aesthetic|score \d( up)?"
)


def category_of(tag: str, category: str) -> str:
    """The category by which a tag is ordered: "people" for a general one that counts them."""
    return PEOPLE if category == GENERAL and _COUNT.fullmatch(normalize_tag(tag)) else category


def category_in(tag: str, known: Mapping[str, str]) -> str:
    """The category of a tag that is in a text, by those that taggers know, under their normalized names.

    An unknown tag with an @ before it is an artist, as Anima has them.
    """
    name = normalize_tag(tag)
    if name not in known and name.startswith("@"):
        return ARTIST
    if name not in known and _QUALITY.fullmatch(name):
        return QUALITY
    return category_of(tag, known.get(name, GENERAL))


def order_by_category(tags: Sequence[T], category: Callable[[T], str], order: Sequence[str]) -> list[T]:
    """Tags in the order of these categories, those of one in their order.

    A category that is not in `order` is where "general" is, and that at the end if it is not in there either.
    """
    ranks = {name: rank for rank, name in reversed(list(enumerate(order)))}
    other = ranks.get(GENERAL, len(order))
    return sorted(tags, key=lambda tag: ranks.get(category(tag), other))
