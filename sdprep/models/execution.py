"""Where and how a model runs, and how many CPUs this process may use: its affinity and its control group's quota."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sdprep.devices import split_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Where and how a model runs.

    `device` and `provider` are as `--device` and `--provider` have them, `dtype` is that of a captioner's weights,
    which `quantize` "4bit" makes smaller; `cuda_graphs` lets it record its steps on a CUDA device.
    `decode_threads` decode images in the model's process meanwhile; 0 means the model's own thread does.
    `num_processes` workers share the CPUs and the memory of this machine.
    A server gets up to `in_flight` requests at a time.
    """

    device: str = "auto"
    provider: str = "auto"
    dtype: str = "float32"
    quantize: str = "none"
    batch_size: int = 8
    cuda_graphs: bool = False
    decode_threads: int = 0
    num_processes: int = 1
    in_flight: int = 0

    @property
    def device_id(self) -> str:
        """The number of the GPU if `device` gives one, or an empty string."""
        return split_device(self.device)[1]


def usable_cpus(root: Path = Path("/")) -> int:
    """Processors for this process, at least 1; a part of one counts whole. `root` holds /proc and /sys."""
    limits = [math.ceil(quota) for quota in cpu_quotas(root) if quota < math.inf]
    return max(1, min([_permitted(), *limits]))


def thread_count(usable: int, present: int, num_processes: int = 1) -> int:
    """Threads for a model: one for each processor that may be used, or its part of them where others share them.

    0 leaves the number to onnxruntime, which knows how many cores are behind the processors; it does not know limits.
    """
    share = max(1, usable // num_processes)
    return share if share < present else 0


def cpu_quotas(root: Path) -> Iterator[float]:
    """The processors that each control group above this process grants, version 2 and version 1.

    A container often sees its own group as the root, so every ancestor is looked at; infinity means no limit.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            if not controllers:
                yield _quota((root / "sys/fs/cgroup" / folder / "cpu.max",))
            elif "cpu" in controllers.split(","):
                place = root / "sys/fs/cgroup/cpu" / folder
                yield _quota((place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us"))


def _quota(files: tuple[Path, ...]) -> float:
    """Microseconds of a quota by those of its period; "max" and -1 mean that there is none."""
    try:
        words = " ".join(file.read_text(encoding="utf-8") for file in files).split()
    except OSError:  # the group of an ancestor that this process does not see
        return math.inf
    return math.inf if words[0] in ("max", "-1") else int(words[0]) / int(words[1])


def _permitted() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
