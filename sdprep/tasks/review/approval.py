"""Approving: captions or tags become the user's as they are, so that later runs keep them."""

from __future__ import annotations

from dataclasses import replace

from sdprep.catalog.session import CatalogSession
from sdprep.errors import ImageError
from sdprep.images.decoder import file_digest
from sdprep.rules.mixed_text import normalize, read_parts, user_text
from sdprep.rules.policy import SidecarState
from sdprep.tasks.texts.plan import Plan, PlannedChange
from sdprep.tasks.texts.records import ImageRecord
from sdprep.types import Failure


def add_approval(plan: Plan, image: ImageRecord, kind: str, catalogs: CatalogSession) -> None:
    """Take the approval of a caption or of tags into a plan; no file is written for it.

    It lapses with the next edit, since it is about this text. What the user has removed is not added again later.
    """
    sidecar = image.tags if kind == "tags" else image.caption
    if sidecar is None or not sidecar.text:
        plan.missing.append(image.item.rel)
        return
    if sidecar.data is None or sidecar.failure is not None:
        return
    catalog = catalogs.of(sidecar.path.parent)
    known, text = catalog.state_of(catalog.key(sidecar.path)), normalize(sidecar.text)
    if known is not None and known.origin == "user" and known.text == text:
        plan.unchanged += 1
        return
    content = user_text(text)
    if known is not None:
        content = replace(content, removed=read_parts(text, known.content, "append").removed)
    try:
        digest = file_digest(image.item) if known is None else known.digest
    except ImageError as error:
        plan.failures.append(Failure(image.item, error.code, str(error)))
        return
    state = SidecarState("tag" if kind == "tags" else "caption", text, digest, content)
    plan.changes.append(PlannedChange(image.item, sidecar.path, sidecar.data, sidecar.data, state=state))
