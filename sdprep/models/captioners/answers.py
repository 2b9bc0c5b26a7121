"""What becomes of the answer of a chat model before it is a caption: pure functions, for every backend."""

from __future__ import annotations

import re

from sdprep.models.base import AnswerSpec
from sdprep.sanitize import strip_invisible

# Characters of a caption. The longest that captioners write have a tenth of this; a server may answer with anything.
LONGEST_ANSWER = 20_000
THINK = r"(?:<(?:{0})(?:think|thinking|thought|reasoning)>|\[{0}THINK\]|◁{0}think▷)"
OPENS, CLOSES = THINK.format(""), THINK.format("/")
CLOSED_BLOCK = re.compile(f"{OPENS}.*?{CLOSES}", re.IGNORECASE | re.DOTALL)
# The chat template may have begun the block, or the limit of tokens have ended it.
UNOPENED_BLOCK = re.compile(f"^.*{CLOSES}", re.IGNORECASE | re.DOTALL)
UNCLOSED_BLOCK = re.compile(f"{OPENS}.*$", re.IGNORECASE | re.DOTALL)


def clean_answer(text: str, answer: AnswerSpec) -> str:
    """The caption in an answer, by the rules of the model's description; empty if there is none."""
    if answer.think == "strip":
        text = without_thinking(text)
    for words in answer.cut_before:
        before, found, after = text.partition(words)
        text = after if found else before
    lines = [" ".join(strip_invisible(line).split()) for line in text[: 4 * LONGEST_ANSWER].splitlines()]
    joiner = " " if answer.one_line else "\n"
    return joiner.join(line for line in lines if line)[:LONGEST_ANSWER].rstrip()


def without_thinking(text: str) -> str:
    """An answer without its think blocks, whether or not they are opened and closed."""
    text = CLOSED_BLOCK.sub("", text)
    return UNCLOSED_BLOCK.sub("", UNOPENED_BLOCK.sub("", text))
