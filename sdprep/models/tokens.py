"""How many tokens a text is for CLIP's text encoders, which trainers cut at 75, 150 or 225.

Stable Diffusion 1.5 and both encoders of SDXL split text alike. Counting needs CLIP's tokenizer.json and the package
tokenizers; where one is missing, the count is an estimate, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path

from sdprep.errors import ModelError
from sdprep.installation import here
from sdprep.models.base import ModelSpec, Source
from sdprep.models.files.hub import find_local

# What is downloaded like a model, but is none: it is in no list, and no command runs it.
CLIP_TOKENIZER = ModelSpec(
    name="clip-tokenizer",
    task="caption",
    backend="tokenizer",
    source=Source(repo="openai/clip-vit-large-patch14", revision="32bd64288804d66eefd0ccbe215aa642df71cc41"),
    files=("tokenizer.json",),
)
DOWNLOAD = f"sdprep models download {CLIP_TOKENIZER.name}"
# The pieces into which CLIP splits a text before it looks any of them up; each digit is one of its own.
PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|(?P<word>[^\W\d_]+)|\d|(?P<marks>(?:[^\w\s]|_)+)")
# Measured with CLIP's own vocabulary. English words of up to seven letters are mostly one token, pairs of punctuation
# marks often; letters beyond ASCII are 0.5 (Korean, Arabic) to 0.9 (Chinese) tokens per byte of UTF-8.
LETTERS_PER_TOKEN, MARKS_PER_TOKEN, TOKENS_PER_BYTE = 7, 2, 2 / 3
# Distinct words that are remembered: a dataset has few, in any number of texts.
REMEMBERED = 1 << 17


class TokenCounter:
    """Counts the tokens of texts, without the start and end token that an encoder adds.

    `count_word` counts a text without a space: CLIP never joins across one, so that each word is counted only once.
    `note` says of an estimate how to get exact counts; `is_estimate` is False without one.
    """

    def __init__(self, name: str, count_word: Callable[[str], int], note: str = "") -> None:
        self.name, self.note = name, note
        self._count = lru_cache(REMEMBERED)(count_word)

    @property
    def is_estimate(self) -> bool:
        """Whether counts may differ from what a trainer counts."""
        return bool(self.note)

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return sum(map(self._count, text.split(" ")))


def load_counter() -> TokenCounter:
    """The exact counter if its tokenizer is on this machine, else one that estimates; no network.

    Raises ModelError if the tokenizer or the list of downloads cannot be read.
    """
    files = find_local(CLIP_TOKENIZER)
    steps = [] if find_spec("tokenizers") else [here().install_extra("tokens")]
    steps += [] if files else [DOWNLOAD]
    if files is None or steps:
        note = f"token counts are estimates; for exact ones: {' && '.join(steps)}"
        return _estimator(note)
    return read_counter(files.folder / CLIP_TOKENIZER.files[0])


@cache
def _estimator(note: str) -> TokenCounter:
    return TokenCounter("estimate", estimate_word, note)


# Kept, since a page asks again and again.
@cache
def read_counter(path: Path) -> TokenCounter:
    """The counter of a tokenizer.json. Raises ModelError if it cannot be read."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"{path} is not a tokenizer ({error})\nReplace it with: {DOWNLOAD}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenCounter("clip", lambda word: len(tokenizer.encode(word, add_special_tokens=False)))


def estimate_word(word: str) -> int:
    """About how many tokens a text without a space is."""
    return sum(map(_estimate_piece, PIECE.finditer(word)))


def _estimate_piece(piece: re.Match[str]) -> int:
    """About how many tokens a word, a run of punctuation, a digit or an ending such as 's is."""
    if piece["word"] is None and piece["marks"] is None:
        return 1
    ascii_part = sum(map(str.isascii, piece[0]))
    beyond = len(piece[0].encode("utf-8", "surrogatepass")) - ascii_part
    per_token = MARKS_PER_TOKEN if piece["word"] is None else LETTERS_PER_TOKEN
    return ceil(ascii_part / per_token) + ceil(beyond * TOKENS_PER_BYTE)
