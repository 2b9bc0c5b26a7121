"""Make text safe to print or write: no secrets, no invisible characters, no lone surrogates.

Invisible characters can break a line, reverse the reading direction, move the cursor of a terminal, or carry text that
only programs read. The two joiners stay between characters beyond ASCII: family emoji, Persian and Indic words.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sdprep.errors import UsageError


def to_json(value: Any) -> Any:
    """The value with every string made `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [to_json(each) for each in value]
    return {name: to_json(each) for name, each in value.items()} if isinstance(value, dict) else value


def printable(name: str) -> str:
    r"""Return a name without lone surrogates, which readers of JSON refuse; a byte that is not UTF-8 is `\xff`."""
    return re.sub("[\ud800-\udfff]", _escaped, name)


def check_path(path: Path, holder: str) -> None:
    """Raise UsageError for a path that is not valid Unicode, so that `holder` cannot name it."""
    if printable(str(path)) != str(path):
        raise UsageError(
            f"{path} is not valid Unicode, so {holder} cannot name it\n"
            "Give another folder, or set PYTHONUTF8=1 if its name is UTF-8"
        )


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def printable_time(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time of the clock as local date and time, or "unknown" if the system has no date for it."""
    try:
        return time.strftime(form, time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "unknown"


# Tokens of the Hub, what follows the name of a header or a signature, user and password of an address, its query.
SECRETS = re.compile(r"hf_\w+|(?<=(?i:Bearer) )\S+|(?<=(?i:Basic) )\S+|(?<=://)[^/@\s]+@|(?<=\?)[^\s=&]+=\S+")


def redact(text: str) -> str:
    """A text with `***` for tokens, passwords and the queries of URLs, which may be signed."""
    return SECRETS.sub("***", text)


# C0 and C1 controls, and the separators of lines and paragraphs: what stands for space stays one.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Soft hyphen, marks and overrides of direction, what has no width, notes between lines, tags, and lone surrogates.
# Fillers that are as wide as nothing, and selectors that can carry words from one program to another.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff"
    "\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)
# Text never contains these. If they occur, the bytes have another encoding, such as UTF-16 or UTF-32, or several.
NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
JOINERS = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
SPACES = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")

# What Unicode categories do not show: variation selectors, and letters and marks drawn as nothing or as a blank.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U00016fe4\U0001d159\U000e0000-\U000e0fff]"
)
HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def strip_invisible(text: str) -> str:
    """A text without invisible characters; a run of controls that separate words becomes a space."""
    if text.isascii() and text.isprintable():
        return text
    text = CONTROL.sub(lambda run: " " if SPACES.intersection(run[0]) else "", text)
    return JOINERS.sub("", UNSEEN.sub("", text))


def has_hidden(text: str) -> bool:
    """Whether a text has invisible characters, or a space other than the usual and the ideographic one.

    It is stricter than `strip_invisible`: joiners and selectors of emoji count, since they can carry hidden text.
    """
    if text.isascii():
        return not text.isprintable()
    return BLANK.search(text) is not None or any(map(_is_hidden, text))


def _is_hidden(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category in HIDDEN or (category == "Zs" and letter not in " \u3000")


def check_text_option(**explicit: str | Iterable[str]) -> None:
    """Check settings, by name, that are written into sidecars: some characters would make them unreadable afterwards.

    Raises UsageError naming the option.
    """
    for name, value in explicit.items():
        for text in [value] if isinstance(value, str) else value:
            if found := NO_TEXT.search(text):
                raise UsageError(f"--{name.replace('_', '-')} holds {_escape_letter(found[0])}, which no text has")


def escape(text: str) -> str:
    """Return a text with an escape such as `\\x1b` for each character that a terminal does not show; line ends stay."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    text = JOINERS.sub(lambda run: "".join(map(_escape_letter, run[0])), text)
    return "".join(each if _is_shown(each) else _escape_letter(each) for each in text)


def _is_shown(letter: str) -> bool:
    if letter in "\n\u200c\u200d":
        return True
    return (letter.isprintable() or unicodedata.category(letter) == "Zs") and not UNSEEN.match(letter)


def _escape_letter(letter: str) -> str:
    return repr(letter)[1:-1] if letter < "\x80" else letter.encode("ascii", "backslashreplace").decode()
