"""What only a card can show: graphs that CUDA captures, copies that it makes by itself, kernels that are compiled."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from sdprep.models.base import ImageSpec
from sdprep.models.captioners.blip.cuda import COMPILE_AFTER, CudaCapture, GraphCapturer, LazyCompile
from sdprep.models.captioners.blip.images import Normalizer
from sdprep.models.captioners.blip.layers import linear_layer
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork, VisionTower
from sdprep.models.captioners.blip.verify import ReferenceDecoder, check_agreement
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GenerationConfig
from sdprep.types import Batch
from tests.models.captioners.blip.blip_models import (
    SMALL_END,
    SMALL_PROMPT,
    assert_same,
    cut,
    images,
    pictures,
    small_blip,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")

WAYS = pytest.mark.parametrize(
    "decoding",
    [
        GenerationConfig(max_new_tokens=16),
        GenerationConfig(
            num_beams=3, max_new_tokens=16, repetition_penalty=1.2, no_repeat_ngram_size=2, bad_words=((9,),)
        ),
        GenerationConfig(sample=True, top_p=0.9, top_k=50, max_new_tokens=16, num_return_sequences=3),
    ],
    ids=["greedy", "beams with rules", "3 samples"],
)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def on_card(
    decoding: GenerationConfig, said: list[str], dtype: torch.dtype = torch.float32
) -> tuple[CaptionEngine, Any]:
    model = deepcopy(small_blip()).to("cuda", dtype)
    network = BlipNetwork(take_weights(model, "5.23.0"), absorbed=False, cuda_graphs=True, note=said.append)
    return CaptionEngine(network, SMALL_PROMPT, SMALL_END, decoding, 4, said.append), model


@WAYS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_graphs_give_the_captions_of_steps_without_graphs(decoding: GenerationConfig, dtype: torch.dtype) -> None:
    said: list[str] = []
    whole = pictures(images(11).to("cuda", dtype))
    recorded, _ = on_card(decoding, said, dtype)
    plain, _ = on_card(decoding, said, dtype)
    plain.network.capturer = GraphCapturer(lambda step: step, said.append)
    texts = [dict(each.captions(cut(whole, range(5), range(5, 11)))) for each in (recorded, plain)]
    assert texts[0] == texts[1]
    assert said == []


@WAYS
def test_a_card_gives_the_captions_of_a_processor(decoding: GenerationConfig) -> None:
    whole = pictures(images(11))
    mine = dict(on_card(decoding, [])[0].captions([whole._replace(pixels=whole.pixels.cuda())]))
    network = BlipNetwork(take_weights(small_blip(), "5.23.0"), absorbed=True)
    assert_same(mine, dict(CaptionEngine(network, SMALL_PROMPT, SMALL_END, decoding, 4).captions([whole])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_check_on_the_first_image_passes_and_leaves_graphs_on(dtype: torch.dtype) -> None:
    said: list[str] = []
    decoding = GenerationConfig(min_new_tokens=8, max_new_tokens=9)
    recorded, model = on_card(decoding, said, dtype)
    first = pictures(images(1).to("cuda", dtype))
    check_agreement(recorded, ReferenceDecoder(model, SMALL_PROMPT, decoding), first, "")
    assert recorded.network.capturer is not None
    assert recorded.network.capturer.active
    assert said == []


def test_a_step_that_waits_for_the_card_is_not_captured_and_runs_as_it_is() -> None:
    said: list[str] = []
    total = torch.ones(3, device="cuda")

    def waits() -> None:
        total.add_(total.sum().item())

    step = GraphCapturer(CudaCapture(torch.device("cuda")), said.append).record(waits)
    assert len(said) == 1
    step()
    assert total.tolist() == [4.0, 4.0, 4.0]


def test_pixels_arrive_whole_while_the_card_is_at_work() -> None:
    image = ImageSpec(fit="squash", mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    batches = [
        Batch((number,), (b"",), np.random.default_rng(number).integers(0, 256, (1, 384, 384, 3), dtype=np.uint8))
        for number in range(6)
    ]
    there = Normalizer(image, torch.device("cuda"), torch.float32, async_copy=True)
    here = Normalizer(image, torch.device("cpu"), torch.float32)
    work, sent = torch.randn(4096, 4096, device="cuda"), []
    for batch in batches:
        work = work @ work / 64
        sent.append(there(batch).pixels)
    assert all(torch.allclose(one.cpu(), here(batch).pixels) for one, batch in zip(sent, batches, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_tower_gives_the_same_numbers_on_a_card() -> None:
    said: list[str] = []
    tower = VisionTower(take_weights(deepcopy(small_blip()).cuda(), "5.23.0").vision, linear_layer)
    now = 0.0
    compiled = LazyCompile(tower, said.append, clock=lambda: now)
    pixels = images(2).cuda()
    with torch.inference_mode():
        before = compiled(pixels)
        now = COMPILE_AFTER + 1.0
        assert torch.allclose(compiled(pixels), before, atol=1e-3)
    assert said == []
