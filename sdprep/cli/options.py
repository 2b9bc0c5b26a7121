"""The classes of options and commands, and the options that commands share."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from sdprep.choices import choices
from sdprep.cli import param_types
from sdprep.cli.param_types import hyphenate
from sdprep.cli.talk import Level, current
from sdprep.config import PathOptions, RunOptions
from sdprep.errors import UsageError
from sdprep.images.inputs import parse_list, settings_folder
from sdprep.sanitize import printable, redact
from sdprep.types import MAX_PIXELS

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option with further names that its help leaves out, such as kohya's.

    A shortcut is such a name that stands for the option and a value. `heading` is where the help shows it. Lists, and
    texts separated by commas of which the option `adds_up`, may be repeated; of any other option only the last value
    counts, and the others are named.
    """

    heading: str | None = None

    def __init__(
        self,
        declarations: Any = None,
        *,
        aliases: tuple[str, ...] = (),
        shortcuts: Mapping[str, str] | None = None,
        adds_up: bool = False,
        may_be_blank: bool = False,
        **attrs: Any,
    ) -> None:
        super().__init__([*declarations, *aliases], **attrs)
        self._aliases, self.shortcuts = aliases, shortcuts or {}
        self._adds_up, self._may_be_blank = adds_up, may_be_blank

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser collect all values of the option."""
        before, self.multiple = self.multiple, True
        super().add_to_parser(parser, ctx)
        self.multiple = before

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:
        """Return the value, and where it comes from; values that are repeated on the command line become one."""
        value, source = super().consume_value(ctx, opts)
        if source is not ParameterSource.COMMANDLINE or self.multiple:
            return value, source
        if self.type is param_types.TEXTS:
            return tuple(value), source
        if self._adds_up:
            return ",".join(value), source
        if len(set(value)) > 1:
            others = dict.fromkeys(self._as_given(each) for each in value if each != value[-1])
            last = self._as_given(value[-1])
            current().say(f"{last} counts, and {' and '.join(others)} before it does not")
        return value[-1], source

    def _as_given(self, value: Any) -> str:
        """The option with a value, or the spelling of a flag that means it."""
        names = self.secondary_opts if value is False else self.opts
        name = next(each for each in names if each.startswith("--"))
        return name if self.is_flag else f"{name} {value}"

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the typed value. Raises BadParameter for text with a character that no file can hold."""
        if isinstance(value, (list, tuple)):
            value = type(value)(self._checked(ctx, text) for text in value)
        else:
            value = self._checked(ctx, value)
        if value == "" and not self._may_be_blank and not isinstance(self.type, param_types.Raw):
            raise click.BadParameter("it is blank; give a value, or leave the option out", ctx, self)
        return super().type_cast_value(ctx, value)

    def _checked(self, ctx: click.Context, text: Any) -> Any:
        """Return a value with UTF-8 read as such, whatever the encoding of the terminal, and with ~ for a home folder.

        Raises BadParameter for any other byte above ASCII, except in a path, and for NUL.
        """
        if not isinstance(text, str):
            return text
        if self.name in ("model", "tag_thresholds"):
            text = param_types.expand_home(text)
        if not isinstance(self.type, click.Path) and self.name != "tag_thresholds":
            text = param_types.decode_utf8(text)
            if printable(text) != text:
                raise click.BadParameter(f"'{printable(text)}' is not valid UTF-8 text", ctx, self)
        if "\0" in text:
            raise click.BadParameter(f"{text!r} has a character that text files cannot contain", ctx, self)
        return text

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help of the official names."""
        full = self.opts
        self.opts = [name for name in full if name not in self._aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = full


class Command(click.Command):
    """A command whose options may be written with hyphens or underscores, with an example in its help.

    `elsewhere` has options of kohya's scripts that sdprep does not have, and what to do instead.
    """

    def __init__(self, *args: Any, example: str, elsewhere: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example, self._elsewhere = example, elsewhere or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after each shortcut is replaced by its option and value."""
        long = {
            name: [option.opts[0], value]
            for option in self.params
            if isinstance(option, Option)
            for name, value in option.shortcuts.items()
        }
        end = args.index("--") if "--" in args else len(args)
        for arg in args[:end]:
            if (advice := self._elsewhere.get(hyphenate(arg.partition("=")[0]))) is not None:
                raise click.UsageError(f"{arg.partition('=')[0]} is not an option of sdprep. {advice}", ctx)
        spelt = [part for arg in args[:end] for part in long.get(hyphenate(arg), [arg])]
        return super().parse_args(ctx, spelt + args[end:])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings; those without one, such as --help, come last."""
        for heading, params in by_heading(self.get_params(ctx)).items():
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example under its own heading."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, or with --show-config only print where each setting comes from."""
        if ctx.params.pop("show_config", False):
            from sdprep.cli.show_config import show_config

            show_config(ctx, settings_folder(inputs_of(ctx, Path())))
            return None
        try:
            return super().invoke(ctx)
        except UsageError as error:
            files = ctx.meta.get("folder_settings")
            raise UsageError(f"{error}{files.origin(str(error)) if files is not None else ''}") from error


def options(heading: str, *decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order of the help and under this heading."""

    def decorate(function: F) -> F:
        decorated = functools.reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)
        for param in decorated.__click_params__[-len(decorators) :]:  # type: ignore[attr-defined]
            param.heading = heading
        return decorated

    return decorate


def by_heading(params: Iterable[click.Parameter]) -> dict[str, list[click.Option]]:
    """The options under their headings; those of no heading are under the last one."""
    headings: dict[str, list[click.Option]] = {}
    rest: list[click.Option] = []
    for param in params:
        if isinstance(param, click.Option):
            heading = getattr(param, "heading", None)
            (rest if heading is None else headings.setdefault(heading, [])).append(param)
    headings.setdefault(next(reversed(headings), "Options"), []).extend(rest)
    return headings


def option(*names: str, **attrs: Any) -> Callable[[F], F]:
    """A `click.option` of the class `Option`."""
    return click.option(*names, cls=Option, **attrs)


def choice(settings: type, name: str) -> click.Choice[str]:
    """The type of an option whose values the settings list."""
    return click.Choice(choices(settings, name))


def set_level(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """A callback of --quiet and --verbose."""
    if value and ctx.meta.setdefault("level", param.name) != param.name:
        raise click.UsageError("--quiet and --verbose cannot be combined", ctx)
    if value and param.name == "quiet":
        # huggingface_hub prints bars of its own, and reads this when it is imported.
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if value:
        current().level = Level.ERROR if param.name == "quiet" else Level.DETAIL


def open_log(_: click.Context, __: click.Parameter, path: Path | None) -> None:
    """A callback that starts the log file with the command. Raises BadParameter if it cannot be written."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    try:
        current().open_log(path)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}") from error
    current().log(redact(shlex.join(["sdprep", *sys.argv[1:]])))


DIRECTORY = param_types.UserPath(exists=True, file_okay=False, path_type=Path)
FILE = param_types.UserPath(dir_okay=False, path_type=Path)


def inputs_argument() -> Callable[[F], F]:
    """What to work on."""
    kind = param_types.InputPath(path_type=Path)
    return click.argument("inputs", metavar="INPUT...", nargs=-1, type=kind)


def inputs_of(ctx: click.Context, default: Path | None = None) -> list[Path]:
    """The inputs of a command, those of --files-from last; `default` if there are none.

    Raises UsageError without any, and if the list cannot be read.
    """
    file = ctx.params["files_from"]
    given = [*ctx.params["inputs"], *([] if file is None else _listed(file))]
    if not given and default is None:
        empty = "" if file is None else f"{file} names nothing; "
        raise click.UsageError(f"{empty}give a folder, images, or --files-from FILE", ctx)
    return given or [default or Path()]


def _listed(file: str) -> list[Path]:
    if file == "-":
        # A program without a console may have no stdin.
        return parse_list(sys.stdin.buffer.read() if sys.stdin else b"")
    try:
        return parse_list(Path(file).read_bytes())
    except OSError as error:
        raise UsageError(f"--files-from {file}: {error.strerror or error}") from error


_no_remembered = option(
    "--no-remembered", is_flag=True, help="Ignore the settings of earlier runs, and remember none of this one."
)
config_options = options(
    "Settings",
    option("--preset", metavar="NAME",
           help="Settings with a name: kohya, as kohya's scripts; of tags for base models: illustrious, anima."),
    option("--config", type=FILE, help="Settings file, besides each sdprep.toml beside images; it is trusted."),
    _no_remembered,
    option("--show-config", is_flag=True, help="Print every setting and where it comes from, then exit."),
)  # fmt: skip


where_option = option(
    "--where",
    metavar="EXPR",
    help="Only images that match, such as 'tag:hat AND NOT path:sub/*'; see docs/where.md.",
)


def _path_options(*output_dir: str, inputs: bool = True) -> Callable[[F], F]:
    """The options of `PathOptions`; merge has another option `-o`, and import no list of `inputs`."""
    files_from = option(
        "--files-from",
        metavar="FILE|-",
        help="Read more inputs from a file or stdin: one path per line, or separated by NUL.",
    )
    return options(
        "Files",
        where_option,
        option("--recursive/--no-recursive", default=True, show_default=True, help="Include subfolders."),
        option("--follow-links", is_flag=True, help="Include images and folders behind links."),
        *([files_from] if inputs else []),
        option("--sidecar-name", type=choice(PathOptions, "sidecar_name"), default="stem", show_default=True,
               help="a.txt or a.jpg.txt for a.jpg."),
        option(*output_dir, type=param_types.UserPath(file_okay=False, path_type=Path),
               help="Write sidecars and the catalog to this folder, in the same tree, and nothing beside the images."),
        option("--catalog", type=FILE, help="Use this catalog file instead of the nearest .sdprep/catalog.sqlite."),
    )  # fmt: skip


path_options = _path_options("-o", "--output-dir")
merge_path_options = _path_options("--output-dir")
sidecar_options = options(
    "Files",
    option("--caption-extension", aliases=("--caption-extention",), default=".caption", show_default=True,
           help="Extension of caption files."),
    option("--tag-extension", default=".txt", show_default=True, help="Extension of tag files."),
)  # fmt: skip
memory_options = options("Settings", _no_remembered)
plan_options = options(
    "Run",
    option("--dry-run", is_flag=True, help="Show what would be done; write nothing."),
    option("--yes", is_flag=True, help="Change more than 100 files on a terminal without a question."),
)  # fmt: skip
import_path_options = _path_options("--output-dir", inputs=False)
run_options = options(
    "Run",
    option("--existing", type=choice(RunOptions, "existing"), default="keep", show_default=True,
           shortcuts={"--append-tags": "append"},
           help="What to do with a sidecar that sdprep did not write, or that was edited since. append and prepend "
           "also add the tags of another model; fill writes only where a sidecar is missing or blank, and keeps all "
           "others."),
    option("--update", is_flag=True, help="Update what sdprep wrote earlier with other settings."),
    option("--refresh", is_flag=True, help="Run the model again even if its result is stored."),
    option("--limit", type=param_types.Int64(1), help="Process at most this many of the images that need it."),
    option("--dry-run", is_flag=True, help="Show what would be done; write nothing."),
)  # fmt: skip
decode_options = options(
    "Speed and limits",
    option("--batch-size", type=param_types.Int64(1), default=8, show_default=True, help="Batch size of the model."),
    option("--workers", aliases=("--max-data-loader-n-workers",), type=param_types.Int64(0), default=2,
           show_default=True, help="Decode threads of the worker process; 0: no worker process and no threads."),
    option("--memory", type=click.IntRange(1), default=512, show_default=True, metavar="MB",
           help="Memory in MB for images in flight, not counting the model. Larger images are decoded one at a time."),
    option("--image-timeout", type=param_types.FiniteFloat(0, min_open=True), default=60.0, show_default=True,
           help="Seconds to decode one image before it fails as timed_out."),
    option("--max-pixels", type=param_types.Int64(1), default=MAX_PIXELS, show_default=True,
           help="Images with more pixels fail as too_large."),
    option("--exact-decode/--no-exact-decode", default=False, show_default=True,
           help="Decode large JPEG files in full, and resize with Pillow: slower."),
    option("--allow-truncated", is_flag=True,
           help="Accept truncated images; the missing part is filled with grey."),
)  # fmt: skip
measure_options = options(
    "Output",
    option("--debug", is_flag=True, help="Print every caption or tag list as it is written."),
    option("--timings", is_flag=True, help="Measure each stage of the run, and print a table at the end."),
)
talk_options = options(
    "Output",
    option("-q", "--quiet", is_flag=True, is_eager=True, expose_value=False, callback=set_level,
           help="Print only errors and failures: no progress and no summary."),
    option("-v", "--verbose", is_flag=True, is_eager=True, expose_value=False, callback=set_level,
           help="Print the stages of the run too, and the names of all images that the summary counts."),
    option("--log-file", type=FILE, is_eager=True, expose_value=False, callback=open_log,
           help="Append all messages with their times to this file, also with --quiet."),
)  # fmt: skip
report_options = options(
    "Output",
    option("--json", "json_report", is_flag=True, help="Print the run report as one JSON object on stdout."),
    talk_options,
)
