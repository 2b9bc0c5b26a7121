"""`sdprep merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task
from sdprep.config import MergeSettings, from_options

# How a second argument is known as the output.
METADATA_SUFFIXES = (".json", ".jsonl")


class MergeCommand(shared.Command):
    """A command that takes its output as a second argument too, as kohya's merge scripts do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and turn the second argument into the option. Raises UsageError if both name an output."""
        further = super().parse_args(ctx, args)
        if not further or ctx.resilient_parsing:
            return further
        second = Path(further[0])
        if second.suffix.lower() not in METADATA_SUFFIXES or len(further) > 1:
            ctx.fail(f"unexpected argument: {further[-1]}; a second one is the output, and ends in .json or .jsonl")
        if ctx.get_parameter_source("output") is ParameterSource.COMMANDLINE:
            ctx.fail(f"{second} and -o {ctx.params['output']} both name the output; give one of them")
        ctx.params["output"] = second
        ctx.set_parameter_source("output", ParameterSource.COMMANDLINE)
        return []


@click.command(
    cls=MergeCommand,
    context_settings={"allow_extra_args": True},
    example="sdprep merge ./imgs -o metadata.json",
    short_help="Merge captions and tags into one metadata JSON.",
)
@shared.directory_argument("[DIR]", default=".")
@shared.options(
    "Entries",
    shared.option("-o", "--output", type=shared.FILE,
                  help="File to write; JSON Lines if it ends in .jsonl [DIR/metadata.json]."),
    shared.option("--in-json", type=shared.FILE, help="Start from this file instead of the existing output."),
    shared.option("--keys", type=shared.choice(MergeSettings, "keys"), default="absolute", show_default=True,
                  shortcuts={"--full-path": "absolute"},
                  help="How entries name their image; every trainer reads absolute paths."),
    shared.option("--fields", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...",
                  default="caption,tags,image_size", show_default=True, help="Fields of each entry."),
    shared.option("--missing", type=shared.choice(MergeSettings, "missing"), default="skip", show_default=True,
                  help="What to do with an image that has no sidecar."),
    shared.option("--prune", is_flag=True, help="Remove entries of images that no longer exist."),
)  # fmt: skip
@shared.options(
    "Run",
    shared.option("--dry-run", is_flag=True, help="Show what would be done; write nothing."),
)  # fmt: skip
@shared.options(
    "Files",
    shared.option("--caption-extension", aliases=("--caption-extention",), default=".caption", show_default=True,
                  help="Extension of caption files."),
    shared.option("--tag-extension", default=".txt", show_default=True, help="Extension of tag files."),
)  # fmt: skip
@shared.merge_path_options
@shared.config_options
@shared.options(
    "Output",
    shared.option("--debug", is_flag=True, help="Print the entry of every image."),
)  # fmt: skip
@shared.report_options
@click.pass_context
def merge(ctx: click.Context, /, directory: Path, json_report: bool, **_: Any) -> None:
    """Merge the captions and tags of every image in DIR into one metadata JSON for kohya-style trainers.

    An existing output is updated: entries and keys that sdprep does not know stay as they are. As in kohya's scripts,
    the output may also be the second argument.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.merge import merge as task

    stated = gather(ctx, directory)
    settings = from_options(MergeSettings, stated.values)
    run_task(task, directory, settings, layers=stated.layers, json_report=json_report)
