"""The label file of a tagger."""

from __future__ import annotations

import csv

from sdprep.errors import ModelError
from sdprep.models.base import LabelSpec, ModelFiles, ModelSpec
from sdprep.rules.labels import LabelTable


def read_labels(spec: ModelSpec, files: ModelFiles) -> LabelTable:
    """The label table of a model, categories by their codes. Raises ModelError naming the file and the row."""
    labels = _label_spec(spec)
    path = files.folder / labels.file
    words = {str(code): word for word, code in labels.categories.items()}
    names, categories = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                code = row["category"]
                if code not in words:
                    raise ModelError(f"{path}, line {number}: category {code} is none of {', '.join(words)}")
                names.append(row["name"])
                categories.append(words[code])
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ModelError(f"{path} is not a label file with columns 'name' and 'category': {error!r}") from error
    return LabelTable(tuple(names), tuple(categories))


def _label_spec(spec: ModelSpec) -> LabelSpec:
    if spec.labels is None:
        raise ModelError(f"the description of {spec.name} names no label file")
    return spec.labels


def check_label_count(labels: LabelTable, count: object, path: object) -> None:
    """Raise ModelError unless a graph answers with one score a label."""
    if count != len(labels.names):
        raise ModelError(f"{path} answers with {count} scores but its label file has {len(labels.names)} rows")
