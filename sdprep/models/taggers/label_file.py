"""The label file of a tagger: a CSV with a header, or JSON.

CSV files have a row for each output of the graph, in order (Waifu Diffusion and its kin). JSON files name outputs by
their numbers, and may leave some out: `{"0": {"tag": "1girl", "category": "General"}, ...}` (cl_tagger), or
`{"idx_to_tag": {"0": "1girl"}, "tag_to_category": {"1girl": "general"}}` (Camie).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sdprep.errors import ModelError
from sdprep.models.base import LabelSpec, ModelFiles, ModelSpec
from sdprep.models.parse import as_type, read_data, read_json, reason
from sdprep.rules.labels import LabelTable
from sdprep.sanitize import strip_invisible

if TYPE_CHECKING:
    from sdprep.types import Scores

# Characters that would break a line of tags or cannot be written; never an accident, so the file is refused.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The longest tags of Danbooru have fewer than 200.
LONGEST_NAME = 1000


class Label(NamedTuple):
    """A label as its file describes it: `output` is its column in the graph's output, `code` its category."""

    where: str
    output: int
    name: str
    code: str
    threshold: float | None = None


class OneLabel(msgspec.Struct):
    """A label of the first JSON form."""

    tag: str
    category: int | str


class TwoMaps(msgspec.Struct):
    """All labels in the second JSON form."""

    idx_to_tag: dict[int, str]
    tag_to_category: dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Columns:
    """The outputs of a graph that have a label; with `exact` there must be no others."""

    outputs: tuple[int, ...]
    path: Path
    exact: bool

    def check(self, shape: Sequence[Any], graph: object) -> None:
        """Raise ModelError unless a graph outputs one score per label; a size that is not known yet passes."""
        if len(shape) != 2:
            raise ModelError(f"{graph} outputs the shape {list(shape)}, not one row of scores per image")
        count, needed = shape[1], max(self.outputs) + 1
        if isinstance(count, int) and (count != needed if self.exact else count < needed):
            has = f"has {needed} rows" if self.exact else f"goes up to number {needed - 1}"
            raise ModelError(f"{graph} outputs {count} scores but its label file {self.path.name} {has}")

    def of(self, answer: Any, rows: int, graph: object) -> Scores:
        """The scores that have a label, [rows, n_labels]. Raises ModelError if `answer` is something else."""
        import numpy as np

        if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiu":
            kind = answer.dtype if isinstance(answer, np.ndarray) else type(answer).__name__
            raise ModelError(f"{graph} outputs {kind}, not numbers")
        self.check(answer.shape, graph)
        if len(answer) != rows:
            raise ModelError(f"{graph} outputs {len(answer)} rows of scores for {rows} images")
        return answer if len(self.outputs) == answer.shape[1] else answer[:, self.outputs]


def read_labels(spec: ModelSpec, files: ModelFiles) -> LabelTable:
    """The label table of a model, categories by their codes. Raises ModelError naming the file and the row."""
    return read_columns(spec, files)[0]


def read_columns(spec: ModelSpec, files: ModelFiles) -> tuple[LabelTable, Columns]:
    """The label table of a model, and the outputs that belong to it. Raises ModelError as `read_labels`."""
    if spec.labels is None:
        raise ModelError(f"the description of {spec.name} does not name a label file")
    path = files.folder / spec.labels.file
    is_csv = path.suffix == ".csv"
    labels = list((_csv_labels if is_csv else _json_labels)(path, spec.labels))
    # Versions of the same file spell their categories "General" and "general".
    words = {str(code).casefold(): word for word, code in spec.labels.categories.items()}
    _check(labels, spec.labels.categories, path)
    table = LabelTable(
        tuple(label.name for label in labels),
        tuple(words[label.code.casefold()] for label in labels),
        tuple(label.threshold for label in labels if label.threshold is not None),
    )
    return table, Columns(tuple(label.output for label in labels), path, exact=is_csv)


def _check(labels: Sequence[Label], categories: dict[str, int | str], path: Path) -> None:
    if not labels:
        raise ModelError(f"{path} has no labels")
    seen: dict[tuple[str, str], str] = {}
    known = [str(code) for code in categories.values()]
    folded = {code.casefold() for code in known}
    for label in labels:
        if label.code.casefold() not in folded:
            raise ModelError(f"{label.where}: category {label.code:.60} is not one of {', '.join(known)}")
        if len(label.name) > LONGEST_NAME:
            raise ModelError(f"{label.where}: the name has {len(label.name):,} characters, more than {LONGEST_NAME:,}")
        if not label.name.strip() or UNWRITABLE.search(label.name):
            raise ModelError(f"{label.where}: {label.name!a} cannot be the name of a tag")
        other = seen.setdefault((label.name, label.code), label.where)
        if other != label.where:
            raise ModelError(f"{label.where}: {label.name} is a duplicate of {other}")


def _csv_labels(path: Path, spec: LabelSpec) -> Iterator[Label]:
    needed = ["name", "category", *([spec.thresholds] if spec.thresholds else [])]
    try:
        rows = csv.reader(io.StringIO(read_data(path).decode("utf-8-sig"), newline=""), strict=True)
        heading = next(rows, [])
        if missing := [name for name in needed if name not in heading]:
            raise ModelError(f"{path} is not a label file: its first line has no column {' and no '.join(missing)}")
        columns = {name: place for place, name in enumerate(heading)}
        places = [columns[name] for name in needed]
        for output, row in enumerate(filter(None, rows)):
            where = f"{path}, line {rows.line_num}"
            if len(row) != len(heading):
                raise ModelError(f"{where}: fewer or more fields than the first line; a comma in a name needs quotes")
            threshold = _threshold(row[places[2]], where) if spec.thresholds else None
            yield Label(where, output, _name(row[places[0]]), row[places[1]], threshold)
    except (OSError, UnicodeDecodeError, MemoryError, csv.Error) as error:
        raise ModelError(f"{path} cannot be read as a label file: {reason(error)}") from error


def _threshold(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ModelError(f"{where}: {text[:60]!r} is not a threshold between 0 and 1")
    return value


def _json_labels(path: Path, spec: LabelSpec) -> Iterator[Label]:
    found: Any = read_json(path, dict[str, Any])
    for name in spec.within.split(".") if spec.within else ():
        if not isinstance(found, dict) or name not in found:
            raise ModelError(f"{path} has no {spec.within}, where labels.within looks for the labels")
        found = found[name]
    if isinstance(found, dict) and "idx_to_tag" in found:
        maps = as_type(found, TwoMaps, path)
        if missing := [tag for tag in maps.idx_to_tag.values() if tag not in maps.tag_to_category]:
            raise ModelError(f"{path}: tag_to_category has no category for {missing[0]:.60}")
        labels = {output: OneLabel(tag, maps.tag_to_category[tag]) for output, tag in maps.idx_to_tag.items()}
    else:
        labels = as_type(found, dict[int, OneLabel], path)
    for output, label in sorted(labels.items()):
        if output < 0:
            raise ModelError(f"{path}: {output} is not the number of an output")
        yield Label(f"{path}, label {output}", output, _name(label.tag), str(label.category))


def _name(name: str) -> str:
    # A name that cannot be written stays as it is and is refused later.
    return name if UNWRITABLE.search(name) else strip_invisible(name)
