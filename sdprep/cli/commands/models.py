"""`sdprep models`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.talk import RED, Level, current

if TYPE_CHECKING:
    from sdprep.models.base import ModelSpec, Task
    from sdprep.tasks.models import ModelDetails, ModelFailure, ModelFile, ModelSummary, Verification

UNSCALED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
FITS = {
    "pad": "padded to a square with {}",
    "letterbox": "resized to fit, padded with {}",
    "squash": "squashed to a square",
}
LAYOUTS = {"nhwc": "channels last", "nchw": "channels first"}
TASKS = click.Choice(["caption", "tag"])

json_option = shared.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")
family_option = shared.option("--task", type=TASKS, help="The task of a repository that no TOML file describes.")


@click.group(short_help="List, download, check and add models.")
def models() -> None:
    """List the models that sdprep knows, download them, check their files, and add models of your own.

    NAME is what --model takes: a name, a TOML file, a Hub repository (owner/name@revision) or a local folder.
    """


@models.command(
    "list", cls=shared.Command, example="sdprep models list --task tag", short_help="List the registered models."
)
@shared.option("--task", type=TASKS, help="Only the models of this command.")
@json_option
def list_models(task: Task | None, as_json: bool) -> None:
    """List the registered models: those of sdprep, and those that you added.

    The exact download size is known after the first download. A model is cached if its files are on this machine.
    """
    from sdprep.tasks import models as api

    listing = api.list_models(task)
    if as_json:
        print_json(listing)
    else:
        head = ("name", "task", "backend", "download", "licence", "cached", "note")
        print_table([head, *map(_row, listing.models)], right=(3,))
    _exit(listing.failures)


@models.command(
    cls=shared.Command, example="sdprep models show wd-swinv2-tagger-v3", short_help="Show the details of a model."
)
@click.argument("name")
@family_option
@json_option
def show(name: str, task: Task | None, as_json: bool) -> None:
    """Show the details of the model NAME: source, files, image preparation and labels.

    NAME is what --model takes. Nothing is downloaded.
    """
    from sdprep.tasks import models as api

    shown = api.show(name, task)
    if as_json:
        import msgspec

        # One object for a model: what its description says, with what is known of each file.
        data = msgspec.to_builtins(shown, enc_hook=str)
        print_json({**data.pop("spec"), **data})
        return
    print_table(_detail_rows(shown))
    click.echo()
    head = ("file", "bytes", "here", "sha256")
    print_table([head, *map(_file, shown.files)], right=(1,))


@models.command(
    cls=shared.Command,
    example="sdprep models download blip-large wd-swinv2-tagger-v3",
    short_help="Download models.",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@family_option
@json_option
@shared.talk_options
def download(names: tuple[str, ...], task: Task | None, as_json: bool) -> None:
    """Download the files of each model NAME, so that caption and tag need no network.

    Existing files are checked against their SHA-256, and downloaded again if they are damaged. If one model is not
    available, the others are still downloaded and the exit code is 1. NAME may also be clip-tokenizer, with which
    sdprep counts tokens exactly.
    """
    from sdprep.tasks import models as api

    terminal = Terminal()
    done = api.download(names, task, listener=terminal)
    terminal.close()
    if as_json:
        print_json(done)
    else:
        print_table([(each.model, (each.commit or "")[:12], str(each.folder)) for each in done.models])
    _exit(done.failures)


@models.command(
    cls=shared.Command,
    example="sdprep models verify wd-swinv2-tagger-v3",
    short_help="Compare downloaded files with their checksums.",
)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@json_option
@shared.talk_options
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Compare the files of each model NAME, or of all downloads, with their SHA-256 at the first download.

    Each file is ok, damaged or missing. The exit code is 1 if any is damaged. Needs no network and changes nothing.
    """
    from sdprep.tasks import models as api

    found = api.verify(names, listener=Terminal())
    if as_json:
        print_json(found)
    else:
        print_table(
            [
                (file.state.value, file.model, file.name, "" if file.state.value == "ok" else str(file.path))
                for file in found.files
            ]
        )
    _exit(found.failures, failed=_print_counts(found))


@models.command(
    cls=shared.Command, example="sdprep models add ./my-tagger.toml", short_help="Register a model of your own."
)
@click.argument("path", metavar="PATH.toml", type=param_types.UserPath(exists=True, dir_okay=False, path_type=Path))
@shared.option("--replace", is_flag=True, help="Replace a model of the same name.")
@json_option
def add(path: Path, replace: bool, as_json: bool) -> None:
    """Copy the description PATH.toml into your models folder, so that --model accepts its name.

    It is checked first. A relative folder in it is written as an absolute path.
    """
    from sdprep.tasks import models as api

    added = api.add(path, replace=replace)
    if as_json:
        print_json(added)
    else:
        click.echo(added.path)
    current().say(f"added: --model {shlex.quote(added.name)}")
    if added.replaced is not None and added.replaced != added.path:
        current().say(f"it overrides the model of the same name in {added.replaced}")
    if added.missing:
        current().say(f"not yet in {added.folder}: {', '.join(added.missing)}")


def _exit(failures: Iterable[ModelFailure], *, failed: bool = False) -> None:
    """Print the failures to stderr and exit with 1 if there are any."""
    for failure in failures:
        current().say(f" {failure.model}: {failure.message}", head="failed:", style=RED, level=Level.ERROR)
        failed = True
    if failed:
        sys.exit(1)


def _print_counts(found: Verification) -> bool:
    """Print counts and fixes to stderr; return whether any file is damaged."""
    from sdprep.tasks.models import FileState

    if not found.files:
        if not found.failures:
            current().say("verify: nothing has been downloaded yet")
        return False
    counts = [f"{sum(file.state is state for file in found.files)} {state.value}" for state in FileState]
    current().say(f"verify: {len(found.files)} files: {', '.join(counts)}")
    for state, advice in ((FileState.DAMAGED, "replace them with"), (FileState.MISSING, "download them with")):
        if names := found.models(state):
            current().say(f"{state.value}: {advice}: sdprep models download {shlex.join(names)}")
    return bool(found.models(FileState.DAMAGED))


def _row(model: ModelSummary) -> tuple[str, ...]:
    from sdprep.models.files.hub import amount

    exact = "none" if model.download == 0 else amount(model.download or 0)
    download = about(model.megabytes) if model.download is None else exact
    return model.name, model.task, model.backend, download, model.licence or "see card", _yes(model.cached), model.note


def about(megabytes: int | None) -> str:
    """Format a size in megabytes, empty if it is unknown."""
    if megabytes is None:
        return ""
    return f"about {megabytes} MB" if megabytes < 1000 else f"about {megabytes / 1000:.2f} GB"


def _file(file: ModelFile) -> tuple[str, ...]:
    size = "" if file.size is None else f"{file.size:,}"
    return file.name, size, _yes(file.path is not None), file.sha256 or ""


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _detail_rows(shown: ModelDetails) -> list[tuple[str, str]]:
    """Return the details of a model as rows of a name and a value."""
    spec, source = shown.spec, shown.spec.source
    known = {
        "name": spec.name,
        "description": spec.description,
        "task": f"{spec.task} (backend {spec.backend})",
        "licence": spec.licence or (f"see https://huggingface.co/{source.repo}" if source.repo else "not stated"),
        "source": f"the {spec.server}" if spec.server else source.repo or source.path or "in the package",
        "model": spec.server.model if spec.server else "",
        "revision": source.revision if source.repo else "",
        "commit": shown.commit or "",
        "download": about(spec.megabytes),
        "on this machine": _here(shown),
        "image": _image(spec),
        "prompt": spec.prompt.user,
        "prompt presets": ", ".join(spec.prompt.presets),
        "answers": f"{spec.answers}, output {spec.output}" if spec.task == "tag" else "",
        "precision": spec.precision,
        "for TensorFlow": ", ".join(spec.savedmodel),
        "labels": _labels(spec),
        "card threshold": _threshold(spec.threshold),
    }
    return [(name, value) for name, value in known.items() if value]


def _here(shown: ModelDetails) -> str:
    if shown.spec.server is not None:
        return ""
    here = sum(file.path is not None for file in shown.files)
    return f"{here} of {len(shown.files)} files" + (f", in {shown.folder}" if here else "")


def _image(spec: ModelSpec) -> str:
    image = spec.image
    layout = f", {LAYOUTS[image.layout]}" if image.layout else ""
    if image.recipe is not None:
        return f"as described in {image.recipe}{layout}"
    if image.fit == "inside":
        return f"longer side at most {image.size} pixels, transparency on {image.pad_color}"
    size = f"{image.size} x {image.size}" if image.size else "size from the weights"
    fit = FITS[image.fit or "pad"].format(image.pad_color)
    mean = f"mean {image.mean}, std {image.std}" if (image.mean, image.std) != UNSCALED else "not normalised"
    if image.preprocess == "kohya":
        layout += ", prepared as by kohya's tagger"
    return f"{fit}, {size}, {image.resampling}, {image.channels.upper()} {image.scale}, {mean}{layout}"


def _threshold(value: float | dict[str, float] | None) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{category} {number}" for category, number in value.items())
    return "" if value is None else f"{value}"


def _labels(spec: ModelSpec) -> str:
    if spec.labels is None:
        return ""
    labels = spec.labels
    text = f"{labels.file} ({', '.join(f'{name} {code}' for name, code in labels.categories.items())})"
    within = f", within {labels.within}" if labels.within else ""
    return text + within + (f", thresholds in column {labels.thresholds}" if labels.thresholds else "")
