"""Benchmarks a Florence-2 of the base shape with random weights, against transformers' `generate`.

    python -m benchmarks.florence --images 8 --repeats 3

Both are whole processes, from JPEG files to caption files, with three beams and the same batch size; they take turns.
The contestant is a script as one would write it: open, resize, normalise, `generate`.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.against_generate import Comparison

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


def describe(folder: Path) -> str:
    """What sdprep is told of the model."""
    return DESCRIPTION.format(folder=folder, size=SIZE, mean=list(MEAN), std=list(STD), tokens=TOKENS)


def load(folder: Path) -> Callable[[list[Path]], list[str]]:
    """The captioner of a script without sdprep."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import Florence2ForConditionalGeneration, PreTrainedTokenizerFast

    model = Florence2ForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = torch.tensor([[IMAGE] * 577 + tokenizer(QUESTION).input_ids])
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))

    def caption(paths: list[Path]) -> list[str]:
        images = [Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC) for path in paths]
        pixels = torch.from_numpy(np.stack([np.asarray(each) for each in images])).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids.repeat(len(paths), 1), pixel_values=(pixels - mean) / std, do_sample=False,
                num_beams=BEAMS, early_stopping=True, no_repeat_ngram_size=3, forced_bos_token_id=0,
                min_new_tokens=TOKENS + 1, max_new_tokens=TOKENS + 1,
            )  # fmt: skip
        texts: list[str] = tokenizer.batch_decode(found, skip_special_tokens=True)
        return texts

    return caption


if __name__ == "__main__":
    Comparison(
        module="benchmarks.florence", usage=__doc__, images=8, write_model=write_model, describe=describe, load=load
    ).main()
