"""Florence-2 captioners: one task token for a run, three beams, and sdprep's own decode loop or transformers'."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sdprep.errors import ModelError, UsageError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.blip.images import Images, Normalizer
from sdprep.models.captioners.blip.layers import prefers_absorbed
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.retry import Decoder
from sdprep.models.captioners.florence.network import FlorenceNetwork, make_decoder
from sdprep.models.captioners.florence.reference import FlorenceReference, check_score
from sdprep.models.captioners.frameworks import check_loaded, find_device, import_torch, import_transformers
from sdprep.models.captioners.generation import CaptionOptions, GeneratedCaption
from sdprep.models.captioners.trust import read_configs
from sdprep.models.execution import Execution
from sdprep.models.parse import as_type, cause
from sdprep.types import Batch, Caption, Prediction

if TYPE_CHECKING:
    import torch

# What each task token stands for: the weights were trained on these questions
# (transformers 5.24, Florence2Processor).
QUESTIONS = {
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
}


class _TextConfig(msgspec.Struct):
    """What a `config.json` says of the decoder."""

    bos_token_id: int = 0
    eos_token_id: int = 2
    decoder_start_token_id: int = 2

    @property
    def prompt(self) -> tuple[int, int]:
        """The ids that start every sequence."""
        return self.decoder_start_token_id, self.bos_token_id


class _Config(msgspec.Struct):
    model_type: str
    image_token_id: int
    text_config: _TextConfig


class FlorenceCaptioner:
    """A `Florence2ForConditionalGeneration` that answers the task token in each image's prompt.

    Every caption begins as those of its training did, which counts neither as prompt nor as caption. In float32, the
    score of a run's first caption is compared with the one that transformers gives it.
    Raises MissingExtra without torch and transformers, ModelError if the files are not a Florence-2, UsageError for
    options that it cannot use.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        spec: ModelSpec,
        files: ModelFiles,
        execution: Execution,
        options: CaptionOptions,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = _checked_config(files.folder)
        if execution.dtype == "int8":
            raise UsageError("--dtype int8 is for BLIP; use float32 with this model")
        torch = import_torch("caption")
        self._device = find_device(torch, execution.device)
        transformers = import_transformers("caption", ("PreTrainedTokenizerFast", "Florence2ForConditionalGeneration"))
        self.provider: str = self._device.type
        dtype = getattr(torch, execution.dtype)
        self._tokenizer = _load_tokenizer(transformers, files.folder)
        self._model = _load_model(transformers, files.folder, dtype).to(self._device).eval()
        self._normalizer = Normalizer(spec.image, self._device, dtype)
        self._version, self._note = transformers.__version__, note
        # As the weights were published: a search ends when there are as many captions as beams.
        beams = options.generation.num_beams > 1
        self._decoding = replace(options.generation, early_stopping=beams, forced_tokens=1)
        self._is_reference, self._capacity = options.reference, execution.batch_size
        absorbed = prefers_absorbed(self._device.type, self._decoding)
        self._decoder = None if options.reference else make_decoder(self._model, self._version, absorbed=absorbed)
        self._decoders: dict[str, Decoder] = {}
        self._to_check = not options.reference and dtype == torch.float32
        self.fit = spec.image.fit_to(spec.image.size or 768)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The captions of every image; a short caption may come before a longer one of an earlier batch."""
        for prompt, some in groupby(self._by_prompt(batches), lambda found: found[0]):
            for key, found in self._checked(prompt, (images for _, images in some)):
                best, *others = map(self._caption, found)
                yield key, replace(best, others=tuple(others))

    def close(self) -> None:
        """Free the weights."""
        self._decoders.clear()
        self._model = self._decoder = None

    def _by_prompt(self, batches: Iterable[Batch]) -> Iterator[tuple[str, Images]]:
        """The images of the batches with their prompts, those of a batch with the same prompt together."""
        for batch in batches:
            images, start = self._normalizer(batch), 0
            for prompt, some in groupby(batch.prompts):
                stop = start + sum(1 for _ in some)
                yield prompt, images.part(start, stop)
                start = stop

    def _checked(self, prompt: str, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of images with the same prompt, of which the first of a run is checked before it is given."""
        held: dict[Hashable, torch.Tensor] = {}

        def arriving() -> Iterator[Images]:
            for images in batches:
                if self._to_check:
                    held.update(zip(images.keys, images.pixels, strict=True))
                yield images

        for key, found in self._decoder_for(prompt).captions(arriving()):
            if self._to_check:
                self._to_check = False
                self._note("checking sdprep's decoder against transformers on the first caption")
                check_score(self._reference(prompt), held[key], found[0], self._version)
                held.clear()
            yield key, found

    def _decoder_for(self, prompt: str) -> Decoder:
        if prompt not in self._decoders:
            make = self._reference(prompt) if self._is_reference else self._engine(prompt, self._capacity)
            self._decoders[prompt] = make
        return self._decoders[prompt]

    def _engine(self, prompt: str, capacity: int) -> CaptionEngine:
        text = self._config.text_config
        if self._decoder is None:
            raise ValueError("the captioner is closed")
        network = FlorenceNetwork(self._model, self._decoder, self._question(prompt))
        return CaptionEngine(network, text.prompt, text.eos_token_id, self._decoding, capacity, self._note)

    def _reference(self, prompt: str) -> FlorenceReference:
        text = self._config.text_config
        question = self._question(prompt)
        return FlorenceReference(self._model, question, text.prompt, text.eos_token_id, self._decoding)

    def _question(self, prompt: str) -> torch.Tensor:
        """The ids that the encoder reads: the places of the image's tokens, then what the task token stands for.

        Raises UsageError for a prompt that is no task token.
        """
        import torch

        if prompt not in QUESTIONS:
            raise UsageError(f"--prompt {prompt}: this model takes one of {', '.join(QUESTIONS)}")
        ids = self._tokenizer(QUESTIONS[prompt]).input_ids
        image = [self._config.image_token_id] * image_tokens(self._model.config.vision_config, self.fit.size)
        return torch.tensor([*image, *ids], device=self._device)

    def _caption(self, found: GeneratedCaption) -> Caption:
        text = self._tokenizer.decode(list(found.tokens), skip_special_tokens=True).strip()
        return Caption(text, len(found.tokens), found.finish_reason, found.score)


def image_tokens(vision: Any, side: int) -> int:
    """How many tokens the encoder gets of a square: one for each place that the convolutions leave, and their mean."""
    for kernel, stride, padding in zip(vision.patch_size, vision.patch_stride, vision.patch_padding, strict=True):
        side = (side + 2 * padding - kernel) // stride + 1
    return side * side + 1


def _checked_config(folder: Path) -> _Config:
    """What config.json says, after it is known to ask for no code. Raises ModelError if it is of another model."""
    path = folder / "config.json"
    config = as_type(read_configs(folder).get(path.name, {}), _Config, path)
    if config.model_type != "florence2":
        raise ModelError(
            f"{path} describes a {config.model_type!r:.60} model, not 'florence2'\n"
            "Use the converted weights of florence-community, which need no code of their own"
        )
    return config


def _load_tokenizer(transformers: Any, folder: Path) -> Any:
    try:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        tokenizer.decode(tokenizer("a b").input_ids, skip_special_tokens=True)
    except Exception as error:  # a wrong file can make transformers raise anything
        raise ModelError(f"the tokenizer files in {folder} cannot be used: {cause(error)}") from error
    return tokenizer


def _load_model(transformers: Any, folder: Path, dtype: torch.dtype) -> Any:
    """The model of a safetensors file. Raises ModelError if a weight is missing or has another shape."""
    transformers.logging.disable_progress_bar()
    options = {"local_files_only": True, "dtype": dtype, "output_loading_info": True, "use_safetensors": True}
    try:
        model, loading = transformers.Florence2ForConditionalGeneration.from_pretrained(folder, **options)
    except Exception as error:  # a wrong file can make transformers raise anything
        raise ModelError(f"{folder} cannot be loaded as a Florence-2: {cause(error)}") from error
    check_loaded(loading, folder, "Florence-2")
    return model
