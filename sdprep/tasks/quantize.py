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
from sdprep.images.source import ImageSource
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.execution import Execution
from sdprep.models.files.hub import ensure_downloaded, find_local
from sdprep.models.registry import registry
from sdprep.models.taggers.onnx_session import write_fp16, write_int8
from sdprep.models.taggers.onnx_tagger import OnnxTagger
from sdprep.models.taggers.providers import AUTO, CPU
from sdprep.report import Listener, NullListener
from sdprep.rules.labels import ARGMAX_CATEGORIES
from sdprep.sanitize import check_path
from sdprep.tasks.models import FILE_NAME, add
from sdprep.types import Batch, Decoded, Failure, ImageItem, TagScores

if TYPE_CHECKING:
    from sdprep.types import Scores


GRAPH, AGREEMENT = "model.onnx", "agreement.json"
# What each precision is measured on: what it is for.
RUNS_ON = {"int8": CPU, "fp16": AUTO}
# The bits of the weights of the copies of which the best is kept. With 8, sums overflow on x86 processors without VNNI.
BITS = {"int8": (8, 7), "fp16": (16,)}
BATCH = 8
# A copy may take this many times as long as the original, since times differ from one measurement to the next.
SLOWER = 1.05
# Each is measured this often, and the shortest time counts.
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over some images: `tags` that the original gives them, the share of these that is `kept`.

    `f1` is the harmonic mean of `kept` and of the share of the other model's tags that the original gives too;
    the changes are those of single probabilities, 0 to 1. The names are keys of `--json`.
    """

    pictures: int
    tags: int
    kept: float
    f1: float
    mean_change: float
    largest_change: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized model: its name for `--model`, its folder, and how it compares with the original.

    `calibrated` images set the ranges (0 for fp16); others measured the agreement, on `provider`. `seconds` are per
    image, `bytes` those of the graph; `weights` is the checksum of the original. The names are keys of `--json`.
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
    """Make a smaller copy of a tagger, measure it and register it; one below `min_f1`, or slower, is not kept.

    Raises UsageError, MissingExtra, NoImages, WriteError, and ModelError for a copy that is not kept or returns NaN.
    """
    spec = with_backend(registry.resolve(model, "tag"), "onnx")
    if spec.precision != "float32":
        raise UsageError(f"{spec.name} is already {spec.precision}; use the model that it was made from")
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
            evaluator = Evaluator(original, sample, settings.threshold)
            made = Quantizer(spec, files, settings, original, sample).make(described, new, evaluator, folder)
            if folder.exists():
                os.replace(folder, Path(work) / "old")  # noqa: PTH105 - as the line below
            os.replace(new, folder)  # noqa: PTH105 - the only call that is atomic on every system
    except OSError as error:
        raise WriteError(error) from error
    add(folder / f"{name}.toml", replace=True)
    return made


@dataclass(frozen=True, slots=True)
class Quantizer:
    """The source of a copy, and how to make it."""

    spec: ModelSpec
    files: ModelFiles
    settings: QuantizeSettings
    original: OnnxTagger
    sample: Sample

    def make(self, described: ModelSpec, new: Path, evaluator: Evaluator, folder: Path) -> Quantized:
        """Put the best copy into the folder `new` with its measurement. Raises ModelError below `min_f1`."""
        precision = self.settings.precision
        candidates = [self._candidate(bits, described, new, evaluator) for bits in BITS[precision]]
        best = max(candidates, key=lambda each: each.agreement.f1)
        graph = self.files.folder / self.spec.files[0]
        made = Quantized(
            name=described.name, original=self.spec.name, weights=self.files.weights,
            precision=precision, bits=best.bits, folder=folder,
            calibrated=len(self.sample.to_calibrate) if precision == "int8" else 0,
            threshold=self.settings.threshold, floor=self.settings.min_f1,
            agreement=best.agreement, provider=self.original.provider,
            seconds={"original": round(evaluator.seconds, 4), "new": round(best.seconds, 4)},
            bytes={"original": graph.stat().st_size, "new": best.graph.stat().st_size},
            failures=[
                {"path": each.item.rel, "code": each.code.value, "message": each.message}
                for each in self.sample.failures
            ],
        )  # fmt: skip
        found = made.agreement
        if found.f1 < made.floor and not self.settings.force:
            raise ModelError(
                f"{made.name} does not agree enough with {made.original}: F1 {found.f1:.4f} is below {made.floor:g} on "
                f"{found.pictures} images ({found.kept:.1%} of {found.tags} tags kept); not kept\n"
                "More images like those that you tag may help (--sample); --force keeps it anyway"
            )
        self._check_speed(made)
        for each in candidates:
            if each is best:
                each.graph.rename(new / GRAPH)
            else:
                each.graph.unlink()
        (new / AGREEMENT).write_text(json.dumps({"schema": 1, **asdict(made)}, default=str, indent=2) + "\n", "utf-8")
        return made

    def _check_speed(self, made: Quantized) -> None:
        """Raise ModelError if the copy is slower than the original by more than measurements differ."""
        new, original = made.seconds["new"], made.seconds["original"]
        if new <= original * SLOWER or self.settings.force:
            return
        what = "fp16 is for GPUs" if made.precision == "fp16" else "int8 is for CPUs with instructions for it (VNNI)"
        raise ModelError(
            f"{made.name} is slower than {made.original} on {made.provider}: {new * 1000:.1f} ms per image instead of "
            f"{original * 1000:.1f} ms; not kept\n"
            f"{what}. Use --model {made.original} here; --force keeps the copy, for another machine"
        )

    def _candidate(self, bits: int, described: ModelSpec, new: Path, evaluator: Evaluator) -> Candidate:
        source, target = self.files.folder / self.spec.files[0], new / f"{bits}.onnx"
        if self.settings.precision == "fp16":
            write_fp16(source, target)
        else:
            pixels = (image.pixels[None] for image in self.sample.to_calibrate)
            feeds = ({self.original.input_name: self.original.feed(each)} for each in pixels)
            write_int8(source, target, feeds, reduce_range=bits < 8)
        spec = msgspec.structs.replace(described, files=(target.name, *described.files[1:]))
        copy = OnnxTagger(spec, ModelFiles(new, None, ""), Execution(provider=self.original.provider, batch_size=BATCH))
        measured, seconds = evaluator.measure(copy)
        copy.close()
        return Candidate(bits, target, measured, seconds)


def _check_free(name: str, folder: Path) -> None:
    """Raise UsageError if name or folder cannot be used, or are used by anything but an earlier copy."""
    if not FILE_NAME.fullmatch(name):
        raise UsageError(f'"{name}" cannot be a file name; rename the model first')
    check_path(folder, "a TOML file")
    if folder.exists() and not (folder.is_dir() and ((folder / AGREEMENT).is_file() or not any(folder.iterdir()))):
        raise UsageError(f"{folder} has other content; choose another folder with --out")
    before = registry.registered().get(name)
    if before is not None and registry.load(before).source.path != str(folder):
        raise UsageError(f"there is already a model called {name}, described in {before}\nDelete that file first")


def _write_folder(spec: ModelSpec, files: ModelFiles, new: Path, name: str, precision: str) -> ModelSpec:
    """Write all but the graph: the other files of the model, and its description."""
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
    # A description that cannot be read again must not be kept.
    registry.load(path)
    return described


def as_toml(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> str:
    """Return a table of strings, numbers, lists and tables as TOML; None and empty values are left out."""
    explicit = {key: value for key, value in table.items() if value not in (None, "", [], ())}
    tables = {key: value for key, value in explicit.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {json.dumps(explicit[key], ensure_ascii=False)}" for key in explicit if key not in tables]
    for key, value in tables.items():
        path = (*above, key)
        lines += ["", f"[{'.'.join(map(_key, path))}]", as_toml(value, path).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    """Return a key of TOML, quoted if necessary."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """Decoded images in the order of their checksums, and those that could not be read."""

    decoded: tuple[Decoded, ...]
    failures: tuple[Failure, ...]

    @property
    def to_calibrate(self) -> tuple[Decoded, ...]:
        """Every other image."""
        return self.decoded[::2]

    @property
    def held_out(self) -> tuple[Decoded, ...]:
        """The rest, which measure the new model and did not calibrate it."""
        return self.decoded[1::2]


def read_sample(images: Path, model: OnnxTagger, count: int) -> Sample:
    """Return two to `count` different images of a folder, those with the lowest checksums.

    The same images with other names or in another order give the same model. Raises UsageError for fewer than two,
    NoImages for none.
    """
    items: dict[bytes, ImageItem] = {}
    failures: list[Failure] = []
    for item in ImageSource(images).items():
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
        raise UsageError(
            f"{images}: half of the images calibrate and half measure, but only {len(decoded)} can be read"
        )
    return Sample(tuple(decoded), tuple(failures))


class Evaluator:
    """Compares copies with the scores of the original on the held-out images; `seconds` per image of the original."""

    def __init__(self, original: OnnxTagger, sample: Sample, threshold: float) -> None:
        self._images, self._threshold = sample.held_out, threshold
        # Categories without a threshold are left out: the best of each is written.
        self._columns = [
            column for column, name in enumerate(original.labels.categories) if name not in ARGMAX_CATEGORIES
        ]
        self._expected, self.seconds = _scores(original, self._images)

    def measure(self, copy: OnnxTagger) -> tuple[Agreement, float]:
        """Return the agreement of a copy, and its seconds per image.

        Raises ModelError if it returns NaN, or if the original finds no tag to compare.
        """
        found, seconds = _scores(copy, self._images)
        broken, of = int((~np.isfinite(found).all(axis=1)).sum()), len(self._images)
        if broken:
            raise ModelError(f"the new model returns NaN or infinity for {broken} of {of} images; not kept")
        measured = agreement(self._expected[:, self._columns], found[:, self._columns], self._threshold)
        if measured.tags == 0:
            raise ModelError(
                f"the original finds no tag at {self._threshold:g} on {of} images: nothing can be compared\n"
                "Use images like those that you tag, or a lower --threshold"
            )
        return measured, seconds


def _scores(tagger: OnnxTagger, decoded: Sequence[Decoded]) -> tuple[Scores, float]:
    """Return scores, float32[images, labels], and the seconds per image."""
    chunks = [decoded[at : at + BATCH] for at in range(0, len(decoded), BATCH)]
    batches = [Batch(tuple(range(len(chunk))), (), np.stack([each.pixels for each in chunk])) for chunk in chunks]
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = [cast(TagScores, prediction).scores for _, prediction in tagger.predict(batches)]
        seconds.append(time.perf_counter() - began)
    return np.stack(found), min(seconds) / len(decoded)


def agreement(original: Scores, other: Scores, threshold: float) -> Agreement:
    """Compare two arrays of probabilities, float32[images, labels], finite. Nothing agrees with nothing fully."""
    wanted, given = original >= threshold, other >= threshold
    both, tags, all_given = (int(each.sum()) for each in (wanted & given, wanted, given))
    change = np.abs(original - other)
    return Agreement(
        pictures=len(original),
        tags=tags,
        kept=both / tags if tags else 1.0,
        f1=2 * both / (tags + all_given) if tags + all_given else 1.0,
        mean_change=float(change.mean()),
        largest_change=float(change.max()),
    )
