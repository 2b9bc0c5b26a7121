"""What a command does with one image's sidecar: the rules of make, but the user's text comes first.

| on disk                                                               | the command                              |
|-----------------------------------------------------------------------|------------------------------------------|
| absent, or 0 bytes, as after a power cut                              | writes it                                |
| exactly what this run would write                                     | up to date                               |
| sdprep's and unmodified; an explicit setting or the image has changed | rewrites it                              |
| sdprep's and unmodified; only defaults differ                         | up to date, counted; `--update` rewrites |
| the user's, another tool's, or another task's                         | kept; `--existing` changes that          |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sdprep.rules.mixed_text import MixedText, normalize

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SidecarState:
    """What sdprep knows of a sidecar that it wrote, adopted, or found nothing to add to.

    `text` is normalized; `origin` is "machine", "mixed" or "user"; `digest` is the SHA-256 of the image that the text
    describes; `settings` are all that shaped the text; `position` ("append" or "prepend") is the side of the generated
    part.
    """

    task: str
    origin: str
    text: str
    digest: bytes
    settings: Settings
    parts: MixedText
    position: str = "append"


class Action(str, Enum):
    """What happens to a sidecar."""

    CURRENT = "current"
    KEEP = "keep"
    REPLACE = "replace"
    COMBINE = "combine"


@dataclass(frozen=True, slots=True)
class TextRequest:
    """The part of a run's settings that decides about a sidecar."""

    task: str
    settings: Settings
    explicit: frozenset[str] = frozenset()
    existing: str = "keep"
    update: bool = False
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The action, and what the report counts about it."""

    action: Action
    other_settings: bool = False
    image_changed: bool = False


# Nearly all images share one of these.
CURRENT, KEEP = Decision(Action.CURRENT), Decision(Action.KEEP)
REPLACE, COMBINE = Decision(Action.REPLACE), Decision(Action.COMBINE)


@dataclass(frozen=True, slots=True)
class SidecarStatus:
    """The sidecar of an image: its text (None: no sidecar, or one of 0 bytes, which `is_emptied` tells apart).

    Bytes that are not text are the user's.
    """

    text: str | None
    state: SidecarState | None = None
    digest: bytes | None = None
    is_emptied: bool = False
    unmodified: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        same = self.text is not None and self.state is not None and normalize(self.text) == self.state.text
        object.__setattr__(self, "unmodified", same)

    @property
    def image_changed(self) -> bool:
        """Whether the image has changed since the text was written."""
        return self.state is not None and self.digest is not None and self.digest != self.state.digest


def decide(disk: SidecarStatus, request: TextRequest) -> Decision:
    """What to do with a sidecar, before there is a result."""
    state = disk.state
    if disk.text is None:
        # The catalog still has the user's part.
        is_mixed = state is not None and state.origin == "mixed" and state.task == request.task
        return COMBINE if disk.is_emptied and is_mixed and request.existing != "overwrite" else REPLACE
    if state is None or not disk.unmodified or state.task != request.task or state.origin == "user":
        return _decide_for_foreign(disk, request)
    if state.origin == "mixed" and request.existing == "overwrite":
        return REPLACE
    rewrite = COMBINE if state.origin == "mixed" else REPLACE
    if disk.image_changed or request.refresh:
        return rewrite
    differing = changed_settings(state.settings, request)
    if differing and (request.update or differing & request.explicit):
        return rewrite
    return Decision(Action.CURRENT, other_settings=True) if differing else CURRENT


def _decide_for_foreign(disk: SidecarStatus, request: TextRequest) -> Decision:
    if request.existing == "overwrite":
        return REPLACE
    if request.existing in ("append", "prepend"):
        return COMBINE
    return Decision(Action.KEEP, image_changed=True) if disk.image_changed else KEEP


def changed_settings(then: Settings, request: TextRequest) -> frozenset[str]:
    """The names of settings that differ from those a text was made with.

    A setting that did not exist then counts only if it is explicit now.
    """
    differing = [name for name, value in request.settings.items() if then.get(name, value) != value]
    return frozenset(differing + [name for name in request.explicit if name in request.settings and name not in then])
