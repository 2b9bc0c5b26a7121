"""Gathers facts. Whatever could crash or hang is tried in a process of its own, so this one imports no framework."""

from __future__ import annotations

import json
import platform
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from sdprep import __version__
from sdprep.doctor.facts import Device, Facts, Machine, Outcome, Probe, Value
from sdprep.doctor.packages import read_packages
from sdprep.doctor.process import Ended, run_bounded
from sdprep.sanitize import redact

ROOT = Path(__file__).parents[2]
# The empty place of imports is the current folder, where a file of the user's could pass for a framework.
START = """import sys
sys.path[:] = [{root!r}, *(place for place in sys.path if place)]
from sdprep.doctor.probes.probe import main
del sys.path[0]
sys.exit(main({arguments}))"""
# Seconds for a framework, the Hub, a folder, the driver.
LIMIT, HUB_LIMIT, FOLDER_LIMIT, DRIVER_LIMIT = 60.0, 20.0, 10.0, 15.0
# The probes of frameworks in the order in which they are run, and the modules without which there is none to run.
FRAMEWORKS = {
    "torch": {"torch"},
    "transformers": {"transformers", "torch", "safetensors"},
    "onnxruntime": {"onnxruntime"},
    "tensorflow": {"tensorflow"},
}
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 20_000


class Event(msgspec.Struct, frozen=True):
    """One line of a probe."""

    step: str | None = None
    about: dict[str, Value] = {}
    device: Device | None = None
    error: str | None = None


def gather(directory: Path | None = None, cuda_visible: str | None = None, *, limit: float = LIMIT) -> Facts:
    """All facts of this machine; `directory` is tried for writing, `cuda_visible` is CUDA_VISIBLE_DEVICES.

    Each framework gets `limit` seconds.
    """
    machine = read_machine(cuda_visible)
    packages, modules = read_packages(machine.python)
    with ThreadPoolExecutor() as pool:
        places = {"hub": pool.submit(run_probe, "hub", limit=HUB_LIMIT)}
        if directory is not None:
            places["folder"] = pool.submit(run_probe, "folder", str(directory), limit=FOLDER_LIMIT)
        # One after the other: two of them on one card could take the memory from each other.
        probes = {name: run_probe(name, limit=limit) for name, needed in FRAMEWORKS.items() if needed <= modules.keys()}
        probes |= {name: place.result() for name, place in places.items()}
    return Facts(machine, packages, modules, probes)


def run_probe(name: str, *arguments: str, python: str = sys.executable, limit: float = LIMIT) -> Probe:
    """What a probe finds within `limit` seconds."""
    code = START.format(root=str(ROOT), arguments=", ".join(map(repr, (name, *arguments))))
    return read_probe(name, run_bounded([python, "-c", code], limit), limit)


def read_probe(name: str, ended: Ended, limit: float) -> Probe:
    """A probe from what its process said and how it ended."""
    step, error = "start", ""
    about: dict[str, Value] = {}
    devices: list[Device] = []
    for line in ended.out.splitlines():
        try:
            told = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError:
            # The process ended in the middle of it.
            continue
        step, error = told.step or step, told.error or error
        about |= told.about
        devices += [told.device] if told.device is not None else []
    outcome: Outcome = "ok"
    if ended.code is None:
        outcome, error = "timeout", f"no end within {limit:.0f} seconds"
    elif error:
        outcome = "error"
    elif ended.code != 0 or step != "done":
        outcome, error = "crash", _name_end(ended.code)
    return Probe(name, outcome, step, clean(error), about, tuple(devices), _shorten(clean(ended.err)))


def clean(text: str) -> str:
    """Text without colours and without anything secret."""
    return redact(COLOURS.sub("", text))


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n...\n{text[-LONGEST // 2 :]}"


def _name_end(code: int) -> str:
    """What a process died of: a signal, or on Windows the number of an exception."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}" if code < 256 else f"exit code {code & 0xFFFFFFFF:#010x}"


def read_machine(cuda_visible: str | None = None) -> Machine:
    """Python, and the NVIDIA cards as their driver names them."""
    cards, driver, driver_error = _read_cards()
    version = sys.version_info
    return Machine(
        python=(version.major, version.minor, version.micro),
        system=sys.platform,
        arch=platform.machine(),
        sdprep=__version__,
        cards=cards,
        driver=driver,
        driver_error=driver_error,
        cuda_visible=cuda_visible,
    )


def _read_cards() -> tuple[tuple[str, ...], str, str]:
    """The names of the cards, the version of their driver, and what went wrong."""
    # The second is where the Windows Subsystem for Linux has it.
    found = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if found is None:
        return (), "", ""
    query = [found, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        ended = run_bounded(query, DRIVER_LIMIT)
    except OSError as error:
        return (), "", str(error)
    if ended.code is None:
        return (), "", f"nvidia-smi did not end within {DRIVER_LIMIT:.0f} seconds"
    if ended.code != 0:
        return (), "", clean(ended.out.strip() or ended.err.strip())[:200]
    rows = [line.rpartition(",") for line in ended.out.splitlines() if "," in line]
    return tuple(name.strip() for name, _, _ in rows), rows[0][2].strip() if rows else "", ""


def facts_as_json(facts: Facts) -> Mapping[str, object]:
    """The facts as values for JSON."""
    values: Mapping[str, object] = json.loads(msgspec.json.encode(facts))
    return values
