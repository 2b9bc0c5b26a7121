"""The option reference in docs/cli: the text that cog puts between its markers, and the pages themselves.

python scripts/cli_page.py                     add a page for every command that has none
python -m cogapp -r docs/cli/*.md              bring the generated parts up to date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "cli"
PAGE = """\
# sdprep {words}

<!-- [[[cog
import cog

from scripts.cli_page import reference

cog.outl(reference("{words}"))
]]] -->
<!-- [[[end]]] -->

[All commands](README.md)
"""


def commands() -> dict[str, click.Command]:
    """Every command by the words that call it, such as `models list`."""
    from sdprep.cli.main import cli

    return dict(_leaves(cli, ""))


def _leaves(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def page_name(words: str) -> str:
    """The file name of a command's page."""
    return f"{words.replace(' ', '-')}.md"


def overview(prefix: str = "", folder: str = "") -> str:
    """Return the table of the commands that begin with the prefix, with links to their pages in the folder."""
    rows = [
        f"| [`sdprep {words}`]({folder}{page_name(words)}) | {each.short_help} |"
        for words, each in commands().items()
        if words.startswith(prefix)
    ]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def reference(words: str) -> str:
    """Return a command's usage, help, options and example."""
    from sdprep.cli.options import by_heading

    command = commands()[words]
    arguments = [_argument(each) for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option)]
    usage = " ".join(["sdprep", words, *arguments, *(["[OPTIONS]"] if options else [])])
    paragraphs = [_paragraph(part) for part in (command.help or "").split("\n\n")]
    parts = [_block(usage), *paragraphs, "Example:", _block(str(getattr(command, "example", "")))]
    for heading, under in by_heading(options).items() if options else ():
        table = "\n".join(["| option | default | what it does |", "|---|---|---|", *map(_row, under)])
        parts.append(f"{heading}:\n\n{table}")
    return "\n\n".join(parts)


def _paragraph(text: str) -> str:
    """A paragraph of a help text; click keeps the lines of one that begins with a backspace."""
    return _block(text.removeprefix("\b\n")) if text.startswith("\b") else " ".join(text.split())


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def _argument(argument: click.Argument) -> str:
    name = (argument.metavar or str(argument.name).upper()).strip("[]")
    return name if argument.required else f"[{name}]"


def _row(option: click.Option) -> str:
    aliases = getattr(option, "_aliases", ())
    names = [f"`{each}`" for each in [*option.opts, *option.secondary_opts] if each not in aliases]
    text = (option.help or "").replace("|", "\\|")
    if isinstance(option.type, click.Choice):
        text += " One of: " + ", ".join(f"`{choice}`" for choice in option.type.choices) + "."
    if aliases:
        text += " Also " + ", ".join(f"`{name}`" for name in aliases) + "."
    return f"| {', '.join(names)} | {_default(option)} | {text} |"


def _default(option: click.Option) -> str:
    if option.is_flag:
        return "on" if option.default is True else "off"
    if option.default in (None, "") or not isinstance(option.default, (str, int, float)):
        return ""
    text = str(option.default)
    return f"`{json.dumps(text) if text != text.strip() else text}`"


def main() -> None:
    """Add the pages that are missing."""
    for words in commands():
        page = FOLDER / page_name(words)
        if not page.exists():
            page.write_text(PAGE.format(words=words), "utf-8")
            print(page.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
