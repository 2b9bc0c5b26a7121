"""The settings files in dataset folders, and what they may set: they come with the images, and are not trusted."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from sdprep.cli import param_types
from sdprep.cli.param_types import hyphenate
from sdprep.cli.settings_files import CONFIG_NAME, read_table, setting_options
from sdprep.files import real_path
from sdprep.paths import is_inside, is_safe_relative
from sdprep.rules.exclude import is_regex
from sdprep.sanitize import has_hidden

# The largest file, in bytes. Some TOML takes time in proportion to the square of its size to parse.
LARGEST = 16 << 10
# Characters of a string and of all strings of a list, entries of a list, characters of a separator.
LONGEST_TEXT, LONGEST_LIST, MOST_TEXTS, LONGEST_SEPARATOR = 1_000, 10_000, 500, 20
MOST_WILDCARDS, LONGEST_WILDCARD = 50, 200
# The largest list of tags, in bytes. One of 14 MB takes half a minute and 1 GB of memory.
LARGEST_LIST = 1 << 20
# Files that an error names besides the one it is about.
MOST_FILES = 3
ADVICE = "Set it on the command line, or pass this file with --config if you trust it"

# What is wrong with the value that the run would use for an option, or None.
Check = Callable[[click.Option, Any], "str | None"]


def anything(_: click.Option, __: Any) -> None:
    """Accept every value of the option."""


def never(_: click.Option, __: Any) -> str:
    """Accept no value."""
    return "cannot be set by a file in the dataset folder"


def only(*values: str | bool) -> Check:
    """Accept these values."""

    def check(_: click.Option, value: Any) -> str | None:
        names = " or ".join(str(each).lower() for each in values)
        return None if value in values else f"can only be {names} in a file in the dataset folder"

    return check


def at_most(most: float | None = None, least: float = 0) -> Check:
    """Accept numbers up to the built-in value, or up to `most` if the option has none."""

    def check(option: click.Option, value: Any) -> str | None:
        limit = option.default if most is None else most
        within = f"can only be from {least:,} to {limit:,}" if least else f"can only be {limit:,} or less"
        return None if least <= value <= limit else f"{within} in a file in the dataset folder"

    return check


def visible(_: click.Option, value: Any) -> str | None:
    """Accept a string, or a list of strings, of bounded length and without invisible characters."""
    texts = _texts(value)
    if any(map(has_hidden, texts)):
        return "has a control character, a line break, a text direction mark or an invisible character"
    lengths = [*map(len, texts)]
    if len(lengths) > MOST_TEXTS or max(lengths, default=0) > LONGEST_TEXT or sum(lengths) > LONGEST_LIST:
        return f"is longer than {LONGEST_TEXT} characters, or {MOST_TEXTS} entries, or {LONGEST_LIST} characters in all"
    return None


def _texts(value: Any) -> list[str]:
    """Return the strings in a value: a string, a tuple of strings, or a tuple of pairs of strings and numbers."""
    return [text for part in value for text in _texts(part)] if isinstance(value, tuple) else [str(value)]


def separator(option: click.Option, value: Any) -> str | None:
    """Accept a short visible string."""
    return (
        f"is longer than {LONGEST_SEPARATOR} characters" if len(value) > LONGEST_SEPARATOR else visible(option, value)
    )


def exclusions(option: click.Option, value: Any) -> str | None:
    """Accept names and a few wildcards: a regular expression may never end, and many wildcards take minutes."""
    if any(map(is_regex, value)):
        return "has a regular expression, which a file in the dataset folder cannot set"
    wildcards = [len(entry) for entry in value if "*" in entry or "?" in entry]
    if len(wildcards) > MOST_WILDCARDS or max(wildcards, default=0) > LONGEST_WILDCARD:
        return f"has more than {MOST_WILDCARDS} wildcards, or one of more than {LONGEST_WILDCARD} characters"
    return visible(option, value)


def registered_model(option: click.Option, value: Any) -> str | None:
    """Accept a name from `sdprep models list`: not a file, a folder or a Hub repository."""
    from sdprep.models.registry.registry import registered

    names = value if isinstance(value, tuple) else (value,)
    known = visible(option, value) is None and all(name in registered() for name in names)
    return None if known else "is not a name from `sdprep models list`"


EXTENSION = only(".txt", ".caption", "txt", "caption")
# Every option of caption, tag and merge; any other is refused.
CHECKS: Mapping[str, Check] = {
    # What is written.
    **dict.fromkeys(("prefix", "suffix", "prompt", "bad_words", "drop_words", "always_first_tags"), visible),
    **dict.fromkeys(("system_prompt", "trigger"), visible),
    **dict.fromkeys(("tag_replacement", "category_threshold", "threshold", "fields"), visible),
    "caption_separator": separator,
    "exclude": exclusions,
    **dict.fromkeys(("caption_extension", "tag_extension"), EXTENSION),
    **dict.fromkeys(
        (
            "general_threshold", "character_threshold", "copyright_threshold", "artist_threshold", "meta_threshold",
            "model_threshold", "remove_underscore", "implied", "character_tag_expand", "ratings", "quality", "order",
            "max_tags", "character_tags_first", "escape_parentheses", "scores_min", "frequency_tags", "sample", "top_p",
            "top_k", "repetition_penalty", "no_repeat_ngram_size", "decode_again", "count_prompt", "seed", "preprocess",
            "exact_decode", "decoder", "dtype", "recursive", "sidecar_name", "keys", "missing", "update", "limit",
            "dry_run", "debug", "timings", "temperature", "combine",
        ),
        anything,
    ),
    # What runs: a registered model, pinned to a commit, on one device.
    "model": registered_model,
    "backend": only("auto", "onnx"),
    "provider": only("auto", "cpu", "cuda", "rocm", "migraphx", "directml", "coreml", "openvino"),
    "device": only("auto", "cpu", "cuda", "mps"),
    # Time and memory: no more than the default. Without a worker process, an image could end the run.
    **dict.fromkeys(("batch_size", "memory", "image_timeout", "max_pixels"), at_most()),
    "num_beams": at_most(3),
    "captions": at_most(),
    "min_length": at_most(5),
    "max_length": at_most(256),
    "workers": at_most(least=1),
    "best_of": at_most(1),
    # What could cost your edits, needs trust, or uses the network.
    "existing": only("keep"),
    **dict.fromkeys(("allow_pickle", "allow_truncated", "force_download", "refresh", "prune"), only(False)),
    # What leads out of the folder.
    "follow_links": only(False),
    # Not yet tested on every machine.
    "cuda_graphs": only(False),
    # Files: lists to read, and a folder for sidecars; no file that is replaced, and no model.
    **dict.fromkeys(("aliases", "implications", "tag_thresholds", "output_dir"), anything),
    **dict.fromkeys(("scores", "output", "in_json", "catalog", "model_dir"), never),
    # Images leave the machine, and requests cost money.
    **dict.fromkeys(("server", "in_flight", "max_requests", "max_cost", "insecure"), never),
}  # fmt: skip


def restrict(ctx: click.Context, table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the values of a file that was found among images, as a run uses them, with paths joined to its folder.

    Raises UsageError if a setting could do harm, or if its option refuses it.
    """
    found = {}
    for name, option in setting_options(ctx.command).items():
        if name not in table:
            continue
        value = table[name]
        if isinstance(option.type, click.Path) or (name == "tag_thresholds" and value != "model"):
            value = str(_below(name, value, file))
        found[name] = param_types.value_used(ctx, option, value, f"{file}: {hyphenate(name)}")
        if (fault := CHECKS.get(name, never)(option, found[name])) is not None:
            raise click.UsageError(f"{file}: {hyphenate(name)} {fault}\n{ADVICE}")
    return found


class FolderSettings:
    """Reads the `sdprep.toml` of single folders for one command; a file that --config names is read by that alone.

    `stated` names the options of which no file counts, since the command line states them.
    """

    def __init__(self, ctx: click.Context, config: Path | None, stated: Container[str]) -> None:
        self._ctx, self._stated = ctx, stated
        self._config = None if config is None else real_path(config)
        self._names: dict[Path, list[str]] = {}

    def __call__(self, folder: Path) -> dict[str, Any]:
        """What the file of a folder sets; nothing if there is none. Raises UsageError naming the file."""
        file = folder / CONFIG_NAME
        if not os.path.isfile(file) or real_path(file) == self._config:  # noqa: PTH113
            return {}
        found = restrict(self._ctx, read_table(self._ctx, file, LARGEST) or {}, file)
        self.add(file, (name for name in found if name not in self._stated))
        return found

    def add(self, file: Path, names: Iterable[str]) -> None:
        """Take a file with the options of it that count."""
        self._names[file] = [hyphenate(name) for name in names]

    def origin(self, message: str) -> str:
        """Return a line for each of some files with the options that it sets, unless the message names it already."""
        named = [(file, names) for file, names in self._names.items() if names and str(file) not in message]
        lines = [f"\n{file} sets {', '.join(names)}" for file, names in named]
        return "".join(lines[:MOST_FILES])


def _below(name: str, value: str, file: Path) -> Path:
    """Return a path joined to the folder of a file. Raises UsageError if it leaves it, or is a pipe or device."""
    path = file.parent / value
    if not is_safe_relative(value) or any(part.startswith(".") for part in path.relative_to(file.parent).parts):
        raise click.UsageError(f"{file}: {name} is hidden or outside the folder of the file: {value!r}\n{ADVICE}")
    if not is_inside(path, file.parent):
        raise click.UsageError(f"{file}: {name} is outside the folder of the file: {value!r}\n{ADVICE}")
    # Reading a pipe or a device could block forever.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # noqa: PTH110, PTH113, PTH112
        raise click.UsageError(f"{file}: {name} is not a regular file: {value!r}\n{ADVICE}")
    if os.path.isfile(path) and os.path.getsize(path) > LARGEST_LIST:  # noqa: PTH113, PTH202
        raise click.UsageError(f"{file}: {name} is larger than {LARGEST_LIST:,} bytes: {value!r}\n{ADVICE}")
    return path
