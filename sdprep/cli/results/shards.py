"""The options of runs over shards, which `sdprep tag` and `sdprep caption` share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli.param_types import expand_home, hyphenate
from sdprep.cli.report import run_task
from sdprep.config import PathOptions, RunOptions, from_options, option_names
from sdprep.engines.actors import RayOptions
from sdprep.errors import UsageError
from sdprep.images.formats import OF_SHARDS, has_extension
from sdprep.sanitize import printable

URL = re.compile(r"(?:s3|gs|az|hf)://", re.IGNORECASE)
PART = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
# Where schedulers say which of how many tasks this is: the variables of the number, of the first number, and of how
# many there are.
SCHEDULERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"),
    ("SKYPILOT_JOB_RANK", None, "SKYPILOT_NUM_JOBS"),
    ("JOB_COMPLETION_INDEX", None, None),
)
# Options of the command that are about one table of results, and not about the files of a folder.
OF_MACHINE = frozenset({"batch_size", "workers", "memory", "image_timeout"})
KEPT = OF_MACHINE | {"max_pixels", "allow_truncated"}
FOLDER_OPTIONS = frozenset(
    {"scores", "scores_min", "frequency_tags", "files_from", "no_remembered"}
    | option_names(PathOptions)
    | (option_names(RunOptions) - KEPT)
)

shard_options = shared.options(
    "Shards",
    shared.option("--results", metavar="URL",
                  help="Read shards and store results there: a folder, s3://, gs:// or az://. INPUT is then tars, "
                  "Parquet files, or folders or buckets with these or with images; {000..123} counts."),
    shared.option("--shard", metavar="I/N|auto[/N]",
                  help="Begin with part I, from 0, of N; auto: as Slurm, SkyPilot or Kubernetes say."),
    shared.option("--no-steal", is_flag=True, help="Leave shards of other parts alone."),
    shared.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                  help="Work in this process, or on a Ray cluster: an actor per GPU, or per --workers CPUs."),
    shared.option("--ray-address", metavar="HOST:PORT|local",
                  help="The cluster; local: one started for this run.  [default: RAY_ADDRESS, or the one of this "
                  "machine]"),
    shared.option("--actors", type=click.IntRange(1), metavar="N",
                  help="Actors at most; the run waits for machines.  [default: as many as the cluster has room for]"),
    shared.option("--spool", type=click.IntRange(1), default=1000, show_default=True, metavar="MB",
                  help="Images of shards in hand, those read ahead included."),
    shared.option("--image-column", metavar="NAME", help="Column of Parquet files with images.  [default: image]"),
    shared.option("--key-column", metavar="NAME", help="Column with the key of each.  [default: the row's number]"),
)  # fmt: skip


def run_on_shards(ctx: click.Context, settings: type, *, json_report: bool) -> bool:
    """Run the command on shards if it has `--results`; False if it has not, and no option of shards."""
    given = {name for name in SHARD_OPTIONS if _is_stated(ctx, name)}
    if ctx.params["results"] is None:
        if found := list(filter(_is_of_shards, ctx.meta.get("inputs", []))):
            raise UsageError(
                f"{printable(found[0])}: only a run with --results reads buckets, tars and Parquet files; "
                "it stores a table, and no sidecars"
            )
        if given:
            raise UsageError(f"{_named(given)} {'has' if len(given) == 1 else 'have'} no effect without --results")
        return False
    from sdprep.cli.stated import gather_anywhere
    from sdprep.shards.plan import Sources
    from sdprep.tasks.shards.run import run_shards
    from sdprep.tasks.shards.settings import ShardOptions

    inputs = [expand_home(each) for each in ctx.meta.get("inputs", [])]
    if not inputs:
        raise click.UsageError("give tars, Parquet files, folders or buckets", ctx)
    values, stated = gather_anywhere(ctx)
    in_vain = {name for name in FOLDER_OPTIONS if name in stated or _is_stated(ctx, name)}
    if in_vain:
        raise UsageError(f"{_named(in_vain)} {'is' if len(in_vain) == 1 else 'are'} for folders, not for --results")
    index, count = _part(ctx.params["shard"], os.environ)
    options = ShardOptions(
        results=expand_home(ctx.params["results"]),
        sources=Sources.of(inputs, ctx.params["image_column"], ctx.params["key_column"]),
        index=index,
        count=count,
        steal=not ctx.params["no_steal"],
        spool=ctx.params["spool"],
        ray=_ray_options(ctx.params, os.environ),
        stated={name: value for name, value in stated.items() if name not in OF_MACHINE},
    )
    run_task(run_shards, from_options(settings, values), options, json_report=json_report)
    return True


def _is_of_shards(source: str) -> bool:
    """Whether only a run over shards reads this: a bucket, a tar, or a Parquet file."""
    return (URL.match(source) is not None or has_extension(source, OF_SHARDS)) and not Path(source).is_dir()


SHARD_OPTIONS = ("shard", "no_steal", "engine", "ray_address", "actors", "spool", "image_column", "key_column")
RAY_OPTIONS = ("ray_address", "actors")


def _is_stated(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name) if name in ctx.params else None
    return source in (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)


def _ray_options(values: Mapping[str, Any], variables: Mapping[str, str]) -> RayOptions | None:
    """The cluster of `--engine ray`. Raises UsageError for its options without it."""
    if values["engine"] == "ray":
        return RayOptions(
            address=values["ray_address"] or variables.get("RAY_ADDRESS") or None, actors=values["actors"]
        )
    if given := {name for name in RAY_OPTIONS if values[name] is not None}:
        raise UsageError(f"{_named(given)} {'has' if len(given) == 1 else 'have'} no effect without --engine ray")
    return None


def _named(names: set[str]) -> str:
    return " and ".join(f"--{hyphenate(name)}" for name in sorted(names))


def _part(text: str | None, variables: Mapping[str, str]) -> tuple[int, int]:
    """Which part of how many a process is, from 0. Raises UsageError if that cannot be told."""
    if text is None:
        return 0, 1
    if found := PART.fullmatch(text):
        return int(found[1]), int(found[2])
    kind, _, count = text.partition("/")
    if kind != "auto" or not (count.isdecimal() or count == text[len("auto") :] == ""):
        raise UsageError(f"--shard {text}: give I/N such as 3/16, auto, or auto/N")
    for number, first, total in SCHEDULERS:
        if number not in variables:
            continue
        many = count or variables.get(total or "", "")
        if not many:
            raise UsageError(f"--shard auto: {number} is set, but nothing says how many tasks there are; use auto/N")
        try:
            return int(variables[number]) - int(variables.get(first or "", "0")), int(many)
        except ValueError as error:
            raise UsageError(f"--shard auto: {number} is {variables[number]!r}, which is not a number") from error
    known = ", ".join(each[0] for each in SCHEDULERS)
    raise UsageError(f"--shard auto: none of {known} is set; give I/N such as 3/16")
