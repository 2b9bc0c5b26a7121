"""What datasets can be exported to: one row per target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sdprep.texts.exchange import folders, sd_scripts, tables
from sdprep.texts.exchange.sample import ExportOptions, Format, NewFile, Sample, Which

Images = Literal["link", "copy", "leave"]
TargetName = Literal[
    "sd-scripts-0.9",
    "sd-scripts-0.10",
    "sd-scripts",
    "dreambooth",
    "onetrainer",
    "simpletuner",
    "ai-toolkit",
    "diffusion-pipe",
    "imagefolder",
    "webdataset",
    "parquet",
]


@dataclass(frozen=True, slots=True)
class Target:
    """A trainer or format: which files are written for it, and what its options are.

    Of `images` and `formats` the first one is the default; without `images` the target packs them itself. `text` is the
    default of --text. `takes` names further options that have an effect. With `by_stem`, images need a stem of their
    own, since texts are beside them; with `has_columns`, captions and tags have columns of their own besides the text
    that trains. `advice` is what to do next; {root} stands for the folder of the export.
    """

    write: Callable[[Sequence[Sample], ExportOptions], Iterator[NewFile]]
    place: Callable[[str, ExportOptions], str]
    text: Which
    images: tuple[Images, ...]
    advice: str
    takes: frozenset[str] = frozenset()
    formats: tuple[Format, ...] = ()
    by_stem: bool = False
    has_columns: bool = False


OF_TRAINERS = frozenset({"repeats", "resolution"})
KOHYA = "train with: --dataset_config {root}/dataset.toml"

TARGETS: dict[TargetName, Target] = {
    "sd-scripts-0.9": Target(
        sd_scripts.metadata_without_sizes, folders.place_in_images, "both", ("leave", "link", "copy"), KOHYA,
        OF_TRAINERS, ("json",),
    ),
    "sd-scripts-0.10": Target(
        sd_scripts.metadata_with_sizes, folders.place_in_images, "both", ("leave", "link", "copy"), KOHYA,
        OF_TRAINERS, ("json", "jsonl"),
    ),
    "sd-scripts": Target(
        sd_scripts.metadata_with_sizes, folders.place_in_images, "both", ("leave", "link", "copy"), KOHYA,
        OF_TRAINERS, ("json", "jsonl"),
    ),
    "dreambooth": Target(
        sd_scripts.folders, sd_scripts.place_by_repeats, "both", ("link", "copy"),
        "train with: --dataset_config {root}/dataset.toml, or --train_data_dir {root} --caption_extension {extension}",
        OF_TRAINERS | {"extension"}, by_stem=True,
    ),
    "onetrainer": Target(
        folders.onetrainer, folders.place_in_images, "both", ("link", "copy"),
        "put into the training configuration: \"concept_file_name\": \"{root}/concepts.json\"",
        frozenset({"repeats"}), by_stem=True,
    ),
    "simpletuner": Target(
        folders.simpletuner, folders.place_in_images, "caption", ("link", "copy"),
        "train with: --data_backend_config {root}/multidatabackend.json", OF_TRAINERS, ("jsonl", "parquet"),
    ),
    "ai-toolkit": Target(
        folders.ai_toolkit, folders.place_in_images, "caption", ("link", "copy"),
        "put the datasets of {root}/dataset.yaml into the process of your configuration", OF_TRAINERS, by_stem=True,
    ),
    "diffusion-pipe": Target(
        folders.diffusion_pipe, folders.place_in_images, "caption", ("link", "copy"),
        "put into the training configuration: dataset = '{root}/dataset.toml'", OF_TRAINERS,
    ),
    "imagefolder": Target(
        tables.imagefolder, tables.place_in_train, "both", ("link", "copy"),
        'load it with: datasets.load_dataset("imagefolder", data_dir="{root}")', has_columns=True,
    ),
    "webdataset": Target(
        tables.webdataset, tables.place_alone, "both", (),
        'load it with: webdataset.WebDataset("{root}/{{00000..NNNNN}}.tar")', frozenset({"per_shard"}),
        has_columns=True,
    ),
    "parquet": Target(
        tables.parquet, tables.place_alone, "both", ("leave", "link", "copy"),
        "load it with: pandas.read_parquet(\"{root}/metadata.parquet\")", has_columns=True,
    ),
}  # fmt: skip
