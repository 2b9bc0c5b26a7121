"""From a model's captions to the lines of a caption file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sdprep.rules.shapes import setting
from sdprep.sanitize import check_text_option, strip_invisible

# A caption in which a phrase of up to this many words occurs this many times in a row is degenerate.
LONGEST_PHRASE, MOST_IN_A_ROW = 6, 3
VOWELS = "aeiou"
# Punctuation within a sentence and at its end.
PAUSES, ENDS = ",;:", ".!?"
PUNCTUATION = PAUSES + ENDS
# As tokenizers write them: [PAD], <unk>, </s>, <|endoftext|>.
SPECIAL_TOKEN = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|DEC|ENC)\]|</?[a-z_]{1,12}>|<\|\w+\|>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How captions become lines: how many, what precedes and follows each, and words that are left out."""

    captions: int = setting(1, shapes="text")
    prefix: str = setting("", shapes="text")
    suffix: str = setting("", shapes="text")
    drop_words: tuple[str, ...] = setting((), shapes="text")

    def __post_init__(self) -> None:
        check_text_option(prefix=self.prefix, suffix=self.suffix)


def caption_lines(texts: Sequence[str], rules: CaptionRules) -> list[str]:
    """The lines of a sidecar: the first distinct captions, without dropped words, between prefix and suffix."""
    return [_framed(text, rules) for text in written_captions(texts, rules)]


def written_captions(texts: Sequence[str], rules: CaptionRules) -> dict[str, int]:
    """The captions that become lines, without prefix and suffix, each with the index of its text in `texts`."""
    found: dict[str, int] = {}
    for index, text in enumerate(texts):
        if cleaned := without_words(clean_caption(text), rules.drop_words):
            found.setdefault(cleaned, index)
    return dict(list(found.items())[: rules.captions])


def clean_caption(text: str) -> str:
    """A caption on one line, with single spaces and without invisible characters."""
    return _on_one_line(strip_invisible(text))


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def without_words(text: str, words: Sequence[str]) -> str:
    """A caption without these words or phrases in any letter case, with or without punctuation after them.

    An article before one is adapted to the next word, and superfluous punctuation is removed too.
    """
    if not words:
        return text
    unwanted = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    first, *others = re.split(rf"(?<!\S)(?:{unwanted})(?=[{PUNCTUATION}]*(?!\S))", text, flags=re.IGNORECASE)
    if not others:
        return text
    # From the end, so that an article meets the next word after several gaps.
    rest = others.pop()
    while others:
        rest = _closed(others.pop(), rest)
    return _closed(first, rest).lstrip(f" {PUNCTUATION}")


def _closed(before: str, after: str) -> str:
    """The text before and after a removed word, joined."""
    before, rest = before.rstrip(), after.lstrip(f" {PUNCTUATION}")
    mark = after[: len(after) - len(rest)].strip()
    ends = re.fullmatch(r"(|.*\s)(an?)", before, flags=re.IGNORECASE)
    if ends is not None:
        before, article = ends[1].rstrip(), ends[2]
        if rest:
            follows = re.match(r"an?(?!\S)", rest, flags=re.IGNORECASE)
            fitting = "" if follows else article[0] + ("n" if rest[0].lower() in VOWELS else "")
            return f"{before} {fitting}".strip() + f" {rest}"
    if not before.endswith(tuple(ENDS)) and (mark or not rest):
        before = before.rstrip(f" {PAUSES}") + mark
    return f"{before} {rest}".strip()


def is_blank(texts: Iterable[str]) -> bool:
    """Whether captions have no letter and no digit between them, special tokens of a tokenizer left out."""
    return not any(each.isalnum() for text in texts for each in SPECIAL_TOKEN.sub("", text))


def _framed(text: str, rules: CaptionRules) -> str:
    """A caption between prefix and suffix with spaces; a suffix that begins with punctuation follows directly."""
    framed = f"{_on_one_line(rules.prefix)} {text}".strip()
    suffix = _on_one_line(rules.suffix)
    return framed + suffix if suffix[:1] in set(PUNCTUATION) else f"{framed} {suffix}".strip()


def has_repetition(words: Sequence[object]) -> bool:
    """Whether a phrase of words or tokens occurs three times in a row, as in degenerate captions."""
    return any(
        all(words[start + offset] == words[start + offset + length] for offset in range(length * (MOST_IN_A_ROW - 1)))
        for length in range(1, LONGEST_PHRASE + 1)
        for start in range(len(words) - length * MOST_IN_A_ROW + 1)
    )


def is_repetitive(caption: str) -> bool:
    """Whether a phrase of a caption's words occurs three times in a row, in any letter case."""
    return has_repetition(caption.casefold().split())
