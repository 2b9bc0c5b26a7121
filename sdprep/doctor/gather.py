"""Gathers facts. What could crash or hang is tested in a separate process, so this one imports no framework."""

from __future__ import annotations

import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from sdprep import __version__
from sdprep.doctor.facts import Device, Facts, Machine, Outcome, Probe, Value
from sdprep.doctor.packages import read_packages
from sdprep.errors import ModelError
from sdprep.models.backends import with_backend
from sdprep.models.base import ModelSpec
from sdprep.models.files.hub import find_local
from sdprep.models.files.patterns import in_folder, without_files
from sdprep.models.registry.registry import is_toy, local_folder, named, registered
from sdprep.sanitize import redact

ROOT = Path(__file__).parents[2]
# The empty entry of sys.path is the current folder, where a file of the user could be taken for a framework.
START = """import sys
sys.path[:] = [{root!r}, *(entry for entry in sys.path if entry)]
from sdprep.doctor.probes import main
del sys.path[0]
sys.exit(main({arguments}))"""
# Seconds for a framework, the Hub, a folder, the driver.
LIMIT, HUB_LIMIT, FOLDER_LIMIT, DRIVER_LIMIT = 60.0, 20.0, 10.0, 15.0
# Seconds for a killed process to exit; one that hangs inside a driver may never do so.
KILL_TIMEOUT = 5.0
# The probes of frameworks in the order in which they run, and the modules that each needs.
FRAMEWORKS = {
    "torch": {"torch"},
    "transformers": {"transformers", "torch", "safetensors"},
    "bitsandbytes": {"bitsandbytes", "torch"},
    "onnxruntime": {"onnxruntime"},
    "tensorflow": {"tensorflow"},
}
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `code` is None if its time ran out. `out` and `err` have what it printed until then."""

    code: int | None
    out: str
    err: str


class Event(msgspec.Struct, frozen=True):
    """One line of a probe."""

    step: str | None = None
    about: dict[str, Value] = {}
    device: Device | None = None
    error: str | None = None


def gather(directory: Path | None = None, cuda_visible: str | None = None, *, limit: float = LIMIT) -> Facts:
    """Gather all facts of this machine; each framework gets `limit` seconds.

    `directory` is tested for writing, `cuda_visible` is CUDA_VISIBLE_DEVICES.
    """
    machine = read_machine(cuda_visible)
    packages, modules = read_packages(machine)
    with ThreadPoolExecutor() as pool:
        others = {"hub": pool.submit(run_probe, "hub", limit=HUB_LIMIT)}
        if directory is not None:
            others["folder"] = pool.submit(run_probe, "folder", str(directory), limit=FOLDER_LIMIT)
        # One after the other: two of them on one GPU could run out of its memory.
        probes = {name: run_probe(name, limit=limit) for name, needed in FRAMEWORKS.items() if needed <= modules.keys()}
        probes |= {name: other.result() for name, other in others.items()}
    return Facts(machine, packages, modules, probes, read_models())


def read_models() -> dict[str, str]:
    """For each job, a model whose files are on this machine; a toy of the demo is none."""
    found: dict[str, str] = {}
    for name, path in registered().items():
        try:
            spec = named(name, path)
            if is_toy(spec):
                continue
            if _is_here(spec):
                found.setdefault("caption" if spec.task == "caption" else spec.backend.replace("onnx", "tag"), name)
            if spec.savedmodel and _is_here(with_backend(spec, "tensorflow")):
                found.setdefault("tensorflow", name)
        except ModelError:  # a description that is wrong: `sdprep models list` names it
            continue
    return found


def _is_here(spec: ModelSpec) -> bool:
    """Whether the files of a model are on this machine; those of a folder are not read."""
    folder = local_folder(spec.source)
    if folder is None:
        return find_local(spec) is not None
    names = in_folder(spec.files, folder)
    return all((folder / name).is_file() for name in names) and not without_files(spec.files, names)


def run_probe(name: str, *arguments: str, python: str = sys.executable, limit: float = LIMIT) -> Probe:
    """Run a probe for at most `limit` seconds and return what it finds."""
    code = START.format(root=str(ROOT), arguments=", ".join(map(repr, (name, *arguments))))
    return read_probe(name, run_bounded([python, "-c", code], limit), limit)


def run_bounded(command: Sequence[str], seconds: float) -> Ended:
    """Run a program for at most `seconds`. Raises OSError if it cannot be started."""
    # Files, not pipes: a process that a killed program leaves behind could hold a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill(process)
        return Ended(code, _read_all(out), _read_all(err))


def _read_all(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        try:
            process.wait(KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            # Left behind: the kernel ends it when the driver returns.
            process.returncode = -9


def read_probe(name: str, ended: Ended, limit: float) -> Probe:
    """Return a probe from what its process printed and how it ended."""
    step, error = "start", ""
    about: dict[str, Value] = {}
    devices: list[Device] = []
    for line in ended.out.splitlines():
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError:
            # The process ended in the middle of the line.
            continue
        step, error = event.step or step, event.error or error
        about |= event.about
        devices += [event.device] if event.device is not None else []
    outcome: Outcome = "ok"
    if ended.code is None:
        outcome, error = "timeout", f"not finished within {limit:.0f} seconds"
    elif error:
        outcome = "error"
    elif ended.code != 0 or step != "done":
        outcome, error = "crash", _describe_exit(ended.code)
    log = clean(ended.err)
    if len(log) > LONGEST:
        log = f"{log[: LONGEST // 2]}\n...\n{log[-LONGEST // 2 :]}"
    return Probe(name, outcome, step, clean(error), about, tuple(devices), log)


def clean(text: str) -> str:
    """Return text without colours and without secrets."""
    return redact(COLOURS.sub("", text))


def _describe_exit(code: int) -> str:
    """Name the signal that ended a process, or on Windows the number of the exception."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}" if code < 256 else f"exit code {code & 0xFFFFFFFF:#010x}"


def read_machine(cuda_visible: str | None = None) -> Machine:
    """Return the version of Python, and the NVIDIA GPUs as their driver names them."""
    gpus, driver, driver_error = _read_gpus()
    return Machine(
        sys.version_info[:3], sys.platform, platform.machine(), __version__, cards=gpus, driver=driver,
        driver_error=driver_error, cuda_visible=cuda_visible,
    )  # fmt: skip


def _read_gpus() -> tuple[tuple[str, ...], str, str]:
    """Return the names of the GPUs, the version of their driver, and what went wrong."""
    # The second path is where the Windows Subsystem for Linux has it.
    found = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if found is None:
        return (), "", ""
    query = [found, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        ended = run_bounded(query, DRIVER_LIMIT)
    except OSError as error:
        return (), "", str(error)
    if ended.code is None:
        return (), "", f"nvidia-smi did not finish within {DRIVER_LIMIT:.0f} seconds"
    if ended.code != 0:
        return (), "", clean(ended.out.strip() or ended.err.strip())[:200]
    rows = [line.rpartition(",") for line in ended.out.splitlines() if "," in line]
    return tuple(name.strip() for name, _, _ in rows), rows[0][2].strip() if rows else "", ""
