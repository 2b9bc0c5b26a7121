"""The values of `--device`: one device, or several that share a run."""

from __future__ import annotations

import re

from sdprep.errors import UsageError

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def parse_devices(text: str) -> tuple[str, ...]:
    """The devices in `cuda:0,1`, `cuda:0,cuda:1` or `cpu,cpu`. Raises UsageError for anything else.

    The CPU may be named several times, since its cores can be split; a GPU may not.
    """
    found: list[str] = []
    for part in (each.strip() for each in text.split(",")):
        is_number = part.isdecimal() and found and found[-1].startswith("cuda:")
        found.append(f"cuda:{part}" if is_number else part)
    if not all(map(DEVICE.fullmatch, found)) or ("auto" in found and len(found) > 1):
        known = "auto, cpu, cuda, cuda:N or mps, or a list of devices such as cuda:0,1"
        raise UsageError(f"--device takes {known}, not '{text}'")
    gpus = ["cuda:0" if device == "cuda" else device for device in found if device != "cpu"]
    if len(set(gpus)) < len(gpus):
        raise UsageError(f"--device {text} names a GPU twice; one worker per GPU is enough")
    return tuple(found)


def split_device(device: str) -> tuple[str, str]:
    """The kind and the number of one device: ("cuda", "1") for cuda:1, ("cuda", "") for cuda."""
    kind, _, number = device.partition(":")
    return kind, number


def check_devices(text: str, workers: int) -> None:
    """Raise UsageError unless `--device` is valid and `--workers` allows a process for each device."""
    if len(parse_devices(text)) > 1 and workers == 0:
        raise UsageError(
            f"--workers 0 runs the model in this process, and --device {text} needs a process for each device; "
            "leave out --workers 0"
        )
