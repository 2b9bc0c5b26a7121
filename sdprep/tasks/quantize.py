"""`sdprep models quantize`: a smaller copy of a tagger, compared with the original on your own images."""

from __future__ import annotations

import json
import os
import re
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

from sdprep.config import QuantizeSettings
from sdprep.errors import ImageError, MissingExtra, ModelError, UsageError, WriteError
from sdprep.files import real_path
from sdprep.images.decode import decode
from sdprep.images.decoder import file_digest
from sdprep.images.source import FolderSource
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.execution import Execution
from sdprep.models.files.hub import ensure_downloaded, find_local
from sdprep.models.registry import registry
from sdprep.models.taggers.agreement import Agreement, agreement
from sdprep.models.taggers.onnx_session import write_fp16, write_int8
from sdprep.models.taggers.onnx_tagger import OnnxTagger
from sdprep.models.taggers.providers import AUTO, CPU
from sdprep.report import Listener, NullListener
from sdprep.rules.labels import ARGMAX_CATEGORIES
from sdprep.tasks.models import FILE_NAME, add
from sdprep.types import Batch, Decoded, Failure, ImageItem, TagScores

if TYPE_CHECKING:
    from sdprep.types import Scores


GRAPH, AGREEMENT = "model.onnx", "agreement.json"
# What each precision is measured on: what it is for.
RUNS_ON = {"int8": CPU, "fp16": AUTO}
# The bits of the weights of the copies of which the best is kept. With 8, sums overflow on x86 processors without VNNI.
BITS = {"int8": (8, 7), "fp16": (16,)}


@dataclass(frozen=True, slots=True)
class Quantized:
    """A model that was made: its name for `--model`, its folder, and how it compares with the original.

    `calibrated` is how many images set the ranges (0 for fp16); others measured the agreement, on `provider`.
    `seconds` an image are those of the measurement, `bytes` those of the graph; `weights` is the original's checksum.
    """

    name: str
    original: str
    weights: str
    precision: str
    bits: int
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
class Candidate:
    """A copy, written to `graph`, and its measurement."""

    bits: int
    graph: Path
    agreement: Agreement
    seconds: float


def quantize(
    model: str, images: Path, settings: QuantizeSettings = QuantizeSettings(), *, listener: Listener | None = None
) -> Quantized:
    """Make a smaller copy of a tagger, measure it, and give it a name; nothing is kept of one that is not good enough.

    Raises UsageError, MissingExtra, NoImages, WriteError, and ModelError below the floor or if the copy gives NaN.
    """
    spec = with_backend(registry.resolve(model, "tag"), "onnx")
    if spec.precision != "float32":
        raise UsageError(f"{spec.name} is {spec.precision} already; name the model that it was made from")
    check_installed(spec)
    if find_spec("onnx") is None:
        raise MissingExtra("onnx", "quantize")
    name = f"{spec.name.rpartition('/')[2]}-{settings.precision}"
    folder = real_path((settings.out or user_data_path("sdprep") / "models" / name).expanduser())
    _check_free(name, folder)
    files = find_local(spec) or ensure_downloaded(spec, listener or NullListener())
    original = OnnxTagger(spec, files, Execution(provider=RUNS_ON[settings.precision], batch_size=BATCH))
    sample = read_sample(images, original, settings.sample)
    (listener or NullListener()).note(f"making {name} with {len(sample.decoded)} images")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sdprep-", dir=folder.parent) as work:
            new = Path(work) / "new"
            described = _write_folder(spec, files, new, name, settings.precision)
            yardstick = Evaluator(original, sample, settings.threshold)
            made = Quantizer(spec, files, settings, original, sample).make(described, new, yardstick, folder)
            _put(new, folder, Path(work) / "old")
    except OSError as error:
        raise WriteError(error) from error
    add(folder / f"{name}.toml", replace=True)
    return made


@dataclass(frozen=True, slots=True)
class Quantizer:
    """What a copy is made from, and how."""

    spec: ModelSpec
    files: ModelFiles
    settings: QuantizeSettings
    original: OnnxTagger
    sample: Sample

    def make(self, described: ModelSpec, new: Path, yardstick: Evaluator, folder: Path) -> Quantized:
        """Put the best copy into the folder `new` with its measurement. Raises ModelError if it is below the floor."""
        precision = self.settings.precision
        candidates = [self._candidate(bits, described, new, yardstick) for bits in BITS[precision]]
        best = max(candidates, key=lambda each: each.agreement.f1)
        graph = self.files.folder / self.spec.files[0]
        made = Quantized(
            name=described.name,
            original=self.spec.name,
            weights=self.files.weights,
            precision=precision,
            bits=best.bits,
            folder=folder,
            calibrated=len(self.sample.to_calibrate) if precision == "int8" else 0,
            threshold=self.settings.threshold,
            floor=self.settings.floor,
            agreement=best.agreement,
            provider=self.original.provider,
            seconds={"original": round(yardstick.seconds, 4), "new": round(best.seconds, 4)},
            bytes={"original": graph.stat().st_size, "new": best.graph.stat().st_size},
            failures=[
                {"path": each.item.rel, "code": each.code.value, "message": each.message}
                for each in self.sample.failures
            ],
        )
        if best.agreement.f1 < self.settings.floor and not self.settings.force:
            raise ModelError(_too_poor(made))
        for each in candidates:
            if each is best:
                each.graph.rename(new / GRAPH)
            else:
                each.graph.unlink()
        (new / AGREEMENT).write_text(json.dumps({"schema": 1, **asdict(made)}, default=str, indent=2) + "\n", "utf-8")
        return made

    def _candidate(self, bits: int, described: ModelSpec, new: Path, yardstick: Evaluator) -> Candidate:
        source, target = self.files.folder / self.spec.files[0], new / f"{bits}.onnx"
        if self.settings.precision == "fp16":
            write_fp16(source, target)
        else:
            pixels = (image.pixels[None] for image in self.sample.to_calibrate)
            feeds = ({self.original.input_name: self.original.feed(each)} for each in pixels)
            write_int8(source, target, feeds, reduce_range=bits < 8)
        spec = msgspec.structs.replace(described, files=(target.name, *described.files[1:]))
        copy = OnnxTagger(spec, ModelFiles(new, None, ""), Execution(provider=self.original.provider, batch_size=BATCH))
        measured, seconds = yardstick.measure(copy)
        copy.close()
        return Candidate(bits, target, measured, seconds)


def _too_poor(made: Quantized) -> str:
    found = made.agreement
    return (
        f"{made.name} agrees too little with {made.original}: F1 {found.f1:.4f} is below {made.floor:g} on "
        f"{found.pictures} images ({found.kept:.1%} of {found.tags} tags kept); not kept\n"
        "More images of the kind that you tag may help (--sample); --force keeps it as it is"
    )


def _check_free(name: str, folder: Path) -> None:
    """Raise UsageError if no file can have the name, or name or folder belong to anything but an earlier such model."""
    if not FILE_NAME.fullmatch(name):
        raise UsageError(f'"{name}" cannot be the name of a file; give the model a plainer name first')
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
        megabytes=None, description=f"{spec.name} with {precision} weights, made by sdprep models quantize",
    )  # fmt: skip
    path = new / f"{name}.toml"
    path.write_text(as_toml(msgspec.to_builtins(described)), "utf-8")
    # What cannot be read again must not be kept.
    registry.load(path)
    return described


def as_toml(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> str:
    """A table of texts, numbers, lists of these and tables as TOML; what is None or empty is left out."""
    explicit = {key: value for key, value in table.items() if value not in (None, "", [], ())}
    tables = {key: value for key, value in explicit.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {json.dumps(explicit[key], ensure_ascii=False)}" for key in explicit if key not in tables]
    for key, value in tables.items():
        place = (*above, key)
        lines += ["", f"[{'.'.join(map(_key, place))}]", as_toml(value, place).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    """A key of TOML, quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _put(new: Path, folder: Path, old: Path) -> None:
    """Put a finished folder in its place; an earlier one goes to `old`."""
    if folder.exists():
        os.replace(folder, old)  # noqa: PTH105 - as the line below
    os.replace(new, folder)  # noqa: PTH105 - the one call that is atomic everywhere


BATCH = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """Decoded images in the order of their content's checksums, and those that could not be read."""

    decoded: tuple[Decoded, ...]
    failures: tuple[Failure, ...]

    @property
    def to_calibrate(self) -> tuple[Decoded, ...]:
        """Every other image."""
        return self.decoded[::2]

    @property
    def held_out(self) -> tuple[Decoded, ...]:
        """The rest, which the new model has not seen before it is measured."""
        return self.decoded[1::2]


def read_sample(images: Path, model: OnnxTagger, count: int) -> Sample:
    """At least two and at most `count` different images of a folder, those with the lowest checksums.

    So the same images under other names or in another order give the same model. Raises UsageError if there are
    fewer than two, NoImages if there are none.
    """
    items: dict[bytes, ImageItem] = {}
    failures: list[Failure] = []
    for item in FolderSource(images).items():
        try:
            items.setdefault(file_digest(item), item)
        except ImageError as error:
            failures.append(Failure(item, error.code, str(error)))
    decoded: list[Decoded] = []
    for digest in sorted(items):
        if len(decoded) == count:
            break
        outcome = decode(items[digest], model.fit)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            decoded.append(outcome)
    if len(decoded) < 2:
        raise UsageError(f"{images}: one half of the images is to measure the other, but {len(decoded)} can be read")
    return Sample(tuple(decoded), tuple(failures))


class Evaluator:
    """The original's scores of the images that were held out, to measure copies by; `seconds` an image."""

    def __init__(self, original: OnnxTagger, sample: Sample, threshold: float) -> None:
        self._images, self._threshold = sample.held_out, threshold
        # These have no threshold: the best of each is written.
        self._columns = [
            place for place, word in enumerate(original.labels.categories) if word not in ARGMAX_CATEGORIES
        ]
        self._expected, self.seconds = _scores(original, self._images)

    def measure(self, copy: OnnxTagger) -> tuple[Agreement, float]:
        """The agreement of a copy, and its seconds an image.

        Raises ModelError if it answers with NaN, or if the original finds no tag, so that nothing can be compared.
        """
        found, seconds = _scores(copy, self._images)
        broken, of = int((~np.isfinite(found).all(axis=1)).sum()), len(self._images)
        if broken:
            raise ModelError(f"the new model answers with NaN or infinity for {broken} of {of} images; not kept")
        measured = agreement(self._expected[:, self._columns], found[:, self._columns], self._threshold)
        if measured.tags == 0:
            raise ModelError(
                f"the original finds no tag at {self._threshold:g} on {of} images: nothing can be compared\n"
                "Give images of the kind that you tag, or a lower --threshold"
            )
        return measured, seconds


def _scores(tagger: OnnxTagger, decoded: Sequence[Decoded]) -> tuple[Scores, float]:
    """Scores, float32[images, labels], and the seconds an image."""
    chunks = [decoded[at : at + BATCH] for at in range(0, len(decoded), BATCH)]
    batches = [Batch(tuple(range(len(chunk))), (), np.stack([each.pixels for each in chunk])) for chunk in chunks]
    began = time.perf_counter()
    found = [cast(TagScores, prediction).scores for _, prediction in tagger.predict(batches)]
    return np.stack(found), (time.perf_counter() - began) / len(decoded)
