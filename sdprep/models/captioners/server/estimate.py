"""What a run would ask of a server: requests, bytes, tokens and money, before any of it is spent."""

from __future__ import annotations

from collections.abc import Sequence

from sdprep.models.base import ModelSpec

# Prices are for so many tokens.
MILLION = 1_000_000
# JPEG files of photos and drawings at this quality have less for each pixel; base64 makes a third more of them.
BYTES_PER_PIXEL, BASE64 = 0.5, 4 / 3
# What published models make of an image and of text: a token for 28 x 28 pixels, and one for three letters.
PIXELS_PER_TOKEN, LETTERS_PER_TOKEN = 28 * 28, 3


def describe_requests(spec: ModelSpec, prompts: Sequence[str], captions: int, max_tokens: int) -> str:
    """What so many captions for each image with one of these prompts would take, in words."""
    if spec.server is None or spec.image.size is None:
        raise AssertionError(f"{spec.name} is not at a server")
    requests, pixels = captions * len(prompts), spec.image.size**2
    sent = requests * min(pixels * BYTES_PER_PIXEL * BASE64, spec.server.max_bytes) / MILLION
    tokens = requests * max_tokens
    words = (
        f"{requests:,} request{'s' if requests != 1 else ''} to {', '.join(spec.server.urls)}: about {sent:,.1f} MB, "
    )
    words += f"at most {tokens:,} tokens in answers"
    if (price := spec.server.price) is not None:
        asked = captions * sum(tokens_asked(spec.image.size, prompt) for prompt in prompts)
        words += f", cost about {(asked * price.input + tokens * price.output) / MILLION:.4f}"
    return f"{words}; answers that are cut or empty are asked for once again"


def tokens_asked(side: int, text: str) -> float:
    """About how many tokens a square image and a text take."""
    return side**2 / PIXELS_PER_TOKEN + len(text) / LETTERS_PER_TOKEN
