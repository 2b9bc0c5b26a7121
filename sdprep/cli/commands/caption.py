"""`sdprep caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task
from sdprep.config import CaptionSettings, from_options


@click.command(
    cls=shared.Command,
    example="sdprep caption ./imgs --num-beams 3 --max-length 40",
    short_help="Write a caption for every image.",
)
@shared.directory_argument()
@shared.options(
    "Model",
    shared.option("-m", "--model", aliases=("--caption-weights",), default="blip-large", show_default=True,
                  help="Registry name, TOML file, Hub repository (owner/name@revision) or local folder."),
    shared.option("--device", adds_up=True, default="auto", show_default=True, metavar="auto|cpu|cuda[:N,...]|mps",
                  help="Device that runs the model, or several separated by commas to split the work."),
    shared.option("--dtype", type=shared.choice(CaptionSettings, "dtype"), default="float32",
                  show_default=True, help="Precision of the weights; int8 on CPUs only."),
    shared.option("--decoder", type=shared.choice(CaptionSettings, "decoder"), default="fast", show_default=True,
                  help="sdprep's decoder, or that of transformers: slower, same captions."),
    shared.option("--cuda-graphs", is_flag=True,
                  help="Use CUDA graphs, overlapped copies and a compiled vision tower; not yet tested on a GPU."),
    shared.option("--preprocess", type=shared.choice(CaptionSettings, "preprocess"),
                  help="Prepare images upright and on white, or exactly as kohya's captioner does.  [default: sdprep]"),
    shared.option("--allow-pickle", is_flag=True,
                  help="Allow weights in a pickle file (.bin, .pth, .pt) from a source you trust."),
)  # fmt: skip
@shared.options(
    "Caption",
    shared.option("--prompt", may_be_blank=True, default="a picture of", show_default=True,
                  help="Text that the caption continues; it is not written. Empty for none."),
    shared.option("--num-beams", type=param_types.Int64(1), default=3, show_default=True,
                  help="Beams of the beam search; 1 is greedy search."),
    shared.option("--sample/--beam-search", default=False, help="Sample tokens instead of using beam search."),
    shared.option("--top-p", type=param_types.FiniteFloat(0, 1, min_open=True), default=0.9, show_default=True,
                  help="Sample from the tokens that together reach this probability."),
    shared.option("--top-k", type=param_types.Int64(0), default=0, show_default=True,
                  help="Sample from this many tokens; 0: no limit."),
    shared.option("--captions", type=param_types.Int64(1), default=1, show_default=True,
                  help="Captions per image, one per line."),
    shared.option("--best-of", type=param_types.Int64(1),
                  help="Generate this many captions per image and write the most likely."),
    shared.option("--repetition-penalty", type=param_types.FiniteFloat(0, min_open=True), default=1.0,
                  show_default=True, help="Above 1, words already used become less likely."),
    shared.option("--no-repeat-ngram-size", type=param_types.Int64(0), default=0, show_default=True,
                  help="Never repeat a sequence of this many tokens; 0: no limit."),
    shared.option("--bad-words", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...", default="",
                  help="Words that the model may not use."),
    shared.option("--drop-words", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...",
                  default="", help="Words to remove from captions, such as arafed."),
    shared.option("--prefix", may_be_blank=True, default="", help="Text before every caption."),
    shared.option("--suffix", may_be_blank=True, default="", help="Text after every caption."),
    shared.option("--decode-again/--no-decode-again", default=True, show_default=True,
                  help="Retry a caption that repeats itself."),
    shared.option("--min-length", type=param_types.Int64(0), default=5, show_default=True,
                  help="Minimum tokens per caption, without the prompt."),
    shared.option("--max-length", type=param_types.Int64(1), default=75, show_default=True,
                  help="Maximum tokens per caption, without the prompt."),
    shared.option("--count-prompt/--no-count-prompt", default=False,
                  help="Include the prompt in these lengths, as kohya does."),
    shared.option("--seed", type=param_types.Int64(), default=42, show_default=True, help="Seed of --sample."),
)  # fmt: skip
@shared.run_options
@shared.options(
    "Files",
    shared.option("--caption-extension", aliases=("--caption-extention",), default=".caption", show_default=True,
                  help="Extension of caption files."),
)  # fmt: skip
@shared.path_options
@shared.decode_options
@shared.config_options
@shared.measure_options
@shared.report_options
@click.pass_context
def caption(ctx: click.Context, /, directory: Path, json_report: bool, **_: Any) -> None:
    """Write a natural-language caption file for every image in DIR with BLIP.

    Captions that you wrote or edited are kept. Results are stored, so a deleted file is restored without the model.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.caption import caption as task

    stated = gather(ctx, directory)
    settings = from_options(CaptionSettings, stated.values)
    run_task(task, directory, settings, layers=stated.layers, json_report=json_report)
