"""`sdprep edit`."""

from __future__ import annotations

from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli.texts.plans import run_plan
from sdprep.config import MergeSettings, from_options
from sdprep.images.inputs import settings_folder
from sdprep.rules.edits.operations import FLAGS, NAMES, Operation


class EditCommand(shared.Command):
    """A command that keeps the order of its operations on the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and put the operations into the parameter of that name, in their order."""
        further = super().parse_args(ctx, list(args))
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        values = {name: iter(ctx.params.pop(name) or ()) if name not in FLAGS else None for name in NAMES}
        ctx.params["operations"] = [
            Operation(str(param.name), "" if (left := values[str(param.name)]) is None else next(left))
            for param in order
            if param.name in values
        ]
        return further


def operation(name: str, help_text: str, **attrs: Any) -> Any:
    """An option that may be repeated, and is read from the command line alone."""
    kind = {"is_flag": True} if name.removeprefix("--") in FLAGS else {"multiple": True, "type": str}
    return shared.option(name, help=help_text, allow_from_autoenv=False, **kind, **attrs)


@click.command(
    cls=EditCommand,
    example='sdprep edit ./imgs --add "my trigger@first" --remove "*background*"',
    short_help="Add, remove, replace and sort tags, or edit captions, with a diff and an undo.",
)
@shared.inputs_argument()
@shared.options(
    "Operations, in the order in which you write them",
    operation("--add", "Add a tag, or several separated by commas, unless it is there: at the end, or at a position.",
              metavar="TAG[@first|last|N]"),
    operation("--remove", "Remove tags: names, wildcards such as *hair*, /regular expressions/.", metavar="TAG"),
    operation("--replace", "Replace a tag, or in captions a word or phrase. An empty NEW removes it.",
              metavar="OLD=NEW"),
    operation("--regex", "Replace what a regular expression matches, in each tag or in the caption: the first match, "
              "or all with g behind it.", metavar="s/OLD/NEW/[gim]"),
    operation("--move", "Move tags, if they are there.", metavar="TAG@first|last|N"),
    operation("--sort", "Sort the tags alphabetically."),
    operation("--order", "Order the tags by category, as for tag --order category; as a preset does; or by your own "
              "list of categories.", metavar="category|PRESET|A,B,..."),
    operation("--dedupe", "Remove tags that are there twice, in any spelling."),
    operation("--prefix", "Put a text before the tags or the caption, unless it begins with it.", metavar="TEXT"),
    operation("--suffix", "Put a text behind the tags or the caption, unless it ends with it.", metavar="TEXT"),
    operation("--drop-rare", "Remove tags that fewer than N of the chosen images have.", metavar="N"),
)  # fmt: skip
@shared.options(
    "What to edit",
    shared.option("--tags/--captions", "edit_tags", default=True, show_default=True,
                  help="Edit tag files, or caption files."),
)  # fmt: skip
@shared.plan_options
@shared.sidecar_options
@shared.merge_path_options
@shared.memory_options
@shared.report_options
@click.pass_context
def edit(ctx: click.Context, /, json_report: bool, **_: Any) -> None:
    """Edit the tags or the captions of the images that you choose, also those that you wrote.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png".

    Samples of the changes are printed, and all characters that an operation does not name stay as they are. `sdprep
    undo` takes everything back. Images without such a file get none.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.texts.edit import plan

    inputs, given = shared.inputs_of(ctx), ctx.params
    stated = gather(ctx, settings_folder(inputs))
    run_plan(
        plan,
        inputs,
        given["operations"],
        from_options(MergeSettings, stated.values),
        edited="tags" if given["edit_tags"] else "caption",
        layers=stated.layers,
        dry_run=given["dry_run"],
        yes=given["yes"],
        json_report=json_report,
    )
