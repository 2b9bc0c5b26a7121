"""Cards that are there but not used, and devices that do not compute."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdprep.doctor.check_packages import PARTS, is_aside
from sdprep.doctor.facts import Facts, Probe
from sdprep.doctor.packages import is_older, release
from sdprep.doctor.problems import ONE_SHELL, Code, Problem, environment_of, find_pip_libraries, install, tag_extra

CUDA = "CUDAExecutionProvider"
OLD_DRIVER = ("driver on your system is too old", "CUDA driver version is insufficient", "CUDA_ERROR_SYSTEM_DRIVER")
NO_LIBRARY = re.compile(r"(lib\w+\.so[.\d]*): cannot open shared object file|Could not load dynamic library '([^']+)'")
# TensorRT, which sdprep does not use, and the driver itself, which no package brings.
UNNEEDED = ("libnvinfer", "nvinfer", "libcuda.so", "nvcuda")
CUDNN = re.compile(r"Loaded runtime CuDNN library: ([\d.]+\d) but source was compiled with: ([\d.]+\d)")
# The libraries that TensorFlow 2.10 opens by name: CUDA 11 and cuDNN 8.
CUDA_11 = " ".join(
    f"nvidia-{name}-cu11" for name in ("cublas", "cuda-runtime", "cufft", "curand", "cusolver", "cusparse")
)


def find_devices(facts: Facts) -> Iterator[Problem]:
    """Devices that a framework lists but that do not compute; a job takes the first card, so that one ends it."""
    for name, probe in facts.probes.items():
        for device in probe.devices:
            if device.ok or name not in PARTS or device.name.endswith("ExecutionProvider"):
                continue
            if _finds_cudnn(probe) is not None:
                continue
            part = PARTS[name]
            says = f"{name} cannot compute on {device.name}: {device.detail.rstrip('.')}."
            advice = "Renew the driver of the device. Until then, CUDA_VISIBLE_DEVICES=-1 keeps sdprep off the card."
            if "no kernel image" in device.detail:
                advice = f"This build of {name} has no code for this card: take another version of {name}."
            blocks = () if is_aside(device.name) else (part,)
            yield Problem(Code.DEVICE_FAILS, part, device.name, says, advice=advice, blocks=blocks)


def find_torch(facts: Facts) -> Iterator[Problem]:
    """A card that torch does not use."""
    probe, machine = facts.probes.get("torch"), facts.machine
    if probe is None or probe.outcome != "ok" or not machine.nvidia:
        return
    if any(device.name.startswith("cuda") for device in probe.devices):
        return
    if not probe.value("cuda") and not probe.value("hip"):
        says = f"There is an NVIDIA card, but torch {probe.value('version')} is built without CUDA."
        linux = machine.system == "linux"
        commands = ("pip uninstall -y torch", install("caption")) if linux else ()
        advice = "" if linux else "Install torch with the command that pytorch.org names for CUDA on this system."
        yield Problem(Code.CARD_UNUSED, "caption", "torch", says, commands, advice)
    else:
        yield _unseen(facts, probe, "caption", "Reinstall torch for the CUDA version of the driver.", ())


def _unseen(facts: Facts, probe: Probe, part: str, advice: str, commands: tuple[str, ...]) -> Problem:
    """Why a framework that could use a card sees none."""
    name, machine = probe.name, facts.machine
    if machine.cards_hidden:
        says = f"CUDA_VISIBLE_DEVICES={machine.cuda_visible} hides the card from {name}."
        unset = "Remove-Item Env:CUDA_VISIBLE_DEVICES" if machine.system == "win32" else "unset CUDA_VISIBLE_DEVICES"
        return Problem(Code.CARD_HIDDEN, part, name, says, (unset,))
    if any(sign in probe.heard for sign in OLD_DRIVER):
        says = f"NVIDIA's driver {machine.driver} is too old for {name} {facts.version(name)}."
        advice = f"Renew the driver, or install an older {name}, built for an older CUDA."
        return Problem(Code.DRIVER_TOO_OLD, part, name, says, advice=advice)
    if _lacks_driver(probe):
        says = f"There is an NVIDIA card, but {name} does not find libcuda.so.1, which is a part of its driver."
        advice = "Install the driver anew; a container needs the card from outside (docker run --gpus all)."
        return Problem(Code.CARD_UNUSED, part, name, says, advice=advice)
    return Problem(Code.CARD_UNUSED, part, name, f"There is an NVIDIA card, but {name} sees none.", commands, advice)


def _lacks_driver(probe: Probe) -> bool:
    """Whether nothing is missing but the driver's own library."""
    signs = ("Could not find cuda drivers", "libcuda.so.1: cannot open")
    return not _lacking(probe) and any(sign in probe.heard for sign in signs)


def find_onnxruntime(facts: Facts) -> Iterator[Problem]:
    """Packages of onnxruntime that get in each other's way, and sessions that fall back to the processor."""
    names, machine = facts.modules.get("onnxruntime", ()), facts.machine
    if len(names) > 1:
        says = f"{' and '.join(names)} are installed over each other; what works is a matter of chance."
        commands = (f"pip uninstall -y {' '.join(names)}", install(_extra_of(names, facts)))
        yield Problem(Code.ONNXRUNTIME_TWICE, "tag", "onnxruntime", says, commands)
    probe = facts.probes.get("onnxruntime")
    if probe is None or probe.outcome != "ok":
        return
    if probe.value("session_error"):
        yield _refused(facts, probe, f"onnxruntime cannot open a session: {probe.value('session_error')}", ("tag",))
    elif CUDA in probe.value("available").split():
        device = probe.device(CUDA)
        if machine.nvidia and device is not None and not device.ok:
            yield _refused(facts, probe, "onnxruntime was asked for the NVIDIA card and took the processor", ())
    elif machine.nvidia and len(names) == 1 and "DmlExecutionProvider" not in probe.value("available"):
        what = "finds only the processor" if "gpu" in names[0] else "is the package for the processor only"
        says = f"There is an NVIDIA card, but {names[0]} {what}."
        commands = (f"pip uninstall -y {names[0]}", install(tag_extra(machine)))
        yield Problem(Code.CARD_UNUSED, "tag", "onnxruntime", says, commands)


def _extra_of(names: tuple[str, ...], facts: Facts) -> str:
    """The extra that a person with these packages is after."""
    if facts.machine.nvidia:
        return tag_extra(facts.machine)
    return "tag-directml" if "onnxruntime-directml" in names and facts.machine.system == "win32" else "tag"


def _refused(facts: Facts, probe: Probe, what: str, blocks: tuple[str, ...]) -> Problem:
    machine = facts.machine
    if machine.cards_hidden or _lacks_driver(probe) or any(sign in probe.heard for sign in OLD_DRIVER):
        return _unseen(facts, probe, "tag", "", ())
    lacking = _lacking(probe)
    says = f"{what}{f': it did not find {lacking[0]}' if lacking else ''}."
    commands: tuple[str, ...]
    if machine.system == "win32":
        commands = ("pip uninstall -y onnxruntime-gpu", install("tag-directml"))
        advice = "Or keep the package and install the CUDA and cuDNN that it asks for."
    else:
        commands, advice = ('pip install "onnxruntime-gpu[cuda,cudnn]"',), ""
    return Problem(Code.ONNXRUNTIME_REFUSED, "tag", CUDA, says, commands, advice, blocks)


def _lacking(probe: Probe) -> list[str]:
    """The libraries that were looked for in vain and that matter."""
    names = [first or second for first, second in NO_LIBRARY.findall(probe.heard)]
    return [name for name in dict.fromkeys(names) if not name.startswith(UNNEEDED)]


def find_tensorflow(facts: Facts) -> Iterator[Problem]:
    """Versions of TensorFlow that sdprep is not made for, and cards that it does not use."""
    version, machine = facts.version("tensorflow"), facts.machine
    if "tensorflow" in facts.modules and release(version)[:2] != (2, 10) and is_older(version, "2.16"):
        old = is_older(version, "2.10")
        says = f"TensorFlow {version} is not one that sdprep is tested with: 2.10, or 2.16 and newer."
        yield Problem(
            Code.TENSORFLOW_VERSION, "tensorflow", "tensorflow", says, (install("tensorflow"),),
            blocks=("tensorflow",) if old else (),
        )  # fmt: skip
    probe = facts.probes.get("tensorflow")
    if probe is None or probe.outcome != "ok":
        return
    mismatch = _finds_cudnn(probe)
    if mismatch is not None:
        commands, advice = _libraries_for(facts)
        says = f"TensorFlow {version} cannot use cuDNN{mismatch}."
        blocks = () if all(device.ok for device in probe.devices) else ("tensorflow",)
        yield Problem(Code.TENSORFLOW_CUDNN, "tensorflow", "tensorflow", says, commands, advice, blocks)
    elif machine.nvidia and not any(device.name.startswith("GPU") for device in probe.devices):
        yield _unused_by_tensorflow(facts, probe)


def _finds_cudnn(probe: Probe) -> str | None:
    """What is wrong with cuDNN, if anything."""
    match = CUDNN.search(probe.heard)
    if match:
        return f": {match[1]} is loaded, but it was built for {match[2]}"
    if "DNN library is not found" in probe.heard or "DNN library initialization failed" in probe.heard:
        loaded = probe.value("cudnn_loaded")
        return f": {f'{loaded} is loaded' if loaded else 'none is found'}, it was built for {probe.value('cudnn')}"
    return None


def _unused_by_tensorflow(facts: Facts, probe: Probe) -> Problem:
    version, machine = facts.version("tensorflow"), facts.machine
    lacking = _lacking(probe)
    if machine.system == "win32" and not is_older(version, "2.11"):
        says = f"TensorFlow {version} uses no card on Windows; 2.10, for Python 3.10, was the last that did."
        commands = environment_of((3, 10), machine)
        advice = "Or tag with onnxruntime, which uses the card with this Python too."
        return Problem(Code.TENSORFLOW_PYTHON, "tensorflow", "tensorflow", says, commands, advice)
    if not probe.about.get("cuda_build"):
        names = " ".join(facts.modules.get("tensorflow") or ("tensorflow",))
        says = f"There is an NVIDIA card, but TensorFlow {version} is built without CUDA."
        commands = (f"pip uninstall -y {names}", install("tensorflow"))
        return Problem(Code.CARD_UNUSED, "tensorflow", "tensorflow", says, commands)
    commands, advice = _libraries_for(facts)
    if lacking and not machine.cards_hidden:
        wanted = f"CUDA {probe.value('cuda')} and cuDNN {probe.value('cudnn')}"
        says = f"TensorFlow {version} takes the processor: it was built for {wanted} and did not find {lacking[0]}."
        return Problem(Code.TENSORFLOW_LIBRARY, "tensorflow", "tensorflow", says, commands, advice)
    return _unseen(facts, probe, "tensorflow", advice, commands)


def _libraries_for(facts: Facts) -> tuple[tuple[str, ...], str]:
    """The commands that install the CUDA libraries that a TensorFlow was built for."""
    version, machine = facts.version("tensorflow"), facts.machine
    if machine.system == "win32":
        conda = "conda install -c conda-forge cudatoolkit=11.2 cudnn=8.1.0"
        return (conda,), "Without conda, install CUDA 11.2 and cuDNN 8.1 from NVIDIA."
    if is_older(version, "2.14"):
        return (f'pip install {CUDA_11} "nvidia-cudnn-cu11==8.*"', *find_pip_libraries(machine)), ONE_SHELL
    apart = "If torch in the same environment then lacks its own cuDNN, give TensorFlow an environment of its own."
    return (f'pip install "tensorflow[and-cuda]=={version}"',), apart
