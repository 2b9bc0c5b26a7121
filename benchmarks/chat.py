"""Benchmarks a chat model with random weights of about 300 million, against transformers' `generate`.

    python -m benchmarks.chat --images 16 --repeats 3

Both are whole processes, from JPEG files to caption files, with the same batch size and the same number of tokens per
caption; they take turns. The contestant is a script as one would write it: open, template, processor, `generate`.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import ROOT, Taken, machine, run, spread

TOKENS = 24
WORDS = 32_000
MARKS = ("<pad>", "<unk>", "<s>", "</s>", "<image>")
TEMPLATE = (
    "<s>{% for part in messages[0]['content'] %}{{ part['text'] if part['type'] == 'text' else '<image>' }}{% endfor %}"
)
PROMPT = "w1 w2 w3"
DESCRIPTION = """
name = "random-llava"
task = "caption"
backend = "chat"
model_type = "llava"
files = ["config.json", "*.json", "*.jinja", "*.safetensors"]

[source]
path = "{folder}"

[prompt]
user = "{prompt}"

[image]
fit = "inside"
size = 1024

[generate]
min_new_tokens = {tokens}
max_new_tokens = {tokens}
"""


def write_model(folder: Path) -> int:
    """Write a llava of ViT-B and a language model of 12 layers; return the number of its weights."""
    import torch
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    table = {word: number for number, word in enumerate([*MARKS, *(f"w{number}" for number in range(WORDS - 5))])}
    words = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    torch.manual_seed(0)
    vision = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                              image_size=224, patch_size=14)  # fmt: skip
    text = LlamaConfig(vocab_size=WORDS, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12,
                       num_attention_heads=16, num_key_value_heads=16, bos_token_id=2, eos_token_id=3,
                       pad_token_id=0)  # fmt: skip
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=4))
    model.save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return sum(parameter.numel() for parameter in model.parameters())


def write_images(folder: Path, count: int) -> None:
    """Write textured JPEG files of about one megapixel."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        small = np.random.default_rng(number).integers(0, 256, (77, 102, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((1224, 924), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:03}.jpg", quality=90)


def generate(model_folder: Path, images: Path, batch: int) -> None:
    """Caption a folder as a script without sdprep would."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, LlavaProcessor

    model = AutoModelForImageTextToText.from_pretrained(model_folder).eval()
    processor = LlavaProcessor.from_pretrained(model_folder)
    paths = sorted(images.glob("*.jpg"))
    for start in range(0, len(paths), batch):
        some = paths[start : start + batch]
        content = [[{"type": "image", "image": Image.open(path).convert("RGB")}] for path in some]
        asked = [[{"role": "user", "content": [*each, {"type": "text", "text": PROMPT}]}] for each in content]
        inputs = processor.apply_chat_template(
            asked, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
        texts = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for path, text in zip(some, texts, strict=True):
            path.with_suffix(".caption").write_text(f"{text}\n", encoding="utf-8")


def measure(model: Path, images: Path, batch: int, repeats: int) -> tuple[dict[str, list[Taken]], int]:
    """What each contestant took in turns, and how many of their captions are the same."""
    description = model / "chat.toml"
    description.write_text(DESCRIPTION.format(folder=model, prompt=PROMPT, tokens=TOKENS), encoding="utf-8")
    ours: list[str | Path] = [
        sys.executable,
        "-m",
        "sdprep",
        "caption",
        images,
        "--model",
        description,
        "--device",
        "cpu",
    ]
    commands: dict[str, list[str | Path]] = {
        "generate": [sys.executable, "-m", "benchmarks.chat", "--generate", model, images, "--batch", str(batch)],
        "sdprep": [*ours, "--batch-size", str(batch)],
    }
    taken: dict[str, list[Taken]] = {name: [] for name in commands}
    texts: dict[str, dict[str, str]] = {}
    for _ in range(repeats):
        for name, command in commands.items():
            taken[name].append(run(command, cwd=ROOT))
            texts[name] = {path.name: path.read_text(encoding="utf-8") for path in images.glob("*.caption")}
            for path in images.glob("*.caption"):
                path.unlink()
            shutil.rmtree(images / ".sdprep", ignore_errors=True)
    return taken, sum(text == texts["generate"].get(name) for name, text in texts["sdprep"].items())


def print_against_generate(taken: dict[str, list[Taken]]) -> None:
    """Print a table of what contestants took, each run in turn against that of `generate`."""
    print("| contestant | seconds, clock | seconds, CPU | ratio, clock | ratio, CPU |\n|---|---|---|---|---|")
    for who, times in taken.items():
        pairs = list(zip(taken["generate"], times, strict=True))
        clock, cpu = [each.clock for each in times], [each.cpu for each in times]
        ratios = [spread([a.clock / b.clock for a, b in pairs]), spread([a.cpu / b.cpu for a, b in pairs])]
        print(f"| {who} | {spread(clock)} | {spread(cpu)} | {ratios[0]} | {ratios[1]} |")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--generate", nargs=2, type=Path, metavar=("MODEL", "IMAGES"), help="be the contestant")
    given = parser.parse_args()
    if given.generate:
        model, images = given.generate
        generate(model, images, given.batch)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = write_model(folder / "model")
        write_images(folder / "images", given.images)
        taken, same = measure(folder / "model", folder / "images", given.batch, given.repeats)
    print(f"{machine()}\n\n{weights / 1e6:.0f} million weights, {given.images} images, batch {given.batch}")
    print(f"{same} of {given.images} captions are the same\n")
    print_against_generate(taken)


if __name__ == "__main__":
    main()
