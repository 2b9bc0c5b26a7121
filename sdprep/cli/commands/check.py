"""`sdprep check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.output import print_json
from sdprep.cli.progress import Terminal
from sdprep.cli.report import NAMED
from sdprep.cli.talk import GREEN, RED, YELLOW, Level, current
from sdprep.trainers.findings import ABOUT, Code
from sdprep.trainers.targets import TARGETS

if TYPE_CHECKING:
    from sdprep.tasks.exchange.check import CheckReport


@click.command(
    cls=shared.Command,
    example="sdprep check ./imgs --target onetrainer\n"
    "sdprep check ./imgs --target sd-scripts --metadata metadata.json --resolution 1024",
    short_help="Check what a trainer will load, before you train.",
)
@click.argument("directory", metavar="[DIR]", type=shared.DIRECTORY, default=".")
@shared.options(
    "Trainer",
    shared.option("-t", "--target", type=click.Choice(list(TARGETS)), required=True,
                  help="The trainer, or the way it takes its data."),
    shared.option("--caption-extension", aliases=("--caption-extention",),
                  help="Caption extension set in the trainer [the trainer's own default]."),
    shared.option("--metadata", type=shared.FILE, multiple=True,
                  help="Metadata file of sd-scripts (can be repeated) [metadata.json in DIR]."),
    shared.option("--enable-wildcard", is_flag=True,
                  help="enable_wildcard is on in sd-scripts: each line of a text is a prompt, {a|b} is a choice."),
    shared.option("--max-token-length", type=param_types.Int64(0), default=75, show_default=True,
                  help="Most tokens of a prompt: 75, 150 or 225 as set in the trainer; 0 for no limit."),
)  # fmt: skip
@shared.options(
    "Buckets",
    shared.option("--resolution", callback=param_types.size, default="1024", show_default=True,
                  metavar="N|W,H", help="Resolution of the training."),
    shared.option("--min-bucket-reso", type=param_types.Int64(1), default=256, show_default=True,
                  help="Smallest side of a bucket."),
    shared.option("--max-bucket-reso", type=param_types.Int64(0), default=0,
                  help="Largest side of a bucket [twice the longer side of the resolution]."),
    shared.option("--bucket-reso-steps", type=param_types.Int64(1), default=64, show_default=True,
                  help="Sides are multiples of this."),
    shared.option("--bucket-no-upscale", is_flag=True, help="Images are never enlarged."),
)  # fmt: skip
@shared.options("Files", shared.where_option)
@shared.options(
    "Output",
    shared.option("--prompts", is_flag=True, help="Print the final prompt of each image, too."),
)  # fmt: skip
@shared.report_options
def check(
    directory: Path, target: str, metadata: tuple[Path, ...], prompts: bool, json_report: bool, **options: Any
) -> None:
    """Check what a trainer will load from DIR: prompts, tags that are lost, buckets, stale caches and more.

    Nothing is written, and no model is loaded. The exit code is 3 if there are findings. docs/check.md lists them.
    """
    from sdprep.tasks.exchange.check import CheckSettings
    from sdprep.tasks.exchange.check import check as task

    options["caption_extension"] = options["caption_extension"] or ""
    terminal = Terminal()
    try:
        report = task(directory, target, CheckSettings(metadata=metadata, **options), listener=terminal)
    finally:
        terminal.close()
    if json_report:
        print_json(report.as_dict(prompts=prompts))
    else:
        _print_findings(report)
        for path, some in report.prompts.items() if prompts else ():
            for prompt in some:
                click.echo(f"{_one_line(path)}: {_one_line(prompt)}")
    _summarize(report)
    sys.exit(report.exit_code)


def _print_findings(report: CheckReport) -> None:
    """Print the findings of each code together: what it means, what to do, and some names."""
    for code in Code:
        found = [each for each in report.findings if each.code is code]
        if not found:
            continue
        about = ABOUT[code]
        click.echo(f"{about.severity} {code.value}: {len(found)}. {about.sentence} {about.advice}")
        shown = found if current().level is Level.DETAIL else found[:NAMED]
        for each in shown:
            click.echo(f"    {_one_line(each.path)}{each.detail and ': '}{_one_line(each.detail)}")
        if len(shown) < len(found):
            click.echo(f"    and {len(found) - len(shown)} more (--verbose names all)")


def _summarize(report: CheckReport) -> None:
    counts = [ABOUT[each.code].severity for each in report.findings]
    errors, warnings = counts.count("error"), counts.count("warning")
    color = RED if errors else YELLOW if warnings else GREEN
    found = f"{errors} errors, {warnings} warnings" if counts else "nothing is wrong"
    loads = f"{TARGETS[report.target].title} loads {report.images} image{'' if report.images == 1 else 's'}"
    current().say(f" {loads}: {found} ({report.seconds:.1f} s)", head="check:", style=color)


def _one_line(text: str) -> str:
    return text.replace("\n", r"\n")
