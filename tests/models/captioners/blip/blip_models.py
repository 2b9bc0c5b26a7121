"""BLIP models with random weights in small and in true shapes, and the two decoders over them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from transformers import BlipConfig, BlipForConditionalGeneration

from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.models.captioners.blip.verify import ReferenceDecoder
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig

SMALL_PROMPT = (198, 5, 6, 7)
SMALL_END = 3
REAL_PROMPT = (30522, 1037, 3861, 1997)
REAL_END = 102
# What differs between the towers of the two sizes of BLIP: width, feed-forward width, layers, heads.
TOWERS = {"base": (768, 3072, 12, 12), "large": (1024, 4096, 24, 16)}

Found = dict[Any, list[GeneratedCaption]]


@cache
def small_blip(seed: int = 0) -> Any:
    """Two layers each, 96 pixels, 200 words; weights so wide that words differ and texts end at many lengths."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes["initializer_range"] = 0.2
    words = {"vocab_size": 200, "bos_token_id": 198, "sep_token_id": SMALL_END, "max_position_embeddings": 128}
    config = BlipConfig(vision_config={**sizes, "image_size": 96, "patch_size": 16}, text_config={**sizes, **words})
    model = BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        bias = model.text_decoder.cls.predictions.decoder.bias.normal_()
        bias[SMALL_END] += 2.5
    return model


def real_blip(tower: str) -> Any:
    """The true shape at 384 pixels; not cached, for it is large."""
    torch.manual_seed(0)
    width, inner, layers, heads = TOWERS[tower]
    vision = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    vision |= {"num_attention_heads": heads, "image_size": 384, "patch_size": 16}
    config = BlipConfig(
        vision_config={**vision, "initializer_range": 0.02},
        text_config={"num_attention_heads": 12, "initializer_range": 0.05},
    )
    return BlipForConditionalGeneration(config).eval()


@cache
def small_network(seed: int = 0, absorbed: bool = True) -> BlipNetwork:
    return BlipNetwork(take_weights(small_blip(seed), "5.23.0"), absorbed=absorbed)


def images(count: int, size: int = 96, seed: int = 0) -> torch.Tensor:
    """Normalised noise, [count, 3, size, size]."""
    return 2 * torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pictures(pixels: torch.Tensor) -> Images:
    """Keyed by their number, each with a digest of its own."""
    digests = tuple((1000 + number).to_bytes(8, "big") for number in range(len(pixels)))
    return Images(tuple(range(len(pixels))), digests, pixels)


def cut(whole: Images, *numbers: Sequence[int]) -> Iterator[Images]:
    """Batches of the images with these numbers."""
    for chosen in numbers:
        yield Images(
            tuple(whole.keys[each] for each in chosen),
            tuple(whole.digests[each] for each in chosen),
            whole.pixels[list(chosen)],
        )


def engine(decoding: GenerationConfig, capacity: int, network: BlipNetwork | None = None) -> CaptionEngine:
    return CaptionEngine(network or small_network(), SMALL_PROMPT, SMALL_END, decoding, capacity)


def found(decoding: GenerationConfig, whole: Images, capacity: int | None = None) -> Found:
    return dict(engine(decoding, capacity or len(whole.keys)).captions([whole]))


def expected(decoding: GenerationConfig, whole: Images, seed: int = 0) -> Found:
    """The same by transformers' generate."""
    return dict(ReferenceDecoder(small_blip(seed), SMALL_PROMPT, decoding).captions([whole]))


def assert_same(mine: Found, theirs: Found) -> None:
    """The same token ids, or a tie; in either case scores within 1e-4."""
    assert mine.keys() == theirs.keys()
    pairs = [pair for key, texts in theirs.items() for pair in zip(mine[key], texts, strict=True)]
    assert [(one, two) for one, two in pairs if abs(one.score - two.score) > 1e-4] == []
    ties = [one for one, two in pairs if one.tokens != two.tokens]
    assert len(ties) <= len(pairs) // 50


@contextmanager
def one_thread() -> Iterator[None]:
    """A model this small is slowed down by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
