"""The charts of `sdprep stats`; the only file that imports matplotlib."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdprep.errors import MissingExtra
from sdprep.sanitize import printable
from sdprep.tasks.texts.stats import LIMITS, Stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS, LONGEST_NAME = 20, 28
COLORS = {"tags": "#4a86c8", "caption": "#e08a3c"}
# Tokens per column of the chart of lengths, and where it ends: far beyond the limits of trainers.
STEP, MOST_TOKENS = 5, 300


def plot(found: Stats, kind: str) -> bytes:
    """Charts of a dataset as "png" or "svg". Raises MissingExtra without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    # The same data gives the same file, `$` in a tag is no formula, and an SVG keeps letters that fonts here lack.
    options: Any = {"svg.hashsalt": "sdprep", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9}
    with rc_context(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(12, 9), layout="constrained")
        places = figure.subplots(2, 2)
        width, height = found.resolution
        _bars(places[0][0], "The most frequent tags", found.tags)
        _lengths(places[0][1], found)
        _bars(places[1][0], f"Buckets of sd-scripts at {width}x{height}", found.buckets)
        _columns(places[1][1], "Shorter side in pixels", found.sides)
        figure.suptitle(f"{found.images:,} images")
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _bars(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    some = list(counts.items())[:BARS]
    names = [printable(name) if len(name) <= LONGEST_NAME else f"{printable(name)[:LONGEST_NAME]}…" for name, _ in some]
    places = range(len(some))
    axes.barh(places, [count for _, count in some], color=COLORS["tags"])
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="images")


def _columns(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    axes.bar(range(len(counts)), list(counts.values()), color=COLORS["tags"])
    axes.set_xticks(range(len(counts)), list(counts))
    axes.set(title=title, ylabel="images")


def _lengths(axes: Axes, found: Stats) -> None:
    longest = max((max(each.counts, default=0) for each in found.tokens.values()), default=0)
    edges = range(0, min(longest, MOST_TOKENS) + STEP + 1, STEP)
    for kind, lengths in found.tokens.items():
        if lengths.counts:
            label = "tag files" if kind == "tags" else "caption files"
            values, weights = [min(each, MOST_TOKENS) for each in lengths.counts], list(lengths.counts.values())
            axes.hist(values, edges, weights=weights, label=label, color=COLORS[kind], alpha=0.7)
    for limit in LIMITS:
        if limit <= longest * 1.2:
            axes.axvline(limit, color="grey", linestyle="--", linewidth=1)
    how = "estimated" if found.is_estimate else "CLIP"
    unit = "tokens" if longest <= MOST_TOKENS else f"tokens; the last column has all from {MOST_TOKENS} to {longest:,}"
    axes.set(title=f"Length in tokens ({how}), and the limits of trainers", xlabel=unit, ylabel="files")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
