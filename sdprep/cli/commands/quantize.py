"""`sdprep models quantize`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.commands.models import json_option
from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.talk import YELLOW, current
from sdprep.config import QuantizeSettings, from_options

if TYPE_CHECKING:
    from sdprep.tasks.quantize import Quantized


@click.command(
    cls=shared.Command,
    example="sdprep models quantize wd-vit-tagger-v3 --images ./imgs",
    short_help="Make a smaller, faster copy of a tagger.",
)
@click.argument("name")
@shared.options(
    "Options",
    shared.option("--images", type=shared.DIRECTORY, required=True, help="Images like those that you tag."),
    shared.option("--precision", type=shared.choice(QuantizeSettings, "precision"), default="int8", show_default=True,
                  help="int8 for CPUs, fp16 for GPUs."),
    shared.option("--out", type=param_types.UserPath(file_okay=False, path_type=Path),
                  help="Folder of the new model [sdprep's data folder]."),
    shared.option("-t", "--threshold", type=param_types.FiniteFloat(0.01, 1), default=0.35, show_default=True,
                  help="Compare the tags at or above this probability."),
    shared.option("--floor", type=param_types.FiniteFloat(0, 1), default=0.95, show_default=True,
                  help="Keep the copy only if its F1 against the original is this high."),
    shared.option("--force", is_flag=True, help="Keep the copy even if its F1 is lower, or if it is slower."),
    shared.option("--sample", type=param_types.Int64(2), default=100, show_default=True,
                  help="Use at most this many images: half to calibrate, half to measure."),
    json_option,
    shared.talk_options,
)  # fmt: skip
@click.pass_context
def quantize(ctx: click.Context, /, name: str, images: Path, floor: float, as_json: bool, **_: Any) -> None:
    """Make a copy of the tagger NAME with smaller weights, and measure on your images how well it agrees.

    `sdprep tag --model NAME-int8` (or NAME-fp16) runs it. Half of the images calibrate it, the other half measure it.
    """
    from sdprep.tasks.quantize import quantize as task

    settings = from_options(QuantizeSettings, ctx.params | {"min_f1": floor})
    terminal = Terminal()
    made = task(name, images, settings, listener=terminal)
    terminal.close()
    for failure in made.failures:
        current().say(f" {failure['path']}: {failure['code']}: {failure['message']}", head="skipped:", style=YELLOW)
    if as_json:
        print_json(made)
    else:
        print_table(_rows(made))
    if made.agreement.f1 < made.floor:
        current().say(f" F1 below {made.floor:g}; kept because of --force", head="WARNING:", style=YELLOW)
    if made.seconds["new"] > made.seconds["original"]:
        current().say(" it is slower than the original here", head="WARNING:", style=YELLOW)
    current().say(f"made: --model {shlex.quote(made.name)}")


def _rows(made: Quantized) -> list[tuple[str, str]]:
    from sdprep.models.files.hub import amount

    found = made.agreement
    return [
        ("name", made.name),
        ("folder", str(made.folder)),
        ("size", f"{amount(made.bytes['new'])}, the original {amount(made.bytes['original'])}"),
        ("weights", f"{made.bits} bits, calibrated on {made.calibrated} images" if made.calibrated else "16 bits"),
        ("measured on", f"{found.pictures} other images, with provider {made.provider}"),
        ("tags kept", f"{found.kept:.2%} of {found.tags} at {made.threshold:g}"),
        ("F1", f"{found.f1:.4f}"),
        ("change of a probability", f"{found.mean_change:.5f} on average, {found.largest_change:.3f} at most"),
        ("seconds per image", f"{made.seconds['new']:.3f}, the original {made.seconds['original']:.3f}"),
    ]
