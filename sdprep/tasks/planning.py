"""Looking at every image before any model is loaded: what is there, and what has to be done."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.data.catalog import Catalog
from sdprep.data.catalogs import Catalogs
from sdprep.data.decoder import read_file
from sdprep.data.sidecar import decode_text, encode_text, read_inside, sidecar_path
from sdprep.errors import ImageError
from sdprep.rules.compose import Parts, normalize, put_together, take_apart
from sdprep.rules.decide import Action, Decision, OnDisk, SidecarState, Wish, decide
from sdprep.types import Failure, FailureCode, ImageItem, Remark


@dataclass(frozen=True, slots=True)
class Job:
    """What makes one command differ from another, once its model is known.

    `recipe` is everything besides the image that a result depends on (None: the weights are not on this machine,
    so no result can be stored). `render` turns a stored result into pieces of text, `joiner` parts the pieces;
    `remark` is what a person should know of a result. `decoder` is what a failure to decode depends on.
    `incomplete` says whether results of pictures whose end is missing will do.
    """

    wish: Wish
    extension: str
    naming: str
    joiner: str
    recipe: dict[str, Any] | None
    render: Callable[[bytes], list[str]]
    decoder: str
    incomplete: bool
    remark: Callable[[bytes], str | None] = lambda _: None

    @property
    def incomplete_recipe(self) -> dict[str, Any]:
        """The recipe of results of pictures whose end is missing; only with a recipe."""
        return {**(self.recipe or {}), "incomplete": True}


@dataclass(frozen=True, slots=True)
class Target:
    """An image as it was found: its sidecar, its catalog, what is on disk, and what to do about it."""

    item: ImageItem
    sidecar: Path
    catalog: Catalog
    stat: os.stat_result
    before: bytes | None
    disk: OnDisk
    decision: Decision
    result: bytes | None = None
    remarks: tuple[Remark, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the sidecar stays as it is."""
        return self.decision.action in (Action.KEEP, Action.CURRENT)


def examine(item: ImageItem, job: Job, catalogs: Catalogs) -> Target | Failure:
    """Look at one image and its sidecar and decide. A fault that is remembered or seen now is a Failure."""
    catalog = catalogs.of(item.target.parent)
    sidecar = sidecar_path(item.target, job.extension, job.naming)
    try:
        before = read_inside(sidecar, item.root)
        # Taken before the image is read: should it change in between, the next run sees another time and looks again.
        stat = file_stat(item)
        digest = image_digest(item, stat, catalog, needed=_digest_needed(catalog, sidecar, job))
    except ImageError as error:
        return Failure(item, error.code, str(error))
    except OSError as error:
        return Failure(item, FailureCode.UNREADABLE, f"{sidecar.name}: {error.strerror}")
    disk = OnDisk(_text(before), catalog.state_of(catalog.key(sidecar)), digest)
    decision = decide(disk, job.wish)
    target = Target(item, sidecar, catalog, stat, before, disk, decision, *stored_result(catalog, digest, job))
    return _refusal(target, job.decoder) or target


def _text(data: bytes | None) -> str | None:
    """What a sidecar says; bytes that are no text get a NUL, and so equal nothing that sdprep writes."""
    if data is None:
        return None
    text = decode_text(data)
    return "\0" + data.decode("latin-1") if text is None else text


def _digest_needed(catalog: Catalog, sidecar: Path, job: Job) -> bool:
    """Whether the image's bytes matter now; in a first run they are hashed as they are decoded."""
    if catalog.state_id_of(catalog.key(sidecar)) is not None:
        return True
    if job.recipe is None:
        return False
    recipes = [job.recipe, job.incomplete_recipe] if job.incomplete else [job.recipe]
    return any(catalog.has_results(catalog.recipe_id(recipe)) for recipe in recipes)


def image_digest(item: ImageItem, stat: os.stat_result, catalog: Catalog, *, needed: bool) -> bytes | None:
    """The SHA-256 of an image: remembered while its size and time stand, else read if it is needed.

    Raises ImageError `unreadable`.
    """
    key = catalog.key(item.target)
    digest = catalog.known_digest(key, stat)
    if digest is None and needed:
        digest = hashlib.sha256(read_file(item.path)).digest()
        catalog.remember_image(key, stat, digest)
    return digest


def file_stat(item: ImageItem) -> os.stat_result:
    """Size and time of an image. Raises ImageError `unreadable`."""
    try:
        return item.path.stat()
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, error.strerror or str(error)) from error


def stored_result(catalog: Catalog, digest: bytes | None, job: Job) -> tuple[bytes | None, tuple[Remark, ...]]:
    """The result that is stored for an image, or None, and whether the image was incomplete."""
    if digest is None or job.recipe is None:
        return None, ()
    result = catalog.result(digest, catalog.recipe_id(job.recipe))
    if result is not None or not job.incomplete:
        return result, ()
    result = catalog.result(digest, catalog.recipe_id(job.incomplete_recipe))
    return result, () if result is None else (Remark.INCOMPLETE,)


def _refusal(target: Target, decoder: str) -> Failure | None:
    if target.settled:
        return None
    if target.decision.action is Action.COMBINE and target.before and decode_text(target.before) is None:
        message = f"{target.sidecar.name} is neither UTF-8 nor UTF-16, so nothing can be added to it"
        return Failure(target.item, FailureCode.BAD_TEXT, message)
    if target.disk.digest is None:
        return None
    known = target.catalog.failure(target.disk.digest, decoder)
    return Failure(target.item, FailureCode(known[0]), known[1]) if known else None


def text_for(target: Target, job: Job) -> tuple[bytes, SidecarState]:
    """The bytes that the sidecar of a target with a result shall hold, and what will be known of it then."""
    wish, known = job.wish, target.disk.state
    pieces = job.render(_known(target.result))
    if target.decision.action is not Action.COMBINE:
        text, parts, origin, where = job.joiner.join(pieces), Parts(machine=tuple(pieces)), "machine", "append"
    else:
        ours = known if known is not None and known.task == wish.task else None
        old_joiner = str(ours.settings.get("caption_separator", job.joiner)) if ours else job.joiner
        if ours is not None and target.disk.untouched:
            parts, where = ours.parts, ours.where
        else:
            parts, where = take_apart(target.disk.text or "", ours.parts if ours else None, old_joiner), wish.existing
        text, parts = put_together(parts, pieces, where, job.joiner, old_joiner)
        origin = "mixed" if parts.person or parts.removed else "machine"
    state = SidecarState(wish.task, origin, normalize(text), _known(target.disk.digest), wish.settings, parts, where)
    return encode_text(text), state


def _known(value: bytes | None) -> bytes:
    if value is None:
        raise AssertionError("a text was asked for before its image was known")
    return value


def would_be_current(target: Target, job: Job) -> SidecarState | None:
    """The state under which a kept sidecar is exactly what this run would write, if a stored result shows it."""
    if target.result is None or target.disk.digest is None or target.disk.text is None:
        return None
    pieces = job.render(target.result)
    text = normalize(job.joiner.join(pieces))
    if normalize(target.disk.text) != text:
        return None
    parts = Parts(machine=tuple(pieces))
    return SidecarState(job.wish.task, "machine", text, target.disk.digest, job.wish.settings, parts)
