"""Loads BLIP captioners with transformers, and decodes with sdprep's own loop or with transformers'."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError, UsageError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.blip.config import check_blip_config, check_tokenizer
from sdprep.models.captioners.blip.images import Images, Normalizer
from sdprep.models.captioners.blip.layers import Int8Linear, linear_layer, prefers_absorbed
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.models.captioners.blip.retry import BANNED_NGRAM, RETRY_BATCH, RepetitionRetry
from sdprep.models.captioners.blip.verify import Int8Sample, ReferenceDecoder, check_agreement
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.frameworks import check_loaded, find_device, import_torch, import_transformers
from sdprep.models.captioners.generation import CaptionOptions, GeneratedCaption, GenerationConfig
from sdprep.models.captioners.trust import check_pickles, pickled_weights, read_weights
from sdprep.models.execution import Execution
from sdprep.models.parse import cause
from sdprep.models.registry.infer import SAFETENSORS
from sdprep.types import Batch, Caption, Prediction

if TYPE_CHECKING:
    import torch

TRANSFORMERS_NAMES = ("BertTokenizer", "BlipConfig", "BlipForConditionalGeneration")


class BlipCaptioner:
    """A `BlipForConditionalGeneration` with its tokenizer, which decodes according to the options.

    The prompt conditions the decoder, and is cut from the result by its number of tokens. Lengths count the tokens of
    the caption. Each sampled caption has a random stream of its own, so it depends only on the image and the seed, not
    on the rest of the batch. The fast decoder is compared with transformers on the first image of a run (for int8, with
    the same weights in float32), and int8 with float32 on the first few. `note` gets messages for the user.
    Raises MissingExtra without torch and transformers, ModelError if the files are not a BLIP captioner, UsageError
    for options that it cannot use.
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
        check_pickles(spec, allowed=options.allow_pickle)
        pickle = pickled_weights(spec)
        self._folder, self._text = files.folder, check_blip_config(files.folder, pickle or SAFETENSORS)
        check_tokenizer(files.folder, self._text)
        torch = import_torch("caption")
        self._device = find_device(torch, execution.device)
        transformers = import_transformers("caption", TRANSFORMERS_NAMES)
        self.provider: str = self._device.type
        int8, dtype = execution.dtype == "int8", _dtype(execution.dtype, self._device)
        self._cuda_graphs = execution.cuda_graphs and _can_use_cuda_graphs(options, self._device, note)
        weights = None if pickle is None else read_weights(torch, files.folder / pickle)
        self._tokenizer = _load_tokenizer(transformers, files.folder)
        model = _load_model(transformers, files.folder, dtype, weights).to(self._device).eval()
        self._normalizer = Normalizer(spec.image, self._device, dtype, async_copy=self._cuda_graphs)
        prompt = self._prompt_ids(options.prompt)
        decoding = generation_after(options, len(prompt), self._bad_words(options.bad_words))
        self._transformers = transformers.__version__
        self._versions = f"torch {torch.__version__}, transformers {self._transformers}"
        self._prompt, self._decoding, self._note = prompt, decoding, note
        self._batch_size = execution.batch_size
        make = self._references(model) if options.reference else self._engines(model, int8=int8)
        first = make(decoding, self._batch_size)
        wants_retry = options.retry_repetition and not decoding.no_repeat_ngram_size
        banning = replace(decoding, no_repeat_ngram_size=BANNED_NGRAM)
        retry = make(banning, min(RETRY_BATCH, self._batch_size)) if wants_retry else None
        self._decoder: RepetitionRetry | None = RepetitionRetry(first, retry)
        exact = self._engines(model, int8=False)(decoding, self._batch_size) if int8 else first
        # Until the comparison is done, the weights are held twice.
        self._to_compare = None if options.reference else (exact, ReferenceDecoder(model, prompt, decoding))
        self._sample = Int8Sample(first, exact, note) if int8 else None
        self.fit = spec.image.fit_to(model.config.vision_config.image_size)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The captions of every image; a short caption may come before a longer one of an earlier batch."""
        if self._decoder is None:
            raise ValueError("the captioner is closed")
        for key, found in self._decoder.captions(self._compared(map(self._normalizer, batches))):
            best, *others = (self._caption(*each) for each in found)
            yield key, replace(best, others=tuple(others))

    def close(self) -> None:
        """Free the weights."""
        self._decoder = self._to_compare = self._sample = None

    def _references(self, model: Any) -> Callable[[GenerationConfig, int], Any]:
        return lambda decoding, _: ReferenceDecoder(model, self._prompt, decoding)

    def _engines(self, model: Any, *, int8: bool) -> Callable[[GenerationConfig, int], Any]:
        """A function that makes sdprep's own decoders for a capacity; all of them share one network."""
        weights, end = take_weights(model, self._transformers), model.config.text_config.sep_token_id
        absorbed = prefers_absorbed(self._device.type, self._decoding)
        linear = Int8Linear if int8 else linear_layer
        network = BlipNetwork(weights, absorbed=absorbed, linear=linear, cuda_graphs=self._cuda_graphs, note=self._note)
        return lambda decoding, capacity: CaptionEngine(network, self._prompt, end, decoding, capacity, self._note)

    def _compared(self, batches: Iterable[Images]) -> Iterator[Images]:
        for images in batches:
            if self._to_compare is not None:
                self._note("checking sdprep's decoder against transformers on the first image")
                check_agreement(*self._to_compare, images.part(0, 1), self._versions)
                self._to_compare = None
            if self._sample is not None and self._sample.compare(images):
                self._sample = None
            yield images
        if self._sample is not None:
            self._sample.report()
            self._sample = None

    def _bad_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The token ids of banned words. Raises UsageError for a word that the model cannot write."""
        ids = [tuple(self._token_ids(word, add_special_tokens=False)) for word in words]
        for word, each in zip(words, ids, strict=True):
            if not each or self._tokenizer.unk_token_id in each:
                raise UsageError(f"--bad-words {word}: the model does not know this word")
            if set(each) & set(self._tokenizer.all_special_ids):
                raise UsageError(f"--bad-words {word}: this is a special token of the model, not a word")
        return tuple(ids)

    def _prompt_ids(self, prompt: str) -> list[int]:
        """The ids that start every sequence: [DEC] instead of [CLS], then the prompt, without its final [SEP]."""
        ids = self._token_ids(prompt)[1:-1] if prompt.strip() else []
        return [self._text.bos_token_id, *ids]

    def _token_ids(self, text: str, **options: bool) -> list[int]:
        """The ids of a text. Raises ModelError for an id that the weights have no row for."""
        ids: list[int] = self._tokenizer(text, **options).input_ids
        if max(ids, default=0) >= self._text.vocab_size:
            raise ModelError(
                f"the tokenizer in {self._folder} has a token with id {max(ids)}, but text_config.vocab_size in "
                f"config.json is {self._text.vocab_size}"
            )
        return ids

    def _caption(self, found: GeneratedCaption, again: bool) -> Caption:
        text = self._tokenizer.decode(list(found.tokens), skip_special_tokens=True)
        return Caption(text, len(found.tokens), found.finish_reason, found.score, again=again)


def generation_after(options: CaptionOptions, prompt: int, bad_words: tuple[tuple[int, ...], ...]) -> GenerationConfig:
    """The search that the options describe, after a prompt of `prompt` tokens. Raises UsageError if it leaves none."""
    generation, counted = options.generation, prompt if options.count_prompt else 0
    if generation.max_new_tokens <= counted:
        raise UsageError(f"--max-length {generation.max_new_tokens}: the prompt alone has {counted} tokens")
    return replace(
        generation,
        min_new_tokens=max(0, generation.min_new_tokens - counted),
        max_new_tokens=generation.max_new_tokens - counted,
        bad_words=bad_words,
    )


def _can_use_cuda_graphs(options: CaptionOptions, device: torch.device, note: Callable[[str], None]) -> bool:
    """Whether CUDA graphs have an effect; if not, `note` is told."""
    if device.type == "cuda" and not options.reference:
        return True
    note("--cuda-graphs has no effect: it needs a CUDA device and the fast decoder")
    return False


def _load_tokenizer(transformers: Any, folder: Path) -> Any:
    """The tokenizer of a folder, after a test. Raises ModelError if it cannot be loaded or used."""
    try:
        tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True)
        # Some wrong values in its files only show in use.
        tokenizer.decode(tokenizer("a b").input_ids, skip_special_tokens=True)
        tokenizer.all_special_ids  # noqa: B018
    except Exception as error:  # a wrong file can make transformers raise anything
        raise ModelError(f"the tokenizer files in {folder} cannot be used: {cause(error)}") from error
    return tokenizer


def _load_model(transformers: Any, folder: Path, dtype: torch.dtype, weights: dict[str, Any] | None) -> Any:
    """The model, with these weights or those of the safetensors file.

    Raises ModelError if a weight is missing or has another shape.
    """
    transformers.logging.disable_progress_bar()
    options = {"local_files_only": True, "dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        captioner = transformers.BlipForConditionalGeneration
        if weights is None:
            model, loading = captioner.from_pretrained(folder, use_safetensors=True, **options)
        else:
            config = transformers.BlipConfig.from_pretrained(folder, local_files_only=True)
            model, loading = captioner.from_pretrained(None, config=config, state_dict=weights, **options)
    except Exception as error:  # a wrong file can make transformers raise anything
        raise ModelError(f"{folder} cannot be loaded as a BLIP captioner: {cause(error)}") from error
    check_loaded(loading, folder, "BLIP captioner")
    return model


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision in which weights are loaded; int8 is made from float32."""
    import torch

    if name == "int8" and device.type != "cpu":
        raise UsageError(f"--dtype int8 runs on the CPU only, not on {device}: use --device cpu")
    return torch.float32 if name == "int8" else getattr(torch, name)
