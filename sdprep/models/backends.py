"""Which framework runs a model, and whether it is there."""

from __future__ import annotations

from importlib.util import find_spec

import msgspec

from sdprep.config import CaptionSettings, TagSettings
from sdprep.errors import MissingExtra, UsageError
from sdprep.models.base import LabelledModel, Model, ModelFiles, ModelSpec

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
    if wanted == "tensorflow" and spec.savedmodel and spec.labels is not None:
        files = (*spec.savedmodel, spec.labels.file)
        return msgspec.structs.replace(spec, backend="tensorflow", files=files, savedmodel=())
    kind = "SavedModel" if wanted == "tensorflow" else "ONNX file"
    raise UsageError(f"{spec.name} has no {kind} that sdprep knows of; leave out --backend {wanted}")


def check_installed(spec: ModelSpec) -> None:
    """Raise MissingExtra if what runs a model is not installed, without importing it."""
    extra, packages = NEEDS[spec.backend]
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)


def open_model(spec: ModelSpec, files: ModelFiles, settings: TagSettings | CaptionSettings) -> Model:
    """Load a model with the framework of its description; the one place that knows which class that is.

    Raises MissingExtra, ModelError and UsageError as they do.
    """
    if not isinstance(settings, CaptionSettings):
        return open_tagger(spec, files)
    from sdprep.models.blip import BlipCaptioner

    return BlipCaptioner(spec, files, settings)


def open_tagger(spec: ModelSpec, files: ModelFiles) -> LabelledModel:
    """Load a tagger with the framework of its description. Raises MissingExtra and ModelError as they do."""
    # Imported here, so that the process which only lists and writes loads no numpy.
    if spec.backend == "tensorflow":
        from sdprep.models.wd_tensorflow import TensorflowTagger

        return TensorflowTagger(spec, files)
    from sdprep.models.wd_onnx import OnnxTagger

    return OnnxTagger(spec, files)
