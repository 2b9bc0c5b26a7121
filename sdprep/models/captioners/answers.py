"""What becomes of the answer of a chat model before it is a caption: pure functions, for every backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from sdprep.models.base import AnswerSpec
from sdprep.sanitize import strip_invisible

# Characters of a caption. The longest that captioners write have a tenth of this; a server may answer with anything.
LONGEST_ANSWER = 20_000
LONGEST_FAULT = 200
# The tags of a think block, in the words of different models.
THINK = r"<(?P<end>/)?(?:think|thinking|thought|reasoning)>|\[(?P<end_2>/)?THINK\]|◁(?P<end_3>/)?think▷"
THINK_TAG = re.compile(THINK, re.IGNORECASE)
# What sets colors and moves the cursor in a terminal; without its first character, the rest would be words.
TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def clean_answer(text: str, answer: AnswerSpec) -> str:
    """The caption in an answer, by the rules of the model's description; empty if there is none."""
    if answer.think == "strip":
        text = without_thinking(text)
    for words in answer.cut_before:
        before, found, after = text.partition(words)
        text = after if found else before
    text = TERMINAL_CODE.sub("", text[: 4 * LONGEST_ANSWER])
    lines = [" ".join(strip_invisible(line).split()) for line in text.splitlines()]
    joiner = " " if answer.one_line else "\n"
    return joiner.join(line for line in lines if line)[:LONGEST_ANSWER].rstrip()


def json_answer(text: str, schema: Mapping[str, Any], answer: AnswerSpec) -> str:
    """The JSON object in an answer, on one line. Raises ValueError if there is none, or it lacks a required key.

    What is around the outermost braces, such as a fence, is cut off. Types are not checked.
    """
    if answer.think == "strip":
        text = without_thinking(text)
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("no JSON object")
    try:
        found = msgspec.json.decode(text[start : end + 1], type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ValueError(f"not a JSON object: {error}"[:LONGEST_FAULT]) from None
    if missing := [name for name in schema.get("required", ()) if name not in found]:
        raise ValueError(f"without {', '.join(missing)}"[:LONGEST_FAULT])
    line = strip_invisible(msgspec.json.encode(found).decode())
    if len(line) > LONGEST_ANSWER:
        raise ValueError(f"more than {LONGEST_ANSWER:,} characters")
    return line


def without_thinking(text: str) -> str:
    """An answer without its think blocks.

    The chat template may have opened one before the answer, and the limit of tokens may have ended it unclosed.
    """
    kept, start, is_thought = list[str](), 0, False
    for tag in THINK_TAG.finditer(text):
        if any(tag.groups()):
            if not is_thought:
                kept.clear()
            start, is_thought = tag.end(), False
        elif not is_thought:
            kept.append(text[start : tag.start()])
            is_thought = True
    return "".join(kept if is_thought else [*kept, text[start:]])
