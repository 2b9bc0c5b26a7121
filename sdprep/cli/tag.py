"""`sdprep tag`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sdprep.cli import command as shared
from sdprep.cli.report import perform


def tag_list(name: str, help_text: str) -> Callable[[shared.F], shared.F]:
    """An option that takes tags parted by commas."""
    return shared.option(
        name, type=click.UNPROCESSED, callback=shared.comma_list, metavar="A,B,...", default="", help=help_text
    )


def replacements(_: click.Context, __: click.Parameter, value: str) -> tuple[tuple[str, str], ...]:
    """A callback for pairs of tags, as kohya writes them."""
    from sdprep.rules.tags import parse_replacements

    return parse_replacements(value)


@click.command(
    cls=shared.Command,
    example="sdprep tag ./imgs --threshold 0.35 --remove-underscore",
    short_help="Write booru tags beside every picture.",
)
@shared.directory_argument()
@shared.options(
    shared.option("--model", aliases=("--repo-id",), default="wd-v1-4-swinv2-tagger-v2", show_default=True,
                  help="Registry name, TOML file, Hub repository (owner/name@revision) or local folder."),
    shared.option("--backend", type=click.Choice(["auto", "onnx", "tensorflow"]), default="auto", show_default=True,
                  help="What runs the model; auto takes ONNX where it is installed."),
    shared.option("--provider", default="auto", show_default=True, metavar="NAME,...",
                  help="What runs ONNX, best first: cpu, cuda, tensorrt, rocm, migraphx, directml, coreml, openvino."),
    shared.option("--onnx", is_flag=True, help="The same as --backend onnx, as kohya's tagger has it."),
    shared.option("--threshold", aliases=("--thresh",), type=float, default=0.35, show_default=True,
                  help="Write tags at or above this probability."),
    shared.option("--general-threshold", type=float, help="Threshold of general tags, instead of --threshold."),
    shared.option("--character-threshold", type=float, help="Threshold of character tags, instead of --threshold."),
    shared.option("--remove-underscore", is_flag=True, help="Write spaces for underscores; emoticons stay."),
    tag_list("--undesired-tags", "Tags never to write."),
    shared.option("--tag-replacement", callback=replacements, metavar="OLD,NEW;...", default="",
                  help="Write NEW for OLD; an empty NEW drops the tag."),
    shared.option("--character-tag-expand", is_flag=True, help="Write name_(series) as two tags: name, series."),
    shared.option("--use-rating-tags", is_flag=True, help="Write the best rating as the first tag."),
    shared.option("--use-rating-tags-as-last-tag", is_flag=True, help="Write the best rating as the last tag."),
    shared.option("--order", type=click.Choice(["confidence", "csv", "alphabetical"]), default="confidence",
                  show_default=True, help="Most certain first, the order of the label file, or A to Z."),
    shared.option("--max-tags", type=click.IntRange(1), help="Write at most this many predicted tags."),
    shared.option("--character-tags-first", is_flag=True, help="Write character tags before general tags."),
    tag_list("--always-first-tags", "Tags that come first, in this order, where they are predicted."),
    tag_list("--prefix", "Tags that always come first, predicted or not, such as a trigger word."),
    tag_list("--suffix", "Tags that always come last, predicted or not."),
    shared.option("--escape-parentheses", is_flag=True, help=r"Write \( and \), as prompts with weights need it."),
    shared.option("--caption-separator", default=", ", show_default='", "', help="Text between tags."),
    shared.option("--caption-extension", aliases=("--caption-extention",), default=".txt", show_default=True,
                  help="Extension of the sidecar."),
    shared.option("--scores", type=shared.FILE, help="Write the scores of every picture to this JSON Lines file."),
    shared.option("--scores-min", type=float, default=0.05, show_default=True, help="Lowest score in that file."),
)  # fmt: skip
@shared.work_options
@shared.layout_options
@shared.config_options
@shared.report_options
@click.pass_context
def tag(ctx: click.Context, /, directory: Path, json_report: bool, onnx: bool, **_: Any) -> None:
    """Write booru tags beside every picture in DIR with a Waifu Diffusion tagger.

    Text that you wrote or edited is kept. Scores are stored, so another threshold takes seconds and no model.
    """
    from sdprep.config import Layout, TagSettings, Work
    from sdprep.rules.tags import TagRules
    from sdprep.tasks.tag import tag as task

    settings = TagSettings(
        **{**shared.settings_of(ctx, TagSettings), **({"backend": "onnx"} if onnx else {})},
        rules=TagRules(**shared.settings_of(ctx, TagRules)),
        layout=Layout(**shared.settings_of(ctx, Layout)),
        work=Work(**shared.settings_of(ctx, Work)),
    )
    perform(task, directory, settings, stated=shared.stated(ctx), json_report=json_report)
