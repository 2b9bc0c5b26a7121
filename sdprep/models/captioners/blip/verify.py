"""Checks of sdprep's decoder: against transformers' decoder, and of int8 against float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, hypothesis, stream_seed

if TYPE_CHECKING:
    import torch


# How much the scores of equal captions may differ in float32; those of another network differ more.
SAME_TOLERANCE = 1e-2
# Captions may differ only where both are equally good.
TIE_TOLERANCE = 1e-4
# How much the log-probabilities of the first token may differ in the mean over all words, by precision.
FIRST_TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 3e-1}


class ReferenceDecoder:
    """Decodes batch by batch with a `BlipForConditionalGeneration`; the slow path, kept for comparison.

    `prompt` is the ids that start every sequence. Each image's sample has a random stream of its own.
    """

    def __init__(self, model: Any, prompt: Sequence[int], decoding: GenerationConfig) -> None:
        self._model, self._prompt, self._decoding = model, tuple(prompt), decoding
        self._end = model.config.text_config.sep_token_id

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of every image under its key."""
        for keys, digests, pixels in batches:
            if not self._decoding.sample:
                yield from zip(keys, self._generate(pixels), strict=True)
                continue
            for index, (key, digest) in enumerate(zip(keys, digests, strict=True)):
                yield key, self._sampled(pixels[index : index + 1], digest)

    def first_scores(self, pixels: torch.Tensor) -> torch.Tensor:
        """The log-probabilities float32[n, vocabulary] of the token after the prompt."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor(self._prompt, device=pixels.device).repeat(len(pixels), 1)
            logits: torch.Tensor = self._model(pixel_values=pixels, input_ids=ids).logits[:, -1]
            return logits.float().log_softmax(-1)

    def _sampled(self, pixels: torch.Tensor, digest: bytes) -> list[GeneratedCaption]:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(digest, self._decoding.seed))
            return self._generate(pixels)[0]

    def _generate(self, pixels: torch.Tensor) -> list[list[GeneratedCaption]]:
        import torch

        # generate() replaces the first id with [DEC] and drops the last, so this adds one to drop.
        ids = torch.tensor([*self._prompt, self._end], device=pixels.device)
        with torch.inference_mode():
            output = self._model.generate(
                pixel_values=pixels,
                # A new tensor per call: generate() writes into it.
                input_ids=ids.repeat(len(pixels), 1),
                return_dict_in_generate=True,
                output_logits=True,
                **self._options(),
            )
            scores = self._model.text_decoder.compute_transition_scores(
                output.sequences, output.logits, getattr(output, "beam_indices", None), normalize_logits=True
            )
        rows = output.sequences[:, len(self._prompt) :].tolist()
        found = [self._hypothesis(row, score) for row, score in zip(rows, scores.float().tolist(), strict=True)]
        each = self._decoding.num_return_sequences
        return [found[start : start + each] for start in range(0, len(found), each)]

    def _options(self) -> dict[str, Any]:
        decoding = self._decoding
        same = ["min_new_tokens", "max_new_tokens", "num_beams", "repetition_penalty", "no_repeat_ngram_size"]
        same += ["num_return_sequences"]
        same += ["top_k", "top_p", "temperature"] if decoding.sample else []
        same += ["length_penalty", "early_stopping"] if decoding.num_beams > 1 else []
        options = {name: getattr(decoding, name) for name in same}
        bad_words = [list(word) for word in decoding.bad_words] or None
        return {**options, "do_sample": decoding.sample, "bad_words_ids": bad_words}

    def _hypothesis(self, ids: list[int], scores: list[float]) -> GeneratedCaption:
        length = ids.index(self._end) + 1 if self._end in ids else len(ids)
        return hypothesis(ids[:length], self._end, sum(scores[:length]))


def check_agreement(engine: CaptionEngine, reference: ReferenceDecoder, images: Images, versions: str) -> None:
    """Compare both on one image: whole captions of a search in float32, otherwise the scores of the first token.

    NaN agrees with NaN. First, in every precision, recorded steps are compared with unrecorded ones and given up if
    they differ. Raises ModelError with the `versions` if the decoders differ by more than rounding.
    """
    import torch

    _check_recorded_steps(engine, images)
    if images.pixels.dtype == torch.float32 and not engine.decoding.sample:
        difference = _caption_difference(engine, reference, images)
    else:
        difference = _first_score_difference(engine, reference, images)
    if difference:
        raise ModelError(
            f"sdprep's decoder and transformers disagree on the first image: {difference}. "
            f"Use --decoder reference (which has no int8), and please report it with these versions: {versions}"
        )


def _check_recorded_steps(engine: CaptionEngine, images: Images) -> None:
    capturer = engine.network.capturer
    if capturer is None or not capturer.active:
        return
    found = []
    for capturer.active in (False, True):
        # A new engine, so that nothing recorded is kept if it proves wrong.
        alone = CaptionEngine(engine.network, engine.prompt, engine.end, engine.decoding, 1)
        found.append([each.tokens for _, captions in alone.captions([images]) for each in captions])
    if found[0] != found[1]:
        capturer.stop("they change the caption of the first image")


def _caption_difference(engine: CaptionEngine, reference: ReferenceDecoder, images: Images) -> str | None:
    """How the captions of one image differ by more than rounding; None where both are equally good, or NaN."""
    mine, expected = (dict(each.captions([images]))[images.keys[0]] for each in (engine, reference))
    for one, other in zip(mine, expected, strict=True):
        both_nan = math.isnan(one.score) and math.isnan(other.score)
        tolerance = SAME_TOLERANCE if one.tokens == other.tokens else TIE_TOLERANCE
        if not both_nan and not abs(one.score - other.score) <= tolerance:
            return f"{one.tokens} (score {one.score:.4f}), not {other.tokens} ({other.score:.4f})"
    return None


def _first_score_difference(engine: CaptionEngine, reference: ReferenceDecoder, images: Images) -> str | None:
    import torch

    with torch.inference_mode():
        logits = engine.prefill(images.pixels).logits
        ours, theirs = logits.float().log_softmax(-1), reference.first_scores(images.pixels)
    apart = float((ours - theirs).abs().nan_to_num(0.0).mean())
    tolerance = FIRST_TOLERANCE[str(images.pixels.dtype).removeprefix("torch.")]
    if apart <= tolerance and bool((ours.isnan() == theirs.isnan()).all()):
        return None
    return f"the first token's log-probabilities differ by {apart:.2g} in the mean"


# How many images of a run are captioned in both precisions.
INT8_SAMPLE = 8


class Int8Sample:
    """Captions the first images of a run in int8 and float32, and tells `note` how many captions are the same.

    Only the first caption of each image counts. Holds the float32 weights as long as it exists.
    """

    def __init__(self, int8: CaptionEngine, exact: CaptionEngine, note: Callable[[str], None]) -> None:
        self._engines, self._note = (int8, exact), note
        self._seen = self._same = 0

    def compare(self, images: Images) -> bool:
        """Compare images until the sample is full. Returns whether it is, and has been reported."""
        some = images.part(0, INT8_SAMPLE - self._seen)
        one, other = (dict(engine.captions([some])) for engine in self._engines)
        self._seen += len(some.keys)
        self._same += sum(one[key][0].tokens == other[key][0].tokens for key in some.keys)
        if self._seen == INT8_SAMPLE:
            self.report()
        return self._seen == INT8_SAMPLE

    def report(self) -> None:
        """Pass the result to `note`."""
        self._note(f"int8: {self._same} of {self._seen} captions are those of float32")
