"""The text that the sidecar of an image with a result gets, and who wrote what in it."""

from __future__ import annotations

from dataclasses import replace

from sdprep.rules.mixed_text import (
    TAG_SEPARATORS,
    MixedText,
    Part,
    normalize,
    own_separator,
    place_part,
    read_parts,
    user_text,
    with_caption_joiner,
    without_repeats,
)
from sdprep.rules.policy import Action, SidecarState, SidecarStatus, TextRequest
from sdprep.tasks.annotation.job import Job, PlannedImage
from sdprep.texts.sidecar import encode_text


def text_for(image: PlannedImage) -> tuple[bytes, SidecarState]:
    """The bytes that the sidecar of an image with a result gets, and what is known of it from then on."""
    own = _own_part(image)
    content = _combined(image, own) if image.decision.action is Action.COMBINE else MixedText((own,))
    state = SidecarState(own.author, normalize(content.text), own.digest, content)
    return encode_text(content.text), state


def _own_part(image: PlannedImage) -> Part:
    """What the model of this run says of an image."""
    if image.result is None or image.disk.digest is None:
        raise AssertionError("a text was asked for before its image was known")
    job = image.job
    pieces = tuple(job.reader.render(image.result))
    return Part(job.request.task, pieces, job.joiner, job.request.settings, image.disk.digest, image.prompt)


def _combined(image: PlannedImage, own: Part) -> MixedText:
    """The parts of a sidecar with the one of this run in its place."""
    disk, job = image.disk, image.job
    before = _parts_on_disk(disk, job)
    own = replace(own, joiner=_tag_joiner(before, job)) if own.author == "tag" else own
    text = place_part(before, own, job.request.existing)
    text = with_caption_joiner(text, several=_asks_for_lines(job.request))
    own = next(part for part in text.parts if part.is_by(own))
    text = without_repeats(text, own, _separators(before, job))
    joiners = (*text.separators, *(part.joiner for part in (*before.generated, *text.generated)))
    # The user's part keeps the separators that it was typed with, so each that a run ever read it with counts.
    text = replace(text, separators=tuple(dict.fromkeys(each for each in joiners if _is_unusual(each))))
    if _adds_nothing(disk, text):
        return replace(user_text(disk.text or ""), removed=text.removed, separators=text.separators)
    return text


def _is_unusual(separator: str) -> bool:
    return (separator.strip() or separator) not in TAG_SEPARATORS


def _tag_joiner(text: MixedText, job: Job) -> str:
    """What separates the tags of this run: what was stated for it, or else what the user's tags have."""
    stated = job.request.stated | job.request.explicit
    return (
        job.joiner if "caption_separator" in stated or not text.user.strip() else own_separator(text.user, job.joiner)
    )


def _asks_for_lines(request: TextRequest) -> bool:
    """Whether a run writes several captions, each on its line."""
    many = request.settings.get("captions", 1)
    return isinstance(many, int) and many > 1


def _adds_nothing(disk: SidecarStatus, text: MixedText) -> bool:
    """Whether there was nothing to add to a text that the user wrote or edited.

    All of it is then the user's, and no later run changes it without being asked: not even sdprep's tags in it, which
    the user may have typed. But if sdprep's tags stand beside what the user wrote before, each part keeps its author.
    """
    known = disk.state.content if disk.state is not None else MixedText()
    if disk.text is None or (disk.unmodified and known.generated):
        return False
    has_generated = any(part.pieces for part in text.generated)
    if has_generated and known.generated and known.user and known.user == text.user:
        return False
    return not has_generated or normalize(disk.text) == normalize(text.text)


def _parts_on_disk(disk: SidecarStatus, job: Job) -> MixedText:
    """Who wrote what in a sidecar; the user's part is taken from the file.

    The catalog is trusted only if its parts give exactly the text that is there, or was there before the file was
    emptied.
    """
    if disk.state is None:
        return user_text(disk.text or "")
    known = disk.state.content
    if (disk.text is None or disk.unmodified) and normalize(known.text) == disk.state.text:
        return known
    text = disk.state.text if disk.text is None else disk.text
    position = "prepend" if job.request.existing == "prepend" else "append"
    return read_parts(text, known, position, _separators(known, job))


def text_on_disk(disk: SidecarStatus) -> MixedText:
    """Who wrote what in a sidecar that stays as it is; nothing in bytes that are not text."""
    if disk.state is not None and disk.unmodified:
        return disk.state.content
    return MixedText() if disk.text is None or "\0" in disk.text else user_text(disk.text)


def _separators(text: MixedText, job: Job) -> tuple[str, ...]:
    """What may separate the pieces of a text, beginning with the separators that it was last written with."""
    joiners = (part.joiner for part in text.generated)
    return tuple(dict.fromkeys((*joiners, *text.separators, job.joiner, *TAG_SEPARATORS)))


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
    disk = image.disk
    is_unknown = disk.state is None and image.before is not None
    if image.result is None or disk.digest is None or not is_unknown or not (disk.text or "").strip():
        return None
    own = _own_part(image)
    return SidecarState(own.author, normalize(own.text), disk.digest, MixedText((own,)))
