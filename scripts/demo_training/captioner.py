"""Trains the demo captioner, a very small `BlipForConditionalGeneration`, and writes its checkpoint."""

import json
import random
import string
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipTextConfig,
    BlipVisionConfig,
    GenerationConfig,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from scripts.demo_training.figures import BACKGROUNDS, CLOSED, EYE_COLOURS, HAIR_COLOURS, caption_of
from scripts.demo_training.pool import CAPTIONER_SIZE, Pool, as_batch, jittered
from scripts.demo_training.tagger import LABELS, targets_of

PROMPT = "a picture of"
WIDTH = 120
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "a an the image photo drawing image of in with and on is at s girl boy woman man person people hair "
    "long short eyes ears cat hat glasses scarf wearing smiling background left right front looking"
).split()


def vocabulary() -> list[str]:
    """Return the WordPiece vocabulary: the captions' words, and single letters and digits for all else."""
    colours = dict.fromkeys((*HAIR_COLOURS, *EYE_COLOURS, *BACKGROUNDS, CLOSED))
    letters = string.ascii_lowercase + string.digits
    plain = dict.fromkeys((*string.punctuation, *letters, *WORDS, *colours))
    pieces = [*(f"##{letter}" for letter in letters), "##s", "##ing", "##ed", "##er", "##ly"]
    return list(dict.fromkeys((*SPECIAL, *plain, *pieces, "[DEC]", "[ENC]")))


def build_tokenizer() -> BertTokenizer:
    """Build the lower-casing BERT tokenizer, with BLIP's two extra special tokens at the end."""
    table = {token: index for index, token in enumerate(vocabulary())}
    return BertTokenizer(
        vocab=table,
        do_lower_case=True,
        bos_token="[DEC]",
        additional_special_tokens=["[DEC]", "[ENC]"],
        model_max_length=128,
    )


def build_model(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    """Build the untrained model, with every token id and head count, as BLIP's defaults do not fit."""
    table = tokenizer.get_vocab()
    text = BlipTextConfig(
        vocab_size=len(table),
        hidden_size=WIDTH,
        encoder_hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=table["[DEC]"],
        eos_token_id=table["[SEP]"],
        sep_token_id=table["[SEP]"],
        pad_token_id=table["[PAD]"],
    )
    vision = BlipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=CAPTIONER_SIZE,
        patch_size=12,
        # BLIP's default of 1e-10 is meant for loading weights, not for training.
        initializer_range=0.02,
    )
    return BlipForConditionalGeneration(BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Scale float32[N, 3, H, W] in 0..255 by CLIP's mean and standard deviation."""
    mean = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
    return (pixels / 255 - mean) / torch.tensor(CLIP_STD).view(1, 3, 1, 1)


def _encode(tokenizer: BertTokenizer, captions: Sequence[str], prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    texts = [f"{prompt} {caption}".strip() for caption in captions]
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    ids[:, 0] = tokenizer.convert_tokens_to_ids("[DEC]")
    labels = ids.masked_fill(encoded.attention_mask == 0, -100)
    # As BLIP does: no loss on [DEC] and the prompt, which the caller always gives.
    labels[:, : len(tokenizer.tokenize(prompt)) + 1] = -100
    return ids, labels


class _Trainer:
    def __init__(self, pool: Pool, steps: int, seed: int, batch_size: int) -> None:
        torch.manual_seed(seed)
        self.tokenizer = build_tokenizer()
        self.model = build_model(self.tokenizer).train()
        self._generator = torch.Generator().manual_seed(seed)
        # Naming the tags from the mean patch gets the vision tower going; the head is dropped after that.
        self._tag_head = nn.Linear(WIDTH, len(LABELS))
        self._pool, self._targets = pool, torch.from_numpy(targets_of(pool.figures))
        captions = [caption_of(figure) for figure in pool.figures]
        self._texts = [_encode(self.tokenizer, captions, prompt) for prompt in (PROMPT, "")]
        parameters = [*self.model.parameters(), *self._tag_head.parameters()]
        self._optimizer = torch.optim.AdamW(parameters, weight_decay=0.02, betas=(0.9, 0.98))
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, 2e-3, steps, pct_start=0.1)
        self._batch_size = batch_size

    def step(self, chosen: Sequence[int], tags_only: bool) -> tuple[float, float]:
        """Take one step; return the caption loss (per token) and the tag loss."""
        pixels = normalised(jittered(as_batch(self._pool.squashed[chosen]), self._generator))
        seen = self.model.vision_model(pixels).last_hidden_state
        logits = self._tag_head(seen.mean(1))
        tag_loss = functional.binary_cross_entropy_with_logits(logits, self._targets[chosen])
        caption_loss = torch.zeros(())
        if not tags_only:
            # Every fourth batch has no prompt, so that captions from [DEC] alone work too.
            ids, labels = self._texts[int(torch.rand((), generator=self._generator) < 0.25)]
            longest = int((labels[chosen] >= 0).any(0).nonzero().max()) + 1
            output = self.model.text_decoder(
                input_ids=ids[chosen, :longest], labels=labels[chosen, :longest], encoder_hidden_states=seen
            )
            caption_loss = output.loss
        self._optimizer.zero_grad()
        (caption_loss + 5 * tag_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        return caption_loss.item(), tag_loss.item()


def train_captioner(
    pool: Pool, epochs: int, tag_epochs: int, seed: int, batch_size: int = 64
) -> tuple[BlipForConditionalGeneration, BertTokenizer]:
    """Train on the squashed images of a pool: first `tag_epochs` of the vision tower alone, then all."""
    steps = len(pool.figures) // batch_size
    trainer = _Trainer(pool, epochs * steps, seed, batch_size)
    order = random.Random(seed)
    for epoch in range(epochs):
        started, losses = time.monotonic(), np.zeros(2)
        indices = order.sample(range(len(pool.figures)), len(pool.figures))
        for step in range(steps):
            chosen = indices[step * batch_size : (step + 1) * batch_size]
            losses += trainer.step(chosen, tags_only=epoch < tag_epochs)
        words, tags = losses / steps
        seconds = time.monotonic() - started
        print(f"captioner epoch {epoch + 1}: caption {words:.4f}, tags {tags:.4f}, {seconds:.0f} s", flush=True)
    return trainer.model.eval(), trainer.tokenizer


def _name_special_tokens_as_published(path: Path) -> None:
    """Give [DEC] and [ENC] the key of the published checkpoints, which transformers 4 reads as well."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_weights(model: BlipForConditionalGeneration, path: Path) -> None:
    """Write every tensor, and the output layer that shares the word embeddings, as published files do."""
    tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    # Written anew, as transformers lets only the owner read the file it made.
    path.unlink()
    path.write_bytes(save(tensors, {"format": "pt"}))


def write_captioner(model: BlipForConditionalGeneration, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write a checkpoint folder with the same files as the published BLIP checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    text = model.config.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.sep_token_id, pad_token_id=text.pad_token_id
    )
    model.save_pretrained(folder)
    _write_weights(model, folder / "model.safetensors")
    tokenizer.save_pretrained(folder)
    _name_special_tokens_as_published(folder / "tokenizer_config.json")
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    size = {"height": CAPTIONER_SIZE, "width": CAPTIONER_SIZE}
    BlipImageProcessorPil(size=size, resample=3, image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD)).save_pretrained(
        folder
    )


@torch.no_grad()
def captions_from(
    model: BlipForConditionalGeneration,
    tokenizer: BertTokenizer,
    pixels: torch.Tensor,
    prompt: str,
    beams: int,
) -> list[str]:
    """Caption float32[N, 3, size, size] in 0..255; the prompt is taken off by its number of tokens."""
    start = tokenizer([prompt] * len(pixels), return_tensors="pt").input_ids
    ids = model.generate(normalised(pixels), input_ids=start, num_beams=beams, do_sample=False, max_new_tokens=60)
    return [text.strip() for text in tokenizer.batch_decode(ids[:, start.shape[1] - 1 :], skip_special_tokens=True)]
