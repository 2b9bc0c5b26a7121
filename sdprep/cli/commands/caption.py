"""`sdprep caption`."""

from __future__ import annotations

from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task
from sdprep.cli.results.shards import run_on_shards, shard_options
from sdprep.config import CaptionSettings, from_options
from sdprep.images.inputs import settings_folder


@click.command(
    cls=shared.Command,
    example="sdprep caption ./imgs --num-beams 3 --max-length 40",
    short_help="Write a caption for every image.",
)
@shared.inputs_argument()
@shared.options(
    "Model",
    shared.option("-m", "--model", aliases=("--caption-weights",), default="blip-large", show_default=True,
                  help="Registry name, TOML file, Hub repository (owner/name@revision) or local folder; with --server, "
                  "the name that the server has."),
    shared.option("--device", adds_up=True, default="auto", show_default=True, metavar="auto|cpu|cuda[:N,...]|mps",
                  help="Device that runs the model, or several separated by commas to split the work."),
    shared.option("--dtype", type=shared.choice(CaptionSettings, "dtype"), default="float32",
                  show_default=True, help="Precision of the weights; int8 on CPUs only."),
    shared.option("--quantize", type=shared.choice(CaptionSettings, "quantize"), default="none", show_default=True,
                  help="Load the weights of a chat model in 4 bits: less memory, slightly different captions."),
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
    "Server",
    shared.option("--server", type=param_types.TEXTS, callback=param_types.one_or_several, metavar="URL",
                  help="Ask a server with the Chat Completions API, such as http://127.0.0.1:11434, for the captions; "
                  "may be repeated for servers that share the images."),
    shared.option("--in-flight", type=param_types.Int64(1), default=4, show_default=True,
                  help="Requests to each server at a time."),
    shared.option("--max-requests", type=param_types.Int64(1), help="Stop after this many requests to all servers."),
    shared.option("--max-cost", type=param_types.FiniteFloat(0, min_open=True),
                  help="Stop before the requests cost more than this, by the price in the model's TOML file."),
    shared.option("--insecure", is_flag=True, help="Send images to a public server without TLS."),
)  # fmt: skip
@shared.options(
    "Prompt",
    shared.option("--prompt", may_be_blank=True, callback=param_types.prompt,
                  help="What the model is asked, with variables such as {tags}; the text that BLIP continues. It is "
                  "not written. Empty for none.  [default: the model's own]"),
    shared.option("--prompt-preset", metavar="NAME", is_eager=True, expose_value=False,
                  callback=param_types.prompt_preset, help="A prompt that the model's TOML file has under this name."),
    shared.option("--prompt-file", type=shared.FILE, is_eager=True, expose_value=False,
                  callback=param_types.prompt_file, help="Read the prompt from this file."),
    shared.option("--system-prompt", may_be_blank=True,
                  help="The system prompt of a chat model.  [default: the model's own]"),
    shared.option("--trigger", may_be_blank=True, default="", help="Text for {trigger} in prompts."),
    shared.option("--tag-extension", default=".txt", show_default=True,
                  help="Extension of the files with the tags for {tags} in prompts."),
)  # fmt: skip
@shared.options(
    "Caption",
    shared.option("--num-beams", type=param_types.Int64(1),
                  help="Beams of the beam search; 1 is greedy search.  [default: the model's own, 3 for BLIP]"),
    shared.option("--sample/--beam-search", default=None,
                  help="Sample tokens instead of using beam search.  [default: the model's own]"),
    shared.option("--temperature", type=param_types.FiniteFloat(0),
                  help="Below 1, likely tokens are sampled more often; 0: greedy search.  [default: the model's own]"),
    shared.option("--top-p", type=param_types.FiniteFloat(0, 1, min_open=True),
                  help="Sample from the tokens that together reach this probability.  [default: the model's own, "
                  "0.9 for BLIP]"),
    shared.option("--top-k", type=param_types.Int64(0),
                  help="Sample from this many tokens; 0: no limit.  [default: the model's own, 0 for BLIP]"),
    shared.option("--captions", type=param_types.Int64(1), default=1, show_default=True,
                  help="Captions per image, one per line."),
    shared.option("--best-of", type=param_types.Int64(1),
                  help="Generate this many captions per image and write the most likely."),
    shared.option("--repetition-penalty", type=param_types.FiniteFloat(0, min_open=True),
                  help="Above 1, words already used become less likely.  [default: the model's own, 1 for BLIP]"),
    shared.option("--no-repeat-ngram-size", type=param_types.Int64(0),
                  help="Never repeat a sequence of this many tokens; 0: no limit.  [default: the model's own, "
                  "0 for BLIP]"),
    shared.option("--bad-words", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...", default="",
                  help="Words that the model may not use."),
    shared.option("--drop-words", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...",
                  default="", help="Words to remove from captions, such as arafed."),
    shared.option("--prefix", may_be_blank=True, default="", help="Text before every caption."),
    shared.option("--suffix", may_be_blank=True, default="", help="Text after every caption."),
    shared.option("--decode-again/--no-decode-again", default=True, show_default=True,
                  help="Retry a caption that repeats itself."),
    shared.option("--min-length", type=param_types.Int64(0),
                  help="Minimum tokens per caption, without the prompt.  [default: the model's own, 5 for BLIP]"),
    shared.option("--max-length", type=param_types.Int64(1),
                  help="Maximum tokens per caption, without the prompt.  [default: the model's own, 75 for BLIP]"),
    shared.option("--count-prompt/--no-count-prompt", default=False,
                  help="Include the prompt in these lengths, as kohya does."),
    shared.option("--seed", type=param_types.Int64(), default=42, show_default=True, help="Seed of --sample."),
)  # fmt: skip
@shard_options
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
def caption(ctx: click.Context, /, json_report: bool, **_: Any) -> None:
    """Write a natural-language caption file for every image.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png".

    Captions that you wrote or edited are kept. Results are stored, so a deleted file is restored without the model.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.caption import caption as task

    if run_on_shards(ctx, CaptionSettings, json_report=json_report):
        return
    inputs = shared.inputs_of(ctx)
    stated = gather(ctx, settings_folder(inputs))
    settings = from_options(CaptionSettings, stated.values)
    run_task(task, inputs, settings, layers=stated.layers, json_report=json_report)
