"""BLIP's network against transformers': the same numbers, in both forms, without copies of images."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdprep.errors import ModelError
from sdprep.models.captioners.blip.layers import LinearLayer, OneDnnLinear, linear_layer, prefers_absorbed
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork, TextDecoder
from sdprep.models.captioners.blip.verify import FIRST_TOLERANCE, ReferenceDecoder
from sdprep.models.captioners.blip.weights import Linear, take_weights
from sdprep.models.captioners.generation import GenerationConfig
from tests.models.captioners.blip.blip_models import (
    REAL_END,
    REAL_PROMPT,
    SMALL_PROMPT,
    assert_same,
    engine,
    images,
    one_thread,
    pictures,
    real_blip,
    small_blip,
    small_network,
)

FORMS = pytest.mark.parametrize("absorbed", [True, False], ids=["absorbed", "cached"])


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    with one_thread():
        yield


def worst(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


# The same numbers


def test_image_embeddings_are_those_of_transformers() -> None:
    with torch.inference_mode():
        theirs = small_blip().vision_model(images(3)).last_hidden_state
        assert worst(small_network().vision(images(3)), theirs) < 1e-4


@FORMS
def test_first_scores_are_those_of_transformers(absorbed: bool) -> None:
    theirs = ReferenceDecoder(small_blip(), SMALL_PROMPT, GenerationConfig()).first_scores(images(3))
    with torch.inference_mode():
        mine = small_network(absorbed=absorbed).prefill(images(3), torch.tensor(SMALL_PROMPT)).logits.log_softmax(-1)
    assert worst(mine, theirs) < 1e-4


def step_logits(decoding: GenerationConfig, absorbed: bool) -> list[torch.Tensor]:
    """The logits of every step of a decoding of five images."""
    seen, step = [], TextDecoder.step

    def spy(*arguments: Any) -> torch.Tensor:
        seen.append(step(*arguments))
        return seen[-1]

    with mock.patch.object(TextDecoder, "step", spy):
        list(engine(decoding, 5, small_network(absorbed=absorbed)).captions([pictures(images(5))]))
    return seen


@pytest.mark.parametrize("beams", [1, 3])
def test_both_forms_give_the_same_logits_at_every_step(beams: int) -> None:
    decoding = GenerationConfig(num_beams=beams, min_new_tokens=8, max_new_tokens=8)
    pairs = zip(step_logits(decoding, True), step_logits(decoding, False), strict=True)
    assert max(worst(*pair) for pair in pairs) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize(("tower", "count", "tokens"), [("base", 2, 6), ("large", 1, 3)])
def test_captions_in_true_shapes_are_those_of_transformers(tower: str, count: int, tokens: int) -> None:
    model, whole = real_blip(tower), pictures(images(count, 384))
    weights, few = take_weights(model, "5.23.0"), partial(GenerationConfig, min_new_tokens=1, max_new_tokens=tokens)
    greedy = few(repetition_penalty=1.3, no_repeat_ngram_size=2, bad_words=((1012,),))
    for decoding, absorbed in ((few(num_beams=2), True), (greedy, False)):
        decoder = CaptionEngine(BlipNetwork(weights, absorbed=absorbed), REAL_PROMPT, REAL_END, decoding, count)
        mine = dict(decoder.captions([whole]))
        assert_same(mine, dict(ReferenceDecoder(model, REAL_PROMPT, decoding).captions([whole])))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_half_precision_first_scores_differ_by_rounding_only(precision: str) -> None:
    dtype = getattr(torch, precision)
    model, pixels = deepcopy(small_blip()).to(dtype), images(3).to(dtype)
    theirs = ReferenceDecoder(model, SMALL_PROMPT, GenerationConfig()).first_scores(pixels)
    with torch.inference_mode():
        network = BlipNetwork(take_weights(model, "5.23.0"), absorbed=True)
        logits = network.prefill(pixels, torch.tensor(SMALL_PROMPT)).logits
    assert logits.dtype == dtype
    assert worst(logits.float().log_softmax(-1), theirs) < FIRST_TOLERANCE[precision]


# Linear layers


@pytest.mark.parametrize("rows", [1, 4, 12, 300])
@pytest.mark.parametrize(
    "use",
    [lambda layer, x: layer(x), lambda layer, x: layer.gelu(x), lambda layer, x: layer.add(x, x @ torch.ones(64, 128))],
    ids=["alone", "gelu", "add"],
)
def test_onednn_computes_what_torch_does(use: Callable[[Any, torch.Tensor], torch.Tensor], rows: int) -> None:
    torch.manual_seed(rows)
    linear, x = Linear(torch.randn(128, 64), torch.randn(128)), torch.randn(rows, 64)
    assert torch.allclose(use(OneDnnLinear(linear), x), use(LinearLayer(linear), x), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_with_torch(dtype: torch.dtype) -> None:
    linear = Linear(torch.zeros(8, 8, dtype=dtype), torch.zeros(8, dtype=dtype))
    assert type(linear_layer(linear)) is LinearLayer


def test_captions_without_onednn_are_the_same() -> None:
    network = BlipNetwork(take_weights(small_blip(), "5.23.0"), absorbed=True, linear=LinearLayer)
    decoding, whole = GenerationConfig(num_beams=3, max_new_tokens=10), pictures(images(4))
    mine = dict(engine(decoding, 4, network).captions([whole]))
    assert_same(mine, dict(engine(decoding, 4).captions([whole])))


# What is done once


def memories(decoding: GenerationConfig, absorbed: bool) -> list[tuple[int, int]]:
    """For every step, how many images lie in the memory that the decoder looks at, and where it lies."""
    seen, step = [], TextDecoder.step

    def spy(self: TextDecoder, ids: Any, span: Any, memory: torch.Tensor, places: Any) -> torch.Tensor:
        seen.append((len(memory), memory.data_ptr()))
        return step(self, ids, span, memory, places)

    with mock.patch.object(TextDecoder, "step", spy):
        list(engine(decoding, 4, small_network(absorbed=absorbed)).captions([pictures(images(4))]))
    return seen


WAYS = [
    GenerationConfig(num_beams=5, min_new_tokens=8, max_new_tokens=8),
    GenerationConfig(sample=True, num_return_sequences=5, min_new_tokens=8, max_new_tokens=8),
]


@FORMS
@pytest.mark.parametrize("decoding", WAYS, ids=["beams", "samples"])
def test_an_image_is_held_once_for_all_its_texts_and_stays_where_it_is(
    decoding: GenerationConfig, absorbed: bool
) -> None:
    seen = memories(decoding, absorbed)
    assert len(seen) == 7
    assert {count for count, _ in seen} == {4}
    assert len({place for _, place in seen}) == 1


class Made(TorchDispatchMode):
    """Notes the bytes of every tensor that is made, and not only a view of another."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [each for each in args if isinstance(each, torch.Tensor) and each.layout == torch.strided]
        given = {each.untyped_storage().data_ptr() for each in tensors}
        if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in given:
            self.sizes.append(made.untyped_storage().nbytes())
        return made


@FORMS
def test_a_step_makes_nothing_of_the_size_of_an_image(absorbed: bool) -> None:
    made, step = Made(), TextDecoder.step

    def spy(*arguments: Any) -> torch.Tensor:
        with made:
            return step(*arguments)

    decoding = GenerationConfig(num_beams=3, min_new_tokens=6, max_new_tokens=6)
    with mock.patch.object(TextDecoder, "step", spy):
        list(engine(decoding, 1, small_network(absorbed=absorbed)).captions([pictures(images(1))]))
    embeddings = 37 * 64 * 4
    assert made.sizes
    assert max(made.sizes) < embeddings


# Which form


@pytest.mark.parametrize(
    ("device", "least", "absorbed"), [("cpu", 5, True), ("cpu", 60, False), ("cuda", 5, False), ("mps", 5, False)]
)
def test_the_form_follows_the_device_and_the_least_length(device: str, least: int, absorbed: bool) -> None:
    assert prefers_absorbed(device, GenerationConfig(min_new_tokens=least)) is absorbed


# An unknown transformers


def without_encoder(model: Any) -> None:
    del model.vision_model.encoder


def without_fused_attention(model: Any) -> None:
    del model.vision_model.encoder.layers[1].self_attn.qkv


def with_other_shape(model: Any) -> None:
    query = model.text_decoder.bert.encoder.layer[0].attention.self.query
    query.weight = torch.nn.Parameter(query.weight[:32])


def without_bias(model: Any) -> None:
    model.text_decoder.bert.encoder.layer[0].crossattention.self.key.bias = None


def with_other_activation(model: Any) -> None:
    model.text_decoder.config.hidden_act = "relu"


def with_other_heads(model: Any) -> None:
    model.text_decoder.bert.encoder.layer[0].attention.self.num_attention_heads = 8


def with_a_new_parameter(model: Any) -> None:
    model.vision_model.encoder.layers[0].gate = torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_encoder, "encoder"),
        (without_fused_attention, "qkv"),
        (with_other_shape, r"shape \(32, 64\) instead of \(64, 64\)"),
        (without_bias, "shape"),
        (with_other_activation, "text activation 'relu' instead of 'gelu'"),
        (with_other_heads, "attention heads 8 instead of 4"),
        (with_a_new_parameter, r"parameters left over \['vision_model.encoder.layers.0.gate'\]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_of_another_build_is_refused(change: Callable[[Any], None], said: str) -> None:
    model = deepcopy(small_blip())
    change(model)
    with pytest.raises(ModelError, match=rf"transformers 9\.9.*{said}.*--decoder reference"):
        take_weights(model, "9.9")
