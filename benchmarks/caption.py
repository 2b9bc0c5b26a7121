"""Benchmarks captioning on random weights in BLIP's real shapes, against transformers' `generate`.

    python -m benchmarks.caption speed --shape base --beams 1 --against 1   images per second, from JPEG to tokens
    python -m benchmarks.caption forms        the two forms of cross attention, by batch and beams
    python -m benchmarks.caption floor        the large shape against the arithmetic it needs
    python -m benchmarks.caption memory       peak memory of one batch above the weights, beam 3
    python -m benchmarks.caption gpu          a GPU: images per second, large shape, bfloat16, batch size 64

Contestants take turns within one process, and every figure is a median with its minimum and maximum. CPU seconds are
those of the process and all its threads: on a shared machine they vary less than the wall clock. Random weights never
end a caption, so every caption has exactly 12 tokens, in every contestant.
"""

import argparse
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks.blip_models import END, PROMPT, SHAPES, TOKENS, drain, flops, random_blip
from benchmarks.caption_gpu import Gpu
from benchmarks.measure import spread
from sdprep.images.decode import decode
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.layers import Int8Linear, LinearLayer, MakeLinear, linear_layer
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork, Span, TextDecoder
from sdprep.models.captioners.blip.verify import ReferenceDecoder, check_agreement
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GenerationConfig
from sdprep.types import Decoded, Fit, ImageItem


def engine(model: Any, decoding: GenerationConfig, batch: int, linear: MakeLinear = linear_layer) -> CaptionEngine:
    """sdprep's decoder with the weights of a model."""
    network = BlipNetwork(take_weights(model, transformers.__version__), absorbed=True, linear=linear)
    return CaptionEngine(network, PROMPT, END, decoding, batch)


def photographs(folder: Path, count: int) -> list[ImageItem]:
    """Write textured JPEG files of about one megapixel."""
    items = []
    for number in range(count):
        small = np.random.default_rng(number).integers(0, 256, (77, 102, 3), dtype=np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(small).resize((1224, 924), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(ImageItem.at(path))
    return items


def batches(items: list[ImageItem], size: int) -> Iterator[Images]:
    """The files decoded, fitted and normalised like `sdprep caption` does."""
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1)
        for each in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    for start in range(0, len(items), size):
        decoded = [decode(item, Fit(384, "squash")) for item in items[start : start + size]]
        good = [each for each in decoded if isinstance(each, Decoded)]
        pixels = torch.from_numpy(np.stack([each.pixels for each in good])).permute(0, 3, 1, 2).float()
        names = tuple(each.item.rel for each in good)
        yield Images(names, tuple(each.digest for each in good), (pixels / 255 - mean) / std)


Measured = list[tuple[float, float]]


def take_turns(contestants: dict[str, Callable[[], None]], repeats: int) -> dict[str, Measured]:
    """Wall-clock and CPU seconds of every contestant and repeat, after one warm-up round."""
    seconds: dict[str, Measured] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, work in contestants.items():
            gc.collect()
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            if repeat:
                seconds[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    return seconds


def print_speed(seconds: dict[str, Measured], images: int, last: str) -> None:
    """A table row for each contestant, with its ratio to the one called `last`, repeat by repeat."""
    print("| contestant | images/s, clock | CPU s/image | ratio, clock | ratio, CPU |\n|---|---|---|---|---|")
    for name, taken in seconds.items():
        clock, cpu = zip(*taken, strict=True)
        ratios = [
            [theirs[kind] / ours[kind] for theirs, ours in zip(seconds[last], taken, strict=True)] for kind in (0, 1)
        ]
        print(
            f"| {name} | {spread([images / each for each in clock])} | {spread([each / images for each in cpu])} "
            f"| {spread(ratios[0])} | {spread(ratios[1])} |"
        )


def run_speed(arguments: argparse.Namespace) -> None:
    """The whole path, from JPEG files to token ids."""
    model = random_blip(arguments.shape)
    decoding = GenerationConfig(num_beams=arguments.beams, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
    reference = ReferenceDecoder(model, PROMPT, decoding)
    # Compared before the clock starts: the captions must be the same.
    ours = engine(model, decoding, arguments.batch)
    # Without oneDNN's kernels, to show what the decode loop alone gains.
    others: dict[str, MakeLinear] = {"on torch's linear": LinearLayer, "in int8": Int8Linear}
    contenders = {name: engine(model, decoding, arguments.batch, linear) for name, linear in others.items()}
    contenders["in float32"] = ours
    with tempfile.TemporaryDirectory() as folder:
        items = photographs(Path(folder), arguments.images)
        first = next(batches(items, 1))
        clock, cpu = time.perf_counter(), time.process_time()
        check_agreement(ours, reference, first, "benchmark")
        print(f"self-check: {time.perf_counter() - clock:.1f} s, {time.process_time() - cpu:.1f} CPU s")
        against = f"transformers, batch {arguments.against}"
        contestants = {against: lambda: drain(reference.captions(batches(items, arguments.against)))}
        for name, each in contenders.items():
            contestants[f"sdprep {name}, batch {arguments.batch}"] = partial(
                lambda each: drain(each.captions(batches(items, arguments.batch))), each
            )
        print_speed(take_turns(contestants, arguments.repeats), len(items), against)


def run_forms(arguments: argparse.Namespace) -> None:
    """The cost of each form of cross attention before the first step and per step."""
    model = random_blip(arguments.shape)
    print("| batch | beams | absorbed: memory + prompt, step | cached: memory + prompt, step | even after |")
    print("|---|---|---|---|---|")
    with torch.inference_mode():
        networks = [BlipNetwork(take_weights(model, ""), absorbed=absorbed) for absorbed in (True, False)]
        for batch in (1, 4, 8):
            embeddings = torch.randn(batch, 577, SHAPES[arguments.shape]["hidden_size"])
            for beams in (1, 3):
                print_forms(networks, embeddings, beams, arguments.repeats)


def parts_of_work(decoder: TextDecoder, embeddings: torch.Tensor, beams: int) -> list[Callable[[], None]]:
    """The work before the first step of a search, and ten of its steps."""
    batch, memory = len(embeddings), decoder.cross.encode(embeddings)
    mask = torch.ones(batch, 1, beams, 11 * beams, dtype=torch.bool)
    span = Span(decoder.new_cache(batch, 16, beams), torch.full((batch,), 10), mask)
    ids = torch.full((batch, beams), 5)

    def first() -> None:
        decoder.read(torch.tensor(PROMPT), decoder.cross.encode(embeddings))

    def steps() -> None:
        for _ in range(10):
            decoder.step(ids, span, memory, None)

    return [first, steps]


def print_forms(networks: list[BlipNetwork], embeddings: torch.Tensor, beams: int, repeats: int) -> None:
    """Print one row: CPU milliseconds, and the number of steps after which both forms cost the same."""
    batch, work = len(embeddings), {}
    for name, network in zip(("absorbed", "cached"), networks, strict=True):
        work[f"{name} first"], work[f"{name} step"] = parts_of_work(network.decoder, embeddings, beams)
    taken = take_turns(work, repeats)
    cpu = {name: 1000 * statistics.median(each[1] for each in values) for name, values in taken.items()}
    first, step = cpu["cached first"] - cpu["absorbed first"], (cpu["absorbed step"] - cpu["cached step"]) / 10
    columns = [f"{cpu[f'{name} first']:.0f}, {cpu[f'{name} step'] / 10:.0f}" for name in ("absorbed", "cached")]
    print(
        f"| {batch} | {beams} | {columns[0]} | {columns[1]} | {f'{first / step:.0f} steps' if step > 0 else 'never'} |"
    )


def run_floor(arguments: argparse.Namespace) -> None:
    """Compare greedy captions with the time of the matrix products alone, at the best rate of this machine."""
    model = random_blip(arguments.shape)
    decoding = GenerationConfig(min_new_tokens=TOKENS, max_new_tokens=TOKENS)
    ours = engine(model, decoding, arguments.batch)
    with tempfile.TemporaryDirectory() as folder:
        items = photographs(Path(folder), arguments.batch)
        work = flops(arguments.shape, len(items))
        seconds = take_turns(
            {"matmul": multiply, "sdprep": lambda: drain(ours.captions(batches(items, arguments.batch)))},
            arguments.repeats,
        )
    rates = [MATMUL_FLOPS / 1e9 / cpu for _, cpu in seconds["matmul"]]
    print(f"matmul: {spread(rates, '.0f')} GFLOP per CPU second")
    shares = [work / 1e9 / rate / cpu for rate, (_, cpu) in zip(rates, seconds["sdprep"], strict=True)]
    print(f"{work / len(items) / 1e9:.0f} GFLOP per image; share of the floor: {spread(shares)}")


SIDES = (4 * 577, 1024, 4096)
TIMES = 40
MATMUL_FLOPS = 2 * SIDES[0] * SIDES[1] * SIDES[2] * TIMES


def multiply() -> None:
    """Repeat the largest matrix product of the vision tower with torch's fastest kernel here."""
    x, weight = torch.randn(SIDES[0], SIDES[1]), torch.randn(SIDES[2], SIDES[1])
    bias = torch.zeros(SIDES[2])
    with torch.inference_mode():
        for _ in range(TIMES):
            torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def run_memory(arguments: argparse.Namespace) -> None:
    """Measure each contestant in its own process."""
    peaks = {}
    for name in ("transformers", "sdprep"):
        command = [sys.executable, "-m", "benchmarks.caption", "peak", "--who", name, "--shape", arguments.shape]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {peaks[name]:.0f} MB above the weights")
    print(f"ratio: 1/{peaks['transformers'] / peaks['sdprep']:.1f}")


def run_peak(arguments: argparse.Namespace) -> None:
    """Print the peak memory of this process in MB above what it held before (VmHWM, Linux only)."""
    model = random_blip(arguments.shape)
    decoding = GenerationConfig(num_beams=3, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
    decoder: Any = ReferenceDecoder(model, PROMPT, decoding)
    if arguments.who == "sdprep":
        decoder = engine(model, decoding, 4)
    model = None
    digest = hashlib.sha256(b"").digest()
    # A small run first, so that memory that libraries never free is not counted.
    drain(decoder.captions([Images(("warm",), (digest,), torch.randn(1, 3, 384, 384))]))
    pixels = torch.randn(4, 3, 384, 384)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    drain(decoder.captions([Images((0, 1, 2, 3), (digest,) * 4, pixels)]))
    print(json.dumps((status("VmHWM") - before) / 1e3))


def run_gpu(arguments: argparse.Namespace) -> None:
    """See `benchmarks/caption_gpu.py`."""
    Gpu(arguments).run()


def status(name: str) -> float:
    """A value of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    """Describe the machine and run the chosen benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "forms", "floor", "memory", "peak", "gpu"])
    parser.add_argument("--shape", choices=sorted(SHAPES), help="base; for gpu large")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--batch", type=int, help="4; for gpu 64")
    parser.add_argument("--against", type=int, default=1, help="batch size of transformers")
    parser.add_argument("--images", type=int, help="8; for gpu 512")
    parser.add_argument("--device", default="cuda", help="for gpu; cpu only checks that the script runs")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16", help="for gpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--who", choices=["transformers", "sdprep"], default="sdprep")
    arguments = parser.parse_args()
    usual = ("large", 64, 512) if arguments.what == "gpu" else ("base", 4, 8)
    for name, value in zip(("shape", "batch", "images"), usual, strict=True):
        setattr(arguments, name, getattr(arguments, name) or value)
    torch.set_num_threads(2)
    cpu = next(
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    print(f"{cpu}, {torch.backends.cpu.get_cpu_capability()}, 2 threads of {os.cpu_count()} cores")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    globals()[f"run_{arguments.what}"](arguments)


if __name__ == "__main__":
    main()
