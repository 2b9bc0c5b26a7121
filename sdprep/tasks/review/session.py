"""What a review has done so far: its runs, which of them were undone, and plans that wait for their answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sdprep.report import NullListener, RunReport
from sdprep.tasks.texts.plan import Plan
from sdprep.types import KeptReason

# Plans that are kept: each has the texts of its files.
MOST_PLANS = 4
CHANGED_MEANWHILE = KeptReason.CHANGED_MEANWHILE.value
CHANGED = "another program has changed it in the meantime"


@dataclass(slots=True)
class SessionRun:
    """A run of the session: what it did in words, its files, the images of these, and the run that it undid."""

    run: str
    what: str
    files: int
    numbers: Sequence[int]
    undoes: str | None = None
    is_undone: bool = False

    @property
    def opposite(self) -> str:
        """What undoing this run is in words."""
        did, _, what = self.what.partition(" ") if self.undoes else ("", "", self.what)
        return f"redo {what}" if did == "undo" else f"undo {what}"


@dataclass(frozen=True, slots=True)
class WaitingPlan:
    """A plan with the images that it is about."""

    plan: Plan
    what: str
    numbers: Sequence[int]


@dataclass(slots=True)
class Session:
    """The runs of a review, by their ids, and its plans."""

    uid: str
    runs: dict[str, SessionRun] = field(default_factory=dict)
    plans: OrderedDict[str, WaitingPlan] = field(default_factory=OrderedDict)
    made: int = 0

    def add(self, done: SessionRun, *, is_whole: bool = True) -> None:
        """Take a run that has ended; what it undid whole counts as undone, what that had undone does not, and so on."""
        self.runs[done.run] = done
        undone, is_undone = self.runs.get(done.undoes or "") if is_whole else None, True
        while undone is not None:
            undone.is_undone, is_undone = is_undone, not is_undone
            undone = self.runs.get(undone.undoes or "")

    def keep_plan(self, waiting: WaitingPlan) -> str:
        """Keep a plan until its answer comes, and return its name; the oldest one goes."""
        self.made += 1
        name = str(self.made)
        self.plans[name] = waiting
        if len(self.plans) > MOST_PLANS:
            self.plans.popitem(last=False)
        return name

    def as_list(self) -> list[dict[str, Any]]:
        """The runs as the page shows them, oldest first."""
        return [
            {
                "run": each.run,
                "what": each.what,
                "files": each.files,
                "undoes": each.undoes,
                "is_undone": each.is_undone,
            }
            for each in self.runs.values()
        ]


class Progress(NullListener):
    """How far the action at work has come."""

    def __init__(self) -> None:
        self.done, self.of = 0, 0

    def stage(self, name: str, total: int | None = None, unit: str = "images") -> None:  # noqa: ARG002 - as Listener
        """Begin to count anew."""
        self.done, self.of = 0, total or 0

    def advance(self, count: int = 1) -> None:
        """Count."""
        self.done += count


def outcome(report: RunReport) -> dict[str, Any]:
    """What the page shows when an action has ended; `left` names the files that stay as they are, with the reason."""
    left = [{"path": each["path"], "reason": each["message"]} for each in report.failures]
    left += [{"path": path, "reason": CHANGED} for path in report.kept_reasons.get(CHANGED_MEANWHILE, ())]
    return {
        "run": report.run if report.written else None,
        "written": report.written,
        "remaining": report.remaining,
        "left": left,
    }
