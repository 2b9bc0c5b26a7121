"""Makes everything in sdprep/demo/ that is not source code: three tiny models and the sample images.

    python scripts/train_demo_models.py                       every step, two CPU cores
    python scripts/train_demo_models.py images evaluate     some steps

The steps tagger, captioner, chat and evaluate need torch, transformers, onnx and onnxruntime; savedmodel needs
tensorflow and onnx only, so it can be run from another environment; images needs Pillow and numpy.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.demo_training.pool import Pool

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script runs from a checkout that is not installed

EXAMPLES = 16_000
THREADS = 2


@dataclass(frozen=True)
class Job:
    """Where the results go (the folder of `models/` and `images/`), and the seed of the training."""

    demo: Path
    seed: int


@cache
def _training_pool(seed: int) -> "Pool":
    from scripts.demo_training.pool import draw_pool

    return draw_pool(EXAMPLES, f"train-{seed}")


def run_tagger(job: Job) -> None:
    """Train the tagger and write its ONNX file and label table."""
    import torch

    from scripts.demo_training.tagger import train_tagger, write_tagger

    torch.set_num_threads(THREADS)
    pool = _training_pool(job.seed)
    write_tagger(train_tagger(pool, epochs=5, seed=job.seed), pool.figures, job.demo / "models" / "demo-tag")


def run_captioner(job: Job) -> None:
    """Train the captioner and write its checkpoint folder."""
    import torch

    from scripts.demo_training.captioner import train_captioner, write_captioner

    torch.set_num_threads(THREADS)
    model, tokenizer = train_captioner(_training_pool(job.seed), epochs=12, tag_epochs=2, seed=job.seed)
    write_captioner(model, tokenizer, job.demo / "models" / "demo-caption")


def run_chat(job: Job) -> None:
    """Train the chat model around the captioner's vision tower, and write its checkpoint folder."""
    import torch
    from transformers import BlipForConditionalGeneration

    from scripts.demo_training.chat import train_chat, write_chat

    torch.set_num_threads(THREADS)
    captioner = BlipForConditionalGeneration.from_pretrained(job.demo / "models" / "demo-caption").eval()
    model, processor = train_chat(_training_pool(job.seed), captioner, steps=1_500, seed=job.seed)
    write_chat(model, processor, job.demo / "models" / "demo-chat")


def run_savedmodel(job: Job) -> None:
    """Write the tagger's SavedModel from its ONNX file."""
    from scripts.demo_training.savedmodel import write_savedmodel

    difference = write_savedmodel(job.demo / "models" / "demo-tag")
    print(f"savedmodel: differs from the ONNX model by at most {difference:.1e}")


def run_images(job: Job) -> None:
    """Draw the sample images."""
    from scripts.demo_training.images import write_images

    print(f"images: {write_images(job.demo) / 1e6:.2f} MB")


def run_evaluate(job: Job) -> None:
    """Measure the models on drawings that no training seed reaches."""
    from scripts.demo_training.evaluate import evaluate

    for name, value in evaluate(job.demo / "models").items():
        print(f"{name}: {value}")


STEPS: dict[str, Callable[[Job], None]] = {
    "tagger": run_tagger,
    "savedmodel": run_savedmodel,
    "captioner": run_captioner,
    "chat": run_chat,
    "images": run_images,
    "evaluate": run_evaluate,
}


def main() -> None:
    """Run the steps named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"any of {', '.join(STEPS)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawings, weights and order (default 0)")
    parser.add_argument("--output", type=Path, default=ROOT / "sdprep" / "demo", help="where models/ and images/ go")
    arguments = parser.parse_args()
    if unknown := set(arguments.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    for name, run in STEPS.items():
        if arguments.steps and name not in arguments.steps:
            continue
        if name == "savedmodel" and not arguments.steps and importlib.util.find_spec("tensorflow") is None:
            print("savedmodel: left out, as TensorFlow is not installed here; run this step where it is")
            continue
        started = time.monotonic()
        run(Job(arguments.output, arguments.seed))
        print(f"{name}: done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
