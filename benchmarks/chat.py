"""Benchmarks a chat model with random weights of about 300 million, against transformers' `generate`.

    python -m benchmarks.chat --images 16 --repeats 3

Both are whole processes, from JPEG files to caption files, with the same batch size and the same number of tokens per
caption; they take turns. The contestant is a script as one would write it: open, template, processor, `generate`.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.against_generate import Comparison

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


def describe(folder: Path) -> str:
    """What sdprep is told of the model."""
    return DESCRIPTION.format(folder=folder, prompt=PROMPT, tokens=TOKENS)


def load(folder: Path) -> Callable[[list[Path]], list[str]]:
    """The captioner of a script without sdprep."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, LlavaProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)

    def caption(paths: list[Path]) -> list[str]:
        content = [[{"type": "image", "image": Image.open(path).convert("RGB")}] for path in paths]
        asked = [[{"role": "user", "content": [*each, {"type": "text", "text": PROMPT}]}] for each in content]
        inputs = processor.apply_chat_template(
            asked, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS)
        texts: list[str] = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    return caption


if __name__ == "__main__":
    Comparison(
        module="benchmarks.chat", usage=__doc__, images=16, write_model=write_model, describe=describe, load=load
    ).main()
