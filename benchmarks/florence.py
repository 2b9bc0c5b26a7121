"""Benchmarks a Florence-2 of the base shape with random weights, against transformers' `generate`.

    python -m benchmarks.florence --images 8 --repeats 3

Both are whole processes, from JPEG files to caption files, with three beams and the same batch size; they take turns.
The contestant is a script as one would write it: open, resize, normalise, `generate`.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.chat import print_against_generate, write_images
from benchmarks.measure import ROOT, Taken, machine, run

SIZE, WORDS, IMAGE = 768, 51_290, 51_289
TOKENS, BEAMS = 40, 3
QUESTION = "What does the image describe?"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DESCRIPTION = """
name = "random-florence"
task = "caption"
backend = "task"
model_type = "florence2"
files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]

[source]
path = "{folder}"

[prompt]
user = "<CAPTION>"

[image]
fit = "squash"
size = {size}
scale = "0..1"
mean = {mean}
std = {std}

[generate]
min_new_tokens = {tokens}
max_new_tokens = {tokens}
"""


def write_model(folder: Path) -> int:
    """Write a model of the base shape with a tokenizer of bytes; return the number of its weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import Florence2Config, Florence2ForConditionalGeneration, PreTrainedTokenizerFast

    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    known = [*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    table = {word: number for number, word in enumerate([*known, *(f"w{n}" for n in range(WORDS - len(known)))])}
    words = Tokenizer(models.BPE(table, [], unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)
    torch.manual_seed(0)
    text = {"model_type": "bart", "d_model": 768, "vocab_size": WORDS, "max_position_embeddings": 4096}
    text |= {f"{part}_layers": 6 for part in ("encoder", "decoder")}
    text |= {f"{part}_attention_heads": 12 for part in ("encoder", "decoder")}
    text |= {f"{part}_ffn_dim": 3072 for part in ("encoder", "decoder")}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = Florence2Config(text_config=text, vision_config={"projection_dim": 768}, image_token_id=IMAGE)
    model = Florence2ForConditionalGeneration(config)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def generate(model_folder: Path, images: Path, batch: int) -> None:
    """Caption a folder as a script without sdprep would."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import Florence2ForConditionalGeneration, PreTrainedTokenizerFast

    model = Florence2ForConditionalGeneration.from_pretrained(model_folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_folder)
    paths = sorted(images.glob("*.jpg"))
    ids = torch.tensor([[IMAGE] * 577 + tokenizer(QUESTION).input_ids])
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    for start in range(0, len(paths), batch):
        some = paths[start : start + batch]
        pictures = [Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC) for path in some]
        pixels = torch.from_numpy(np.stack([np.asarray(each) for each in pictures])).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids.repeat(len(some), 1), pixel_values=(pixels - mean) / std, do_sample=False,
                num_beams=BEAMS, early_stopping=True, no_repeat_ngram_size=3, forced_bos_token_id=0,
                min_new_tokens=TOKENS + 1, max_new_tokens=TOKENS + 1,
            )  # fmt: skip
        for path, text in zip(some, tokenizer.batch_decode(found, skip_special_tokens=True), strict=True):
            path.with_suffix(".caption").write_text(f"{text}\n", encoding="utf-8")


def measure(model: Path, images: Path, batch: int, repeats: int) -> dict[str, list[Taken]]:
    """What each contestant took, in turns."""
    description = model / "florence.toml"
    text = DESCRIPTION.format(folder=model, size=SIZE, mean=list(MEAN), std=list(STD), tokens=TOKENS)
    description.write_text(text, encoding="utf-8")
    ours: list[str | Path] = [
        "sdprep",
        "caption",
        images,
        "--model",
        description,
        "--device",
        "cpu",
        "--batch-size",
        str(batch),
    ]
    theirs: list[str | Path] = ["benchmarks.florence", "--generate", model, images, "--batch", str(batch)]
    taken: dict[str, list[Taken]] = {"generate": [], "sdprep": []}
    for _ in range(repeats):
        for name, words in (("generate", theirs), ("sdprep", ours)):
            taken[name].append(run([sys.executable, "-m", *words], cwd=ROOT))
            for path in images.glob("*.caption"):
                path.unlink()
            shutil.rmtree(images / ".sdprep", ignore_errors=True)
    return taken


def main() -> None:
    """Measure, and print what each took and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--generate", nargs=2, type=Path, metavar=("MODEL", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        model, images = options.generate
        generate(model, images, options.batch)
        return
    with tempfile.TemporaryDirectory() as folder:
        model, images = Path(folder, "model"), Path(folder, "images")
        weights = write_model(model)
        write_images(images, options.images)
        taken = measure(model, images, options.batch, options.repeats)
    print(f"{machine()}\n\n{weights / 1e6:.0f} million weights, {options.images} images, batch {options.batch}\n")
    print_against_generate(taken)


if __name__ == "__main__":
    main()
