"""Compares captioning on a GPU with `generate` and with the arithmetic it needs: `python -m benchmarks.caption gpu`.

Model only, from normalised pixels on the GPU to token ids. The captions of the first image are compared with those of
transformers before anything is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.blip_models import END, PROMPT, TOKENS, drain, flops, random_blip
from benchmarks.measure import spread
from sdprep.models.base import ImageSpec
from sdprep.models.captioners.blip.cuda import LazyCompile
from sdprep.models.captioners.blip.images import Normalizer
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.models.captioners.blip.verify import ReferenceDecoder, check_agreement
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GenerationConfig
from sdprep.types import Batch

# Matrices of this size show the peak rate of the GPU, in the precision that is measured.
SIDE = 8192


class Gpu:
    """One comparison: the model on the device, and the contestants."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.device = arguments, torch.device(arguments.device)
        self.dtype = getattr(torch, arguments.dtype)
        self.model = random_blip(arguments.shape).to(self.device, self.dtype)
        self.decoding = GenerationConfig(num_beams=arguments.beams, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
        noise = np.random.default_rng(0)
        sizes = [min(arguments.batch, arguments.images - at) for at in range(0, arguments.images, arguments.batch)]
        self.given = [
            Batch(tuple(range(size)), (b"",) * size, noise.integers(0, 256, (size, 384, 384, 3), dtype=np.uint8))
            for size in sizes
        ]
        self.normalizer = Normalizer(
            ImageSpec(fit="squash", scale="0..1", mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28)),
            self.device,
            self.dtype,
            async_copy=self.device.type == "cuda",
        )
        # One batch on the GPU is used again and again: all of them would fill its memory.
        self.on_device = self.normalizer(self.given[0])

    def run(self) -> None:
        """Print the table."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "no GPU"
        print(f"{name}; {self.arguments.shape}, {self.arguments.dtype}, {TOKENS} tokens, {self.arguments.beams} beams")
        engines = {"without graphs": self.engine(graphs=False)}
        if self.device.type == "cuda":
            engines["with graphs"] = self.engine()
            engines["with graphs, compiled"] = self.engine(compiled=True)
        reference = ReferenceDecoder(self.model, PROMPT, self.decoding)
        check_agreement(list(engines.values())[-1], reference, self.on_device.part(0, 1), transformers.__version__)
        batch, images = self.arguments.batch, self.arguments.images
        # Batch size 1 is slow, and its rate does not depend on the number of images.
        alone = min(images, 32)
        work: dict[str, tuple[int, Callable[[], None]]] = {
            "generate, batch 1": (alone, lambda: self.generate(1, alone)),
            f"generate, batch {batch}": (images, lambda: self.generate(batch, images)),
        }
        for form, ours in engines.items():
            work[f"sdprep {form}, batch {batch}"] = (images, partial(self.caption, ours))
        last = list(engines.values())[-1]
        work["the last, with pixels in host memory"] = (images, lambda: self.caption(last, transfer=True))
        self.print_table(work)

    def engine(self, *, graphs: bool = True, compiled: bool = False) -> CaptionEngine:
        """sdprep's decoder, with or without graphs and a compiled vision tower."""
        network = BlipNetwork(take_weights(self.model, ""), absorbed=False, cuda_graphs=graphs, note=print)
        # Compiled now or not at all.
        tower = network.vision._tower if isinstance(network.vision, LazyCompile) else network.vision
        network.vision = torch.compile(tower, dynamic=False) if compiled else tower
        return CaptionEngine(network, PROMPT, END, self.decoding, self.arguments.batch, print)

    def caption(self, engine: CaptionEngine, *, transfer: bool = False) -> None:
        """Caption all images with sdprep."""
        kept = (self.on_device.part(0, len(each.keys)) for each in self.given)
        drain(engine.captions(map(self.normalizer, self.given) if transfer else kept))

    def generate(self, batch: int, images: int) -> None:
        """Caption images with transformers, in batches, without the scores that sdprep also computes."""
        ids = torch.tensor([*PROMPT, END], device=self.device)
        for start in range(0, images, batch):
            size = min(batch, images - start)
            with torch.inference_mode():
                found = self.model.generate(
                    pixel_values=self.on_device.pixels[:size],
                    input_ids=ids.repeat(size, 1),
                    min_new_tokens=TOKENS,
                    max_new_tokens=TOKENS,
                    num_beams=self.arguments.beams,
                    do_sample=False,
                ).tolist()
            assert len(found[0]) == len(PROMPT) + TOKENS

    def matmul_rate(self) -> float:
        """Floating-point operations per second of a large matrix product."""
        side = SIDE if self.device.type == "cuda" else 512
        one, other = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))

        def multiply() -> None:
            for _ in range(20):
                torch.mm(one, other)

        multiply()
        return max(20 * 2 * side**3 / self.seconds(multiply) for _ in range(self.arguments.repeats))

    def seconds(self, work: Callable[[], Any]) -> float:
        """Wall-clock seconds, from an idle device to an idle device."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Wait until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def print_table(self, work: dict[str, tuple[int, Callable[[], None]]]) -> None:
        """Print the images per second of every contestant; they take turns, after one warm-up round."""
        rates: dict[str, list[float]] = {name: [] for name in work}
        for repeat in range(self.arguments.repeats + 1):
            for name, (images, each) in work.items():
                taken = self.seconds(each)
                if repeat:
                    rates[name].append(images / taken)
        matmul = self.matmul_rate()
        floor = matmul / flops(self.arguments.shape, 1)
        medians = {name: statistics.median(each) for name, each in rates.items()}
        first, second = list(medians.values())[:2]
        print(f"floor: {floor:.1f} images/s at {matmul / 1e12:.2f} TFLOP/s, the rate of a product in {self.dtype}")
        print("| contestant | images/s | times batch 1 | times same batch | of the floor |\n|---|---|---|---|---|")
        for name, measured in rates.items():
            rate = medians[name]
            shares = f"{rate / first:.2f} | {rate / second:.2f} | {rate / floor:.2f}"
            print(f"| {name} | {spread(measured, '.1f')} | {shares} |")
