"""`sdprep doctor`: what this machine can run, what it cannot, and how to fix that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec

from sdprep.doctor.check_devices import find_devices, find_onnxruntime, find_tensorflow, find_torch
from sdprep.doctor.check_packages import (
    PARTS,
    find_core,
    find_failures,
    find_folder,
    find_hub,
    find_missing,
    find_models,
    find_old,
    is_unused,
)  # fmt: skip
from sdprep.doctor.facts import CORE, JOBS, Facts, Probe
from sdprep.doctor.gather import gather
from sdprep.doctor.packages import is_older, requirements
from sdprep.doctor.problems import Problem, extra_of, install
from sdprep.models.backends import QUANTIZE_EXTRA

Job = Literal["caption", "tag", "tensorflow"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: the package, device or folder that was checked, for which job, and its state."""

    part: str
    item: str
    state: Literal["ok", "problem", "absent"]
    detail: str = ""


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
        names = ("works", "asked", "rows", "problems", "commands", "facts")
        return {"schema": 1, **{name: msgspec.to_builtins(getattr(self, name)) for name in names}}


def doctor(directory: Path | None = None, asked: Iterable[Job] = (), *, cuda_visible: str | None = None) -> Diagnosis:
    """Test what is installed and return what works; takes as long as importing every framework.

    `cuda_visible` is the value of CUDA_VISIBLE_DEVICES, which every framework obeys.
    """
    return diagnose(gather(directory, cuda_visible), asked)


def diagnose(facts: Facts, asked: Iterable[str] = ()) -> Diagnosis:
    """Return the problems in the facts, in the best order to fix them."""
    wanted = tuple(job for job in JOBS if job in set(asked))
    checks = (
        find_old,
        find_failures,
        find_torch,
        find_onnxruntime,
        find_tensorflow,
        find_devices,
        find_models,
        find_hub,
        find_folder,
    )
    problems = tuple(chain(find_core(facts), find_missing(facts, wanted), *(check(facts) for check in checks)))
    blocked = {part for problem in problems for part in problem.blocks}
    lacking = {job for job in JOBS if any(need.name not in facts.modules for need in requirements(job, facts.machine))}
    works = {part: not blocked & {CORE, part} and part not in lacking for part in (CORE, *JOBS)}
    return Diagnosis(facts, wanted, problems, _make_rows(facts, problems), works)


def _make_rows(facts: Facts, problems: Sequence[Problem]) -> tuple[Row, ...]:
    """Return all rows; an item that a problem names has the state "problem"."""
    faulty = {(problem.part, problem.item) for problem in problems}
    rows = [*_machine_rows(facts), *_package_rows(facts), *_storage_rows(facts)]
    known = {(row.part, row.item) for row in rows}
    marked = [
        Row(row.part, row.item, "problem" if (row.part, row.item) in faulty else row.state, row.detail) for row in rows
    ]
    return (*marked, *(Row(part, item, "problem") for part, item in sorted(faulty - known)))


def _machine_rows(facts: Facts) -> Iterator[Row]:
    machine = facts.machine
    python = ".".join(map(str, machine.python))
    yield Row(CORE, "Python", "ok", f"{python} ({machine.system}, {machine.arch})")
    yield Row(CORE, "sdprep", "ok", machine.sdprep)
    if machine.cards:
        yield Row(CORE, "NVIDIA GPU", "ok", f"{', '.join(machine.cards)}; driver {machine.driver}")
    else:
        yield Row(CORE, "NVIDIA GPU", "absent", machine.driver_error)


def _package_rows(facts: Facts) -> Iterator[Row]:
    for need in requirements(CORE, facts.machine):
        version = facts.packages.get(need.name)
        yield Row(CORE, need.name, "absent" if version is None else "ok", version or "")
    needs = [(job, need) for job in JOBS for need in requirements(job, facts.machine)]
    # What no job needs; the rest of its extra is that of the captioner.
    needs += [
        (QUANTIZE_EXTRA, need) for need in requirements(QUANTIZE_EXTRA, facts.machine) if need.name == "bitsandbytes"
    ]
    for job, need in needs:
        if need.name not in facts.modules:
            yield Row(job, need.name, "absent", install(extra_of(job, facts.machine)))
            continue
        yield Row(job, need.name, "ok", _describe(facts, need.name))
        yield from _device_rows(facts.probes.get(need.name), job)


def _describe(facts: Facts, name: str) -> str:
    """Return version, package, what it was built for, and what is harmless although users ask about it."""
    probe, version = facts.probes.get(name), facts.version(name)
    packages = ", ".join(each for each in facts.modules[name] if each != name)
    parts = [f"{version} ({packages})" if packages else version]
    if probe is None:
        return parts[0]
    if name == "torch":
        parts += [f"for CUDA {probe.value('cuda')}" if probe.value("cuda") else ""]
    if name == "tensorflow" and "cuda_build" in probe.about:
        built = f"for CUDA {probe.value('cuda')}, cuDNN {probe.value('cudnn')}"
        loaded = f"cuDNN {probe.value('cudnn_loaded')} is loaded" if probe.value("cudnn_loaded") else ""
        keras = not is_older(version, "2.16") and probe.value("keras")
        harmless = f"Keras {keras} does not matter: sdprep reads a SavedModel without it" if keras else ""
        parts += [built if probe.about.get("cuda_build") else "CPU only", loaded, harmless]
    return "; ".join(part for part in parts if part)


def _device_rows(probe: Probe | None, job: str) -> Iterator[Row]:
    """Yield a row per device; one that fails is a problem only if a check says so, as sdprep may not use it."""
    if probe is None or probe.name not in PARTS:
        return
    for device in probe.devices:
        unused = " (sdprep does not use it)" if is_unused(device.name) and "Provider" in device.name else ""
        detail = device.detail or "computed"
        yield Row(job, device.name, "ok" if device.ok else "absent", f"{detail}{unused}")


def _storage_rows(facts: Facts) -> Iterator[Row]:
    hub, folder = facts.probes.get("hub"), facts.probes.get("folder")
    if hub is not None and hub.value("endpoint"):
        if hub.about.get("offline"):
            answer = Row("hub", "answer", "absent", "not contacted: HF_HUB_OFFLINE is set")
        elif hub.value("status"):
            answer = Row("hub", "answer", "ok", f"{hub.value('endpoint')} (HTTP {hub.value('status')})")
        else:
            answer = Row("hub", "answer", "absent", hub.value("endpoint"))
        size = f"{_amount(hub, 'size')}{'' if hub.about.get('complete') else ' or more'} used"
        yield answer
        yield Row("hub", "cache", "ok", f"{hub.value('cache')}: {size}, {_amount(hub, 'free')} free")
    if folder is not None:
        yield Row("folder", "DIR", "ok", f"{folder.value('path')}: {_amount(folder, 'free')} free")


def _amount(probe: Probe, name: str) -> str:
    value = probe.about.get(name)
    return f"{value / 10**9:.1f} GB" if isinstance(value, int) else "unknown"
