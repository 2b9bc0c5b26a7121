"""The table: one row per package, device or folder that was checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sdprep.doctor.check_packages import PARTS, is_unused
from sdprep.doctor.facts import CORE, JOBS, Facts, Probe
from sdprep.doctor.packages import is_older, requirements
from sdprep.doctor.problems import Problem, extra_of, install

State = Literal["ok", "problem", "absent"]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what was checked, for which job, and its state."""

    part: str
    item: str
    state: State
    detail: str = ""


def make_rows(facts: Facts, problems: Sequence[Problem]) -> tuple[Row, ...]:
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
    for job in JOBS:
        for need in requirements(job, facts.machine):
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
