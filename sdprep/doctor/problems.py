"""What can be wrong, and the commands that mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sdprep.doctor.facts import CORE, JOBS, Machine


class Code(str, Enum):
    """The kinds of problems; a closed list, explained in docs/doctor.md."""

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
    CARD_HIDDEN = "card-hidden"
    CARD_UNUSED = "card-unused"
    ONNXRUNTIME_TWICE = "onnxruntime-twice"
    ONNXRUNTIME_BROKEN = "onnxruntime-broken"
    ONNXRUNTIME_REFUSED = "onnxruntime-on-cpu"
    TENSORFLOW_VERSION = "tensorflow-version"
    TENSORFLOW_PYTHON = "tensorflow-python"
    TENSORFLOW_LIBRARY = "tensorflow-library"
    TENSORFLOW_CUDNN = "tensorflow-cudnn"
    HUB_UNREACHABLE = "hub-unreachable"
    CACHE_UNWRITABLE = "cache-unwritable"
    FOLDER_UNWRITABLE = "folder-unwritable"
    LITTLE_ROOM = "little-room"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: where in the table it stands, what it is, and what mends it.

    `commands` are run one after the other; `advice` is what no command can do. `blocks` names what cannot work.
    """

    code: Code
    part: str
    item: str
    says: str
    commands: tuple[str, ...] = ()
    advice: str = ""
    blocks: tuple[str, ...] = ()


ALL = (CORE, *JOBS)


def install(extra: str) -> str:
    """The command that installs an extra, or what it lacks."""
    return f'pip install "sdprep[{extra}]"'


def tag_extra(machine: Machine) -> str:
    """The extra for tags that uses most of a machine."""
    if machine.nvidia and machine.system != "darwin":
        return "tag-gpu"
    return "tag-directml" if machine.system == "win32" else "tag"


def extra_of(job: str, machine: Machine) -> str:
    """The extra that a job needs."""
    return tag_extra(machine) if job == "tag" else job


def environment_of(python: tuple[int, int], machine: Machine) -> tuple[str, ...]:
    """The commands that give TensorFlow an environment with another Python."""
    number = f"{python[0]}.{python[1]}"
    if machine.system == "win32":
        return (f"py -{number} -m venv tensorflow-env", f"tensorflow-env\\Scripts\\{install('tensorflow')}")
    return (f"python{number} -m venv tensorflow-env", f"tensorflow-env/bin/{install('tensorflow')}")


def find_pip_libraries(machine: Machine) -> tuple[str, ...]:
    """The command that shows programs the CUDA libraries of NVIDIA's own pip packages; on Linux only."""
    if machine.system != "linux":
        return ()
    code = 'import glob, nvidia; print(":".join(glob.glob(list(nvidia.__path__)[0] + "/*/lib")))'
    return (f"export LD_LIBRARY_PATH=\"$(python -c '{code}')${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"",)


ONE_SHELL = "The export lasts as long as the shell: put it into its start file."
