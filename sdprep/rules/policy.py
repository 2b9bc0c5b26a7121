"""What a command does with one image's sidecar: the rules of make, but the user's text comes first.

| on disk                                                            | the command                                    |
|--------------------------------------------------------------------|------------------------------------------------|
| absent, or 0 bytes, as after a power cut                           | writes it                                      |
| exactly what this run would write                                  | up to date                                     |
| sdprep's and unmodified; a stated setting or the image has changed | recomputes the part of the run's model         |
| sdprep's and unmodified; only what nobody stated differs           | up to date, counted; `--update` recomputes     |
| sdprep's and unmodified; the tags in its prompt have changed       | stale, counted; `--update` recomputes          |
| the user's, another tool's, or another task's                      | kept; `--existing` changes that                |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from sdprep.rules.mixed_text import MixedText, Part, Settings, is_misplaced, normalize
from sdprep.types import KeptReason

# Among the settings of a part, the names of those that were stated; it is not compared.
STATED = "stated"


@dataclass(frozen=True, slots=True)
class SidecarState:
    """What sdprep knows of a sidecar that it wrote, adopted, or found nothing to add to.

    `task` is that of the run that wrote or read it; `text` is normalized; `digest` is the SHA-256 of the image that
    the run saw; `content` says who wrote what.
    """

    task: str
    text: str
    digest: bytes
    content: MixedText

    @property
    def origin(self) -> str:
        """Who wrote the text: "user", "machine", or "mixed" for both."""
        if not self.content.generated:
            return "user"
        return "mixed" if self.content.user or self.content.removed else "machine"

    def of_task(self, task: str) -> tuple[Part, ...]:
        """The parts that models wrote for a task."""
        return tuple(part for part in self.content.parts if part.author == task)


class Action(str, Enum):
    """What happens to a sidecar."""

    CURRENT = "current"
    KEEP = "keep"
    REPLACE = "replace"
    COMBINE = "combine"


@dataclass(frozen=True, slots=True)
class TextRequest:
    """The part of a run's settings that decides about a sidecar.

    `stated` names the settings that are stated anywhere for the image, by this run or earlier, and `explicit` those
    that follow from what this run states. A part keeps the names that were stated when it was made, under STATED.
    `existing` is "keep", "overwrite", "append", "prepend" or "fill".
    """

    task: str
    settings: Settings
    explicit: frozenset[str] = frozenset()
    existing: str = "keep"
    update: bool = False
    refresh: bool = False
    stated: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        # What is forgotten later leads to rewriting, so each part keeps the names.
        if names := sorted((self.explicit | self.stated) & self.settings.keys()):
            object.__setattr__(self, "settings", {**self.settings, STATED: names})


@dataclass(frozen=True, slots=True)
class Decision:
    """The action, and what the report counts about it."""

    action: Action
    other_settings: bool = False
    image_changed: bool = False
    is_stale: bool = False


# Nearly all images share one of these.
CURRENT, KEEP = Decision(Action.CURRENT), Decision(Action.KEEP)
REPLACE, COMBINE = Decision(Action.REPLACE), Decision(Action.COMBINE)


@dataclass(frozen=True, slots=True)
class SidecarStatus:
    """The sidecar of an image: its text (None: no sidecar, or one of 0 bytes, which `is_emptied` tells apart).

    Bytes that are not text are the user's. `prompt` is the hash of what the run asks about the image, if that depends
    on the image.
    """

    text: str | None
    state: SidecarState | None = None
    digest: bytes | None = None
    is_emptied: bool = False
    prompt: str = ""
    unmodified: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        same = self.text is not None and self.state is not None and normalize(self.text) == self.state.text
        object.__setattr__(self, "unmodified", same)

    @property
    def image_changed(self) -> bool:
        """Whether the image has changed since the text was written."""
        return self.state is not None and self.has_other_image(self.state.digest)

    def has_other_image(self, digest: bytes) -> bool:
        """Whether the image is known to be another one than that of this SHA-256."""
        return self.digest is not None and self.digest != digest


def decide(disk: SidecarStatus, request: TextRequest) -> Decision:
    """What to do with a sidecar, before there is a result."""
    state = disk.state
    if disk.text is None:
        # The catalog still has what the user and other models wrote.
        is_known = disk.is_emptied and state is not None and state.of_task(request.task)
        return COMBINE if state and is_known and request.existing != "overwrite" and not _is_plain(state) else REPLACE
    if state is None or not disk.unmodified or not state.of_task(request.task):
        return _decide_for_others(disk, request)
    if request.existing == "overwrite" and not _is_plain(state):
        return REPLACE
    return _decide_for_own(disk, state, request)


def _is_plain(state: SidecarState) -> bool:
    """Whether a text has one author, a model, so that writing it again loses nothing."""
    return len(state.content.parts) == 1 and state.origin == "machine"


def _decide_for_others(disk: SidecarStatus, request: TextRequest) -> Decision:
    """What to do with a text in which the run's task has no part."""
    if request.existing == "overwrite" or (request.existing == "fill" and not (disk.text or "").strip("\ufeff \t\r\n")):
        return REPLACE
    if request.existing in ("append", "prepend"):
        return COMBINE
    return Decision(Action.KEEP, image_changed=True) if disk.image_changed else KEEP


def why_kept(disk: SidecarStatus, task: str) -> KeptReason:
    """Why a task keeps a sidecar with this text."""
    state = disk.state
    if state is None or state.origin == "user":
        return KeptReason.FOREIGN
    if not disk.unmodified:
        return KeptReason.EDITED
    return KeptReason.NOT_EMPTY if state.of_task(task) else KeptReason.OTHER_TASK


def _decide_for_own(disk: SidecarStatus, state: SidecarState, request: TextRequest) -> Decision:
    """What to do with an unmodified text in which the run's task has a part."""
    run = Part(request.task, (), settings=request.settings)
    mine = next((part for part in state.content.generated if part.is_by(run)), None)
    if mine is None and request.existing in ("append", "prepend"):
        return COMBINE
    checked = state.of_task(request.task) if mine is None else (mine,)
    if mine is not None and is_misplaced(state.content, mine, request.existing):
        return COMBINE
    differing = frozenset(name for part in checked for name in changed_settings(part.settings, request))
    has_other_image = any(disk.has_other_image(part.digest) for part in checked)
    is_stale = any(disk.prompt and part.prompt.get("hash") != disk.prompt for part in checked)
    is_renewed = is_stale and request.update
    if has_other_image or request.refresh or is_renewed or _leads_to_rewriting(differing, checked, request):
        if request.existing == "fill" and state.text.strip():
            return Decision(Action.KEEP, image_changed=True) if has_other_image else KEEP
        return REPLACE if _is_plain(state) else COMBINE
    return Decision(Action.CURRENT, bool(differing), is_stale=is_stale) if differing or is_stale else CURRENT


def _leads_to_rewriting(differing: frozenset[str], parts: Iterable[Part], request: TextRequest) -> bool:
    """Whether a differing setting is stated, or was when a part was made; with `update`, whether there is any."""
    then = (name for part in parts for name in _stated_then(part.settings))
    return bool(differing if request.update else differing & (request.explicit | request.stated).union(then))


def _stated_then(then: Settings) -> frozenset[str]:
    """The settings that were stated when a part was made; the catalog may come from another sdprep, or elsewhere."""
    names = then.get(STATED)
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()


def changed_settings(then: Settings, request: TextRequest) -> frozenset[str]:
    """The names of settings that differ from those a part was made with.

    A setting that did not exist then counts only if it is stated now.
    """
    differing = [name for name, value in request.settings.items() if then.get(name, value) != value and name != STATED]
    stated = request.explicit | request.stated
    return frozenset(differing + [name for name in stated if name in request.settings and name not in then])
