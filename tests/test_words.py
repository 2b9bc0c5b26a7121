"""One word for one thing: words that help, messages and documentation never use."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sdprep.cli.main import cli
from tests.commands import COMMANDS

ROOT = Path(__file__).parents[1]
# A pattern, and what to write instead. Where a word has a second meaning, the pattern leaves that one alone.
BANNED = {
    r"pictures?\b(?! of\b)": "image",
    r"mend(s|ed|ing)?\b": "fix",
    r"(un)?heed(s|ed|ing)?\b": "respect",
    r"remarks?\b": "warning",
    r"rehears(e|es|ed|al|ing)\b": "dry run",
    r"part(ed|s)? by\b": "separated by",
    r"passed over\b": "skipped",
    r"(?<!there )(is|are|was) no [a-z]+\b(?<!no longer)(?<!no more)": "is not a",
    r"a person('s)?\b": "user, you",
    r"strangers?('s?)?\b": "untrusted",
    r"in the works\b": "in flight",
    r"who names\b": "if you name",
    r"processors?\b": "CPU",
    r"(graphics |CUDA |the |a |one |several )cards?\b": "GPU",
    r"whose end is missing\b": "truncated",
    r"to be had\b": "available",
    r"aloud\b": "print",
    r"set aside\b|put aside\b": "moved aside",
    r"images a (model call|second)\b": "batch size, per second",
    r"the text beside\b": "sidecar",
    r"looked at first\b": "searched first",
    r"shall\b": "must",
    r"lies (among|beside|in|where)\b|where (they|it) lies?\b": "is",
}
WORDS = re.compile("|".join(rf"\b(?:{pattern})" for pattern in BANNED), re.IGNORECASE)
# The default prompt of BLIP, the card of a model, a problem code, a JSON key, and an address of the page.
ALLOWED = re.compile(
    r"a picture of|model('s)? card|the card of|processor-without-avx|`pictures`|/picture/", re.IGNORECASE
)
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if path.name not in ("README.zh-CN.md", "README.ja.md")
)
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "sdprep").rglob("*.py"))


def banned(text: str) -> list[str]:
    return [found[0] for found in WORDS.finditer(ALLOWED.sub("", text))]


def messages(module: ast.Module) -> Iterator[str]:
    """The string constants of a module that are not docstrings; the parts of an f-string as one."""
    parts = {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (parts | docstrings):
            yield node.value


def test_help_uses_the_words_of_the_glossary() -> None:
    texts = {name: command.get_help(click.Context(command, info_name=name)) for name, command in COMMANDS.items()}
    texts["sdprep"] = cli.get_help(click.Context(cli, info_name="sdprep"))
    assert {name: found for name, text in texts.items() if (found := banned(" ".join(text.split())))} == {}


def test_messages_use_the_words_of_the_glossary() -> None:
    found = {}
    for name in MODULES:
        texts = messages(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        if words := [(word, text) for text in texts for word in banned(text)]:
            found[name] = words
    assert found == {}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_the_words_of_the_glossary(page: str) -> None:
    assert banned((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["a picture", "mends it", "parted by commas", "this is no image", "who names a card", "Images in the works"],
)
def test_a_banned_word_is_found(text: str) -> None:
    assert banned(text)


@pytest.mark.parametrize(
    "text",
    [
        "a picture of",
        "the amendment",
        "it is no longer there",
        "the model's card",
        "there is no image",
        "parts of it",
        "personal",
    ],
)
def test_another_meaning_of_a_word_is_allowed(text: str) -> None:
    assert banned(text) == []
