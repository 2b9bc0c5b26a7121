"""The text that the sidecar of an image with a result gets, and who wrote what in it."""

from __future__ import annotations

from sdprep.rules.mixed_text import MixedText, merge_generated, normalize, split_user_text, text_of
from sdprep.rules.policy import Action, SidecarState, SidecarStatus
from sdprep.tasks.annotation.job import PlannedImage
from sdprep.texts.sidecar import encode_text

# What users separate tags with, whatever the separator of a run is. Captions are lines.
TAG_SEPARATORS = (",", ";", "|", "\n", "\t", "\uff0c", "\uff1b", "\u3001")
# Under this name the settings of a text keep the separators of earlier runs: the user's part may still have them.
SEPARATORS = "separators"


def text_for(image: PlannedImage) -> tuple[bytes, SidecarState]:
    """The bytes that the sidecar of an image with a result gets, and what is known of it from then on."""
    job, settings = image.job, image.job.request.settings
    pieces = job.reader.render(_known(image.result))
    if image.decision.action is Action.COMBINE:
        parts, position, separators = _parts_of(image)
        # The settings of all texts are one object if possible, which saves the catalog a search for each.
        others = (each for each in separators if each != job.joiner)
        if earlier := [each for each in others if (each.strip() or each) not in TAG_SEPARATORS]:
            settings = {**settings, SEPARATORS: earlier}
        text, parts = merge_generated(parts, pieces, position, job.joiner, separators)
        origin = "mixed" if parts.user or parts.removed else "machine"
        if _adds_nothing(image.disk, normalize(text), parts, job.request.task):
            text, origin = normalize(image.disk.text or ""), "user"
            parts = MixedText(text, removed=parts.removed)
    else:
        text, parts, origin, position = job.joiner.join(pieces), MixedText(generated=tuple(pieces)), "machine", "append"
    digest = _known(image.disk.digest)
    state = SidecarState(job.request.task, origin, normalize(text), digest, settings, parts, position)
    return encode_text(text), state


def _adds_nothing(disk: SidecarStatus, text: str, parts: MixedText, task: str) -> bool:
    """Whether there was nothing to add to a text that the user wrote or edited.

    All of it is then the user's, and no later run changes it without being asked: not even sdprep's tags in it, which
    the user may have typed. But if sdprep's tags stand beside what the user wrote before, each part keeps its author.
    """
    known = _state_of(disk, task)
    if disk.text is None or (disk.unmodified and known is not None and known.origin != "user"):
        return False
    if known is not None and known.origin == "mixed" and known.parts.user == parts.user and parts.generated:
        return False
    return not parts.generated or normalize(disk.text) == text


def _parts_of(image: PlannedImage) -> tuple[MixedText, str, tuple[str, ...]]:
    """Who wrote what in a sidecar, on which side the generated pieces stand, and what may separate the pieces.

    The user's part is taken from the file. The catalog is trusted only if its parts give exactly the text that is
    there, or was there before the file was emptied.
    """
    disk, request = image.disk, image.job.request
    known = _state_of(disk, request.task)
    joiner, *others = separators = _separators(image, known)
    if known is None:
        return split_user_text(disk.text or "", None, joiner), request.existing, separators
    is_known = disk.text is None or disk.unmodified
    if is_known and normalize(text_of(known.parts, known.position, joiner)) == known.text:
        return known.parts, known.position, separators
    text = known.text if disk.text is None else disk.text
    parts = split_user_text(text, known.parts, joiner, others, known.position)
    return parts, known.position if is_known else request.existing, separators


def _state_of(disk: SidecarStatus, task: str) -> SidecarState | None:
    """What is known of a sidecar, if it is of this task."""
    return disk.state if disk.state is not None and disk.state.task == task else None


def _separators(image: PlannedImage, known: SidecarState | None) -> tuple[str, ...]:
    """What may separate the pieces of a text, beginning with the separator that it was last written or read with.

    The user's part keeps the separators it was typed with, so every separator that a run ever read it with counts.
    """
    settings, joiner = {} if known is None else known.settings, image.job.joiner
    last, earlier = settings.get("caption_separator", joiner), settings.get(SEPARATORS)
    listed = (last, *(earlier if isinstance(earlier, list) else ()), joiner)
    found = [each for each in listed if isinstance(each, str) and each]
    return tuple(dict.fromkeys((*found, *(TAG_SEPARATORS if image.job.request.task == "tag" else ()))))


def _known(value: bytes | None) -> bytes:
    if value is None:
        raise AssertionError("a text was asked for before its image was known")
    return value


def equals_stored_result(image: PlannedImage) -> bool:
    """Whether a kept sidecar is exactly what this run would write, if a stored result shows it."""
    if image.result is None or image.disk.text is None:
        return False
    job = image.job
    return normalize(image.disk.text) == normalize(job.joiner.join(job.reader.render(image.result)))


def adopted_state(image: PlannedImage) -> SidecarState | None:
    """The state under which a sidecar that is exactly what this run would write counts as sdprep's from then on.

    None if its origin is known, so that what the user edited stays the user's, and for a text without content: an
    empty line in a file means that the user wants no text in it.
    """
    disk, job = image.disk, image.job
    if image.result is None or disk.digest is None or disk.state is not None or not (disk.text or "").strip():
        return None
    pieces = tuple(job.reader.render(image.result))
    text = normalize(job.joiner.join(pieces))
    return SidecarState(
        job.request.task, "machine", text, disk.digest, job.request.settings, MixedText(generated=pieces)
    )
