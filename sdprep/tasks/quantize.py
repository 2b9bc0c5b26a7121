"""`sdprep models quantize`: a smaller copy of a tagger, measured against the original on the user's own pictures."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
from platformdirs import user_data_path

from sdprep.config import Layout, QuantizeSettings
from sdprep.data.image import decode, read_file
from sdprep.data.source import FolderSource
from sdprep.errors import ImageError, MissingExtra, ModelError, UsageError, WriteError
from sdprep.models import registry
from sdprep.models.agreement import Agreement, agreement
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.hub import fetch, locate
from sdprep.models.onnx_session import write_fp16, write_int8
from sdprep.models.providers import AUTO, CPU, Execution
from sdprep.models.wd_onnx import OnnxTagger
from sdprep.tasks.models import add
from sdprep.types import Batch, Decoded, Failure, ImageItem, Listener, Silent, TagScores

if TYPE_CHECKING:
    from sdprep.types import Scores

GRAPH, AGREEMENT = "model.onnx", "agreement.json"
# What each precision is measured on: what it is for.
RUNS_ON = {"int8": CPU, "fp16": AUTO}
BATCH = 8


@dataclass(frozen=True, slots=True)
class Quantized:
    """A model that was made: its name for `--model`, its folder, and how it compares with the original.

    `calibrated` is how many pictures set the ranges (0 for fp16); others measured the agreement, on `provider`.
    `seconds` a picture are those of the measurement, with the original and with the new model.
    """

    name: str
    original: str
    weights: str
    precision: str
    folder: Path
    calibrated: int
    threshold: float
    floor: float
    agreement: Agreement
    provider: str
    seconds: dict[str, float]
    bytes: dict[str, int]
    failures: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Sample:
    """Decoded pictures in the order of their content's checksums, and those that could not be read."""

    pictures: tuple[Decoded, ...]
    failures: tuple[Failure, ...]

    @property
    def to_calibrate(self) -> tuple[Decoded, ...]:
        """Every other picture."""
        return self.pictures[::2]

    @property
    def held_out(self) -> tuple[Decoded, ...]:
        """The rest, which the new model has not seen before it is measured."""
        return self.pictures[1::2]


def quantize(
    model: str, images: Path, settings: QuantizeSettings = QuantizeSettings(), *, listener: Listener | None = None
) -> Quantized:
    """Make a smaller copy of a tagger, measure it, and give it a name; nothing is kept of one that is not good enough.

    Raises UsageError, MissingExtra, NoImages, WriteError, and ModelError below the floor or if the copy gives NaN.
    """
    listener = listener or Silent()
    spec = with_backend(registry.resolve(model, "tag"), "onnx")
    if spec.precision != "float32":
        raise UsageError(f"{spec.name} is {spec.precision} already; name the model that it was made from")
    check_installed(spec)
    if find_spec("onnx") is None:
        raise MissingExtra("onnx", "quantize")
    name = f"{spec.name.rpartition('/')[2]}-{settings.precision}"
    folder = (settings.out or user_data_path("sdprep") / "models" / name).expanduser().resolve()
    _check_free(name, folder)
    files = locate(spec) or fetch(spec, listener)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sdprep-", dir=folder.parent) as work:
            made = _make(spec, files, images, settings, Workplace(name, folder, Path(work), listener))
            _put(Path(work) / "new", folder, Path(work) / "old")
    except OSError as error:
        raise WriteError(error) from error
    add(folder / f"{name}.toml", replace=True)
    return made


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a model is made (`work`), what becomes of it (`name`, `folder`), and who hears of it."""

    name: str
    folder: Path
    work: Path
    listener: Listener


def _make(spec: ModelSpec, files: ModelFiles, images: Path, settings: QuantizeSettings, place: Workplace) -> Quantized:
    """Write the new model to a folder `new`, and measure it."""
    new = place.work / "new"
    original = OnnxTagger(spec, files, Execution(RUNS_ON[settings.precision], BATCH))
    sample = read_sample(images, original, settings.sample)
    place.listener.note(f"making {place.name} with {len(sample.pictures)} pictures")
    described = _write_folder(spec, files, new, place.name, settings.precision)
    calibrated: Sequence[Decoded] = ()
    if settings.precision == "int8":
        calibrated = sample.to_calibrate
        feeds = ({original.input_name: original.feed(each.pixels[None])} for each in calibrated)
        write_int8(files.folder / spec.files[0], new / GRAPH, feeds)
    else:
        write_fp16(files.folder / spec.files[0], new / GRAPH)
    copy = OnnxTagger(described, ModelFiles(new, None, ""), Execution(original.provider, BATCH))
    measured, seconds = _compare(original, copy, sample.held_out, settings.threshold)
    made = Quantized(
        place.name, spec.name, files.weights, settings.precision, place.folder, len(calibrated), settings.threshold,
        settings.floor, measured, original.provider, seconds, _sizes(files.folder / spec.files[0], new / GRAPH),
        [{"path": each.item.rel, "code": each.code.value, "message": each.message} for each in sample.failures],
    )  # fmt: skip
    if measured.f1 < settings.floor and not settings.force:
        raise ModelError(_too_poor(made))
    (new / AGREEMENT).write_text(json.dumps({"schema": 1, **asdict(made)}, default=str, indent=2) + "\n", "utf-8")
    return made


def read_sample(images: Path, model: OnnxTagger, count: int) -> Sample:
    """At least two and at most `count` different pictures of a folder, those with the lowest checksums.

    So the same pictures under other names or in another order give the same model. Raises UsageError if there are
    fewer than two, NoImages if there are none.
    """
    items: dict[bytes, ImageItem] = {}
    failures: list[Failure] = []
    for item in FolderSource(images, Layout()).items():
        try:
            items.setdefault(hashlib.sha256(read_file(item.path)).digest(), item)
        except ImageError as error:
            failures.append(Failure(item, error.code, str(error)))
    pictures: list[Decoded] = []
    for digest in sorted(items):
        if len(pictures) == count:
            break
        outcome = decode(items[digest], model.fit)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            pictures.append(outcome)
    if len(pictures) < 2:
        raise UsageError(f"{images}: one half of the pictures is to measure the other, but {len(pictures)} can be read")
    return Sample(tuple(pictures), tuple(failures))


def _compare(
    original: OnnxTagger, copy: OnnxTagger, pictures: Sequence[Decoded], threshold: float
) -> tuple[Agreement, dict[str, float]]:
    """The agreement of two taggers over tags that are no ratings, and the seconds that a picture takes with each."""
    expected, slow = _scores(original, pictures)
    found, fast = _scores(copy, pictures)
    broken = int((~np.isfinite(found).all(axis=1)).sum())
    if broken:
        raise ModelError(
            f"the new model answers with NaN or infinity for {broken} of {len(pictures)} pictures; not kept"
        )
    columns = [place for place, word in enumerate(original.labels.categories) if word != "rating"]
    measured = agreement(expected[:, columns], found[:, columns], threshold)
    if measured.tags == 0:
        raise ModelError(
            f"the original finds no tag at {threshold:g} on {len(pictures)} pictures: nothing can be compared\n"
            "Give pictures of the kind that you tag, or a lower --threshold"
        )
    return measured, {"original": round(slow, 4), "new": round(fast, 4)}


def _scores(tagger: OnnxTagger, pictures: Sequence[Decoded]) -> tuple[Scores, float]:
    """Scores, float32[pictures, labels], and the seconds a picture."""
    chunks = [pictures[at : at + BATCH] for at in range(0, len(pictures), BATCH)]
    batches = [Batch(tuple(range(len(chunk))), (), np.stack([each.pixels for each in chunk])) for chunk in chunks]
    began = time.perf_counter()
    found = [cast(TagScores, prediction).scores for _, prediction in tagger.predict(batches)]
    return np.stack(found), (time.perf_counter() - began) / len(pictures)


def _too_poor(made: Quantized) -> str:
    found = made.agreement
    return (
        f"{made.name} agrees too little with {made.original}: F1 {found.f1:.4f} is below {made.floor:g} on "
        f"{found.pictures} pictures ({found.kept:.1%} of {found.tags} tags kept); not kept\n"
        "More pictures of the kind that you tag may help (--sample); --force keeps it as it is"
    )


def _sizes(original: Path, new: Path) -> dict[str, int]:
    return {"original": original.stat().st_size, "new": new.stat().st_size}


def _check_free(name: str, folder: Path) -> None:
    """Raise UsageError if the name or the folder belongs to anything but an earlier model of this name."""
    if folder.exists() and not (folder.is_dir() and ((folder / AGREEMENT).is_file() or not any(folder.iterdir()))):
        raise UsageError(f"{folder} holds something else; give another folder with --out")
    before = registry.registered().get(name)
    if before is not None and registry.load(before).source.path != str(folder):
        raise UsageError(f"there is a model called {name} already, described in {before}\nDelete that file first")


def _write_folder(spec: ModelSpec, files: ModelFiles, new: Path, name: str, precision: str) -> ModelSpec:
    """All but the graph: the other files of the model, and its description."""
    others = tuple(each for each in spec.files[1:] if ".onnx" not in each)
    for each in others:
        (new / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files.folder / each, new / each)
    described = msgspec.structs.replace(
        spec, name=name, source=Source(path="."), files=(GRAPH, *others), savedmodel=(), precision=precision,
        description=f"{spec.name} with {precision} weights, made by sdprep models quantize",
    )  # fmt: skip
    (new / f"{name}.toml").write_text(as_toml(msgspec.to_builtins(described)), "utf-8")
    return described


def as_toml(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> str:
    """A table of texts, numbers, lists of these and tables as TOML; what is None or empty is left out."""
    stated = {key: value for key, value in table.items() if value not in (None, "", [], ())}
    tables = {key: value for key, value in stated.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(stated[key], ensure_ascii=False)}" for key in stated if key not in tables]
    for key, value in tables.items():
        lines += ["", f"[{'.'.join((*above, key))}]", as_toml(value, (*above, key)).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _put(new: Path, folder: Path, old: Path) -> None:
    """Put a finished folder in its place; an earlier one goes to `old`."""
    if folder.exists():
        os.replace(folder, old)  # noqa: PTH105 - as the line below
    os.replace(new, folder)  # noqa: PTH105 - the one call that is atomic everywhere
