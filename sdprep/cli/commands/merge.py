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
from sdprep.images.inputs import settings_folder

# How a last argument is known as the output.
METADATA_SUFFIXES = (".json", ".jsonl")


class MergeCommand(shared.Command):
    """A command that takes its output as the last argument too, as kohya's merge scripts do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and turn the last argument into the option. Raises UsageError if both name an output."""
        further = super().parse_args(ctx, args)
        *inputs, last = ctx.params.get("inputs") or [Path()]
        if not inputs or last.suffix.lower() not in METADATA_SUFFIXES or ctx.resilient_parsing:
            return further
        if ctx.get_parameter_source("output") is ParameterSource.COMMANDLINE:
            ctx.fail(f"{last} and -o {ctx.params['output']} both name the output; give one of them")
        ctx.params["inputs"], ctx.params["output"] = tuple(inputs), last
        ctx.set_parameter_source("output", ParameterSource.COMMANDLINE)
        return further


@click.command(
    cls=MergeCommand,
    example="sdprep merge ./imgs -o metadata.json",
    short_help="Merge captions and tags into one metadata JSON.",
)
@shared.inputs_argument()
@shared.options(
    "Entries",
    shared.option("-o", "--output", type=shared.FILE,
                  help="File to write; JSON Lines if it ends in .jsonl [metadata.json in the folder of the input]."),
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
@shared.sidecar_options
@shared.merge_path_options
@shared.config_options
@shared.options(
    "Output",
    shared.option("--debug", is_flag=True, help="Print the entry of every image."),
)  # fmt: skip
@shared.report_options
@click.pass_context
def merge(ctx: click.Context, /, json_report: bool, **_: Any) -> None:
    """Merge the captions and tags of every image into one metadata JSON for kohya-style trainers.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png"; without any, the current folder.

    An existing output is updated: entries and keys that sdprep does not know stay as they are. As in kohya's scripts,
    the output may also be the last argument.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.merge import merge as task

    inputs = shared.inputs_of(ctx, Path())
    stated = gather(ctx, settings_folder(inputs))
    settings = from_options(MergeSettings, stated.values)
    run_task(task, inputs, settings, layers=stated.layers, json_report=json_report)
