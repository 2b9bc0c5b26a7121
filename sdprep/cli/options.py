"""What all commands share: spelling, settings from files, options in groups, errors, signals, the report."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from sdprep.cli import folder_settings, param_types
from sdprep.errors import SdprepError, UsageError, lacks_memory
from sdprep.sanitize import printable, redact
from sdprep.types import MAX_PIXELS

F = TypeVar("F", bound=Callable[..., Any])
EXPLICIT = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
SOURCES = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "sdprep.toml",
}
# A variable that asks for the traceback of a fault of sdprep.
TRACEBACK = "SDPREP_TRACEBACK"
# Options that ask for something else than a setting of the run.
ASIDE = ("help", "show_config", "config", "preset", "json_report")


class Option(click.Option):
    """An option that also answers to names which its help leaves out, such as kohya's.

    A shortcut is such a name that brings its value with it.
    """

    def __init__(
        self,
        declarations: Any = None,
        *,
        aliases: tuple[str, ...] = (),
        shortcuts: Mapping[str, str] | None = None,
        **attrs: Any,
    ) -> None:
        super().__init__([*declarations, *aliases], **attrs)
        self._aliases, self.shortcuts = aliases, shortcuts or {}

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value in its type. Raises BadParameter for text that neither a file nor the system can hold."""
        # A path may have bytes that are not UTF-8.
        may_be_path = isinstance(self.type, click.Path) or self.name in ("model", "tag_thresholds")
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(text, str) and ("\0" in text or (not may_be_path and printable(text) != text)):
                raise click.BadParameter(f"{text!r} has a character that no text can have", ctx, self)
        return super().type_cast_value(ctx, value)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help of the official names."""
        full = self.opts
        self.opts = [name for name in full if name not in self._aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = full


class Command(click.Command):
    """A command whose options may be written with hyphens or underscores, and whose examples are kept as typed.

    `elsewhere` has options of kohya's that have no place here, and what to do instead.
    """

    def __init__(self, *args: Any, example: str, elsewhere: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example, self._elsewhere = example, elsewhere or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, shortcuts being written out first."""
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

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, under a heading of its own."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, or only show where each setting comes from."""
        if ctx.params.pop("show_config", False):
            show_config(ctx)
            return None
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise UsageError(f"{error}{folder_settings.origin(ctx, str(error))}") from error


def hyphenate(name: str) -> str:
    """The official spelling of an option."""
    return name.replace("_", "-")


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help shall show them."""

    def decorate(function: F) -> F:
        return functools.reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)

    return decorate


def option(*names: str, **attrs: Any) -> Callable[[F], F]:
    """An option of this house."""
    return click.option(*names, cls=Option, **attrs)


DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


def _load_config(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Take settings from a preset and from `sdprep.toml`, which wins: the one that is named, else the one in DIR."""
    from sdprep.config import CONFIG_NAME, LARGEST_CONFIG, read_config, read_preset

    if param.name == "preset" and value is not None:
        file = ctx.default_map or {}
        preset = read_preset(value).get(str(ctx.info_name), {})
        ctx.meta["preset"] = {name: each for name, each in preset.items() if name not in file}
        ctx.default_map = {**ctx.meta["preset"], **file}
        return value
    if param.name == "config" and value is not None:
        ctx.meta["config"] = value
    elif param.name == "directory" and "config" not in ctx.meta and (value / CONFIG_NAME).is_file():
        ctx.meta["config"] = value / CONFIG_NAME
    else:
        return value
    largest = folder_settings.LARGEST if param.name == "directory" else LARGEST_CONFIG
    table = read_config(ctx.meta["config"], largest).get(str(ctx.info_name), {})
    known = {param.name for param in ctx.command.params if param.name} - set(ASIDE)
    for name in table:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean '{hyphenate(close[0])}'?" if close else ""
            raise click.UsageError(f"{ctx.meta['config']}: [{ctx.info_name}] has no setting '{hyphenate(name)}'{hint}")
    for each in ctx.command.params:
        if isinstance(each, click.Option) and each.name in table:
            param_types.check_kind(
                each, table[each.name], f"{ctx.meta['config']}: [{ctx.info_name}] {hyphenate(each.name)}"
            )
    if param.name == "directory":
        table = folder_settings.restrict(ctx, table, ctx.meta["config"])
    ctx.default_map = {**ctx.meta.get("preset", {}), **table}
    # What the file says is no longer the preset's.
    ctx.meta["preset"] = {name: each for name, each in ctx.meta.get("preset", {}).items() if name not in table}
    return value


def directory_argument(metavar: str = "DIR", **attrs: Any) -> Callable[[F], F]:
    """The folder of images. It is read before the options, since it may hold their settings."""
    return click.argument("directory", metavar=metavar, type=DIRECTORY, is_eager=True, callback=_load_config, **attrs)


config_options = options(
    option("--preset", is_eager=True, callback=_load_config, metavar="kohya",
           help="Settings under a name: kohya, what kohya's scripts do unasked."),
    option("--config", type=FILE, is_eager=True, callback=_load_config, help="Settings file [DIR/sdprep.toml]."),
    option("--show-config", is_flag=True, help="Print every setting and where it comes from, and do nothing."),
)  # fmt: skip
layout_options = options(
    option("--recursive/--no-recursive", default=True, show_default=True, help="Include subfolders."),
    option("--sidecar-name", type=click.Choice(["stem", "full"]), default="stem", show_default=True,
           help="a.txt or a.jpg.txt for a.jpg."),
    option("--output-dir", type=click.Path(file_okay=False, path_type=Path),
           help="Where sidecars and the catalog lie, in the same tree, for a DIR that stays untouched."),
    option("--catalog", type=FILE, help="Use this catalog file instead of the nearest .sdprep/catalog.sqlite."),
)  # fmt: skip
work_options = options(
    option("--batch-size", type=param_types.Int64(1), default=8, show_default=True, help="Images a model call."),
    option("--workers", aliases=("--max-data-loader-n-workers",), type=param_types.Int64(0), default=2,
           show_default=True, help="Threads that decode ahead, in a process of its own; 0: no process, no threads."),
    option("--memory", type=click.IntRange(1), default=512, show_default=True, metavar="MB",
           help="What images in the works may take beside the model; a larger one is decoded alone."),
    option("--image-timeout", type=param_types.FiniteFloat(0, min_open=True), default=60.0, show_default=True,
           help="Seconds that decoding one image may take, before it fails as timed_out."),
    option("--max-pixels", type=param_types.Int64(1), default=MAX_PIXELS, show_default=True,
           help="Images of more pixels fail as too_large."),
    option("--exact-decode/--no-exact-decode", default=False, show_default=True,
           help="Look at every pixel of large JPEG files, and resize with Pillow: slower."),
    option("--allow-truncated", is_flag=True,
           help="Let in images whose end is missing; what is missing is blank."),
    option("--existing", type=click.Choice(["keep", "overwrite", "append", "prepend"]), default="keep",
           show_default=True, shortcuts={"--append-tags": "append"},
           help="What to do with a sidecar that sdprep did not write, or that was edited."),
    option("--update", is_flag=True, help="Renew what sdprep wrote earlier under other settings."),
    option("--refresh", is_flag=True, help="Run the model again even where its result is stored."),
    option("--limit", type=param_types.Int64(1), help="Work on at most this many images that need it."),
    option("--dry-run", is_flag=True, help="Say what would be done; write nothing."),
    option("--debug", is_flag=True, help="Say the text of every image as it is written."),
)  # fmt: skip
report_options = options(
    option("--json", "json_report", is_flag=True, help="Print the run report as one JSON object on stdout."),
)


def settings_of(ctx: click.Context, names: type) -> Mapping[str, Any]:
    """The parameters of a command that a settings class has under the same name."""
    return {name: ctx.params[name] for name in names.__dataclass_fields__ if name in ctx.params}  # type: ignore[attr-defined]


def explicit(ctx: click.Context) -> frozenset[str]:
    """The names of the settings that were given for this run, wherever."""
    return frozenset(name for name in ctx.params if ctx.get_parameter_source(name) in EXPLICIT)


def show_config(ctx: click.Context) -> None:
    """Print every setting, its value and where it comes from."""
    for param in ctx.command.params:
        name = str(param.name)
        if name in ASIDE or name == "directory":
            continue
        value = ctx.params[name]
        source = SOURCES.get(ctx.get_parameter_source(name) or ParameterSource.DEFAULT, "built-in")
        if source == SOURCES[ParameterSource.DEFAULT_MAP] and name in ctx.meta.get("preset", {}):
            source = "preset"
        if isinstance(value, tuple):
            value = list(value)
        text = json.dumps(value, ensure_ascii=False, default=str)
        click.echo(f"{hyphenate(name)} = {text}  # {source}")


def handle_errors(function: Callable[[], Any]) -> None:
    """Run the command line; errors become a few lines on stderr and an exit code."""
    try:
        function()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SdprepError as error:
        _say(redact(str(error)))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read the output has gone.
        sys.exit(1)
    except OSError as error:
        _say(str(error) if _is_current_folder_there() else "the current folder is gone; change to another one")
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - nothing that happens is shown as a traceback unasked
        _say(_in_plain_words(error))
        if os.environ.get(TRACEBACK):
            click.echo(redact(traceback.format_exc()), err=True)
        sys.exit(1)


def _say(message: str) -> None:
    click.echo(f"sdprep: {message}", err=True)


def _is_current_folder_there() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _in_plain_words(error: Exception) -> str:
    """Return what to tell of an error that is not sdprep's own."""
    if isinstance(error, MemoryError):
        return "there is not enough memory to go on"
    if lacks_memory(error):
        return f"there is not enough memory to go on, or too little is allowed (ulimit -v): {_last_line(error)}"
    if isinstance(error, RecursionError):
        return "a file or a setting is nested too deeply to be read"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "the system lets this process start no more threads; see ulimit -u"
    what = ": ".join(filter(None, [type(error).__name__, _last_line(error)]))
    return f"this is a fault of sdprep: {what}\nPlease report it, with what is printed with {TRACEBACK}=1 set"


def _last_line(error: Exception) -> str:
    return "".join(redact(str(error)).strip().splitlines()[-1:])
