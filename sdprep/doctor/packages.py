"""What sdprep needs of other packages, and which of them are here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from sdprep.doctor.facts import CORE

Python = tuple[int, int, int]
# Pillow does its work where it is not, and PyPI has it for these machines only.
RESIZER, RESIZER_MACHINES = "cykooz-resizer", ("x86_64", "AMD64", "arm64")
# As in pyproject.toml; a test holds them against it.
CORE_PACKAGES = {
    "click": "8.1.7",
    RESIZER: "4.0",
    "filelock": "4.1",
    "huggingface_hub": "1.0",
    "msgspec": "0.19",
    "numpy": "1.23",
    "pillow": "13.0",
    "platformdirs": "4.0",
    "tqdm": "4.66",
}
CAPTION_PACKAGES = {"safetensors": "0.4.3", "torch": "2.6", "transformers": "5.0"}
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
MODULES = ("torch", "transformers", "safetensors", "onnxruntime", "tensorflow")
# They break others by their version.
ASIDE = ("keras", "protobuf")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package, of this version or a newer one."""

    name: str
    at_least: str

    def __str__(self) -> str:
        return f"{self.name}>={self.at_least}"


def requirements(part: str, python: Python) -> list[Requirement]:
    """What the core or a job needs on this Python; for tags any of the packages of onnxruntime serves."""
    if part == CORE:
        needed = dict(CORE_PACKAGES)
        if python < (3, 11):
            needed |= {"pillow": "12.3", "tomli": "2.0"}
    elif part == "caption":
        needed = CAPTION_PACKAGES
    elif part == "tag":
        needed = {"onnxruntime": "1.17"}
    else:
        needed = {"tensorflow": "2.10" if python < (3, 11) else "2.16"}
    return [Requirement(name, version) for name, version in needed.items()]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (2, 13, 0) of 2.13.0+cpu or 2.13.0rc1; nothing if there are none."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def is_older(version: str, than: str) -> bool:
    """Whether a version is certainly older; one that nobody knows is not."""
    found, wanted = release(version), release(than)
    width = max(len(found), len(wanted))
    return bool(found) and (found + (0,) * width)[:width] < (wanted + (0,) * width)[:width]


def read_packages(python: Python) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """The versions of distributions, and the distributions that provide each framework; nothing is imported."""
    by_module = metadata.packages_distributions()
    modules = {name: tuple(sorted(set(by_module.get(name, ())))) for name in MODULES if _is_there(name, by_module)}
    names = [need.name for part in (CORE, "caption") for need in requirements(part, python)]
    versions = {}
    for name in dict.fromkeys([*names, *ASIDE, *ONNXRUNTIMES, *(each for found in modules.values() for each in found)]):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions, modules


def _is_there(name: str, by_module: Mapping[str, list[str]]) -> bool:
    """Whether there is something to import; a mere folder of that name counts if a distribution claims it."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return True
    return name in by_module or (spec is not None and spec.origin is not None)
