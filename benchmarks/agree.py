"""Compares sdprep's decoder with transformers' `generate`, caption by caption, on random weights in BLIP's real shapes.

    python -m benchmarks.agree --shape base --count 32 --batches 1,32
    python -m benchmarks.agree --shape large --count 4 --batches 1,4

Float32 on the CPU. transformers captions all images in batches of 4, sdprep the same images at each batch size; at
batch size 1 only the first four. A row has the number of captions with the same ids, and the largest difference between
scores. Captions may differ where two score the same: then rounding decides.
"""

import argparse
import time
from typing import Any

import torch
import transformers

from benchmarks.blip_models import END, PROMPT, SHAPES, TOKENS, random_blip
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.models.captioners.blip.verify import ReferenceDecoder
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GenerationConfig

RULES: dict[str, Any] = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words": ((1012,),)}
SEARCHES = {
    "greedy": GenerationConfig(max_new_tokens=TOKENS),
    "3 beams, all rules": GenerationConfig(num_beams=3, min_new_tokens=5, max_new_tokens=TOKENS, **RULES),
}


def noise(count: int) -> Images:
    """Normalised noise."""
    pixels = 2 * torch.randn(count, 3, 384, 384, generator=torch.Generator().manual_seed(1))
    return Images(tuple(range(count)), tuple(bytes([each]) for each in range(count)), pixels)


def compare(model: Any, whole: Images, name: str, batches: list[int]) -> None:
    """One row for each batch size and form of cross attention."""
    decoding = SEARCHES[name]
    reference = ReferenceDecoder(model, PROMPT, decoding)
    expected: dict[Any, Any] = {}
    for start in range(0, len(whole.keys), 4):
        expected |= dict(reference.captions([whole.part(start, start + 4)]))
    weights = take_weights(model, transformers.__version__)
    for size in batches:
        # The forms take turns, so that both are compared without doubling the time.
        absorbed = size > 1
        some = whole if size > 1 else whole.part(0, 4)
        engine = CaptionEngine(BlipNetwork(weights, absorbed=absorbed), PROMPT, END, decoding, size)
        pairs = [(texts[0], expected[key][0]) for key, texts in engine.captions([some])]
        same = sum(one.tokens == other.tokens for one, other in pairs)
        apart = max(abs(one.score - other.score) for one, other in pairs)
        form = "absorbed" if absorbed else "cached"
        print(f"| {name} | {size} | {form} | {same} of {len(pairs)} | {apart:.1e} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base")
    parser.add_argument("--count", type=int, default=32, help="images")
    parser.add_argument("--batches", default="1,32", help="batch sizes, separated by commas")
    arguments = parser.parse_args()
    started, whole = time.process_time(), noise(arguments.count)
    model = random_blip(arguments.shape, text_range=0.05)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {arguments.shape} shape")
    print("| search | batch | form | same ids | scores apart at most |\n|---|---|---|---|---|")
    for name in SEARCHES:
        compare(model, whole, name, [int(each) for each in arguments.batches.split(",")])
    print(f"{time.process_time() - started:.0f} CPU seconds")


if __name__ == "__main__":
    main()
