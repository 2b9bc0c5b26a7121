"""What may be set by what came with the images, a settings file or a catalog: it is not trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdprep.config import value_of
from sdprep.files import configs_folder
from sdprep.rules.exclude import is_regex
from sdprep.sanitize import has_hidden

# Characters of a string and of all strings of a list, entries of a list, characters of a separator.
LONGEST_TEXT, LONGEST_LIST, MOST_TEXTS, LONGEST_SEPARATOR = 1_000, 10_000, 500, 20
MOST_WILDCARDS, LONGEST_WILDCARD = 50, 200

# From the built-in value of an option and the value that the run would use: what is wrong with it, or None.
Check = Callable[[Any, Any], "str | None"]


def anything(_: Any, __: Any) -> None:
    """Accept every value of the option."""


def never(_: Any, __: Any) -> str:
    """Accept no value."""
    return "cannot be set by a file in the dataset folder"


def only(*values: str | bool) -> Check:
    """Accept these values."""

    def check(_: Any, value: Any) -> str | None:
        names = " or ".join(str(each).lower() for each in values)
        return None if value in values else f"can only be {names} in a file in the dataset folder"

    return check


def at_most(most: float | None = None, least: float = 0) -> Check:
    """Accept None, and numbers up to the built-in value, or up to `most` if the option has none."""

    def check(built_in: Any, value: Any) -> str | None:
        limit = built_in if most is None else most
        within = f"can only be from {least:,} to {limit:,}" if least else f"can only be {limit:,} or less"
        return None if value is None or least <= value <= limit else f"{within} in a file in the dataset folder"

    return check


def visible(_: Any, value: Any) -> str | None:
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


def separator(built_in: Any, value: Any) -> str | None:
    """Accept a short visible string."""
    return (
        f"is longer than {LONGEST_SEPARATOR} characters" if len(value) > LONGEST_SEPARATOR else visible(built_in, value)
    )


def patterns(built_in: Any, value: Any) -> str | None:
    """Accept names and a few wildcards: a regular expression may never end, and many wildcards take minutes."""
    if any(map(is_regex, value)):
        return "has a regular expression, which a file in the dataset folder cannot set"
    wildcards = [len(entry) for entry in value if "*" in entry or "?" in entry]
    if len(wildcards) > MOST_WILDCARDS or max(wildcards, default=0) > LONGEST_WILDCARD:
        return f"has more than {MOST_WILDCARDS} wildcards, or one of more than {LONGEST_WILDCARD} characters"
    return visible(built_in, value)


def registered_model(built_in: Any, value: Any) -> str | None:
    """Accept a name from `sdprep models list`: not a file, a folder or a Hub repository."""
    from sdprep.models.registry.registry import registered

    names = value if isinstance(value, tuple) else (value,)
    known = visible(built_in, value) is None and all(name in registered() for name in names)
    return None if known else "is not a name from `sdprep models list`"


EXTENSION = only(".txt", ".caption", "txt", "caption")
# Every option of caption, tag and merge; any other is refused.
CHECKS: Mapping[str, Check] = {
    # What is written.
    **dict.fromkeys(("prefix", "suffix", "prompt", "bad_words", "drop_words", "artist_prefix"), visible),
    **dict.fromkeys(("tag_replacement", "category_threshold", "category_order", "threshold", "fields"), visible),
    **dict.fromkeys(("system_prompt", "trigger"), visible),
    "caption_separator": separator,
    **dict.fromkeys(("exclude", "always_first_tags"), patterns),
    **dict.fromkeys(("caption_extension", "tag_extension"), EXTENSION),
    **dict.fromkeys(
        (
            "general_threshold", "character_threshold", "copyright_threshold", "artist_threshold", "meta_threshold",
            "model_threshold", "remove_underscore", "implied", "character_tag_expand", "ratings", "quality", "order",
            "max_tags", "character_tags_first", "escape_parentheses", "scores_min", "frequency_tags", "sample", "top_p",
            "top_k", "repetition_penalty", "no_repeat_ngram_size", "decode_again", "count_prompt", "seed", "preprocess",
            "exact_decode", "decoder", "dtype", "quantize", "recursive", "sidecar_name", "keys", "missing", "update",
            "limit", "dry_run", "debug", "timings", "temperature", "combine",
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
    # Which images a run leaves out is said for that run.
    "where": never,
    # Images leave the machine, and requests cost money.
    **dict.fromkeys(("server", "in_flight", "max_requests", "max_cost", "insecure"), never),
}  # fmt: skip


def untrusted_fault(kind: type, name: str, value: Any) -> str | None:
    """What is wrong with a value of an option that came with the images, or None; `kind` is the class of its settings.

    The answer continues "--exclude ...". The value has the type of its field.
    """
    if name == "preset":
        known = {path.stem for path in configs_folder("presets").glob("*.toml")}
        return None if value in known else "is not the name of a preset"
    return CHECKS[name](value_of(kind(), name), value) if name in CHECKS else never(None, value)
