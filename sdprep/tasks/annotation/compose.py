"""What the sidecar of an image with a result shall hold, and who wrote what in it."""

from __future__ import annotations

from sdprep.rules.mixed_text import MixedText, merge_generated, normalize, split_user_text, text_of
from sdprep.rules.policy import Action, SidecarState, SidecarStatus
from sdprep.tasks.annotation.planner import Job, PlannedImage
from sdprep.texts.sidecar import encode_text

# What users separate tags by, whatever the separator of a run is. Captions are lines.
TAG_SEPARATORS = (",", ";", "|", "\n", "\t", "\uff0c", "\uff1b", "\u3001")
# Under this name the settings of a text keep the separators of earlier runs: the user's part may still have them.
SEPARATORS = "separators"


def text_for(target: PlannedImage, job: Job) -> tuple[bytes, SidecarState]:
    """The bytes that the sidecar of a target with a result shall hold, and what will be known of it then."""
    wish, settings = job.wish, job.wish.settings
    pieces = job.render(_known(target.result))
    if target.decision.action is Action.COMBINE:
        parts, where, separators = _parts_of(target, job)
        # The settings of all texts are one object where they can be, which saves the catalog a search for each.
        if earlier := [each for each in separators if each != job.joiner and not _is_known_to_all(each)]:
            settings = {**settings, SEPARATORS: earlier}
        text, parts = merge_generated(parts, pieces, where, job.joiner, separators)
        origin = "mixed" if parts.user or parts.removed else "machine"
        if _is_nothing_added(target.disk, normalize(text), parts, wish.task):
            text, origin = normalize(target.disk.text or ""), "user"
            parts = MixedText(text, removed=parts.removed)
    else:
        text, parts, origin, where = job.joiner.join(pieces), MixedText(generated=tuple(pieces)), "machine", "append"
    state = SidecarState(wish.task, origin, normalize(text), _known(target.disk.digest), settings, parts, where)
    return encode_text(text), state


def _is_nothing_added(disk: SidecarStatus, text: str, parts: MixedText, task: str) -> bool:
    """Whether there was nothing to add to a text that the user wrote or edited.

    It is then the user's, whole, and no later run changes it unasked: not even sdprep's tags in it, which the user may
    have typed. But where sdprep's tags stand beside what the user wrote before, each part stays whose it was.
    """
    known = disk.state if disk.state is not None and disk.state.task == task else None
    if disk.text is None or (disk.unmodified and known is not None and known.origin != "user"):
        return False
    if known is not None and known.origin == "mixed" and known.parts.user == parts.user and parts.generated:
        return False
    return not parts.generated or normalize(disk.text) == text


def _parts_of(target: PlannedImage, job: Job) -> tuple[MixedText, str, tuple[str, ...]]:
    """Who wrote what in a sidecar, on which side the machine's pieces stand, and what may separate the pieces.

    The user's part is taken from the file. The catalog is believed only if its parts give exactly the text that is
    there, or was there before the file was emptied.
    """
    disk, wish = target.disk, job.wish
    known = disk.state if disk.state is not None and disk.state.task == wish.task else None
    joiner, *others = separators = _separators(known, job)
    if known is None:
        return split_user_text(disk.text or "", None, joiner), wish.existing, separators
    is_known = disk.text is None or disk.unmodified
    if is_known and normalize(text_of(known.parts, known.where, joiner)) == known.text:
        return known.parts, known.where, separators
    text = known.text if disk.text is None else disk.text
    parts = split_user_text(text, known.parts, joiner, others, known.where)
    return parts, known.where if is_known else wish.existing, separators


def _separators(known: SidecarState | None, job: Job) -> tuple[str, ...]:
    """What may separate the pieces of a text, the separator that it was last written or read with first.

    The user's part keeps the separators it was typed with, so all that a run ever read it with count.
    """
    settings = {} if known is None else known.settings
    last, earlier = settings.get("caption_separator", job.joiner), settings.get(SEPARATORS)
    explicit = (last, *(earlier if isinstance(earlier, list) else ()), job.joiner)
    found = [each for each in explicit if isinstance(each, str) and each]
    return tuple(dict.fromkeys((*found, *(TAG_SEPARATORS if job.wish.task == "tag" else ()))))


def _is_known_to_all(separator: str) -> bool:
    return (separator.strip() or separator) in TAG_SEPARATORS


def _known(value: bytes | None) -> bytes:
    if value is None:
        raise AssertionError("a text was asked for before its image was known")
    return value


def is_what_would_be_written(target: PlannedImage, job: Job) -> bool:
    """Whether a kept sidecar is exactly what this run would write, if a stored result shows it."""
    if target.result is None or target.disk.text is None:
        return False
    return normalize(target.disk.text) == normalize(job.joiner.join(job.render(target.result)))


def adopted_state(target: PlannedImage, job: Job) -> SidecarState | None:
    """The state under which a sidecar that is exactly what this run would write counts as sdprep's from then on.

    None if its origin is known, so that what the user edited stays the user's, and for a text without content: who
    leaves an empty line in a file wants no text in it.
    """
    disk = target.disk
    if target.result is None or disk.digest is None or disk.state is not None or not (disk.text or "").strip():
        return None
    pieces = tuple(job.render(target.result))
    text = normalize(job.joiner.join(pieces))
    return SidecarState(job.wish.task, "machine", text, disk.digest, job.wish.settings, MixedText(generated=pieces))
