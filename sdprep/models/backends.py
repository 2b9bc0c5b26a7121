"""Which framework runs a model, and whether it is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import msgspec

from sdprep.config import CaptionSettings, TagSettings
from sdprep.errors import MissingExtra, ModelError, SdprepError, UsageError
from sdprep.models.base import ImageSpec, LabelledModel, Model, ModelFiles, ModelSpec
from sdprep.models.execution import usable_cpus
from sdprep.models.parse import cause
from sdprep.models.registry.validate import fault_of_preprocess
from sdprep.models.taggers.providers import Execution

# The extra that brings a backend, and the packages that it must bring.
NEEDS = {
    "onnx": ("tag", ("onnxruntime",)),
    "tensorflow": ("tensorflow", ("tensorflow",)),
    "blip": ("caption", ("torch", "transformers")),
}


def with_backend(spec: ModelSpec, wanted: str) -> ModelSpec:
    """The description of a tagger for a backend: "onnx", "tensorflow", or "auto" for the one that is installed.

    ONNX is preferred where both are. Raises UsageError if the model has no files for the backend.
    """
    if wanted == "auto":
        has_onnx, has_tensorflow = find_spec("onnxruntime") is not None, find_spec("tensorflow") is not None
        wanted = "tensorflow" if spec.savedmodel and has_tensorflow and not has_onnx else spec.backend
    if wanted == spec.backend:
        return spec
    if wanted == "tensorflow" and spec.savedmodel:
        # The .onnx file comes first; what is beside it serves both.
        files = (*spec.savedmodel, *spec.files[1:])
        return msgspec.structs.replace(spec, backend="tensorflow", files=files, savedmodel=())
    kind = "SavedModel" if wanted == "tensorflow" else "ONNX file"
    raise UsageError(f"{spec.name} has no {kind} that sdprep knows of; leave out --backend {wanted}")


def with_preprocess(spec: ModelSpec, wanted: str | None) -> ModelSpec:
    """The description of a model for images prepared in another way; None leaves it as it is.

    Raises UsageError if its images cannot be prepared so.
    """
    if wanted is None:
        return spec
    try:
        image = msgspec.convert({**msgspec.structs.asdict(spec.image), "preprocess": wanted}, ImageSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"{spec.name}: {error}; leave out --preprocess {wanted}") from error
    prepared = msgspec.structs.replace(spec, image=image)
    if (fault := fault_of_preprocess(prepared)) is not None:
        raise UsageError(f"{spec.name}: {fault}; leave out --preprocess {wanted}")
    return prepared


def check_installed(spec: ModelSpec) -> None:
    """Raise MissingExtra if what runs a model is not installed, without importing it."""
    extra, packages = NEEDS[spec.backend]
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)


def open_model(
    spec: ModelSpec,
    files: ModelFiles,
    settings: TagSettings | CaptionSettings,
    note: Callable[[str], None],
    num_processes: int = 1,
) -> Model:
    """Load a model with the framework of its description; the one place that knows which class that is.

    While it works, it says through `note` what a person should know. `sharers` processes share the processors.

    Raises MissingExtra, ModelError and UsageError as they do.
    """
    if not isinstance(settings, CaptionSettings):
        work = settings.run
        execution = Execution(settings.provider, work.batch_size, work.workers > 0, settings.device, num_processes)
        return open_tagger(spec, files, execution)
    if num_processes > 1:
        # torch reads it when it is imported; what a person has set stays.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // num_processes)))
    from sdprep.models.captioners.blip.captioner import BlipCaptioner

    with _model_errors(spec, files):
        return BlipCaptioner(spec, files, settings, note)


def open_tagger(spec: ModelSpec, files: ModelFiles, execution: Execution = Execution()) -> LabelledModel:
    """Load a tagger with the framework of its description. Raises MissingExtra and ModelError as they do."""
    with _model_errors(spec, files):
        # Imported here, so that the process which only lists and writes loads no numpy.
        if spec.backend == "tensorflow":
            from sdprep.models.taggers.tensorflow_tagger import TensorflowTagger

            return TensorflowTagger(spec, files, execution)
        from sdprep.models.taggers.onnx_tagger import OnnxTagger

        return OnnxTagger(spec, files, execution)


@contextmanager
def _model_errors(spec: ModelSpec, files: ModelFiles) -> Iterator[None]:
    """Turn whatever a framework raises about a model that it cannot load into a ModelError that says its class."""
    try:
        yield
    except SdprepError:
        raise
    except Exception as error:  # frameworks raise whatever a wrong file leads them to
        raise ModelError(f"{spec.name} cannot be loaded from {files.folder}: {cause(error)}") from error
