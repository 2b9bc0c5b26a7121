"""Measures the cost of each way to search and each precision, on random weights in BLIP's real shapes, on the CPU.

    python -m benchmarks.choices --images 2 --repeats 2

All captions have exactly 12 tokens. The whole path is timed, from JPEG to tokens; all images form one batch.
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers

from benchmarks.blip_models import SHAPES, TOKENS, drain, random_blip
from benchmarks.caption import batches, engine, photographs, print_speed, take_turns
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.generation import GenerationConfig
from sdprep.types import ImageItem

LENGTH: dict[str, Any] = {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
SAMPLED = GenerationConfig(**LENGTH, sample=True, top_p=0.9)
BEST_OF_8 = GenerationConfig(**LENGTH, sample=True, top_p=0.9, num_return_sequences=8)


def work(captioner: CaptionEngine, items: list[ImageItem], dtype: torch.dtype) -> None:
    """Caption all images at once."""
    drain(captioner.captions(each._replace(pixels=each.pixels.to(dtype)) for each in batches(items, len(items))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = random_blip(arguments.shape)
    greedy = GenerationConfig(**LENGTH)
    cases = {
        "sample": (SAMPLED, torch.float32),
        "best of 8 samples": (BEST_OF_8, torch.float32),
        "greedy, bfloat16": (greedy, torch.bfloat16),
        "greedy, float16": (greedy, torch.float16),
        "greedy": (greedy, torch.float32),
    }
    with TemporaryDirectory() as folder:
        items = photographs(Path(folder), arguments.images)
        contestants: dict[str, Callable[[], None]] = {
            name: partial(work, engine(deepcopy(model).to(dtype), decoding, len(items)), items, dtype)
            for name, (decoding, dtype) in cases.items()
        }
        print(f"torch {torch.__version__}, transformers {transformers.__version__}, {arguments.shape}, 2 threads")
        print_speed(take_turns(contestants, arguments.repeats), len(items), "greedy")


if __name__ == "__main__":
    main()
