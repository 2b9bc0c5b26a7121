"""`sdprep merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task


@click.command(
    cls=shared.Command,
    example="sdprep merge ./imgs -o metadata.json",
    short_help="Gather captions and tags in one metadata JSON.",
)
@shared.directory_argument("[DIR]", default=".")
@shared.options(
    shared.option("-o", "--output", type=shared.FILE, help="The file to write [DIR/metadata.json]."),
    shared.option("--in-json", type=shared.FILE, help="Start from this file instead of the output."),
    shared.option("--keys", type=click.Choice(["absolute", "relative", "stem"]), default="absolute",
                  show_default=True, shortcuts={"--full-path": "absolute"},
                  help="How an entry names its image; every trainer reads absolute paths."),
    shared.option("--fields", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...",
                  default="caption,tags,image_size", show_default=True, help="What an entry holds."),
    shared.option("--missing", type=click.Choice(["skip", "empty", "error"]), default="skip", show_default=True,
                  help="What to do about an image without a sidecar."),
    shared.option("--prune", is_flag=True, help="Drop entries of images that are gone."),
    shared.option("--caption-extension", aliases=("--caption-extention",), default=".caption", show_default=True,
                  help="Extension of the captions."),
    shared.option("--tag-extension", default=".txt", show_default=True, help="Extension of the tags."),
    shared.option("--dry-run", is_flag=True, help="Say what would be done; write nothing."),
    shared.option("--debug", is_flag=True, help="Say the entry of every image."),
)  # fmt: skip
@shared.layout_options
@shared.config_options
@shared.report_options
@click.pass_context
def merge(ctx: click.Context, /, directory: Path, json_report: bool, **_: Any) -> None:
    """Gather the captions and tags of every image in DIR in one metadata JSON for kohya-style trainers.

    An output that exists is brought up to date: entries and keys that sdprep does not know stay as they are.
    """
    from sdprep.config import MergeSettings, PathOptions
    from sdprep.tasks.merge import merge as task

    settings = MergeSettings(
        **shared.settings_of(ctx, MergeSettings), paths=PathOptions(**shared.settings_of(ctx, PathOptions))
    )
    run_task(task, directory, settings, json_report=json_report)
