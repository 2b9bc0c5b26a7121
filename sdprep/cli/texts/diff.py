"""Changes of captions and tags as a user reads them: what goes in red, what comes in green, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from sdprep.cli.output import print_styled
from sdprep.cli.talk import GREEN, RED
from sdprep.rules.edits.differences import differences
from sdprep.sanitize import strip_invisible

SAME = "..."
# Characters of one change that are shown.
LONGEST = 300


def print_change(name: str, before: str | None, after: str | None) -> None:
    """Print what changes in a sidecar, by tags, or by words if it has sentences; None: no file."""
    print_styled([(f"{strip_invisible(name)}:", ""), *_parts(before, after)])


def _parts(before: str | None, after: str | None) -> Iterator[tuple[str, str]]:
    if before is None or after is None:
        yield (" (new file)" if before is None else " (no file)"), ""
    found = differences(before, after)
    if all(kind == "same" for kind, _ in found) and before is not None and after is not None:
        yield " (only what is between them)", ""
        return
    for kind, text in found:
        if kind == "same":
            yield f" {SAME}", ""
        else:
            yield f" {'-' if kind == 'removed' else '+'}{_cut(text)}", RED if kind == "removed" else GREEN


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
