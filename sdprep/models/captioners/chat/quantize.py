"""Loads the weights of a chat model in 4 bits, with bitsandbytes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdprep.errors import UsageError
from sdprep.models.backends import QUANTIZE_EXTRA, importing
from sdprep.models.parse import cause

# Matches the names of all layers but those of text: what sees images, what projects that, and the head stay as they
# are. It is small beside the text, and some of it (the pooling of SigLIP) does not run in 4 bits.
KEPT = r"(?!model\.(language_model|text_model)\.).*"


def quantized_loading(transformers: Any, device: Any, dtype: Any) -> dict[str, Any]:
    """What transformers' `from_pretrained` takes to load the layers of text in 4 bits (NF4) on a device.

    Raises MissingExtra without bitsandbytes, UsageError if it does not work on the device.
    """
    with without_hub_kernels():
        bitsandbytes = _import_bitsandbytes()
        _check_device(bitsandbytes, device, dtype)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        # The scales of the blocks in 8 bits: 4.1 bits for each weight instead of 4.5.
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=[KEPT],
    )
    return {"quantization_config": config, "device_map": device}


def wrong_shapes(model: Any) -> set[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """The 4-bit weights that do not fit their layers, as transformers says it of others: it lets these pass."""
    found: set[tuple[str, tuple[int, ...], tuple[int, ...]]] = set()
    for name, layer in model.named_modules():
        if (state := getattr(getattr(layer, "weight", None), "quant_state", None)) is not None:
            shape, wanted = tuple(state.shape), (layer.out_features, layer.in_features)
            found |= {(f"{name}.weight", shape, wanted)} if shape != wanted else set()
    return found


def limit_cpu_kernel(model: Any, dtype: Any) -> None:
    """Let bitsandbytes use its kernel for CPUs with AVX-512 BF16 only where it computes what other CPUs do.

    It rounds to bfloat16 whatever the precision of a run, and takes only whole blocks of weights.
    """
    import torch

    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            fits = layer.in_features % 64 == layer.out_features % 32 == 0
            layer.support_avx512bf16_for_cpu &= fits and dtype == torch.bfloat16


@contextmanager
def without_hub_kernels() -> Iterator[None]:
    """A context in which the package `kernels` cannot be imported: bitsandbytes would run native code from the Hub.

    It asks once, when it is imported or first used.
    """
    found = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["kernels"]
        if found is not None:
            sys.modules["kernels"] = found


def _import_bitsandbytes() -> Any:
    # It warns that it has no kernels from the Hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with importing("bitsandbytes", QUANTIZE_EXTRA):
        import bitsandbytes
    return bitsandbytes


def _check_device(bitsandbytes: Any, device: Any, dtype: Any) -> None:
    """Raise UsageError unless bitsandbytes makes 4-bit weights on a device: it knows its libraries only by trying."""
    import torch

    try:
        block = torch.ones(64, device=device, dtype=dtype)
        bitsandbytes.functional.dequantize_4bit(*bitsandbytes.functional.quantize_4bit(block, quant_type="nf4"))
    except Exception as error:  # a library that lacks or does not fit can raise anything
        raise UsageError(
            f"--quantize 4bit: bitsandbytes {bitsandbytes.__version__} does not work on {device}: {cause(error)}\n"
            "Leave out --quantize 4bit, or use another --device"
        ) from error
