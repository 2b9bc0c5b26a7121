"""What a run says of its model before it begins: that it is a toy, or not the one that wrote the sidecars."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdprep.demo import IMAGES
from sdprep.models.base import ModelSpec
from sdprep.models.registry.registry import RECOMMENDED
from sdprep.rules.mixed_text import MODELS
from sdprep.rules.policy import SidecarStatus, TextRequest
from sdprep.types import ImageItem

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
