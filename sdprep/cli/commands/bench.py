"""`sdprep bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.signals import run_signals
from sdprep.config import BenchSettings, from_options
from sdprep.report import CancelToken

if TYPE_CHECKING:
    from sdprep.tasks.bench.bench import Bench


@click.command(
    cls=shared.Command,
    example="sdprep bench ./imgs --model wd-vit-tagger-v3 --workers 4",
    short_help="Benchmark each stage on this machine and suggest improvements.",
)
@click.argument("directory", metavar="[DIR]", type=shared.DIRECTORY, required=False)
@shared.options(
    "Options",
    shared.option("-m", "--model", default="wd-v1-4-swinv2-tagger-v2", show_default=True,
                  help="Registry name, TOML file, Hub repository or local folder; a tagger or a captioner."),
    shared.option("--batch-size", type=param_types.Int64(1), default=8, show_default=True,
                  help="Images per model call."),
    shared.option("--workers", type=param_types.Int64(0), default=2, show_default=True,
                  help="Threads that decode ahead; 0: none."),
    shared.option("--limit", type=param_types.Int64(1), default=100, show_default=True,
                  help="Use the first images of DIR, at most this many."),
    shared.option("--json", "json_report", is_flag=True, help="Print the figures as one JSON object on stdout."),
)  # fmt: skip
@click.pass_context
def bench(ctx: click.Context, /, directory: Path | None, json_report: bool, **_: Any) -> None:
    """Measure decoding, the model, writing and all together in a run over images of DIR (default: the demo's).

    DIR stays unchanged: sidecars and catalog go to a temporary folder, which is deleted.
    """
    from sdprep.tasks.bench.bench import bench as task

    terminal = Terminal()
    with run_signals(CancelToken()):
        try:
            made = task(directory, from_options(BenchSettings, ctx.params), listener=terminal)
        finally:
            terminal.close()
    for failure in made.failures:
        click.echo(f"failed: {failure['path']}: {failure['code']}: {failure['message']}", err=True)
    if json_report:
        print_json(_as_dict(made), schema=2)
    else:
        _print(made)
    sys.exit(3 if made.failures else 0)


def _as_dict(made: Bench) -> dict[str, Any]:
    """Return the figures as JSON-ready values."""
    env, found = made.environment, made.verdict
    stages = {
        name: {
            "images": stage.images,
            "seconds": round(stage.seconds, 4),
            "cpu_seconds": round(stage.cpu_seconds, 4),
            "images_per_second": round(stage.rate, 2),
        }
        for name, stage in made.stages.items()
    }
    return {
        "command": "bench",
        "model": env.model,
        "provider": env.provider,
        "batch_size": made.batch_size,
        "workers": env.workers,
        "cpus": env.cpus,
        "stages": stages,
        "startup_seconds": _rounded(env.startup),
        "cpu_shares": None if found.shares is None else {name: _rounded(share) for name, share in found.shares.items()},
        "cores_to_keep_model_busy": _rounded(found.cores),
        "images_per_second_possible": _rounded(found.limit),
        "reached": _rounded(found.reached),
        "advice": list(found.advice),
        "written_to": str(made.written_to),
        "same_disk": made.same_disk,
        "failures": list(made.failures),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _print(made: Bench) -> None:
    """Print a table of the stages, and what follows from it in sentences."""
    env, found = made.environment, made.verdict
    click.echo(
        f"{env.model}{f' on {env.provider}' if env.provider else ''}: batches of {made.batch_size}, "
        f"{env.workers} decoding threads, CPU cores: {env.cpus}\n"
    )
    shares = found.shares or {}
    rows = [("stage", "images", "images/s", "ms/image", "CPU ms/image", "of CPU time")]
    for name, stage in made.stages.items():
        share = f"{shares[name]:.0%}" if name in shares else ""
        per_image = (f"{1000 / stage.rate:.1f}", f"{1000 * stage.cpu:.1f}")
        rows.append((name, str(stage.images), f"{stage.rate:.1f}", *per_image, share))
    print_table(rows, right=range(1, 6))
    click.echo()
    if found.limit is not None and found.cores is not None:
        click.echo(f"Decoding and the model allow {found.limit:.1f} images/s here.")
        click.echo(f"{found.cores:.2f} CPU cores decode as fast as the model takes images.")
    for sentence in found.advice:
        click.echo(sentence)
    if not made.same_disk and made.stages:
        click.echo(
            f"Sidecars were written to {made.written_to}, not on the disk of the images; set TMPDIR to change that."
        )
