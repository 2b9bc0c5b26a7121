"""What can be wrong, and the commands that fix it."""

from __future__ import annotations

from enum import Enum

import msgspec

from sdprep.doctor.facts import CORE, JOBS, Machine
from sdprep.installation import Installation, here


class Code(str, Enum):
    """The closed list of problems, explained in docs/doctor.md."""

    PACKAGE_MISSING = "package-missing"
    PACKAGE_TOO_OLD = "package-too-old"
    PILLOW_TOO_OLD = "pillow-too-old"
    IMPORT_FAILS = "import-fails"
    CRASHES = "crashes"
    HANGS = "hangs"
    VISUAL_CPP = "visual-c++-missing"
    NO_AVX = "processor-without-avx"
    NUMPY_2 = "numpy-2"
    PROTOBUF = "protobuf-too-new"
    DEVICE_FAILS = "device-fails"
    DRIVER_TOO_OLD = "driver-too-old"
    GPU_HIDDEN = "card-hidden"
    GPU_UNUSED = "card-unused"
    ONNXRUNTIME_TWICE = "onnxruntime-twice"
    ONNXRUNTIME_BROKEN = "onnxruntime-broken"
    ONNXRUNTIME_ON_CPU = "onnxruntime-on-cpu"
    TENSORFLOW_VERSION = "tensorflow-version"
    TENSORFLOW_PYTHON = "tensorflow-python"
    TENSORFLOW_LIBRARY = "tensorflow-library"
    TENSORFLOW_CUDNN = "tensorflow-cudnn"
    MODEL_MISSING = "model-missing"
    HUB_UNREACHABLE = "hub-unreachable"
    CACHE_UNWRITABLE = "cache-unwritable"
    FOLDER_UNWRITABLE = "folder-unwritable"
    LITTLE_ROOM = "little-room"


class Problem(msgspec.Struct, frozen=True, rename={"message": "says"}):
    """One problem: its row of the table (`part`, `item`), what is wrong, and what fixes it.

    `commands` run one after the other; `advice` is what no command can do. `blocks` names the jobs that cannot run.
    """

    code: Code
    part: str
    item: str
    message: str
    commands: tuple[str, ...] = ()
    advice: str = ""
    blocks: tuple[str, ...] = ()


ALL = (CORE, *JOBS)


def install(extra: str) -> str:
    """Return the command that installs an extra, or what is missing of it."""
    return here().install_extra(extra)


def tag_extra(machine: Machine) -> str:
    """Return the extra for tags that makes the best use of a machine."""
    if machine.nvidia and machine.system != "darwin":
        return "tag-gpu"
    return "tag-directml" if machine.system == "win32" else "tag"


def extra_of(job: str, machine: Machine) -> str:
    """Return the extra that a job needs."""
    return tag_extra(machine) if job == "tag" else job


def environment_of(python: tuple[int, int], machine: Machine) -> tuple[str, ...]:
    """Return the commands that create an environment with another Python for TensorFlow."""
    number, place = f"{python[0]}.{python[1]}", here()
    maker, inside = f"python{number}", "tensorflow-env/bin/python"
    if machine.system == "win32":
        maker, inside = f"py -{number}", r"tensorflow-env\Scripts\python"
    there = Installation(python=inside, source=place.source, editable=place.editable)
    return (f"{maker} -m venv tensorflow-env", there.install_extra("tensorflow"))


def find_pip_libraries(machine: Machine) -> tuple[str, ...]:
    """Return the command that makes the CUDA libraries of NVIDIA's pip packages visible; only needed on Linux."""
    if machine.system != "linux":
        return ()
    code = 'import glob, nvidia; print(":".join(glob.glob(list(nvidia.__path__)[0] + "/*/lib")))'
    return (f"export LD_LIBRARY_PATH=\"$(python -c '{code}')${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"",)


ONE_SHELL = "The export is valid for this shell only: add it to your shell's startup file."
