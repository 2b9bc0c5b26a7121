"""`sdprep review`."""

from __future__ import annotations

import html
import secrets
import shlex
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdprep.cli import options as shared
from sdprep.cli.progress import Terminal
from sdprep.cli.talk import GREEN, current
from sdprep.config import MergeSettings, from_options

if TYPE_CHECKING:
    from sdprep.tasks.review.review import Review


@click.command(
    cls=shared.Command,
    example="sdprep review ./imgs",
    short_help="Look at the images with their captions and tags in the browser, and edit them.",
)
@click.argument("directory", metavar="DIR", type=shared.DIRECTORY)
@shared.options(
    "Page",
    shared.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one",
                  help="Port of the page on this machine."),
    shared.option("--tag-list", type=shared.FILE, metavar="FILE.csv",
                  help="Suggest the tags of this list too: a CSV with tag, category, count and aliases, as for a1111."),
    shared.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser."),
)  # fmt: skip
@shared.sidecar_options
@shared.merge_path_options
@shared.memory_options
@shared.talk_options
@click.pass_context
def review(ctx: click.Context, /, directory: Path, port: int, tag_list: Path | None, browser: bool, **_: Any) -> None:
    """Look at the images of DIR with their captions and tags in the browser, and edit them there.

    The page is for this machine alone, at the address that is printed. Everything that you change is written at once,
    and is in `sdprep log`; `sdprep undo` takes it back. Ctrl-C ends the command.
    """
    from sdprep.cli.stated import gather
    from sdprep.review.serving import check_installed, serve
    from sdprep.tasks.review.review import open_review

    check_installed()
    stated = gather(ctx, directory)
    terminal = Terminal()
    try:
        settings = from_options(MergeSettings, stated.values)
        session = open_review(directory, settings, stated.layers, tag_list=tag_list, listener=terminal)
        session.close()
    finally:
        terminal.close()
    code: Any = 0
    with _opener(browser) as show, _orderly_termination():
        try:
            serve(session, secrets.token_urlsafe(32), port, show)
        except KeyboardInterrupt:
            current().hide_ctrl_c()
        except SystemExit as terminated:
            code = terminated.code
    end = f"{_undoing(session)} takes back all that it wrote" if session.runs() else "nothing was changed"
    current().say(f" ended; {end}", head="review:", style=GREEN)
    sys.exit(code)


def _undoing(session: Review) -> str:
    """The command that undoes a session, to be run in the folder where this one was."""
    paths = session.settings.paths
    folder = paths.output_dir or session.folder
    words = ["sdprep", "undo", session.session, *(["--dir", str(folder)] if folder != Path() else [])]
    return shlex.join([*words, *(["--catalog", str(paths.catalog)] if paths.catalog else [])])


@contextmanager
def _orderly_termination() -> Iterator[None]:
    """Inside, SIGTERM ends the command as Ctrl-C does, so that the file with the token is removed."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _opener(browser: bool) -> Iterator[Any]:
    """What prints the address and opens it in the browser, through a file that only this user can read.

    Every user of the machine can see the command line of the browser, which must not have the token.
    """
    with tempfile.TemporaryDirectory(prefix="sdprep-review-") as folder:
        page = Path(folder) / "review.html"

        def show(address: str) -> None:
            click.echo(address)
            current().say(" press Ctrl-C to end", head="review:", style=GREEN)
            if browser:
                target = html.escape(address, quote=True)
                page.write_text(f'<meta http-equiv="refresh" content="0; url={target}">\n', encoding="utf-8")
                webbrowser.open(page.as_uri())

        yield show
