"""Loads a chat model and its processor with transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdprep.errors import ModelError, UsageError
from sdprep.models.captioners.chat.families import PROCESSORS
from sdprep.models.captioners.chat.quantize import wrong_shapes
from sdprep.models.captioners.frameworks import check_loaded
from sdprep.models.parse import cause

# Nothing is downloaded, and no code but that of transformers is run.
AS_IT_IS = {"local_files_only": True, "trust_remote_code": False}
EMPTY: Mapping[str, Any] = {}


def load_processor(transformers: Any, folder: Path, family: str) -> Any:
    """The processor of a folder, on Pillow and for images alone.

    A processor for videos needs torchvision, which cannot even be imported where it is not of the same build as torch;
    and the pixels that torchvision makes are not quite those of Pillow, so captions would depend on what is installed.
    Raises ModelError if it cannot be loaded.
    """
    try:
        kind = getattr(transformers, PROCESSORS[family])
        parts = {
            "image_processor": transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **AS_IT_IS),
            "tokenizer": transformers.AutoTokenizer.from_pretrained(folder, **AS_IT_IS),
        }
        settings, _ = kind.get_processor_dict(folder, local_files_only=True)
        arguments = [parts.get(name) for name in kind.get_attributes()]
        processor = _for_images(kind).from_args_and_dict(arguments, settings)
    except Exception as error:  # a wrong file can make transformers raise anything
        raise ModelError(
            f"{folder} has no tokenizer and image settings that transformers {transformers.__version__} can use: "
            f"{cause(error)}"
        ) from error
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _for_images(kind: Any) -> Any:
    """The same class of processors, whose parts for videos and sound may be None."""

    class ForImages(kind):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    return ForImages


def load_model(transformers: Any, folder: Path, dtype: Any, quantized: Mapping[str, Any] = EMPTY) -> Any:
    """The model of a folder; `quantized` says how its weights are made smaller.

    Raises ModelError if a weight is missing or has another shape, and if no token ends its answers.
    """
    transformers.logging.disable_progress_bar()
    try:
        model, loading = transformers.AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            **AS_IT_IS,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **quantized,
        )
    except Exception as error:  # a wrong file can make transformers raise anything
        raise ModelError(f"{folder} cannot be loaded as a chat model: {cause(error)}") from error
    mismatched = {*loading["mismatched_keys"], *wrong_shapes(model)}
    check_loaded({**loading, "mismatched_keys": mismatched}, folder, "chat model")
    return model


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer: several in many models. Raises ModelError if there is none."""
    for found in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return (found,) if isinstance(found, int) else tuple(found)
    raise ModelError("neither generation_config.json nor the tokenizer says which token ends an answer")


def dtype_of(torch: Any, name: str) -> Any:
    """The precision of the weights. Raises UsageError for int8, which only BLIP has."""
    if name == "int8":
        raise UsageError("--dtype int8 is for BLIP models only\nUse --dtype bfloat16 for a chat model")
    return getattr(torch, name)
