"""transformers' own search with a Florence-2: the slow path, and what sdprep's decoder is compared with."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.verify import SAME_TOLERANCE
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, hypothesis, stream_seed

if TYPE_CHECKING:
    import torch


class FlorenceReference:
    """Decodes batch by batch with `generate`; each image's sample has a random stream of its own.

    `prompt` are the two ids that start every sequence, `end` is the id that ends it.
    """

    def __init__(
        self, model: Any, question: torch.Tensor, prompt: tuple[int, int], end: int, decoding: GenerationConfig
    ) -> None:
        self._model, self._question, self._decoding = model, question, decoding
        self._prompt, self._end = prompt, end

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of every image under its key."""
        import torch

        for keys, digests, pixels in batches:
            if not self._decoding.sample:
                yield from zip(keys, self._generate(pixels), strict=True)
                continue
            for index, (key, digest) in enumerate(zip(keys, digests, strict=True)):
                with torch.random.fork_rng():
                    torch.manual_seed(stream_seed(digest, self._decoding.seed))
                    yield key, self._generate(pixels[index : index + 1])[0]

    def score(self, pixels: torch.Tensor, caption: GeneratedCaption) -> float:
        """The score that the model gives a caption of one image, normalised [3, H, W], in a single pass."""
        import torch

        new = [*caption.tokens, *([self._end] if caption.finish_reason == "stop" else [])]
        ids = torch.tensor([[*self._prompt, *new]], device=pixels.device)
        with torch.inference_mode():
            output = self._model(
                input_ids=self._question[None], pixel_values=pixels[None], decoder_input_ids=ids[:, :-1]
            )
        chosen = output.logits[0].float().log_softmax(-1).gather(1, ids[0, 1:, None])
        return float(chosen[len(self._prompt) - 1 :].mean())

    def _generate(self, pixels: torch.Tensor) -> list[list[GeneratedCaption]]:
        import torch

        with torch.inference_mode():
            output = self._model.generate(
                input_ids=self._question.repeat(len(pixels), 1),
                pixel_values=pixels,
                return_dict_in_generate=True,
                output_logits=True,
                **self._options(),
            )
            scores = self._model.compute_transition_scores(
                output.sequences, output.logits, getattr(output, "beam_indices", None), normalize_logits=True
            )
        # Without the start and the first token, which is forced.
        rows = zip(output.sequences[:, 2:].tolist(), scores[:, 1:].float().tolist(), strict=True)
        found = [self._hypothesis(*row) for row in rows]
        each = self._decoding.num_return_sequences
        return [found[start : start + each] for start in range(0, len(found), each)]

    def _options(self) -> dict[str, Any]:
        decoding = self._decoding
        same = ["num_beams", "repetition_penalty", "no_repeat_ngram_size", "num_return_sequences"]
        same += ["top_k", "top_p", "temperature"] if decoding.sample else []
        same += ["length_penalty", "early_stopping"] if decoding.num_beams > 1 else []
        return {
            **{name: getattr(decoding, name) for name in same},
            "do_sample": decoding.sample,
            # The first token is one of them, and forced; the last is not, so that a caption that is cut is known.
            "min_new_tokens": decoding.min_new_tokens + 1 if decoding.min_new_tokens else None,
            "max_new_tokens": decoding.max_new_tokens + 1,
            "forced_bos_token_id": self._prompt[-1],
            "forced_eos_token_id": None,
            "eos_token_id": self._end,
        }

    def _hypothesis(self, ids: list[int], scores: list[float]) -> GeneratedCaption:
        length = ids.index(self._end) + 1 if self._end in ids else len(ids)
        return hypothesis(ids[:length], self._end, sum(scores[:length]))


def check_score(reference: FlorenceReference, pixels: torch.Tensor, caption: GeneratedCaption, version: str) -> None:
    """Compare a caption's score, to which every step of sdprep's decoder has added, with that of transformers.

    Raises ModelError with the `version` of transformers if they differ by more than rounding; NaN agrees with NaN.
    """
    expected = reference.score(pixels, caption)
    both_nan = math.isnan(caption.score) and math.isnan(expected)
    if not both_nan and not abs(caption.score - expected) <= SAME_TOLERANCE:
        raise ModelError(
            f"sdprep's decoder and transformers {version} disagree on the first caption: {caption.tokens} has the "
            f"score {caption.score:.4f}, not {expected:.4f}\nUse --decoder reference, and please report it"
        )
