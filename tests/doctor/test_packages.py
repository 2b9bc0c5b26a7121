"""Versions, and what sdprep needs of them."""

import re
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

from sdprep.doctor.packages import (
    ONNXRUNTIMES,
    RESIZER,
    RESIZER_MACHINES,
    is_older,
    read_packages,
    release,
    requirements,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def explicit(lines, python, machine="x86_64"):
    """What pyproject.toml asks for on a Python: the lowest version of each package."""
    found = {}
    for line in lines:
        need, _, marker = line.partition(";")
        environment = {"python_version": python, "sys_platform": "linux", "platform_machine": machine}
        if not marker or Marker(marker.strip()).evaluate(environment):
            name, version = re.match(r"([\w-]+)[<>=]+([\d.]+)", need.strip()).groups()
            found[name] = version.rstrip(".")
    return found


def told(part, python):
    return {need.name: need.at_least for need in requirements(part, python)}


@pytest.mark.parametrize("python", [(3, 10, 0), (3, 11, 0), (3, 13, 0)])
def test_the_core_needs_what_pyproject_says(python):
    assert told("core", python) == explicit(PROJECT["dependencies"], f"{python[0]}.{python[1]}")


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "arm64", "aarch64", "ARM64", "i686", "armv7l", "ppc64le"])
def test_the_fast_resizer_is_installed_where_the_doctor_misses_it(machine):
    assert (RESIZER in explicit(PROJECT["dependencies"], "3.11", machine)) is (machine in RESIZER_MACHINES)


@pytest.mark.parametrize("part", ["caption", "tag"])
def test_a_job_needs_what_its_extra_says(part):
    assert told(part, (3, 11, 0)) == explicit(EXTRAS[part], "3.11")


@pytest.mark.parametrize("python", [(3, 10, 0), (3, 11, 0)])
def test_tensorflow_is_the_one_of_its_extra(python):
    wanted = explicit(EXTRAS["tensorflow"], f"{python[0]}.{python[1]}")
    assert told("tensorflow", python)["tensorflow"] == wanted["tensorflow"]


def test_every_package_of_onnxruntime_has_an_extra():
    lines = [line for name in ("tag", "tag-gpu", "tag-directml") for line in EXTRAS[name]]
    assert {line.split(">=")[0] for line in lines} == set(ONNXRUNTIMES)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.13.0+cpu", (2, 13, 0)), ("3.0rc1", (3, 0)), ("2.10", (2, 10)), ("unknown", ()), ("", ())],
)
def test_the_numbers_of_a_version(version, numbers):
    assert release(version) == numbers


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("2.9.1", "2.10", True),
        ("2.10", "2.10.0", False),
        ("2.10.0", "2.10", False),
        ("", "1", False),
        ("13", "12.3", False),
    ],
)
def test_an_older_version(version, than, older):
    assert is_older(version, than) is older


def test_packages_of_this_machine_are_found():
    versions, modules = read_packages(sys.version_info[:3])
    assert ("click" in versions, "onnxruntime" in modules) == (True, True)


def test_both_packages_of_onnxruntime_are_found(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info").mkdir()
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info" / "METADATA").write_text("Name: onnxruntime-gpu\nVersion: 1.31.1\n")
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info" / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_packages(sys.version_info[:3])[1]["onnxruntime"] == ("onnxruntime", "onnxruntime-gpu")


def test_a_mere_folder_is_no_framework(tmp_path, monkeypatch):
    (tmp_path / "tensorflow").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert "tensorflow" not in read_packages(sys.version_info[:3])[1]
