"""BLIP captioners through transformers; the only file that imports torch and transformers."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sdprep.config import CaptionSettings
from sdprep.errors import MissingExtra, ModelError, UsageError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.types import Batch, Caption, Prediction

if TYPE_CHECKING:
    import torch

    from sdprep.types import Pixels


class BlipCaptioner:
    """A `BlipForConditionalGeneration` with its tokenizer, decoding as the settings say.

    The prompt conditions the decoder and is cut from the answer by its number of tokens. Lengths count the tokens of
    the caption. Raises MissingExtra without torch and transformers, ModelError if the files are not a BLIP captioner.
    """

    def __init__(self, spec: ModelSpec, files: ModelFiles, settings: CaptionSettings) -> None:
        self._torch, transformers = _import_frameworks()
        _check_config(files)
        self._device = _device(self._torch, settings.device)
        self._dtype = getattr(self._torch, settings.dtype)
        transformers.logging.disable_progress_bar()
        try:
            self._tokenizer = transformers.BertTokenizer.from_pretrained(files.folder)
            model, loading = transformers.BlipForConditionalGeneration.from_pretrained(
                files.folder,
                dtype=self._dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # transformers raises whatever a wrong file leads it to
            raise ModelError(f"{files.folder} cannot be loaded as a BLIP captioner: {error}") from error
        if loading["missing_keys"]:
            # transformers would go on with random numbers in their place.
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise ModelError(f"{files.folder} lacks weights of a BLIP captioner: {missing}, ...")
        self._model = model.to(self._device).eval()
        self._settings = settings
        self._mean, self._std = spec.image.mean, spec.image.std
        self._prompt = self._prompt_ids(settings.prompt)
        self.fit = spec.image.fit_to(model.config.vision_config.image_size)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The captions of every picture.

        A sampled caption is drawn from a stream of its own, so it depends on the picture and the seed alone and not
        on the pictures beside it.
        """
        for batch in batches:
            if not self._settings.sample:
                yield from zip(batch.keys, self._generate(batch.pixels), strict=True)
                continue
            for key, digest, pixels in zip(batch.keys, batch.digests, batch.pixels, strict=True):
                with self._torch.random.fork_rng():
                    self._torch.manual_seed(_seed_of(digest, self._settings.seed))
                    caption = self._generate(pixels[None])[0]
                yield key, caption

    def close(self) -> None:
        """Free the weights."""
        del self._model

    def _prompt_ids(self, prompt: str) -> list[int]:
        """The ids that start every decoding: [DEC] in place of [CLS], then the prompt, without its final [SEP]."""
        ids = self._tokenizer(prompt).input_ids[1:-1] if prompt.strip() else []
        return [self._model.config.text_config.bos_token_id, *ids]

    def _generate(self, pixels: Pixels) -> list[Caption]:
        torch = self._torch
        settings = self._settings
        # generate() replaces the first id by [DEC] and drops the last, so it is given one to drop.
        ids = [*self._prompt, self._model.config.text_config.sep_token_id]
        decoding: dict[str, Any] = {"num_beams": 1 if settings.sample else settings.num_beams}
        if settings.sample:
            decoding |= {"do_sample": True, "top_p": settings.top_p, "top_k": 0}
        with torch.inference_mode():
            output = self._model.generate(
                pixel_values=self._normalized(pixels),
                # Copied for every call: generate() writes into it.
                input_ids=torch.tensor([ids] * len(pixels), device=self._device),
                min_new_tokens=settings.min_length,
                max_new_tokens=settings.max_length,
                return_dict_in_generate=True,
                output_logits=True,
                **decoding,
            )
            scores = self._model.text_decoder.compute_transition_scores(
                output.sequences, output.logits, getattr(output, "beam_indices", None), normalize_logits=True
            )
        rows = output.sequences[:, len(self._prompt) :].tolist()
        return [self._caption(row, score) for row, score in zip(rows, scores.float().tolist(), strict=True)]

    def _normalized(self, pixels: Pixels) -> torch.Tensor:
        """Pixels, uint8[N, H, W, 3], as the weights want them: channels first, mean and deviation taken out."""
        on_device = partial(self._torch.tensor, device=self._device)
        values = self._torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float()
        mean, std = on_device(self._mean).view(1, 3, 1, 1), on_device(self._std).view(1, 3, 1, 1)
        normalized: torch.Tensor = ((values / 255 - mean) / std).to(self._dtype)
        return normalized

    def _caption(self, ids: list[int], scores: list[float]) -> Caption:
        end = self._model.config.text_config.sep_token_id
        stopped = end in ids
        tokens = ids[: ids.index(end)] if stopped else ids
        counted = scores[: len(tokens) + stopped]
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        score = sum(counted) / max(1, len(counted))
        return Caption(text, len(tokens), "stop" if stopped else "length", score)


def _seed_of(digest: bytes, seed: int) -> int:
    return int.from_bytes(digest[:8], "big") ^ (seed & 0xFFFFFFFFFFFFFFFF)


def _import_frameworks() -> tuple[Any, Any]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "caption") from error
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("transformers", "caption") from error
    return torch, transformers


def _device(torch: Any, wanted: str) -> Any:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {wanted}: this torch {torch.__version__} sees no CUDA device")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this torch sees no Metal device")
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {wanted}: {str(error).splitlines()[0]}") from error
    return torch.device(wanted)


def _check_config(files: ModelFiles) -> None:
    """Refuse what transformers would silently get wrong: its default of 8 decoder heads fits no BLIP (they have 12)."""
    path = files.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        heads = config["text_config"].get("num_attention_heads")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is not the configuration of a BLIP captioner: {error!r}") from error
    if config.get("model_type") != "blip":
        raise ModelError(f"{path} describes a {config.get('model_type')!r} model, not 'blip'")
    if heads is None:
        raise ModelError(f"{path} does not say text_config.num_attention_heads, and the default is wrong for BLIP")
