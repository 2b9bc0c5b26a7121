"""Trainers that read the images of a folder: OneTrainer, ai-toolkit, SimpleTuner and diffusion-pipe.

What each of them takes is in docs/export.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdprep.texts.exact_json import quote
from sdprep.texts.exchange.parquet import parquet_file
from sdprep.texts.exchange.sample import ExportOptions, NewFile, Sample, by_folder, json_file, json_lines, text_files
from sdprep.texts.exchange.toml_file import toml_file

IMAGES = "images"


def place_in_images(rel: str, _: ExportOptions) -> str:
    """The name of an image below images/, in its own folders."""
    return f"{IMAGES}/{rel}"


def onetrainer(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """A text file per image in which each line is a variation, and the concepts."""
    yield from text_files(samples, ".txt")
    concept = {
        "name": options.root.name,
        "path": str(options.root / IMAGES),
        # OneTrainer draws one at random if the file states none.
        "seed": 0,
        "enabled": True,
        "include_subdirectories": True,
        "balancing": float(options.repeats or 1),
        "balancing_strategy": "REPEATS",
        "text": {"prompt_source": "sample", "tag_delimiter": ",", "keep_tags_count": 1},
    }
    yield json_file("concepts.json", [concept])


def ai_toolkit(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """A text file per image, and the block of the dataset for the YAML of a training."""
    yield from text_files(samples, ".txt")
    lines = [
        "datasets:",
        f"  - folder_path: {quote(str(options.root / IMAGES))}",
        '    caption_ext: "txt"',
        f"    num_repeats: {options.repeats or 1}",
        f"    resolution: [{options.resolution}]",
        "    cache_latents_to_disk: true",
    ]
    yield NewFile("dataset.yaml", ["\n".join([*lines, ""]).encode()])


def simpletuner(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """A table with the captions and sizes of all images, and the data backends that use it."""
    # A column has values of one kind: lists only if an image has several captions.
    several = any(len(each.captions) > 1 for each in samples)
    rows = [
        {
            "file_name": each.name.removeprefix(f"{IMAGES}/"),
            "caption": each.captions if several else each.text,
            "width": each.size[0],
            "height": each.size[1],
        }
        for each in samples
    ]
    table = f"metadata.{options.format}"
    yield parquet_file(table, rows) if options.format == "parquet" else json_lines(table, rows)
    yield json_file("multidatabackend.json", _backends(table, options))


def _backends(table: str, options: ExportOptions) -> list[dict[str, Any]]:
    root = options.root
    columns = {"filename_column": "file_name", "caption_column": "caption"}
    sizes = {"width_column": "width", "height_column": "height", "identifier_includes_extension": True}
    images = {
        "id": root.name,
        "type": "local",
        "dataset_type": "image",
        "instance_data_dir": str(root / IMAGES),
        "caption_strategy": "parquet",
        "metadata_backend": "parquet",
        "parquet": {"path": str(root / table), **columns, **sizes},
        "resolution": options.resolution,
        "resolution_type": "pixel_area",
        "cache_dir_vae": str(root / "cache" / "vae"),
        # Passes after the first one.
        "repeats": (options.repeats or 1) - 1,
    }
    texts = {
        "id": f"{root.name}-text",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": str(root / "cache" / "text"),
    }
    return [images, texts]


def diffusion_pipe(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """A captions.json in each folder, and the dataset TOML with all folders, which are not searched for others."""
    directories: list[tuple[str, Mapping[str, Any]]] = []
    for folder, some in by_folder(samples):
        yield json_file(f"{folder}/captions.json", {posixpath.basename(each.name): _captions(each) for each in some})
        table = {"path": str(options.root / folder), "num_repeats": options.repeats or 1}
        directories.append(("[[directory]]", table))
    buckets = {"enable_ar_bucket": True, "min_ar": 0.5, "max_ar": 2.0, "num_ar_buckets": 7}
    yield toml_file("dataset.toml", [("", {"resolutions": [options.resolution], **buckets}), *directories])


def _captions(sample: Sample) -> list[str]:
    # An empty list has no caption to choose from.
    return sample.captions or [""]
