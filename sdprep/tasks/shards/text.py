"""The text of a row: what the rules of a job make of a result, new or stored."""

from __future__ import annotations

from dataclasses import replace

from sdprep.shards.table import Row
from sdprep.tasks.annotation.job import Job
from sdprep.types import ImageWarning

# The warnings about a text; all others are about the image.
OF_TEXT = frozenset(
    {
        ImageWarning.CUT,
        ImageWarning.REPETITIVE,
        ImageWarning.FLAT,
        ImageWarning.BLANK,
        ImageWarning.NO_TAGS,
    }
)


def with_text(row: Row, job: Job) -> Row:
    """The row with the text that a job makes of its result; one without a result is returned as it is."""
    if row.result is None:
        return row
    pieces = job.reader.render(row.result)
    text = job.joiner.join(pieces)
    is_tags = job.request.task == "tag"
    warnings = [each for each in row.warnings if each not in OF_TEXT]
    if (warning := job.reader.warning(row.result)) is not None:
        warnings.append(warning.value)
    if is_tags and not text.strip():
        warnings.append(ImageWarning.NO_TAGS.value)
    return replace(row, text=text, tags=tuple(pieces) if is_tags else (), warnings=tuple(warnings))
