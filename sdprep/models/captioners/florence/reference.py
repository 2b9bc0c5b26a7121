"""transformers' own search with a Florence-2: the slow path, and what sdprep's decoder is compared with."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.verify import caption_difference
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, hypothesis, stream_seed

if TYPE_CHECKING:
    import torch


class FlorenceReference:
    """Decodes batch by batch with `generate`; each image's sample has a random stream of its own.

    `ends` are the ids that begin and end every caption.
    """

    def __init__(self, model: Any, question: torch.Tensor, ends: tuple[int, int], decoding: GenerationConfig) -> None:
        self._model, self._question, self._decoding = model, question, decoding
        self._begin, self._end = ends

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
            "forced_bos_token_id": self._begin,
            "forced_eos_token_id": None,
            "eos_token_id": self._end,
        }

    def _hypothesis(self, ids: list[int], scores: list[float]) -> GeneratedCaption:
        length = ids.index(self._end) + 1 if self._end in ids else len(ids)
        return hypothesis(ids[:length], self._end, sum(scores[:length]))


def check_captions(engine: CaptionEngine, reference: FlorenceReference, images: Images, version: str) -> None:
    """Compare both on one image. Raises ModelError with the `version` of transformers if more than rounding differs."""
    if difference := caption_difference(engine, reference, images):
        raise ModelError(
            f"sdprep's decoder and transformers {version} disagree on the first image: {difference}\n"
            "Use --decoder reference, and please report it"
        )
