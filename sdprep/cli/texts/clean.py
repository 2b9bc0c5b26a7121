"""`sdprep clean`."""

from __future__ import annotations

from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli.texts.plans import run_plan
from sdprep.config import MergeSettings, from_options
from sdprep.images.inputs import settings_folder


@click.command(
    cls=shared.Command,
    example="sdprep clean ./imgs --pack booru --dry-run",
    short_help="Clean tags and captions by rule packs, with a diff and an undo.",
)
@shared.inputs_argument()
@shared.options(
    "Rules",
    shared.option("--pack", multiple=True, type=str, allow_from_autoenv=False, metavar="NAME|FILE.toml",
                  help="Rule pack; may be repeated."),
    shared.option("--only", "kind", type=click.Choice(["tags", "captions"]),
                  help="Clean tags alone, or captions alone.  [default: what the pack has rules for]"),
)  # fmt: skip
@shared.plan_options
@shared.options(
    "Files",
    shared.option("-o", "--output", type=shared.FILE, help="Write a cleaned metadata file to this file instead."),
)  # fmt: skip
@shared.sidecar_options
@shared.merge_path_options
@shared.memory_options
@shared.report_options
@click.pass_context
def clean(ctx: click.Context, /, json_report: bool, **_: Any) -> None:
    """Clean the tags and captions of images by the rules of a pack, also those that you wrote.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png"; or one metadata file (.json, .jsonl), whose
    entries are cleaned.

    Samples of the changes are printed, and what no rule names stays as it is. `sdprep undo` takes everything back.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.texts.clean import is_metadata, plan, plan_metadata

    inputs, given = shared.inputs_of(ctx), ctx.params
    kinds = {"tags": ("tags",), "captions": ("caption",)}.get(given["kind"], ("tags", "caption"))
    run = {"dry_run": given["dry_run"], "yes": given["yes"], "json_report": json_report, "kinds": kinds}
    if is_metadata(inputs):
        if given["where"] is not None:
            ctx.fail("--where chooses images, and the input is a metadata file, whose entries are all cleaned")
        run_plan(plan_metadata, inputs[0], given["pack"], output=given["output"], catalog=given["catalog"], **run)
        return
    if given["output"]:
        ctx.fail("-o names a metadata file, and the input is not one; sidecars are cleaned where they are")
    stated = gather(ctx, settings_folder(inputs))
    run_plan(plan, inputs, given["pack"], from_options(MergeSettings, stated.values), layers=stated.layers, **run)
