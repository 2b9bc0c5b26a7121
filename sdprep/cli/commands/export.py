"""`sdprep export` and `sdprep import`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task
from sdprep.config import PathOptions, from_options, option_names, remembered_options
from sdprep.images.inputs import settings_folder

TARGETS = (
    "sd-scripts-0.9", "sd-scripts-0.10", "sd-scripts", "dreambooth", "onetrainer", "simpletuner", "ai-toolkit",
    "diffusion-pipe", "imagefolder", "webdataset", "parquet",
)  # fmt: skip


@click.command(
    cls=shared.Command,
    example="sdprep export ./imgs --target onetrainer -o ./train",
    short_help="Export images, captions and tags for a trainer.",
)
@shared.inputs_argument()
@shared.options(
    "Export",
    shared.option("--target", type=click.Choice(TARGETS), required=True,
                  help="Trainer or format; sd-scripts-0.9 is for up to 0.9.1, sd-scripts for the main branch."),
    shared.option("-o", "--output", type=param_types.UserPath(file_okay=False, path_type=Path), required=True,
                  help="Folder to write, new or empty."),
    shared.option("--text", type=click.Choice(["caption", "tags", "both"]),
                  help="What to train on; both is each caption followed by the tags [the target's default]."),
    shared.option("--images", type=click.Choice(["link", "copy", "leave"]),
                  help="Hard links to the images, copies, or only their absolute paths [the target's default]."),
    shared.option("--format", type=click.Choice(["json", "jsonl", "parquet"]),
                  help="Format of the metadata, where the target reads several [the target's default]."),
    shared.option("--order", metavar="category|PRESET|A,B,...",
                  help="Order the exported tags by category, as edit --order does; the tag files stay as they are."),
    shared.option("--missing", type=click.Choice(["skip", "empty", "error"]), default="skip", show_default=True,
                  help="What to do with an image that has no sidecar to train on."),
    shared.option("--overwrite", is_flag=True,
                  help="Replace the files of an earlier export in this folder; other files stay, and are named."),
)  # fmt: skip
@shared.options(
    "Trainer",
    shared.option("--repeats", type=param_types.Int64(1),
                  help="How often an epoch uses each image [1, or N of a folder N_name for dreambooth]."),
    shared.option("--resolution", type=param_types.Int64(1), help="Resolution to train at [1024]."),
    shared.option("--extension", help="Extension of text files beside images, for dreambooth [.txt]."),
    shared.option("--per-shard", type=param_types.Int64(1), help="Images per tar of webdataset [1000]."),
)  # fmt: skip
@shared.options(
    "Run",
    shared.option("--dry-run", is_flag=True, help="Show what would be done; write nothing."),
)  # fmt: skip
@shared.sidecar_options
@shared.merge_path_options
@shared.memory_options
@shared.report_options
@click.pass_context
def export(ctx: click.Context, /, json_report: bool, **_: Any) -> None:
    """Export the images with their captions and tags in the form that a trainer or another tool reads.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png"; without any, the current folder. Inputs are only
    read. docs/export.md shows for each target what is written, and what to put into the configuration of the trainer.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.exchange.export import export as task
    from sdprep.tasks.exchange.settings import ExportSettings

    inputs = shared.inputs_of(ctx, Path())
    stated = gather(ctx, settings_folder(inputs))
    settings = from_options(ExportSettings, _values(ctx, ExportSettings, stated.values))
    run_task(task, inputs, settings, layers=stated.layers, json_report=json_report)


def _values(ctx: click.Context, kind: type, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a command itself, and those on files that anything states."""
    of_files = option_names(PathOptions)
    own = (option_names(kind) & ctx.params.keys()) - of_files - remembered_options(kind)
    return {name: stated[name] for name in of_files & stated.keys()} | {name: ctx.params[name] for name in own}


@click.command(
    "import",
    cls=shared.Command,
    example="sdprep import metadata.json --into ./imgs",
    short_help="Import captions and tags from files of other tools.",
)
@click.argument("source", metavar="FILE|DIR", type=param_types.UserPath(path_type=Path))
@shared.options(
    "Import",
    shared.option("--into", type=shared.DIRECTORY,
                  help="Folder of the images, whose sidecars are written [the folder of FILE, or DIR]."),
    shared.option("--format", type=click.Choice(["auto", "lines"]), default="auto", show_default=True,
                  help="lines: make lists of the tag files in DIR that have one tag per line."),
    shared.option("--encoding", metavar="NAME",
                  help="Encoding of FILE, or of sidecars in DIR, which become UTF-8: gb18030, shift_jis, cp1252, ..."),
    shared.option("--text", type=click.Choice(["caption", "tags"]), default="caption", show_default=True,
                  help="What a text is that a file calls neither a caption nor tags."),
    shared.option("--existing", type=click.Choice(["keep", "overwrite"]), default="keep", show_default=True,
                  help="What to do with a sidecar that has another text."),
)  # fmt: skip
@shared.options(
    "Run",
    shared.option("--dry-run", is_flag=True, help="Show what would be done; write nothing."),
)  # fmt: skip
@shared.sidecar_options
@shared.import_path_options
@shared.memory_options
@shared.report_options
@click.pass_context
def import_(ctx: click.Context, /, source: Path, json_report: bool, **_: Any) -> None:
    """Write the captions and tags in a file of another tool into the sidecars of the images.

    FILE is a metadata JSON or JSON Lines (kohya, diffusion-pipe, Hugging Face), a CSV, a WebDataset tar or a Parquet
    file; a DIR is searched for these. Images are recognized by their path, name or stem, and sidecars are written
    through the journal: sdprep undo restores them.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.exchange.import_ import import_ as task
    from sdprep.tasks.exchange.settings import ImportSettings

    into = ctx.params["into"] or (source if source.is_dir() else source.parent)
    stated = gather(ctx, into)
    settings = from_options(ImportSettings, _values(ctx, ImportSettings, stated.values))
    run_task(task, source, settings, layers=stated.layers, json_report=json_report)
