"""Captions images with a chat model that runs in transformers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sdprep.errors import ModelError, UsageError, lacks_memory, shortened
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.answers import clean_answer
from sdprep.models.captioners.chat.batching import BatchCheck
from sdprep.models.captioners.chat.families import check_family
from sdprep.models.captioners.chat.loading import dtype_of, end_tokens, load_model, load_processor
from sdprep.models.captioners.chat.prompt import PromptBuilder
from sdprep.models.captioners.chat.quantize import limit_cpu_kernel, quantized_loading
from sdprep.models.captioners.chat.retry import choose, second_try
from sdprep.models.captioners.chat.search import AnswerSearch, FirstScores
from sdprep.models.captioners.frameworks import find_device, import_torch, import_transformers
from sdprep.models.captioners.generation import CaptionOptions, GeneratedCaption, stream_seed
from sdprep.models.captioners.trust import check_pickles
from sdprep.models.execution import Execution
from sdprep.models.registry.infer import LONGEST_SIDE
from sdprep.rules.captions import is_repetitive
from sdprep.types import Batch, Caption, FailureCode, NoAnswer, Prediction

NAMES = ("AutoImageProcessor", "AutoModelForImageTextToText", "AutoTokenizer", "GenerationConfig")


@dataclass(frozen=True, slots=True)
class _Asked:
    """Images that are asked about together, and what the processor made of them."""

    batch: Batch
    inputs: Any


# An image, as a batch of one, and its captions, which may be empty.
_Answered = tuple[Batch, list[Caption]]


class ChatCaptioner:
    """A chat model of one of the known families, asked about each image with its own prompt.

    A processor prepares the next batch in a thread while the model answers. Images and prompts of a batch may be of any
    size: rows are padded on the left. A caption depends on its image, prompt and seed, not on the rest of the batch.
    Images whose captions repeat themselves are asked about once more, a batch of them at a time. If the device runs out
    of memory, the batch is halved for good, which `note` is told.
    Raises MissingExtra without torch and transformers, ModelError if the files are not such a model, UsageError for
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
        check_pickles(spec, allowed=False)
        family = check_family(spec, files.folder)
        torch = import_torch("vlm")
        device = find_device(torch, execution.device)
        transformers = import_transformers("vlm", NAMES)
        dtype = dtype_of(torch, execution.dtype)
        if execution.cuda_graphs:
            note("--cuda-graphs has no effect: it is for BLIP models")
        processor = load_processor(transformers, files.folder, family)
        self._tokenizer = processor.tokenizer
        self._prompts = PromptBuilder(processor, spec.prompt, options.system)
        quantized = quantized_loading(transformers, device, dtype) if execution.quantize == "4bit" else {}
        model = load_model(transformers, files.folder, dtype, quantized).to(device).eval()
        limit_cpu_kernel(model, dtype)
        self._decoding = replace(options.generation, bad_words=self._bad_words(options.bad_words))
        ends = end_tokens(model, self._tokenizer)
        # Its file may ask for samples and penalties, where a run's settings say what to do.
        model.generation_config = transformers.GenerationConfig()
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else ends[0]
        self._search: AnswerSearch | None = AnswerSearch(transformers, model, self._decoding, ends, pad)
        again = second_try(self._decoding) if options.retry_repetition else None
        self._second = None if again is None else replace(self._search, decoding=again)
        self._spec, self._note, self._device, self._dtype = spec, note, device, dtype
        self._capacity = execution.batch_size
        self._check = BatchCheck(spec.name, dtype)
        self.provider: str = device.type
        self.fit = spec.image.fit_to(spec.image.size or LONGEST_SIDE)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The captions of every image, batch after batch; those of a second try later."""
        repetitive: list[_Answered] = []
        for image, answers in self._answered_ahead(batches):
            if isinstance(answers, NoAnswer):
                yield image.keys[0], answers
            elif self._second is not None and any(is_repetitive(each.text) for each in answers):
                repetitive.append((image, answers))
            else:
                yield image.keys[0], _prediction(answers)
            if self._second is not None and len(repetitive) >= self._capacity:
                yield from self._tried_again(repetitive, self._second)
                repetitive = []
        if self._second is not None and repetitive:
            yield from self._tried_again(repetitive, self._second)

    def close(self) -> None:
        """Free the weights."""
        self._search = self._second = None

    def _answered_ahead(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Caption] | NoAnswer]]:
        """The answers to each image; the next batch is prepared meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
            waiting: tuple[Batch, Future[Any]] | None = None
            for batch in batches:
                following = (batch, pool.submit(self._prepared, batch))
                if waiting is not None:
                    yield from self._answered(*waiting)
                waiting = following
            if waiting is not None:
                yield from self._answered(*waiting)

    def _tried_again(self, held: Sequence[_Answered], search: AnswerSearch) -> Iterator[tuple[Hashable, Prediction]]:
        """The better of the answers to each image and those of a second try."""
        first = {image.keys[0]: answers for image, answers in held}
        together = _joined([image for image, _ in held])
        for image, second in self._answers(_Asked(together, self._inputs(together)), search):
            key = image.keys[0]
            yield key, _prediction([choose(*pair) for pair in zip(first[key], second, strict=True)])

    def _prepared(self, batch: Batch) -> _Asked | Exception:
        """What the processor makes of a batch, or why it cannot."""
        try:
            return _Asked(batch, self._inputs(batch))
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - the processor of each family has its own idea of a wrong image
            return error

    def _answered(self, batch: Batch, prepared: Future[Any]) -> Iterator[tuple[Batch, list[Caption] | NoAnswer]]:
        asked = prepared.result()
        if isinstance(asked, _Asked):
            if self._search is None:
                raise ValueError("the captioner is closed")
            yield from self._answers(asked, self._search)
        elif len(batch.keys) == 1:
            message = shortened(f"the model cannot take it: {asked}")
            yield batch, NoAnswer(FailureCode.REQUEST_FAILED, message)
        else:
            for index in range(len(batch.keys)):
                alone = _part(batch, index, index + 1)
                done: Future[Any] = Future()
                done.set_result(self._prepared(alone))
                yield from self._answered(alone, done)

    def _answers(self, asked: _Asked, search: AnswerSearch) -> Iterator[_Answered]:
        """The captions of each image of a batch, in parts as large as memory allows."""
        batch, size = asked.batch, len(asked.batch.keys)
        if size > self._capacity:
            half = (size + 1) // 2
            for part in (_part(batch, 0, half), _part(batch, half, size)):
                yield from self._answers(_Asked(part, self._inputs(part)), search)
            return
        # The exception must be gone before what is too large can be freed.
        found = self._found(asked, search)
        if found is None:
            self._halve(batch)
            yield from self._answers(asked, search)
            return
        for index, captions in enumerate(found):
            yield _part(batch, index, index + 1), [self._caption(each) for each in captions]

    def _found(self, asked: _Asked, search: AnswerSearch) -> list[list[GeneratedCaption]] | None:
        """The captions of each image, or None if memory runs out."""
        decoding, batch = self._decoding, asked.batch
        samples = decoding.num_return_sequences if decoding.sample else 1
        seeds = [stream_seed(digest, decoding.seed, n) for digest in batch.digests for n in range(samples)]
        try:
            inputs = asked.inputs if samples == 1 else self._inputs(_repeated(batch, samples))
            row = self._check.row(inputs)
            # Beams are rows too.
            first = None if row is None else FirstScores(row * decoding.num_beams)
            rows = search.answers(self._moved(inputs), seeds, first)
            if row is not None and first is not None and first.scores is not None:
                alone = self._inputs(_part(batch, row // samples, row // samples + 1))
                self._check.compare(search.first_scores(self._moved(alone)), first.scores)
        except Exception as error:
            if not lacks_memory(error):
                raise
            return None
        if samples == 1:
            return rows
        return [[row[0] for row in rows[start : start + samples]] for start in range(0, len(rows), samples)]

    def _inputs(self, batch: Batch) -> Any:
        return self._prompts.inputs(batch.prompts or ("",) * len(batch.keys), list(batch.pixels))

    def _moved(self, inputs: Any) -> Any:
        return inputs.to(self._device, dtype=self._dtype)

    def _halve(self, batch: Batch) -> None:
        import torch

        torch.cuda.empty_cache()
        if len(batch.keys) == 1:
            raise ModelError(
                f"{self._device} does not have enough memory for {batch.keys[0]} alone, at batch size 1\n"
                "Use --dtype bfloat16, --quantize 4bit, a smaller image.size in the model's TOML file, or --device cpu"
            )
        self._capacity = max(1, len(batch.keys) // 2)
        self._note(f"out of memory on {self._device}: continuing with --batch-size {self._capacity}")

    def _caption(self, found: GeneratedCaption) -> Caption:
        text = self._tokenizer.decode(list(found.tokens), skip_special_tokens=True)
        text = clean_answer(self._spec.prompt.prefill + text, self._spec.answer)
        return Caption(text, len(found.tokens), found.finish_reason, found.score)

    def _bad_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The tokens of banned words, with and without a space before. Raises UsageError for unknown words."""
        found: list[tuple[int, ...]] = []
        for word in words:
            for text in (word, f" {word}"):
                ids = tuple(self._tokenizer(text, add_special_tokens=False).input_ids)
                if not ids or self._tokenizer.unk_token_id in ids:
                    raise UsageError(f"--bad-words {word}: the model does not know this word")
                found.append(ids)
        return tuple(dict.fromkeys(found))


def _prediction(captions: Sequence[Caption]) -> Prediction:
    """The captions of an image that are not empty, or why there is none."""
    answered = [caption for caption in captions if caption.text]
    if not answered:
        cut = captions[0].finish_reason == "length"
        why = "the answer was cut before a caption began; raise --max-length" if cut else "the answer is empty"
        return NoAnswer(FailureCode.EMPTY_ANSWER, why)
    return replace(answered[0], others=tuple(answered[1:]))


def _part(batch: Batch, start: int, stop: int) -> Batch:
    """Some of the images of a batch."""
    return Batch(
        batch.keys[start:stop], batch.digests[start:stop], tuple(batch.pixels[start:stop]), batch.prompts[start:stop]
    )


def _repeated(batch: Batch, times: int) -> Batch:
    """Each image so many times in a row."""
    rows = [index for index in range(len(batch.keys)) for _ in range(times)]
    prompts = tuple(batch.prompts[index] for index in rows) if batch.prompts else ()
    keys, digests = tuple(batch.keys[index] for index in rows), tuple(batch.digests[index] for index in rows)
    return Batch(keys, digests, tuple(batch.pixels[index] for index in rows), prompts)


def _joined(images: Sequence[Batch]) -> Batch:
    """Batches as one."""
    keys, digests, pixels, prompts = (
        tuple(chain.from_iterable(getattr(image, name) for image in images))
        for name in ("keys", "digests", "pixels", "prompts")
    )
    return Batch(keys, digests, pixels, prompts)
