"""`sdprep doctor`: what this machine can run, what it cannot, and how to fix that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from sdprep.doctor.check_devices import find_devices, find_onnxruntime, find_tensorflow, find_torch
from sdprep.doctor.check_packages import find_all_known, find_broken, find_core, find_missing, find_old, find_storage
from sdprep.doctor.facts import CORE, JOBS, Facts
from sdprep.doctor.gather import facts_as_json, gather
from sdprep.doctor.packages import requirements
from sdprep.doctor.problems import Problem
from sdprep.doctor.rows import Row, make_rows

Job = Literal["caption", "tag", "tensorflow"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found: `works` has, for the core and for each job, whether it can run here."""

    facts: Facts
    asked: tuple[str, ...]
    problems: tuple[Problem, ...]
    rows: tuple[Row, ...]
    works: Mapping[str, bool]

    @property
    def exit_code(self) -> int:
        """0, or 5 if the core or a requested job cannot run."""
        return 0 if all(self.works[part] for part in (CORE, *self.asked)) else 5

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that fix everything, each once."""
        return tuple(dict.fromkeys(command for problem in self.problems for command in problem.commands))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values, schema 1."""
        return {
            "schema": 1,
            "works": dict(self.works),
            "asked": list(self.asked),
            "rows": [
                {"part": row.part, "item": row.item, "state": row.state, "detail": row.detail} for row in self.rows
            ],
            "problems": [_problem_as_dict(problem) for problem in self.problems],
            "commands": list(self.commands),
            "facts": facts_as_json(self.facts),
        }


def _problem_as_dict(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code.value,
        "part": problem.part,
        "item": problem.item,
        "says": problem.message,
        "commands": problem.commands,
        "advice": problem.advice,
        "blocks": problem.blocks,
    }


def doctor(directory: Path | None = None, asked: Iterable[Job] = (), *, cuda_visible: str | None = None) -> Diagnosis:
    """Test what is installed and return what works; takes as long as importing every framework.

    `cuda_visible` is the value of CUDA_VISIBLE_DEVICES, which every framework obeys.
    """
    return diagnose(gather(directory, cuda_visible), asked)


def diagnose(facts: Facts, asked: Iterable[str] = ()) -> Diagnosis:
    """Return the problems in the facts, in the best order to fix them."""
    wanted = tuple(job for job in JOBS if job in set(asked))
    problems = tuple(_find_problems(facts, wanted))
    blocked = {part for problem in problems for part in problem.blocks}
    works = {CORE: CORE not in blocked} | {job: _can_run(facts, job, blocked) for job in JOBS}
    return Diagnosis(facts, wanted, problems, make_rows(facts, problems), works)


def _find_problems(facts: Facts, asked: tuple[str, ...]) -> Iterator[Problem]:
    yield from find_core(facts)
    yield from find_missing(facts, asked)
    yield from chain(find_old(facts), find_all_known(facts), find_broken(facts), find_torch(facts))
    yield from chain(find_onnxruntime(facts), find_tensorflow(facts), find_devices(facts), find_storage(facts))


def _can_run(facts: Facts, job: str, blocked: set[str]) -> bool:
    needed = {need.name for need in requirements(job, facts.machine)}
    return needed <= facts.modules.keys() and job not in blocked and CORE not in blocked
