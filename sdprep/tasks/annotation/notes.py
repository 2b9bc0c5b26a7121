"""What a run says before it begins: options without effect, a model that is a toy, or not the one of the sidecars."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.config import CaptionSettings, MergeSettings, TagSettings
from sdprep.demo import IMAGES
from sdprep.models.backends import BACKENDS
from sdprep.models.base import ModelSpec
from sdprep.models.registry.registry import RECOMMENDED
from sdprep.rules.labels import ARGMAX_CATEGORIES, NAMED_THRESHOLDS
from sdprep.rules.mixed_text import MODELS
from sdprep.rules.policy import SidecarStatus, TextRequest
from sdprep.rules.prompt import parse_prompt
from sdprep.tasks.annotation.tag_lists import OF_THE_MODEL
from sdprep.tasks.option_values import spelt
from sdprep.types import ImageItem

THRESHOLDS = ("threshold", "category_threshold", *(f"{name}_threshold" for name in NAMED_THRESHOLDS))


# The options that some captioners take, and others do not.
SEARCH = sorted(frozenset().union(*(each.search for each in BACKENDS.values())))


@dataclass(frozen=True, slots=True)
class Dependency:
    """Options that have an effect only if a condition on the settings and the model holds; otherwise `reason`."""

    options: tuple[str, ...]
    has_effect: Callable[[Any, ModelSpec | None], bool]
    reason: str


def _decodes_fast(settings: TagSettings | CaptionSettings, model: ModelSpec | None) -> bool:
    return (settings.preprocess or (model and model.image.preprocess)) != "kohya"


def _lacks_a_threshold(settings: TagSettings, model: ModelSpec | None) -> bool:
    """Whether some category of the model has no threshold of its own."""
    categories = model.labels.categories if model is not None and model.labels is not None else {"general": 0}
    return bool(set(categories) - {*ARGMAX_CATEGORIES} - set(settings.rules.own_thresholds()))


def _has(category: str) -> Callable[[Any, ModelSpec | None], bool]:
    return lambda _, model: model is None or model.labels is None or category in model.labels.categories


def _shapes_captions(name: str) -> Callable[[Any, ModelSpec | None], bool]:
    return lambda _, model: model is None or name in BACKENDS[model.backend].search


def _has_system_prompt(_: CaptionSettings, model: ModelSpec | None) -> bool:
    return model is None or (BACKENDS[model.backend].is_asked and model.backend != "task")


def _fills_trigger(settings: CaptionSettings, model: ModelSpec | None) -> bool:
    is_asked = model is None or BACKENDS[model.backend].is_asked
    return is_asked and "trigger" in parse_prompt(settings.prompt or "").variables


def _is_served(_: CaptionSettings, model: ModelSpec | None) -> bool:
    return model is None or model.server is not None


ANNOTATION = (
    Dependency(("exact_decode",), _decodes_fast, "with --preprocess kohya, which always decodes exactly"),
    Dependency(("image_timeout",), lambda each, _: each.run.workers > 0, "with --workers 0"),
    Dependency(("debug",), lambda each, _: not each.run.dry_run, "with --dry-run"),
    Dependency(("update",), lambda each, _: not each.run.refresh, "with --refresh, which rewrites more"),
)
DEPENDENCIES: dict[type, tuple[Dependency, ...]] = {
    TagSettings: (
        *ANNOTATION,
        Dependency(("scores_min",), lambda each, _: each.scores is not None, "without --scores"),
        Dependency(("combine",), lambda each, _: len(each.models) > 1, "with one model"),
        Dependency(("implied",), lambda each, _: each.implications is not None, "without --implications"),
        Dependency(("scores",), lambda each, _: not each.run.dry_run, "with --dry-run"),
        Dependency(THRESHOLDS, lambda each, _: each.tag_thresholds != OF_THE_MODEL, "with --tag-thresholds model"),
        Dependency(("threshold",), _lacks_a_threshold, "since each category has a threshold of its own"),
        Dependency(
            ("character_tag_expand", "character_tags_first"), _has("character"), "with a model without character tags"
        ),
        Dependency(("artist_prefix",), _has("artist"), "with a model without artist tags"),
        Dependency(("category_order",), lambda each, _: each.rules.order == "category", "without --order category"),
        Dependency(("character_tags_first",), lambda each, _: each.rules.order != "category", "with --order category"),
        Dependency(
            ("model_dir", "force_download"),
            lambda _, model: model is None or model.source.repo is not None,
            "with a model that is not from the Hub",
        ),
    ),
    CaptionSettings: (
        *ANNOTATION,
        *(Dependency((name,), _shapes_captions(name), "with this model") for name in SEARCH),
        Dependency(("system_prompt",), _has_system_prompt, "with this model"),
        Dependency(("trigger",), _fills_trigger, "without {trigger} in the prompt of a model that takes variables"),
        Dependency(("in_flight", "max_requests", "max_cost", "insecure"), _is_served, "without a server"),
        Dependency(("device", "dtype"), lambda _, model: not model or not model.server, "with a server"),
        Dependency(("top_p", "top_k", "seed"), lambda each, _: each.sample, "without --sample"),
        Dependency(("num_beams",), lambda each, _: not each.sample, "with --sample"),
        Dependency(("count_prompt",), lambda each, _: bool(each.prompt), "without a --prompt"),
        Dependency(("decode_again",), lambda each, _: not each.no_repeat_ngram_size, "with --no-repeat-ngram-size"),
        Dependency(("cuda_graphs",), lambda each, _: each.decoder == "fast", "with --decoder reference"),
        Dependency(("cuda_graphs",), lambda each, _: not {"cpu", "mps"} & {*each.devices}, "without a CUDA device"),
    ),
    MergeSettings: (
        Dependency(("caption_extension",), lambda each, _: "caption" in each.fields, "without caption in --fields"),
        Dependency(("tag_extension",), lambda each, _: "tags" in each.fields, "without tags in --fields"),
        Dependency(
            ("missing", "sidecar_name"),
            lambda each, _: bool({"caption", "tags"} & {*each.fields}),
            "without caption or tags in --fields",
        ),
    ),
}


def without_effect(stated: Collection[str], used: Sequence[tuple[Any, ModelSpec | None]]) -> Iterator[str]:
    """A line for stated options that change nothing in a run.

    `used` are all settings, of one command, that images of the run have, each with its model.
    """
    for dependency in DEPENDENCIES[type(used[0][0])] if used else ():
        names = [spelt(name) for name in dependency.options if name in stated]
        if names and not any(dependency.has_effect(*each) for each in used):
            *others, last = names
            some = f"{', '.join(others)} and {last} have" if others else f"{last} has"
            yield f"{some} no effect {dependency.reason}"


RESULTS = {"caption": "captions", "tag": "tags"}
# The letters of a commit or checksum that are shown.
SHOWN = 7


def toy_note(spec: ModelSpec, items: Iterable[ImageItem]) -> str | None:
    """The warning that a demo model sees images for which it was not made; None if there is nothing to warn of."""
    if spec.source.bundled is None:
        return None
    known = _demo_images()
    if all(any(holds(item.path, data) for data in known.get(_size(item.path), ())) for item in items):
        return None
    return (
        f"WARNING: {spec.name} is a toy trained on drawings; its {RESULTS[spec.task]} for your images mean nothing\n"
        f"Use a real model: --model {RECOMMENDED[spec.task]}"
    )


def holds(path: Path, data: bytes | None) -> bool:
    """Whether a file has exactly these bytes; its size is compared first, since a foreign file may be huge."""
    return data is not None and _size(path) == len(data) and path.read_bytes() == data


def _demo_images() -> Mapping[int, list[bytes]]:
    """The images of the demo by their size."""
    found: defaultdict[int, list[bytes]] = defaultdict(list)
    for path in IMAGES.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found[len(data)].append(data)
    return found


def _size(path: Path) -> int:
    """The size of a file in bytes; -1 for one that is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def other_model(disk: SidecarStatus, request: TextRequest) -> str | None:
    """The model that made a sidecar, if it is another one than this run's."""
    state = disk.state
    if disk.text is None or state is None:
        return None
    models, now = [part.settings.get("model") for part in state.of_task(request.task)], request.settings["model"]
    if not models or now in models or not isinstance(then := models[-1], str):
        return None
    # A branch says nothing of the weights, and a name alone does not either.
    return then if _name(then) != _name(now) or (_is_pinned(then) and _is_pinned(now)) else None


def other_models_note(found: Mapping[str, int], model: str) -> str | None:
    """One line about the sidecars of other models; `found` counts them by model, `model` is that of this run."""
    if not found:
        return None
    counted: Counter[str] = Counter()
    for name, count in found.items():
        counted[_short(name, model)] += count
    first, *others = [(f"{count} sidecar{'s' if count > 1 else ''}", name) for name, count in counted.most_common()]
    listed = [f"{first[0]} {'were' if counted[first[1]] > 1 else 'was'} written with {first[1]}"]
    listed += [f"{count} with {name}" for count, name in others[:2]]
    rest = " and more with other models" if len(others) > 2 else ""
    this = model if any(_name(name) == _name(model) for name in found) else _name(model)
    return f"{', '.join(listed)}{rest}; this run uses {_shortened(this)}"


def _name(identity: str) -> str:
    return MODELS.join(re.split("[@#]", each)[0] for each in identity.split(MODELS))


def _short(identity: str, model: str) -> str:
    """A model by its name, and by its weights where the name does not tell it from this run's."""
    return _shortened(identity) if _name(identity) == _name(model) else _name(identity)


def _shortened(identity: str) -> str:
    return re.sub(rf"([@#][0-9a-f]{{{SHOWN}}})[0-9a-f]+(?=$| \+ )", r"\1", identity)


def _is_pinned(identity: Any) -> bool:
    return re.search(r"@[0-9a-f]{40}$|#[0-9a-f]+$", str(identity)) is not None
