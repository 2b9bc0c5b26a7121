"""kohya's sd-scripts: metadata for fine-tuning, or folders with repeats in their names, each with its dataset TOML."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdprep.texts.exchange.sample import ExportOptions, NewFile, Sample, by_folder, lines_of, one_line, text_files
from sdprep.texts.exchange.toml_file import toml_file
from sdprep.texts.metadata import Entry, dump

DATASET = "dataset.toml"
METADATA = "metadata"
# sd-scripts use one line of a caption, and add tags to the last one, unless enable_wildcard is on. It is on only where
# it has to be, since it also reads {a|b} as a choice, and drops the tags of an image without a caption.
SEVERAL = "metadata-several-captions"
# The folder of images, such as 5_name: how often each of them is used, and their class.
REPEATS = re.compile(r"(\d+)_(.*)")


def metadata_with_sizes(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """Metadata for sd-scripts 0.10 and later, with the size of each image, and the dataset TOML."""
    return _metadata(samples, options, with_sizes=True)


def metadata_without_sizes(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """Metadata for sd-scripts up to 0.9.1, and the dataset TOML.

    They take a `train_resolution` for the size of the bucket, and would distort images to it: they find it themselves.
    """
    return _metadata(samples, options, with_sizes=False)


def _metadata(samples: Sequence[Sample], options: ExportOptions, *, with_sizes: bool) -> Iterator[NewFile]:
    several = [sample for sample in samples if len(lines_of(sample.caption or "")) > 1]
    chosen = frozenset(sample.name for sample in several)
    subsets = []
    for name, some in ((METADATA, [each for each in samples if each.name not in chosen]), (SEVERAL, several)):
        if some:
            path = options.root / f"{name}.{options.format}"
            yield NewFile(path.name, [dump({each.path: _entry(each, with_sizes) for each in some}, path)])
            wildcard = {"enable_wildcard": True} if name == SEVERAL else {}
            subsets.append({"metadata_file": str(path), "num_repeats": options.repeats or 1, **wildcard})
    yield _dataset(subsets, options)


def _entry(sample: Sample, with_size: bool) -> Entry:
    entry: Entry = {"image_size": list(sample.size)} if with_size else {}
    if sample.tags:
        entry = {"tags": one_line(sample.tags), **entry}
    # Versions before 0.10 put a comma before the tags for a caption that is there and blank.
    return {"caption": sample.caption or "", **entry} if sample.caption or not sample.tags else entry


def place_by_repeats(rel: str, options: ExportOptions) -> str:
    """The name of an image in a folder like `5_name`; the 5 of such a folder stays unless other repeats are stated."""
    folder, name = posixpath.split(rel)
    repeats, kind = repeats_of(folder)
    return f"{options.repeats or repeats}_{kind}/{name}"


def repeats_of(folder: str) -> tuple[int, str]:
    """How often the images of a folder are used, and their class; folders in folders become one name."""
    found = REPEATS.fullmatch(posixpath.basename(folder))
    above = posixpath.dirname(folder).replace("/", "_")
    if found is None or int(found[1]) < 1:
        return 1, folder.replace("/", "_") or "images"
    return int(found[1]), "_".join(filter(None, [above, found[2]])) or "images"


def folders(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """A text file beside each image, and the dataset TOML for trainings that are given one."""
    yield from text_files(samples, options.extension)
    subsets = []
    for folder, some in by_folder(samples):
        repeats, kind = repeats_of(folder)
        several = any(len(each.captions) > 1 for each in some)
        subset = {"image_dir": str(options.root / folder), "class_tokens": kind, "num_repeats": repeats}
        subset["caption_extension"] = options.extension
        subsets.append(subset | ({"enable_wildcard": True} if several else {}))
    yield _dataset(subsets, options)


def _dataset(subsets: Sequence[Mapping[str, Any]], options: ExportOptions) -> NewFile:
    side = options.resolution
    buckets = {"enable_bucket": True, "min_bucket_reso": min(256, side), "max_bucket_reso": max(1024, 2 * side)}
    tables: list[tuple[str, Mapping[str, Any]]] = [("[[datasets]]", {"resolution": side, **buckets})]
    tables += [("[[datasets.subsets]]", subset) for subset in subsets]
    return toml_file(DATASET, tables)
