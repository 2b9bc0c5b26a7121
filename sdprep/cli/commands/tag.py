"""`sdprep tag`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.report import run_task
from sdprep.cli.results.shards import run_on_shards, shard_options
from sdprep.config import TagSettings, from_options
from sdprep.images.inputs import settings_folder
from sdprep.rules.labels import CATEGORY_ORDER, TagRules

NUMBER_OR_NAME = param_types.Raw('a number, "auto" or "mcut"', int, float, str)


def tag_list(name: str, help_text: str) -> Callable[[shared.F], shared.F]:
    """An option that takes tags separated by commas."""
    return shared.option(
        name, type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...", default="", help=help_text
    )


def threshold(_: click.Context, __: click.Parameter, value: Any) -> float | str:
    """A callback for a probability, "auto" or "mcut"."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        if value not in ("auto", "mcut"):
            raise click.BadParameter(f"{value!r} is not a probability such as 0.35, auto or mcut") from error
        return str(value)


def category_thresholds(_: click.Context, __: click.Parameter, value: Any) -> tuple[tuple[str, float], ...]:
    """A callback for NAME=VALUE, which may be repeated."""
    try:
        pairs = [each.partition("=") for each in value if each]
        return tuple((name.strip(), float(threshold)) for name, _, threshold in pairs)
    except ValueError as error:
        raise click.BadParameter(f"{', '.join(value)} does not have the form NAME=0.35") from error


def patterns(_: click.Context, __: click.Parameter, value: Any) -> tuple[str, ...]:
    """A callback for tags, wildcards and regular expressions separated by commas, or a list in a settings file."""
    from sdprep.rules.exclude import parse_exclusions

    return param_types.read_list(value, parse_exclusions)


def replacements(_: click.Context, __: click.Parameter, value: Any) -> tuple[tuple[str, str], ...]:
    """A callback for pairs of tags, as kohya writes them, or a list of such texts."""
    from sdprep.rules.tags import parse_replacement, parse_replacements

    if isinstance(value, list):
        return tuple(map(parse_replacement, value))
    texts = (value,) if isinstance(value, str) else value
    return tuple(pair for text in texts for pair in parse_replacements(text))


@click.command(
    cls=shared.Command,
    example="sdprep tag ./imgs --threshold 0.35 --remove-underscore",
    elsewhere={
        "--output-path": "Tags are written to tag files; sdprep merge writes them into the JSON that its -o names"
    },
    short_help="Write booru tags for every image.",
)
@shared.inputs_argument()
@shared.options(
    "Model",
    shared.option("-m", "--model", aliases=("--repo-id",), type=param_types.TEXTS, callback=param_types.one_or_several,
                  metavar="MODEL", default="wd-v1-4-swinv2-tagger-v2", show_default=True,
                  help="Registry name, TOML file, Hub repository (owner/name@revision) or local folder; "
                  "may be repeated."),
    shared.option("--combine", type=shared.choice(TagSettings, "combine"), default="union", show_default=True,
                  help="Of several models, keep tags of any, of more than half, or with a high enough mean score."),
    shared.option("--backend", type=shared.choice(TagSettings, "backend"), default="auto", show_default=True,
                  shortcuts={"--onnx": "onnx"}, help="Framework that runs the model; auto prefers ONNX."),
    shared.option("--provider", adds_up=True, default="auto", show_default=True, metavar="NAME,...",
                  help="ONNX providers, best first: cpu, cuda, tensorrt, rocm, migraphx, directml, coreml, openvino."),
    shared.option("--device", adds_up=True, default="auto", show_default=True, metavar="auto|cpu|cuda:N[,N...]",
                  help="GPU to use, or several separated by commas to split the work."),
    shared.option("--preprocess", type=shared.choice(TagSettings, "preprocess"),
                  help="Resize upright and bicubically, or exactly as kohya's tagger does.  [default: sdprep]"),
    shared.option("--model-dir", type=param_types.UserPath(file_okay=False, path_type=Path),
                  help="Folder with models that kohya's tagger downloaded; searched first."),
    shared.option("--force-download", is_flag=True, help="Verify the model's files, and download damaged ones again."),
)  # fmt: skip
@shared.options(
    "Tags",
    shared.option("-t", "--threshold", aliases=("--thresh",), type=NUMBER_OR_NAME, callback=threshold,
                  default=0.35, show_default=True, metavar="FLOAT|auto|mcut",
                  help="Write tags with at least this probability; auto: as on the model card; mcut: widest gap."),
    *(shared.option(f"--{category}-threshold", type=param_types.FiniteFloat(),
                    help=f"Threshold of {category} tags, instead of --threshold.")
      for category in ("general", "character", "copyright", "artist", "meta", "model")),
    shared.option("--category-threshold", multiple=True, callback=category_thresholds, metavar="NAME=FLOAT",
                  help="Threshold of any other category of the model; may be repeated."),
    shared.option("--tag-thresholds", metavar="FILE|model",
                  help="Thresholds per tag: a CSV file (tag,threshold), or those of the model's label file."),
    shared.option("--remove-underscore/--no-remove-underscore", default=False,
                  help="Write spaces for underscores, except in emoticons."),
    shared.option("--exclude", aliases=("--undesired-tags",), type=param_types.TEXTS, callback=patterns,
                  metavar="A,B*,/C/,...", default="", help="Tags never to write: names, wildcards, /regex/."),
    shared.option("--aliases", type=shared.FILE,
                  help="CSV file (antecedent,consequent): write the second instead of the first."),
    shared.option("--implications", type=shared.FILE,
                  help="CSV file (antecedent,consequent): the first tag implies the second."),
    shared.option("--implied", type=shared.choice(TagRules, "implied"), default="drop", show_default=True,
                  help="Drop tags that other tags imply, or add them even if not predicted."),
    shared.option("--tag-replacement", type=param_types.TEXTS, callback=replacements, metavar="OLD,NEW;...", default="",
                  help="Write NEW instead of OLD; an empty NEW drops the tag."),
    shared.option("--character-tag-expand/--no-character-tag-expand", default=False,
                  help="Write name_(series) as two tags: name, series."),
    shared.option("--ratings", type=shared.choice(TagRules, "ratings"), default="none", show_default=True,
                  shortcuts={"--use-rating-tags": "first", "--use-rating-tags-as-last-tag": "last"},
                  help="Write the most probable rating as the first or last tag."),
    shared.option("--quality", type=shared.choice(TagRules, "quality"), default="none", show_default=True,
                  shortcuts={"--use-quality-tags": "first", "--use-quality-tags-as-last-tag": "last"},
                  help="Write the most probable quality tag first or last, if the model has any."),
    shared.option("--order", type=shared.choice(TagRules, "order"), default="confidence", show_default=True,
                  help="Most probable first, as in the label file, A to Z, or by category."),
    shared.option("--category-order", type=param_types.TEXTS, callback=param_types.comma_list, metavar="A,B,...",
                  default=",".join(CATEGORY_ORDER), show_default=True,
                  help="Categories from first to last, for --order category; people: 1girl, 2boys, solo."),
    shared.option("--artist-prefix", may_be_blank=True, metavar="TEXT", default="",
                  help="Write this before the name of an artist."),
    shared.option("--max-tags", type=param_types.Int64(1), help="Write at most this many predicted tags."),
    shared.option("--character-tags-first/--no-character-tags-first", default=False,
                  help="Write character tags before general tags."),
    shared.option("--always-first-tags", type=param_types.TEXTS, callback=patterns, metavar="A,B*,/C/,...", default="",
                  help="Tags that come first, in this order, if predicted: names, wildcards, /regex/."),
    tag_list("--prefix", "Tags that always come first, predicted or not, such as a trigger word."),
    tag_list("--suffix", "Tags that always come last, predicted or not."),
    shared.option("--escape-parentheses/--no-escape-parentheses", default=False,
                  help=r"Write \( and \), as weighted prompts need it."),
    shared.option("--caption-separator", may_be_blank=True, callback=param_types.separator, default=", ",
                  show_default='", "', help=r"Separator between tags; \n is a new line, \t a tab."),
)  # fmt: skip
@shard_options
@shared.run_options
@shared.options(
    "Files",
    shared.option("--caption-extension", aliases=("--caption-extention",), default=".txt", show_default=True,
                  help="Extension of tag files."),
    shared.option("--scores", type=shared.FILE, help="Write the scores of every image to this JSON Lines file."),
    shared.option("--scores-min", type=param_types.FiniteFloat(), default=0.05, show_default=True,
                  help="Lowest score written to that file."),
)  # fmt: skip
@shared.path_options
@shared.decode_options
@shared.config_options
@shared.options(
    "Output",
    shared.option("--frequency-tags", is_flag=True, help="Print how many images have each tag."),
)
@shared.measure_options
@shared.report_options
@click.pass_context
def tag(ctx: click.Context, /, json_report: bool, **_: Any) -> None:
    """Write a tag file with booru tags for every image with a Waifu Diffusion tagger.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png".

    Tags that you wrote or edited are kept. Scores are stored, so another threshold takes seconds and no model.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.tag import tag as task

    if run_on_shards(ctx, TagSettings, json_report=json_report):
        return
    inputs = shared.inputs_of(ctx)
    stated = gather(ctx, settings_folder(inputs))
    settings = from_options(TagSettings, stated.values)
    run_task(task, inputs, settings, layers=stated.layers, json_report=json_report)
