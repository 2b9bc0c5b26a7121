"""BLIP captioners: loads them with transformers, and decodes with sdprep's own loop or with transformers'."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sdprep.config import CaptionSettings
from sdprep.errors import MissingExtra, ModelError, UsageError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.blip_attention import prefers_absorbed
from sdprep.models.blip_engine import CaptionEngine, Pictures
from sdprep.models.blip_network import BlipNetwork
from sdprep.models.blip_reference import ReferenceDecoder, check_agreement
from sdprep.models.blip_weights import take_weights
from sdprep.models.decoding import Decoding, Hypothesis
from sdprep.types import Batch, Caption, Fit, Prediction

if TYPE_CHECKING:
    import torch


class BlipCaptioner:
    """A `BlipForConditionalGeneration` with its tokenizer, decoding as the settings say.

    The prompt conditions the decoder and is cut from the answer by its number of tokens. Lengths count the tokens of
    the caption. A sampled caption is drawn from a stream of its own, so it depends on the picture and the seed alone
    and not on the pictures beside it. The fast decoder is compared with transformers on the first picture of a run.
    Raises MissingExtra without torch and transformers, ModelError if the files are not a BLIP captioner.
    """

    def __init__(self, spec: ModelSpec, files: ModelFiles, settings: CaptionSettings) -> None:
        self._torch, transformers = _import_frameworks()
        _check_config(files)
        self._device = _device(self._torch, settings.device)
        self._dtype = getattr(self._torch, settings.dtype)
        self._tokenizer, model = _load(transformers, files, self._dtype)
        model = model.to(self._device).eval()
        self._mean, self._std = spec.image.mean, spec.image.std
        prompt, decoding = self._prompt_ids(settings.prompt, model), _decoding(settings)
        self._versions = f"torch {self._torch.__version__}, transformers {transformers.__version__}"
        self._reference: ReferenceDecoder | None = ReferenceDecoder(model, prompt, decoding)
        self._engine: CaptionEngine | None = None
        if settings.decoder == "fast":
            weights = take_weights(model, transformers.__version__)
            network = BlipNetwork(weights, absorbed=prefers_absorbed(self._device.type, decoding))
            end = model.config.text_config.sep_token_id
            self._engine = CaptionEngine(network, prompt, end, decoding, settings.work.batch_size)
        self.fit = Fit(model.config.vision_config.image_size, spec.image.fit, spec.image.pad_color)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The captions of every picture; a caption that is short may come before a longer one of an earlier batch."""
        decoder = self._engine or self._reference
        if decoder is None:
            raise ValueError("the captioner is closed")
        for key, (best, *_) in decoder.captions(self._checked(map(self._prepared, batches))):
            yield key, self._caption(best)

    def close(self) -> None:
        """Free the weights."""
        self._engine = self._reference = None

    def _checked(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        for pictures in batches:
            if self._engine is not None and self._reference is not None:
                first = Pictures(pictures.keys[:1], pictures.digests[:1], pictures.pixels[:1])
                check_agreement(self._engine, self._reference, first, self._versions)
                # It has done its service; with it go the weights that are held twice.
                self._reference = None
            yield pictures

    def _prompt_ids(self, prompt: str, model: Any) -> list[int]:
        """The ids that start every decoding: [DEC] in place of [CLS], then the prompt, without its final [SEP]."""
        ids = self._tokenizer(prompt).input_ids[1:-1] if prompt.strip() else []
        return [model.config.text_config.bos_token_id, *ids]

    def _prepared(self, batch: Batch) -> Pictures:
        """Pixels, uint8[N, H, W, 3], as the weights want them: channels first, mean and deviation taken out."""
        on_device = partial(self._torch.tensor, device=self._device)
        pixels = self._torch.from_numpy(np.ascontiguousarray(batch.pixels))
        values = pixels.to(self._device).permute(0, 3, 1, 2).float()
        mean, std = on_device(self._mean).view(1, 3, 1, 1), on_device(self._std).view(1, 3, 1, 1)
        return Pictures(batch.keys, batch.digests, ((values / 255 - mean) / std).to(self._dtype))

    def _caption(self, found: Hypothesis) -> Caption:
        text = self._tokenizer.decode(list(found.tokens), skip_special_tokens=True)
        return Caption(text, len(found.tokens), found.finish_reason, found.score)


def _decoding(settings: CaptionSettings) -> Decoding:
    return Decoding(
        num_beams=1 if settings.sample else settings.num_beams,
        min_new_tokens=settings.min_length,
        max_new_tokens=settings.max_length,
        sample=settings.sample,
        top_p=settings.top_p,
        seed=settings.seed,
    )


def _load(transformers: Any, files: ModelFiles, dtype: torch.dtype) -> tuple[Any, Any]:
    """The tokenizer and the model. Raises ModelError if the files lack a part of either."""
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = transformers.BertTokenizer.from_pretrained(files.folder)
        model, loading = transformers.BlipForConditionalGeneration.from_pretrained(
            files.folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises whatever a wrong file leads it to
        raise ModelError(f"{files.folder} cannot be loaded as a BLIP captioner: {error}") from error
    if loading["missing_keys"]:
        # transformers would go on with random numbers in their place.
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise ModelError(f"{files.folder} lacks weights of a BLIP captioner: {missing}, ...")
    return tokenizer, model


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
