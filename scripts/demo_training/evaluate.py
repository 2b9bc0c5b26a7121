"""Measures the written demo models on drawings that they have not seen."""

from pathlib import Path

import numpy as np
import onnxruntime
from transformers import BertTokenizer, BlipForConditionalGeneration, LlavaForConditionalGeneration, LlavaProcessor

from scripts.demo_training.captioner import PROMPT, captions_from
from scripts.demo_training.chat import answers_from
from scripts.demo_training.figures import caption_of, tags_of
from scripts.demo_training.pool import as_batch, draw_example, draw_pool
from scripts.demo_training.tagger import targets_of

BATCH = 50


def _megabytes(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6:.2f} MB"


def _evaluate_chat(models: Path, count: int, seed: str) -> dict[str, str]:
    """Exact captions of the chat model, alone and with every tag in its prompt."""
    folder = models / "demo-chat"
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    examples = [draw_example(f"{seed}-{index}", 200, 1024) for index in range(count)]
    found = {}
    for name, prompt in (("without tags", "Describe this image."), ("with tags", "Describe this image. Tags: {tags}")):
        right = 0
        for start in range(0, count, BATCH):
            part = examples[start : start + BATCH]
            prompts = [prompt.replace("{tags}", ", ".join(sorted(tags_of(figure)))) for figure, _ in part]
            answers = answers_from(model, processor, [image for _, image in part], prompts)
            right += sum(answer == caption_of(figure) for answer, (figure, _) in zip(answers, part, strict=True))
        found[f"chat captions exactly right, {name} in the prompt"] = f"{right / count:.3f}"
    return found


def evaluate(models: Path, count: int = 500, seed: str = "unseen", threshold: float = 0.35) -> dict[str, str]:
    """Return what was measured, as text by name: tag micro-F1, exact captions, sizes of the folders."""
    pool = draw_pool(count, seed, low=200, high=1024)
    session = onnxruntime.InferenceSession(models / "demo-tag" / "model.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(None, {"input_1:0": pool.padded[..., ::-1].astype(np.float32)})[0]
    given, true = np.asarray(scores) >= threshold, targets_of(pool.figures) > 0.5
    figures = {"tag micro-F1": f"{2 * (given & true).sum() / (given.sum() + true.sum()):.4f}"}
    figures["all tags of an image right"] = f"{(given == true).all(1).mean():.3f}"
    folder = models / "demo-caption"
    model = BlipForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    truth = [caption_of(figure) for figure in pool.figures]
    for prompt, beams in ((PROMPT, 1), (PROMPT, 3), ("", 1)):
        captions: list[str] = []
        for start in range(0, count, BATCH):
            pixels = as_batch(pool.squashed[start : start + BATCH])
            captions += captions_from(model, tokenizer, pixels, prompt, beams)
        exact = np.mean([caption == right for caption, right in zip(captions, truth, strict=True)])
        figures[f"captions exactly right, prompt {prompt!r}, {beams} beams"] = f"{exact:.3f}"
    figures |= _evaluate_chat(models, count, seed)
    for name in ("demo-tag", "demo-caption", "demo-chat"):
        figures[f"size of {name}"] = _megabytes(models / name)
    return figures
