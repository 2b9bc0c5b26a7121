"""`sdprep caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task


@click.command(
    cls=shared.Command,
    example="sdprep caption ./imgs --num-beams 3 --max-length 40",
    short_help="Write a sentence beside every image.",
)
@shared.directory_argument()
@shared.options(
    shared.option("--model", aliases=("--caption-weights",), default="blip-large", show_default=True,
                  help="Registry name, TOML file, Hub repository (owner/name@revision) or local folder."),
    shared.option("--prompt", default="a picture of", show_default=True,
                  help="Words that the caption continues; they are not written. Empty for none."),
    shared.option("--num-beams", type=param_types.Int64(1), default=3, show_default=True,
                  help="Beams of the search; 1 is greedy."),
    shared.option("--sample/--beam-search", default=False, help="Draw words by chance instead of searching."),
    shared.option("--top-p", type=param_types.FiniteFloat(0, 1, min_open=True), default=0.9, show_default=True,
                  help="Sample from the words that together reach this probability."),
    shared.option("--top-k", type=param_types.Int64(0), default=0, show_default=True,
                  help="Sample from this many words; 0: no limit."),
    shared.option("--captions", type=param_types.Int64(1), default=1, show_default=True,
                  help="Captions of each image, one a line."),
    shared.option("--best-of", type=param_types.Int64(1),
                  help="Make this many captions of each image and write the likeliest."),
    shared.option("--repetition-penalty", type=param_types.FiniteFloat(0, min_open=True), default=1.0,
                  show_default=True, help="Above 1, words already used become less likely."),
    shared.option("--no-repeat-ngram-size", type=param_types.Int64(0), default=0, show_default=True,
                  help="Never write this many tokens in a row twice; 0: no limit."),
    shared.option("--bad-words", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...", default="",
                  help="Words that the model must not use."),
    shared.option("--drop-words", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...",
                  default="", help="Words that are left out of what the model says, such as arafed."),
    shared.option("--prefix", default="", help="Text before every caption."),
    shared.option("--suffix", default="", help="Text behind every caption."),
    shared.option("--decode-again/--no-decode-again", default=True, show_default=True,
                  help="Give a caption that repeats itself a second try."),
    shared.option("--min-length", type=param_types.Int64(0), default=5, show_default=True,
                  help="Fewest tokens of a caption, the prompt not counted."),
    shared.option("--max-length", type=param_types.Int64(1), default=75, show_default=True,
                  help="Most tokens of a caption, the prompt not counted."),
    shared.option("--count-prompt", is_flag=True, help="Count the prompt's tokens too, as kohya's lengths do."),
    shared.option("--seed", type=param_types.Int64(), default=42, show_default=True, help="Seed of --sample."),
    shared.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N,...]|mps",
                  help="Where the model runs; several devices parted by commas share the run."),
    shared.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16", "int8"]), default="float32",
                  show_default=True, help="Precision of the weights; int8 on processors only."),
    shared.option("--decoder", type=click.Choice(["fast", "reference"]), default="fast", show_default=True,
                  help="sdprep's decode loop, or that of transformers: slower, the same captions."),
    shared.option("--cuda-graphs", is_flag=True,
                  help="Use CUDA graphs, overlapped copies and a compiled vision tower; not yet tested on a GPU."),
    shared.option("--preprocess", type=click.Choice(["sdprep", "kohya"]),
                  help="Upright and on white, or prepared as by kohya's captioner.  [default: sdprep]"),
    shared.option("--allow-pickle", is_flag=True,
                  help="Read weights from a pickle (.bin, .pth, .pt) of somebody you trust."),
    shared.option("--caption-extension", aliases=("--caption-extention",), default=".caption", show_default=True,
                  help="Extension of the sidecar."),
)  # fmt: skip
@shared.work_options
@shared.layout_options
@shared.config_options
@shared.report_options
@click.pass_context
def caption(ctx: click.Context, /, directory: Path, json_report: bool, **_: Any) -> None:
    """Write a natural-language caption beside every image in DIR with BLIP.

    Text that you wrote or edited is kept. Captions are stored, so a deleted sidecar comes back without the model.
    """
    from sdprep.config import CaptionSettings, PathOptions, RunOptions
    from sdprep.rules.captions import CaptionRules
    from sdprep.tasks.caption import caption as task

    settings = CaptionSettings(
        **shared.settings_of(ctx, CaptionSettings),
        rules=CaptionRules(**shared.settings_of(ctx, CaptionRules)),
        paths=PathOptions(**shared.settings_of(ctx, PathOptions)),
        run=RunOptions(**shared.settings_of(ctx, RunOptions)),
    )
    run_task(task, directory, settings, explicit=shared.explicit(ctx), json_report=json_report)
