"""What the types alone cannot say of a description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from sdprep.models.backends import BACKENDS
from sdprep.models.base import ImageSpec, LabelSpec, ModelSpec, Source
from sdprep.paths import is_local_path, is_safe_relative

# No ".." anywhere: both parts become folders of the cache.
REPO = re.compile(r"(?!.*\.\.)(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)


def first_error(spec: ModelSpec) -> str | None:
    """The first thing that is wrong with a description, naming the field; None if it is right."""
    if (backend := BACKENDS.get(spec.backend)) is None:
        return f"backend: '{spec.backend}' is not known here"
    if spec.task != backend.task:
        return f"backend `{spec.backend}` is for task `{backend.task}`, but task is `{spec.task}`"
    labels = _faults_of_tagger(spec) if spec.task == "tag" else ()
    checks = (_faults(spec), labels, backend.check(spec), _faults_of_image(spec))
    return next((fault for each in checks for fault in each), fault_of_preprocess(spec))


def fault_of_preprocess(spec: ModelSpec) -> str | None:
    """Why kohya's scripts, which pad for a tagger and squash for a captioner, could not feed a model."""
    fit, color = spec.image.fit, spec.image.pad_color
    theirs = (fit, color) == ("pad", (255, 255, 255)) if spec.task == "tag" else fit == "squash"
    if spec.image.preprocess == "sdprep" or theirs:
        return None
    return 'preprocess "kohya" is for taggers that take an image on a white square, and captioners that squash it'


def _faults(spec: ModelSpec) -> Iterator[str]:
    if spec.server is not None:
        if spec.files or spec.source != Source():
            yield "a model at a server has neither files nor [source]"
        return
    unsafe = [name for name in (*spec.files, *spec.savedmodel) if not is_safe_relative(name)]
    yield from _faults_of_source(spec.source)
    if not spec.files or unsafe:
        yield f"files must name files inside the model's folder, not {unsafe or 'nothing'}"


def _faults_of_source(source: Source) -> Iterator[str]:
    if sum(value is not None for value in (source.repo, source.path, source.bundled)) != 1:
        yield "[source] needs exactly one of repo, path and bundled"
    if source.bundled is not None and not is_safe_relative(source.bundled):
        yield "source.bundled must be the name of a model in the package"
    if source.path is not None and not (source.path and is_local_path(source.path)):
        yield "source.path must be a folder of this machine"
    if source.repo is not None and ("@" in source.repo or not REPO.fullmatch(f"{source.repo}@{source.revision}")):
        yield "source.repo must be owner/name, and source.revision a branch, tag or commit"


def _faults_of_tagger(spec: ModelSpec) -> Iterator[str]:
    if spec.labels is None or spec.labels.file not in spec.files:
        yield "a tagger needs [labels], and labels.file must be one of files"
    else:
        yield from _faults_of_labels(spec.labels, spec.threshold)


def _faults_of_labels(labels: LabelSpec, threshold: float | dict[str, float] | None) -> Iterator[str]:
    kind = PurePosixPath(labels.file).suffix
    codes = [str(code).casefold() for code in labels.categories.values()]
    if kind not in (".csv", ".json"):
        yield f'labels.file must be a .csv or .json file, not "{labels.file}"'
    if not codes or len(set(codes)) < len(codes):
        yield "labels.categories must give each category a code of its own"
    if (labels.within and kind != ".json") or (labels.thresholds and kind != ".csv"):
        yield "labels.within is for a .json file, labels.thresholds for a .csv file"
    explicit = threshold if isinstance(threshold, dict) else {}
    if unknown := explicit.keys() - labels.categories.keys():
        yield f"threshold names {', '.join(sorted(unknown))}, which labels.categories does not"
    values = explicit.values() if isinstance(threshold, dict) else () if threshold is None else (threshold,)
    if not all(0 <= value <= 1 for value in values):
        yield "threshold must lie between 0 and 1"


def _faults_of_image(spec: ModelSpec) -> Iterator[str]:
    image = spec.image
    if image.recipe is None and image.fit is None:
        yield "[image] needs fit (or recipe, a file of the model that says it)"
    if image.recipe is not None and image.recipe not in spec.files:
        yield "image.recipe must be one of files"
    if image.recipe is not None and image != ImageSpec(recipe=image.recipe, layout=image.layout):
        yield "image.recipe says all but layout: take the other fields of [image] out"
    if (fault := image.fault_of_numbers()) is not None:
        yield fault
