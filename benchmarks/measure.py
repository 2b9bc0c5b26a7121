"""What measurements share: processes that take turns, medians with their spread, a line about the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sdprep", "pillow", "numpy", "onnxruntime", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a command took: seconds on the clock, processor seconds of all its processes, and what it printed."""

    clock: float
    cpu: float
    out: str


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Taken:
    """Run a command to its end. Raises RuntimeError with its last lines if it fails.

    Processor seconds are those of the command and of every process that it, or one of them, waited for.
    """
    # Where this is set, Python compiles every contestant anew at each start, which no user has it do.
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), cwd=cwd, env={**usual, **(env or {})}, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        clock = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    if process.returncode:
        last = "\n".join(texts[1].splitlines()[-15:])
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{last}")
    return Taken(clock, usage.ru_utime + usage.ru_stime, texts[0])


def run_family(command: Sequence[str | Path]) -> Taken:
    """Like `run`, but also of processes that nobody waits for, as those of Ray, looked at twenty times a second.

    Linux. What a process does after it was looked at for the last time is missing.
    """
    seconds: dict[tuple[int, str], float] = {}
    began = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        for pid in _family(process.pid):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # By its number and start: user and system time, without that of children.
                seconds[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {process.communicate()[1].decode()}")
    return Taken(time.perf_counter() - began, sum(seconds.values()), "")


def peak_memory(command: Sequence[str | Path]) -> float:
    """The most memory that a command and its descendants had together, in MB, looked at twenty times a second.

    Linux: resident pages, those that several processes share counted once for each. Raises RuntimeError if it fails.
    """
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_resident(pid) for pid in _family(process.pid)))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {process.communicate()[1].decode()}")
    return peak * os.sysconf("SC_PAGE_SIZE") / 1e6


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # it has just ended
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0


def in_own_process(module: str, step: str, folder: Path) -> dict[str, Any]:
    """The figures that `python -m MODULE --do STEP --folder FOLDER` prints as JSON in its last line."""
    command = [sys.executable, "-m", module, "--do", step, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def take_turns(contestants: Mapping[str, Callable[[], Taken]], repeats: int) -> dict[str, list[Taken]]:
    """What every contestant took, repeat by repeat, each round in the same order."""
    taken: dict[str, list[Taken]] = {name: [] for name in contestants}
    for number in range(repeats):
        for name, work in contestants.items():
            taken[name].append(work())
            last = taken[name][-1]
            print(f"round {number + 1}: {name}: {last.clock:.1f} s, {last.cpu:.1f} CPU s", file=sys.stderr)
    return taken


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """A median with the least and the greatest value."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(theirs: Sequence[Taken], ours: Sequence[Taken]) -> tuple[list[float], list[float]]:
    """How many times as long they took, round by round: on the clock, and of the processor."""
    pairs = list(zip(theirs, ours, strict=True))
    return [one.clock / other.clock for one, other in pairs], [one.cpu / other.cpu for one, other in pairs]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def machine() -> str:
    """One line about the processor, how busy it is, the versions at work, and the commit."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    model = names[0] if names else platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    busy = f"{os.getloadavg()[0]:.1f} processes at work before this"
    python = f"Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} processors, {busy}; {python}, {packages}; commit {commit()}"


def commit() -> str:
    """The commit of this checkout, and whether there is more."""
    git = _git("rev-parse", "--short", "HEAD").strip()
    return git + (" and changes" if _git("status", "--porcelain", "--untracked-files=no").strip() else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
