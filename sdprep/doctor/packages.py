"""What sdprep needs of other packages, read from its own metadata, and which of them are installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from sdprep.doctor.facts import CORE, Machine
from sdprep.installation import installed_version

# Pillow replaces it where it is missing.
RESIZER = "cykooz-resizer"
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
MODULES = ("torch", "transformers", "safetensors", "onnxruntime", "tensorflow", "bitsandbytes")
# Some of their versions break other packages.
RELATED = ("keras", "protobuf")


def requirements(part: str, machine: Machine) -> list[Requirement]:
    """Return the packages that the core needs, or the frameworks that a job needs, on a machine.

    Any package of onnxruntime serves the job `tag`.
    """
    environment = {
        "python_version": f"{machine.python[0]}.{machine.python[1]}",
        "sys_platform": machine.system,
        "platform_machine": machine.arch,
    }

    def is_needed(need: Requirement, extra: str) -> bool:
        return need.marker is None or need.marker.evaluate({**environment, "extra": extra})

    needs = [Requirement(line) for line in metadata.requires("sdprep") or ()]
    if part == CORE:
        return [need for need in needs if is_needed(need, "")]
    return [need for need in needs if need.name in MODULES and is_needed(need, part) and not is_needed(need, "")]


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, (2, 13, 0) of 2.13.0+cpu; none if it is not a valid version."""
    try:
        return Version(version).release
    except InvalidVersion:
        return ()


def is_older(version: str, than: str) -> bool:
    """Return whether a version is certainly older; an invalid one is not."""
    return bool(release(version)) and Version(version) < Version(than)


def is_too_old(version: str, need: Requirement) -> bool:
    """Return whether a version is certainly older than a requirement allows."""
    return bool(release(version)) and not need.specifier.contains(version, prereleases=True)


def read_packages(machine: Machine) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """Return the versions of distributions, and the distributions that provide each framework; nothing is imported."""
    by_module = metadata.packages_distributions()
    modules = {name: tuple(sorted(set(by_module.get(name, ())))) for name in MODULES if _is_module(name, by_module)}
    names = [need.name for part in (CORE, "caption") for need in requirements(part, machine)]
    asked = {*names, *RELATED, *ONNXRUNTIMES, *(each for found in modules.values() for each in found)}
    found = {name: installed_version(name) for name in asked}
    return {name: version for name, version in found.items() if version is not None}, modules


def _is_module(name: str, by_module: Mapping[str, list[str]]) -> bool:
    """Return whether there is a module to import; a mere folder of that name counts if a distribution claims it."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return True
    return name in by_module or (spec is not None and spec.origin is not None)
