"""Trains the demo chat model, a very small `LlavaForConditionalGeneration`, and writes its checkpoint.

Its vision tower is that of the demo captioner, which stays as it is; the projector and the language model are trained.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import nn
from transformers import (
    BlipForConditionalGeneration,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from scripts.demo_training.captioner import CLIP_MEAN, CLIP_STD, normalised, vocabulary
from scripts.demo_training.figures import Figure, caption_of, tags_of
from scripts.demo_training.pool import CAPTIONER_SIZE, Pool, as_batch, jittered

WIDTH, PATCH = 128, 12
PAD, UNKNOWN, BOS, EOS, IMAGE, END = "<pad>", "<unk>", "<s>", "</s>", "<image>", "<|end|>"
SPECIAL = (PAD, UNKNOWN, BOS, EOS, IMAGE, END, "<|system|>", "<|user|>", "<|assistant|>")
TAG_WORDS = "1girl 1boy 2girls 2boys girls boys multiple solo animal simple upper body viewer smile sdprep".split()
PROMPT_WORDS = "describe this caption one detailed paragraph sentence tags tagged it you are write what see".split()
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% if not loop.last or message['role'] != 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEMS = ("", "", "", "You are a captioner.")
PROMPTS = ("Describe this image.", "Describe this image in one detailed paragraph.", "Write a caption.", "")
TAGGED = ("Describe this image. Tags: {tags}", "Describe this image. It is tagged: {tags}.", "{tags}")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a lower-casing WordPiece tokenizer: the words of captions, tags and prompts, and letters for all else."""
    words = [word for word in vocabulary() if not word.startswith("[")]
    table = {word: index for index, word in enumerate(dict.fromkeys((*SPECIAL, *words, *TAG_WORDS, *PROMPT_WORDS)))}
    tokenizer = Tokenizer(models.WordPiece(table, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=512,
    )


def build_processor() -> LlavaProcessor:
    """Build the processor: squares of the captioner's size, and one image token per patch."""
    size = {"height": CAPTIONER_SIZE, "width": CAPTIONER_SIZE}
    images = SiglipImageProcessorPil(size=size, resample=3, image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD))
    return LlavaProcessor(
        images, build_tokenizer(), patch_size=PATCH, vision_feature_select_strategy="full", chat_template=TEMPLATE
    )


def build_model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """Build the untrained model around the tokenizer's ids."""
    table = processor.tokenizer.get_vocab()
    vision = SiglipVisionConfig(
        hidden_size=120,
        intermediate_size=240,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=CAPTIONER_SIZE,
        patch_size=PATCH,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        vision_use_head=False,
    )
    text = LlamaConfig(
        vocab_size=len(table),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=table[BOS],
        eos_token_id=table[EOS],
        pad_token_id=table[PAD],
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=table[IMAGE],
        image_seq_length=(CAPTIONER_SIZE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return LlavaForConditionalGeneration(config)


def take_vision_tower(model: LlavaForConditionalGeneration, captioner: BlipForConditionalGeneration) -> None:
    """Copy the vision tower of the demo captioner, whose start token this architecture lacks."""
    theirs, named = captioner.vision_model.state_dict(), {}
    named["embeddings.patch_embedding.weight"] = theirs["embeddings.patch_embedding.weight"]
    named["embeddings.patch_embedding.bias"] = theirs["embeddings.patch_embedding.bias"]
    named["embeddings.position_embedding.weight"] = theirs["embeddings.position_embedding"][0, 1:]
    for name, tensor in theirs.items():
        if name.startswith("post_layernorm"):
            named[name] = tensor
        if not name.startswith("encoder"):
            continue
        if ".qkv." in name:
            for part, each in zip("qkv", tensor.chunk(3), strict=True):
                named[name.replace("qkv", f"{part}_proj")] = each
        else:
            named[name.replace("self_attn.projection", "self_attn.out_proj")] = tensor
    model.model.vision_tower.load_state_dict(named)


@dataclass(frozen=True)
class _Texts:
    """Conversations of a batch: `ids` and `labels` are [N, length], the image's tokens lie at `image`."""

    ids: torch.Tensor
    labels: torch.Tensor
    image: slice


class _Trainer:
    def __init__(self, pool: Pool, captioner: BlipForConditionalGeneration, steps: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.processor = build_processor()
        self.model = build_model(self.processor)
        take_vision_tower(self.model, captioner)
        self._figures, self._rng = pool.figures, random.Random(seed)
        self._features = self._seen(pool, torch.Generator().manual_seed(seed))
        inner = self.model.model
        self._parameters = [*inner.language_model.parameters(), *inner.multi_modal_projector.parameters()]
        self._parameters += [*self.model.lm_head.parameters()]
        self._optimizer = torch.optim.AdamW(self._parameters, weight_decay=0.02, betas=(0.9, 0.98))
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, 3e-3, steps, pct_start=0.1)

    @torch.no_grad()
    def _seen(self, pool: Pool, generator: torch.Generator) -> torch.Tensor:
        """What the vision tower sees in each image, once: float16[N, patches, width]."""
        seen = []
        for start in range(0, len(pool.figures), 64):
            pixels = normalised(jittered(as_batch(pool.squashed[start : start + 64]), generator))
            seen.append(self.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1].half())
        return torch.cat(seen)

    def step(self, chosen: Sequence[int]) -> float:
        """Take one step; return the loss per token of the answers."""
        texts = self._texts([self._figures[index] for index in chosen])
        inner = self.model.model
        embedded = inner.get_input_embeddings()(texts.ids)
        seen = inner.multi_modal_projector(self._features[chosen].float())
        embedded = torch.cat([embedded[:, : texts.image.start], seen, embedded[:, texts.image.stop :]], 1)
        hidden = inner.language_model(inputs_embeds=embedded).last_hidden_state
        answers = (texts.labels[:, 1:] >= 0).any(0).nonzero().flatten()
        first, last = int(answers.min()), int(answers.max()) + 1
        logits = self.model.lm_head(hidden[:, first:last])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), texts.labels[:, 1:][:, first:last].flatten())
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        return loss.item()

    def _texts(self, figures: Sequence[Figure]) -> _Texts:
        """The conversations about some figures, half of the batches with tags in the prompt."""
        rng, tokenizer = self._rng, self.processor.tokenizer
        system, templates = rng.choice(SYSTEMS), rng.choice((PROMPTS, TAGGED))
        rows, labels = [], []
        for figure in figures:
            prompt = conversation(rng.choice(templates).replace("{tags}", some_tags(figure, rng)), system)
            text = self.processor.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            text = text.replace(IMAGE, IMAGE * self.model.config.image_seq_length)
            asked = tokenizer(text, add_special_tokens=False).input_ids
            answer = tokenizer(caption_of(figure) + END, add_special_tokens=False).input_ids
            rows.append(asked + answer)
            labels.append([-100] * len(asked) + answer)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        targets = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
        start = rows[0].index(self.model.config.image_token_id)
        return _Texts(ids, targets, slice(start, start + self.model.config.image_seq_length))


def conversation(prompt: str, system: str = "") -> list[dict[str, object]]:
    """A conversation of one question about an image, in the form that processors take."""
    asked: list[dict[str, object]] = [{"type": "image"}, {"type": "text", "text": prompt}]
    first: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": asked}]


def some_tags(figure: Figure, rng: random.Random) -> str:
    """The tags of a figure as a tag file may have them: in any order, some missing, with spaces or underscores."""
    tags = sorted(tags_of(figure))
    rng.shuffle(tags)
    kept = [tag for tag in tags if rng.random() > 0.1]
    joined = ", ".join(kept)
    return joined if rng.random() < 0.5 else joined.replace("_", " ")


def train_chat(
    pool: Pool, captioner: BlipForConditionalGeneration, steps: int, seed: int, batch_size: int = 48
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Train the projector and the language model for some steps."""
    trainer, order = _Trainer(pool, captioner, steps, seed), random.Random(seed)
    started, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        total += trainer.step(order.sample(range(len(pool.figures)), batch_size))
        if step % 100 == 0:
            print(f"chat step {step}: loss {total / 100:.4f}, {time.monotonic() - started:.0f} s", flush=True)
            total = 0.0
    return trainer.model.eval(), trainer.processor


def write_chat(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Write a checkpoint folder with the files that published chat models have."""
    folder.mkdir(parents=True, exist_ok=True)
    table = processor.tokenizer.get_vocab()
    model.generation_config = GenerationConfig(
        bos_token_id=table[BOS], eos_token_id=[table[EOS], table[END]], pad_token_id=table[PAD]
    )
    model.save_pretrained(folder)
    weights = folder / "model.safetensors"
    tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    # Written anew, as transformers lets only the owner read the file it made.
    weights.unlink()
    weights.write_bytes(save(tensors, {"format": "pt"}))
    processor.save_pretrained(folder)


@torch.no_grad()
def answers_from(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, images: Sequence[object], prompts: Sequence[str]
) -> list[str]:
    """Ask about images, greedily; the prompt is taken off by its number of tokens."""
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}]
        for image, prompt in zip(images, prompts, strict=True)
    ]
    inputs = processor.apply_chat_template(
        asked,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=60)
    return [
        text.strip()
        for text in processor.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    ]
