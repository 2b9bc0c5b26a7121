"""`sdprep stats`: what a dataset consists of: tags, lengths in tokens, sizes, buckets, sources, and what is missing."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from heapq import nlargest, nsmallest
from operator import itemgetter
from pathlib import Path
from typing import Any

from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings
from sdprep.models.tokens import TokenCounter, load_counter
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.sanitize import to_json
from sdprep.tasks.settings import Layers
from sdprep.tasks.texts.records import ImageRecord, open_records
from sdprep.tasks.texts.sidecars import Sidecar
from sdprep.tasks.texts.stats_tags import Pair, pairs_of
from sdprep.trainers.buckets import Bucket, BucketRules, Size
from sdprep.types import ImageItem

FIELDS = ("tags", "caption", "missing", "width", "height", "source", "models", "failed")
# The lengths at which trainers cut a text, for one, two or three windows of the encoder.
LIMITS = (75, 150, 225)
MORE = "more"
# The classes of the shorter side, by the first one that is larger.
SIDES = (256, 512, 768, 1024, 1536, 2048)
RATIOS = ("1:3", "1:2", "9:16", "2:3", "3:4", "4:5", "1:1", "5:4", "4:3", "3:2", "16:9", "2:1", "3:1")
# A crop that takes away more than this is counted.
MOST_CROPPED = 0.2
# Images of each kind that are named.
NAMED = 6


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image that stands out, and what it stands out with."""

    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many tokens texts have: how many texts there are for each number of tokens, and for each limit."""

    counts: dict[int, int]
    within: dict[str, int]

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Lengths:
        """Sort the numbers into the limits."""
        within = dict.fromkeys([*map(str, LIMITS), MORE], 0)
        for tokens, texts in counts.items():
            within[next((str(limit) for limit in LIMITS if tokens <= limit), MORE)] += texts
        return cls(dict(sorted(counts.items())), within)

    @property
    def median(self) -> int:
        """The number of tokens that half of the texts do not exceed."""
        half = (sum(self.counts.values()) + 1) // 2
        for tokens, texts in self.counts.items():
            half -= texts
            if half <= 0:
                return tokens
        return 0


@dataclass(slots=True)
class Stats:
    """What `sdprep stats` found; counts are of images unless they say otherwise.

    `found` counts the images before the filter, `images` those that match. `tags` are the most frequent first, each as
    it is spelled first. `sources` counts sidecars by who wrote them, and `failed` images whose last run failed by the
    code. `outliers` has images that stand out, by what they stand out with; `items` are those images. `unreadable` has
    files that could not be read now.
    """

    found: int
    resolution: Size
    counter: str
    is_estimate: bool
    where: str | None = None
    images: int = 0
    tags: dict[str, int] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    tokens: dict[str, Lengths] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    ratios: dict[str, int] = field(default_factory=dict)
    buckets: dict[str, int] = field(default_factory=dict)
    cropped: int = 0
    enlarged: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    outliers: dict[str, list[Outlier]] = field(default_factory=dict)
    items: dict[str, ImageItem] = field(default_factory=dict)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or 3 if a file could not be read."""
        return 3 if self.unreadable else 0

    def as_dict(self) -> dict[str, Any]:
        """The object that --json prints."""
        values = asdict(self)
        values.pop("items")
        for kind, lengths in self.tokens.items():
            values["tokens"][kind] |= {"files": sum(lengths.counts.values()), "median": lengths.median}
        return {"command": "stats", **to_json(values)}


def stats(
    inputs: Path | Sequence[Path],
    settings: MergeSettings = MergeSettings(),
    *,
    resolution: Size = (1024, 1024),
    layers: Layers = Layers(),
    listener: Listener | None = None,
) -> Stats:
    """Count what the images of these inputs have, or those that match a filter; nothing is written.

    `settings` and `layers` tell, as for merge, how sidecars are named. `resolution` is that of a training by
    sd-scripts, for its buckets. Raises UsageError for a wrong filter or resolution, and NoImages if there are none.
    """
    start, listener = time.monotonic(), listener or NullListener()
    counter = load_counter()
    if counter.note:
        listener.note(counter.note)
    gathered = _Gathered(counter, BucketRules(resolution, max_bucket_reso=2 * max(resolution)))
    access = CatalogAccess("stats", AccessMode.DRY_RUN, listener.note)
    with open_records(inputs, settings, layers, access, listener, CancelToken(), fields=FIELDS) as records:
        for each in records.select():
            gathered.add(each)
        found = Stats(len(records.items), resolution, counter.name, counter.is_estimate, settings.paths.where)
        gathered.into(found, records.vocabulary)
    found.seconds = time.monotonic() - start
    return found


class _Gathered:
    """What was counted of the images so far."""

    def __init__(self, counter: TokenCounter, rules: BucketRules) -> None:
        self._counter, self._choose = counter, lru_cache(1 << 16)(rules.choose)
        self._tags: list[tuple[str, ...]] = []
        self._items: list[ImageItem] = []
        self._tokens: dict[str, list[tuple[int, str]]] = {"tags": [], "caption": []}
        self._sizes: list[tuple[Size, str]] = []
        self._sources, self._models, self._missing = Counter[str](), Counter[str](), Counter[str]()
        self._failed, self._unreadable = Counter[str](), list[dict[str, str]]()
        self._buckets: list[Bucket] = []

    def add(self, each: ImageRecord) -> None:
        """Count one image."""
        record = each.record
        self._items.append(each.item)
        self._tags.append(record.tags)
        self._sources.update(record.source)
        self._models.update(record.models)
        self._missing.update(["both"] if len(record.missing) == 2 else record.missing)
        self._failed.update([record.failed] if record.failed else ())
        self._count_tokens("tags", each.tags)
        self._count_tokens("caption", each.caption)
        if record.width and record.height:
            self._sizes.append(((record.width, record.height), record.rel))
            self._buckets.append(self._choose((record.width, record.height)))
        failures = [each.size_failure, *(sidecar.failure for sidecar in (each.tags, each.caption) if sidecar)]
        for failure in failures:
            if failure is not None:
                self._unreadable.append({"path": record.rel, "code": failure.code.value, "message": failure.message})

    def _count_tokens(self, kind: str, sidecar: Sidecar | None) -> None:
        if sidecar is not None and sidecar.text is not None:
            self._tokens[kind].append((self._counter.count(sidecar.text), sidecar.item.rel))

    def into(self, found: Stats, spellings: Mapping[str, str]) -> None:
        """Write what was counted into the result; `spellings` has the tags by how they are spelled, the first first."""
        found.images, found.unreadable = len(self._items), self._unreadable
        # A tag that a file has twice is one of its tags.
        unique = [tags if len(set(tags)) == len(tags) else tuple(dict.fromkeys(tags)) for tags in self._tags]
        counts = Counter[str]()
        for tags in unique:
            counts.update(tags)
        ordered = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
        names = {tag: spelling.strip() for spelling, tag in reversed(list(spellings.items()))}
        found.tags = {names[tag]: count for tag, count in ordered.items()}
        found.pairs = [
            replace(pair, tag=names[pair.tag], other=names[pair.other]) for pair in pairs_of(unique, ordered)
        ]
        found.tokens = {kind: Lengths.of(Counter(count for count, _ in some)) for kind, some in self._tokens.items()}
        found.sides = _classes([_side(min(size)) for size, _ in self._sizes], [*map(_side, (0, *SIDES))])
        found.ratios = _classes([_ratio(*size) for size, _ in self._sizes], RATIOS)
        found.buckets = dict(Counter(_name(each.size) for each in self._buckets).most_common())
        found.cropped = sum(each.crop_loss > MOST_CROPPED for each in self._buckets)
        pairs = zip(self._buckets, self._sizes, strict=True)
        found.enlarged = sum(bucket.resized[0] > size[0] for bucket, (size, _) in pairs)
        for name in ("sources", "models", "missing", "failed"):
            setattr(found, name, dict(getattr(self, f"_{name}").most_common()))
        found.outliers = {title: some for title, some in self._outliers(unique, ordered, names) if some}
        named = {each.path for some in found.outliers.values() for each in some}
        found.items = {item.rel: item for item in self._items if item.rel in named}

    def _outliers(
        self, tags: Sequence[tuple[str, ...]], counts: Mapping[str, int], names: Mapping[str, str]
    ) -> Iterator[tuple[str, list[Outlier]]]:
        areas = [(size[0] * size[1], rel, size) for size, rel in self._sizes]
        yield "Largest images", [Outlier(rel, _name(size)) for _, rel, size in nlargest(NAMED, areas, key=_first)]
        yield "Smallest images", [Outlier(rel, _name(size)) for _, rel, size in nsmallest(NAMED, areas, key=_first)]
        ratios = [(abs(math.log(size[0] / size[1])), rel, size) for size, rel in self._sizes]
        ratios = nlargest(NAMED, ratios, key=_first)
        yield "Most extreme ratios", [Outlier(rel, _name(size)) for ratio, rel, size in ratios if ratio > math.log(2)]
        for kind, title in (("caption", "Longest captions"), ("tags", "Longest tag lists")):
            longest = nlargest(NAMED, self._tokens[kind], key=_first)
            yield title, [Outlier(rel, f"{count:,} tokens") for count, rel in longest if count]
        rarest = {tag: counts[tag] for tag in list(counts)[: -NAMED - 1 : -1]}
        owners = {
            tag: item.rel
            for item, own in zip(self._items[::-1], tags[::-1], strict=True)
            for tag in own
            if tag in rarest
        }
        yield (
            "Rarest tags",
            [
                Outlier(owners[tag], f"{names[tag]} ({count:,} image{'' if count == 1 else 's'})")
                for tag, count in rarest.items()
            ],
        )


# Of images that stand out alike, those that come first are named.
_first = itemgetter(0)


def _classes(values: Sequence[str], order: Sequence[str]) -> dict[str, int]:
    """How many values each class has, in this order; without classes that have none."""
    counts = Counter(values)
    return {name: counts[name] for name in order if counts[name]}


def _side(side: int) -> str:
    limit = next((limit for limit in SIDES if side < limit), None)
    return f"below {limit}" if limit else f"{SIDES[-1]} or more"


@lru_cache(1 << 16)
def _ratio(width: int, height: int) -> str:
    """The common ratio that is nearest."""
    exact = math.log(width / height)
    return min(RATIOS, key=lambda name: abs(exact - math.log(int(name.split(":")[0]) / int(name.split(":")[1]))))


def _name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
