"""Random weights in BLIP's real shapes, and what every captioning benchmark shares.

Random weights never end a caption, so every caption has exactly `TOKENS` tokens, in every contestant.
"""

from collections.abc import Iterator
from typing import Any

import torch
import transformers

TOKENS = 12
PROMPT = (30522, 1037, 3861, 1997)
END = 102
SHAPES = {
    "base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
}


def random_blip(shape: str, text_range: float = 0.02) -> Any:
    """A `BlipForConditionalGeneration` of a real shape with random weights; a wider text range sets words apart."""
    torch.manual_seed(0)
    config = transformers.BlipConfig(
        vision_config={**SHAPES[shape], "image_size": 384, "patch_size": 16, "initializer_range": 0.02},
        text_config={"num_attention_heads": 12, "initializer_range": text_range},
    )
    return transformers.BlipForConditionalGeneration(config).eval()


def drain(captions: Iterator[Any]) -> None:
    """Run to the end; every caption must have `TOKENS` tokens."""
    assert all(len(each.tokens) in (TOKENS, TOKENS - 1) for _, found in captions for each in found)


def flops(shape: str, images: int) -> float:
    """Floating-point operations: two per multiply-add, for the vision tower and for the prompt and tokens."""
    width, inner, layers = (SHAPES[shape][name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    vision = layers * 577 * (2 * width * (4 * width + 2 * inner) + 4 * 577 * width) + 2 * 576 * 768 * width
    # Cross attention as the cached form needs it: the fewest known.
    text = 12 * (2 * 768 * (6 * 768 + 2 * 3072) + 4 * 577 * 768) + 2 * 768 * (768 + 30524)
    return float(images * (vision + (len(PROMPT) + TOKENS - 1) * text))
