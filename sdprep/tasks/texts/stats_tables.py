"""The tables of `sdprep stats`, as the terminal and the HTML page show them, and its CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sdprep.sanitize import printable
from sdprep.tasks.texts.stats import LIMITS, MOST_CROPPED, Stats
from sdprep.tasks.texts.stats_tags import SHARE

# Rows of a table that could be of any length.
ROWS = 20
KINDS = {"tags": "tag files", "caption": "caption files"}
MISSING = {"tags": "without a tag file", "caption": "without a caption file", "both": "without both"}
WITHIN = {"75": "up to 75", "150": "to 150", "225": "to 225", "more": "more"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title; columns in `right` are flush right, and `share` is one with percentages.

    `note` is a sentence below it.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: tuple[int, ...] = (1,)
    share: int | None = None
    note: str = ""


def tables(found: Stats) -> Iterator[Table]:
    """All tables that have rows."""
    yield _overview(found)
    yield _lengths(found)
    many = (
        _counted("Shorter side", ("pixels", "images", "share"), found.sides, sum(found.sides.values())),
        _counted(
            "Ratio, the nearest common one", ("ratio", "images", "share"), found.ratios, sum(found.ratios.values())
        ),
        _buckets(found),
        _counted("Who wrote the sidecars", ("source", "sidecars", "share"), found.sources, sum(found.sources.values())),
        _counted("Models", ("model", "images", "share"), found.models, found.images),
        _counted("Failed in an earlier run", ("code", "images", "share"), found.failed, found.images),
        _counted("Tags", ("tag", "images", "share"), found.tags, found.images),
        _pairs(found),
        *(_outliers(title, found) for title in found.outliers),
    )
    yield from (table for table in many if table.rows)


def _overview(found: Stats) -> Table:
    of = f" of {found.found:,} (--where {found.where})" if found.where else ""
    rows = [("images", f"{found.images:,}{of}")]
    rows += [(MISSING[kind], f"{count:,}") for kind, count in sorted(found.missing.items())]
    rows += [("unreadable files", f"{len(found.unreadable):,}")] if found.unreadable else []
    per_image = sum(found.tags.values()) / max(found.images, 1)
    rows += [("distinct tags", f"{len(found.tags):,}"), ("tags per image", f"{per_image:.1f}")]
    once = sum(count == 1 for count in found.tags.values())
    rows += [("tags of one image only", f"{once:,}")] if once else []
    return Table("Dataset", ("", ""), rows, right=())


def _lengths(found: Stats) -> Table:
    rows = []
    for kind, lengths in found.tokens.items():
        if lengths.counts:
            cells = [f"{sum(lengths.counts.values()):,}", *(f"{count:,}" for count in lengths.within.values())]
            rows.append((KINDS[kind], *cells, f"{lengths.median:,}", f"{max(lengths.counts):,}"))
    head = ("", "files", *(WITHIN[limit] for limit in [*map(str, LIMITS), "more"]), "median", "longest")
    note = "Estimated: sdprep models download clip-tokenizer gets exact counts." if found.is_estimate else ""
    return Table("Length in CLIP tokens", head, rows, right=tuple(range(1, 8)), note=note)


def _buckets(found: Stats) -> Table:
    width, height = found.resolution
    total = sum(found.buckets.values())
    title = f"Buckets of sd-scripts at {width}x{height}"
    table = _counted(title, ("bucket", "images", "share"), found.buckets, total)
    note = (
        f"{len(found.buckets):,} bucket{'' if len(found.buckets) == 1 else 's'}. "
        f"A crop takes more than {MOST_CROPPED:.0%} of {found.cropped:,} images, "
        f"and {found.enlarged:,} are enlarged."
    )
    return Table(table.title, table.head, table.rows, table.right, table.share, note)


def _pairs(found: Stats) -> Table:
    rows = [
        (pair.tag, pair.other, f"{1 - pair.without / pair.images:.1%}", f"{pair.without:,}") for pair in found.pairs
    ]
    note = ""
    if rows:
        first = found.pairs[0]
        wanted = f'tag:"{first.tag}" AND NOT tag:"{first.other}"'
        note = f"Pairs of {SHARE:.0%} and more. For those without the other tag: --where '{wanted}'"
    return Table("Tags that mostly come together", ("has", "mostly with", "share", "without"), rows, (2, 3), 2, note)


def _outliers(title: str, found: Stats) -> Table:
    rows = [(each.detail, each.path) for each in found.outliers[title]]
    return Table(title, ("", "image"), rows, right=())


def _counted(title: str, head: tuple[str, str, str], counts: Mapping[str, int], total: int) -> Table:
    """A table of counts with their share of `total`; no more than some rows."""
    some = list(counts.items())[:ROWS]
    rows = [(name, f"{count:,}", f"{count / total:.1%}") for name, count in some]
    left = len(counts) - len(some)
    return Table(title, head, rows, (1, 2), 2, f"{left:,} more." if left else "")


def csv_of_tags(found: Stats) -> str:
    """All tags with the number of images that have them, the most frequent first."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("tag", "images"))
    writer.writerows((printable(tag), count) for tag, count in found.tags.items())
    return file.getvalue()
