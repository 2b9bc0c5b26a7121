"""Checks that an answer does not depend on the batch: the first scores of a row, alone and among others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError

if TYPE_CHECKING:
    import torch

# How much the log-probabilities of the first token may differ in the mean over all words, by precision. Padding that is
# taken for words changes them more.
FIRST_TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 3e-1}


class BatchCheck:
    """Chooses what to compare in the first batch of a run and in the first one with padding, and compares it."""

    def __init__(self, name: str, dtype: Any) -> None:
        self._name, self._tolerance = name, FIRST_TOLERANCE[str(dtype).removeprefix("torch.")]
        self._saw_batch = self._saw_padding = False

    def row(self, inputs: Any) -> int | None:
        """The row of a batch to compare, if any; of a padded batch the one with the most padding."""
        mask = inputs["attention_mask"]
        is_padded = bool((mask[:, 0] == 0).any())
        if len(mask) == 1 or self._saw_padding or (self._saw_batch and not is_padded):
            return None
        self._saw_batch, self._saw_padding = True, is_padded
        return int(mask.sum(-1).argmin()) if is_padded else 0

    def compare(self, alone: torch.Tensor, together: torch.Tensor) -> None:
        """Raise ModelError if the scores of one row differ by more than rounding; NaN agrees with NaN."""
        agree = (alone == together) | (alone.isnan() & together.isnan())
        apart = float((alone - together).abs().masked_fill(agree, 0.0).mean())
        if not apart <= self._tolerance:
            raise ModelError(
                f"{self._name} answers differently if another image is in the batch: the first token's "
                f"log-probabilities differ by {apart:.2g} in the mean\nUse --batch-size 1"
            )
