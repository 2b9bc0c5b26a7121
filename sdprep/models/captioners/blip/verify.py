"""Checks of sdprep's decoder: against the decoder of transformers, and of int8 against float32."""

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


# How far the scores of equal captions may lie apart in float32; another network is further off.
SAME_TOLERANCE = 1e-2
# Captions may differ only where both are as good as each other.
TIE_TOLERANCE = 1e-4
# How far the log-probabilities of the first token may lie apart in the mean over all words, by precision.
FIRST_TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 3e-1}


class ReferenceDecoder:
    """Decodes batch by batch through a `BlipForConditionalGeneration`; the slow path, kept to compare with.

    `prompt` are the ids that start every text. A sample is drawn from a stream of its own, image by image.
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

        # generate() replaces the first id by [DEC] and drops the last, so it is given one to drop.
        ids = torch.tensor([*self._prompt, self._end], device=pixels.device)
        with torch.inference_mode():
            output = self._model.generate(
                pixel_values=pixels,
                # New for every call: generate() writes into it.
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


def check_agreement(engine: CaptionEngine, reference: ReferenceDecoder, pictures: Images, versions: str) -> None:
    """Compare both on one image: whole captions of a search in float32, else the scores of the first token.

    Where both answer with NaN they agree. Before that, recorded steps are compared with the same steps as they are, in
    every precision, and given up if they differ. Raises ModelError with the `versions` if the decoders differ by more
    than rounding.
    """
    import torch

    _check_recorder(engine, pictures)
    if pictures.pixels.dtype == torch.float32 and not engine.decoding.sample:
        difference = _captions_apart(engine, reference, pictures)
    else:
        difference = _first_scores_apart(engine, reference, pictures)
    if difference:
        raise ModelError(
            f"sdprep's decoder and transformers disagree on the first image: {difference}. "
            f"Use --decoder reference (which has no int8), and please report it with these versions: {versions}"
        )


def _check_recorder(engine: CaptionEngine, pictures: Images) -> None:
    recorder = engine.network.recorder
    if recorder is None or not recorder.active:
        return
    texts = []
    for recorder.active in (False, True):
        # An engine of its own keeps nothing of a recorder that may prove wrong.
        alone = CaptionEngine(engine.network, engine.prompt, engine.end, engine.decoding, 1)
        texts.append([each.tokens for _, found in alone.captions([pictures]) for each in found])
    if texts[0] != texts[1]:
        recorder.stop("on the first image their answer is another")


def _captions_apart(engine: CaptionEngine, reference: ReferenceDecoder, pictures: Images) -> str | None:
    mine, expected = (dict(each.captions([pictures]))[pictures.keys[0]] for each in (engine, reference))
    for one, other in zip(mine, expected, strict=True):
        both_nan = math.isnan(one.score) and math.isnan(other.score)
        tolerance = SAME_TOLERANCE if one.tokens == other.tokens else TIE_TOLERANCE
        if not both_nan and not abs(one.score - other.score) <= tolerance:
            return f"{one.tokens} (score {one.score:.4f}), not {other.tokens} ({other.score:.4f})"
    return None


def _first_scores_apart(engine: CaptionEngine, reference: ReferenceDecoder, pictures: Images) -> str | None:
    import torch

    with torch.inference_mode():
        logits = engine.prefill(pictures.pixels).logits
        ours, theirs = logits.float().log_softmax(-1), reference.first_scores(pictures.pixels)
    apart = float((ours - theirs).abs().nan_to_num(0.0).mean())
    tolerance = FIRST_TOLERANCE[str(pictures.pixels.dtype).removeprefix("torch.")]
    if apart <= tolerance and bool((ours.isnan() == theirs.isnan()).all()):
        return None
    return f"the first token's log-probabilities lie {apart:.2g} apart in the mean"


# How many images of a run are captioned in both.
SAMPLE = 8


class Int8Sample:
    """Captions the first images of a run in int8 and float32, and tells `note` how many come out the same.

    Of each image the first caption counts. Holds the weights in float32 as long as it lives.
    """

    def __init__(self, int8: CaptionEngine, exact: CaptionEngine, note: Callable[[str], None]) -> None:
        self._engines, self._note = (int8, exact), note
        self._seen = self._same = 0

    def look(self, pictures: Images) -> bool:
        """Compare those of the images that belong to the sample; whether it is full now, and has been told."""
        some = pictures.part(0, SAMPLE - self._seen)
        one, other = (dict(engine.captions([some])) for engine in self._engines)
        self._seen += len(some.keys)
        self._same += sum(one[key][0].tokens == other[key][0].tokens for key in some.keys)
        if self._seen == SAMPLE:
            self.tell()
        return self._seen == SAMPLE

    def tell(self) -> None:
        """Say what was seen."""
        self._note(f"int8: {self._same} of {self._seen} captions are those of float32")
