"""Versions, and what sdprep needs of other packages."""

import sys
from importlib import metadata

import pytest

from sdprep.doctor import packages
from sdprep.doctor.packages import (
    ONNXRUNTIMES,
    RESIZER,
    is_older,
    is_too_old,
    read_packages,
    release,
    requirements,
)
from tests.doctor.patients import machine


def needed(part, **of_machine):
    return {need.name: str(need.specifier) for need in requirements(part, machine(**of_machine))}


@pytest.mark.parametrize(("python", "pillow"), [((3, 10, 0), ">=12.3"), ((3, 11, 0), ">=13.0"), ((3, 13, 0), ">=13.0")])
def test_the_core_needs_the_pillow_of_its_python(python, pillow):
    assert needed("core", python=python)["pillow"] == pillow


def test_the_core_needs_no_framework():
    assert not {"torch", "transformers", "onnxruntime", "tensorflow"} & needed("core").keys()


@pytest.mark.parametrize(
    ("arch", "available"),
    [("x86_64", True), ("AMD64", True), ("arm64", True), ("aarch64", False), ("ARM64", False), ("armv7l", False)],
)
def test_the_fast_resizer_is_needed_where_it_is_available(arch, available):
    assert (RESIZER in needed("core", arch=arch)) is available


@pytest.mark.parametrize(
    ("job", "modules"), [("caption", {"safetensors", "torch", "transformers"}), ("tag", {"onnxruntime"})]
)
def test_a_job_needs_the_frameworks_of_its_extra(job, modules):
    assert needed(job).keys() == modules


@pytest.mark.parametrize(("python", "version"), [((3, 10, 0), "==2.10.*"), ((3, 11, 0), ">=2.16")])
def test_tensorflow_fits_the_python(python, version):
    assert needed("tensorflow", python=python) == {"tensorflow": version}


@pytest.mark.parametrize(("extra", "package"), [*zip(("tag", "tag-gpu", "tag-directml"), ONNXRUNTIMES, strict=True)])
def test_each_package_of_onnxruntime_has_an_extra(extra, package):
    lines = metadata.requires("sdprep")
    assert any(line.startswith(f"{package}>=") and f"extra == '{extra}'" in line for line in lines)


@pytest.mark.parametrize(
    ("version", "too_old"), [("1.16.9", True), ("1.17", False), ("1.32.0", False), ("unknown", False)]
)
def test_a_version_is_compared_with_a_requirement(version, too_old):
    assert is_too_old(version, requirements("tag", machine())[0]) is too_old


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
    versions, modules = read_packages(machine())
    assert ("click" in versions, "onnxruntime" in modules) == (True, True)


def test_both_packages_of_onnxruntime_are_found(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info").mkdir()
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info" / "METADATA").write_text("Name: onnxruntime-gpu\nVersion: 1.31.1\n")
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info" / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_packages(machine())[1]["onnxruntime"] == ("onnxruntime", "onnxruntime-gpu")


def test_a_mere_folder_is_not_a_framework(tmp_path, monkeypatch):
    (tmp_path / "tensorflow").mkdir()
    monkeypatch.setattr(packages, "requirements", lambda *_: [])
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert "tensorflow" not in read_packages(machine())[1]
