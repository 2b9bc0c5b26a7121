"""GPUs that are available but not used, and devices that do not compute."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdprep.doctor.check_packages import PARTS, is_unused
from sdprep.doctor.facts import Facts, Probe
from sdprep.doctor.packages import is_older, release
from sdprep.doctor.problems import ONE_SHELL, Code, Problem, environment_of, find_pip_libraries, install, tag_extra
from sdprep.installation import here

CUDA = "CUDAExecutionProvider"
OLD_DRIVER = ("driver on your system is too old", "CUDA driver version is insufficient", "CUDA_ERROR_SYSTEM_DRIVER")
NO_LIBRARY = re.compile(r"(lib\w+\.so[.\d]*): cannot open shared object file|Could not load dynamic library '([^']+)'")
# TensorRT, which sdprep does not use by itself, and the driver, which no package installs.
UNNEEDED = ("libnvinfer", "nvinfer", "libcuda.so", "nvcuda")
CUDNN = re.compile(r"Loaded runtime CuDNN library: ([\d.]+\d) but source was compiled with: ([\d.]+\d)")
# The libraries that TensorFlow 2.10 opens by name: CUDA 11 and cuDNN 8.
CUDA_11 = [f"nvidia-{name}-cu11" for name in ("cublas", "cuda-runtime", "cufft", "curand", "cusolver", "cusparse")]


def find_devices(facts: Facts) -> Iterator[Problem]:
    """Find devices that a framework lists but that do not compute; a job uses the first GPU, so that one blocks it."""
    for name, probe in facts.probes.items():
        for device in probe.devices:
            if device.ok or name not in PARTS or device.name.endswith("ExecutionProvider"):
                continue
            if _cudnn_error(probe) is not None:
                continue
            part = PARTS[name]
            message = f"{name} cannot compute on {device.name}: {device.detail.rstrip('.')}."
            advice = "Update the driver of the device. Until then, CUDA_VISIBLE_DEVICES=-1 keeps sdprep off the GPU."
            if "no kernel image" in device.detail:
                advice = f"This build of {name} has no code for this GPU: install another version of {name}."
            blocks = () if is_unused(device.name) else (part,)
            yield Problem(Code.DEVICE_FAILS, part, device.name, message, advice=advice, blocks=blocks)


def find_torch(facts: Facts) -> Iterator[Problem]:
    """Find a GPU that torch does not use."""
    probe, machine = facts.probes.get("torch"), facts.machine
    if probe is None or probe.outcome != "ok" or not machine.nvidia:
        return
    if any(device.name.startswith("cuda") for device in probe.devices):
        return
    if not probe.value("cuda") and not probe.value("hip"):
        message = f"There is an NVIDIA GPU, but torch {probe.value('version')} is built without CUDA."
        linux = machine.system == "linux"
        commands = (here().uninstall("torch"), install("caption")) if linux else ()
        advice = "" if linux else "Install torch with the command that pytorch.org shows for CUDA on this system."
        yield Problem(Code.GPU_UNUSED, "caption", "torch", message, commands, advice)
    else:
        yield _explain_unseen(facts, probe, "Reinstall torch for the CUDA version of the driver.")


def _explain_unseen(facts: Facts, probe: Probe, advice: str = "", commands: tuple[str, ...] = ()) -> Problem:
    """Return why a framework that could use a GPU sees none."""
    name, part, machine = probe.name, PARTS[probe.name], facts.machine
    if machine.is_gpu_hidden:
        message = f"CUDA_VISIBLE_DEVICES={machine.cuda_visible} hides the GPU from {name}."
        unset = "Remove-Item Env:CUDA_VISIBLE_DEVICES" if machine.system == "win32" else "unset CUDA_VISIBLE_DEVICES"
        return Problem(Code.GPU_HIDDEN, part, name, message, (unset,))
    if any(sign in probe.output for sign in OLD_DRIVER):
        message = f"NVIDIA's driver {machine.driver} is too old for {name} {facts.version(name)}."
        advice = f"Update the driver, or install an older {name}, built for an older CUDA."
        return Problem(Code.DRIVER_TOO_OLD, part, name, message, advice=advice)
    if _lacks_driver(probe):
        message = f"There is an NVIDIA GPU, but {name} does not find libcuda.so.1, which is part of its driver."
        advice = "Reinstall the driver; in a container, pass the GPU in (docker run --gpus all)."
        return Problem(Code.GPU_UNUSED, part, name, message, advice=advice)
    return Problem(Code.GPU_UNUSED, part, name, f"There is an NVIDIA GPU, but {name} sees none.", commands, advice)


def _lacks_driver(probe: Probe) -> bool:
    """Return whether only the library of the driver is missing."""
    signs = ("Could not find cuda drivers", "libcuda.so.1: cannot open")
    return not _missing_libraries(probe) and any(sign in probe.output for sign in signs)


def find_onnxruntime(facts: Facts) -> Iterator[Problem]:
    """Find packages of onnxruntime that conflict, and sessions that fall back to the CPU."""
    names, machine = facts.modules.get("onnxruntime", ()), facts.machine
    if len(names) > 1:
        message = f"{' and '.join(names)} are both installed and overwrite each other's files."
        commands = (here().uninstall(*names), install(_fitting_extra(names, facts)))
        yield Problem(Code.ONNXRUNTIME_TWICE, "tag", "onnxruntime", message, commands)
    probe = facts.probes.get("onnxruntime")
    if probe is None or probe.outcome != "ok":
        return
    if probe.value("session_error"):
        yield _explain_fallback(
            facts, probe, f"onnxruntime cannot open a session: {probe.value('session_error')}", ("tag",)
        )
    elif CUDA in probe.value("available").split():
        device = probe.device(CUDA)
        if machine.nvidia and device is not None and not device.ok:
            yield _explain_fallback(facts, probe, "onnxruntime was asked for the NVIDIA GPU and used the CPU", ())
    elif machine.nvidia and len(names) == 1 and "DmlExecutionProvider" not in probe.value("available"):
        what = "finds only the CPU" if "gpu" in names[0] else "is the CPU-only package"
        message = f"There is an NVIDIA GPU, but {names[0]} {what}."
        commands = (here().uninstall(names[0]), install(tag_extra(machine)))
        yield Problem(Code.GPU_UNUSED, "tag", "onnxruntime", message, commands)


def _fitting_extra(names: tuple[str, ...], facts: Facts) -> str:
    """Return the extra that replaces these packages."""
    if facts.machine.nvidia:
        return tag_extra(facts.machine)
    return "tag-directml" if "onnxruntime-directml" in names and facts.machine.system == "win32" else "tag"


def _explain_fallback(facts: Facts, probe: Probe, what: str, blocks: tuple[str, ...]) -> Problem:
    machine = facts.machine
    if machine.is_gpu_hidden or _lacks_driver(probe) or any(sign in probe.output for sign in OLD_DRIVER):
        return _explain_unseen(facts, probe)
    missing = _missing_libraries(probe)
    message = f"{what}{f': it did not find {missing[0]}' if missing else ''}."
    commands: tuple[str, ...]
    if machine.system == "win32":
        commands = (here().uninstall("onnxruntime-gpu"), install("tag-directml"))
        advice = "Or keep the package and install the CUDA and cuDNN that it needs."
    else:
        commands, advice = (here().install("onnxruntime-gpu[cuda,cudnn]"),), ""
    return Problem(Code.ONNXRUNTIME_ON_CPU, "tag", CUDA, message, commands, advice, blocks)


def _missing_libraries(probe: Probe) -> list[str]:
    """Return the libraries that were not found and that matter."""
    names = [first or second for first, second in NO_LIBRARY.findall(probe.output)]
    return [name for name in dict.fromkeys(names) if not name.startswith(UNNEEDED)]


def find_tensorflow(facts: Facts) -> Iterator[Problem]:
    """Find versions of TensorFlow that sdprep does not support, and GPUs that TensorFlow does not use."""
    version, machine = facts.version("tensorflow"), facts.machine
    if "tensorflow" in facts.modules and release(version)[:2] != (2, 10) and is_older(version, "2.16"):
        old = is_older(version, "2.10")
        message = f"TensorFlow {version} is not supported: sdprep is tested with 2.10, and with 2.16 and newer."
        yield Problem(
            Code.TENSORFLOW_VERSION, "tensorflow", "tensorflow", message, (install("tensorflow"),),
            blocks=("tensorflow",) if old else (),
        )  # fmt: skip
    probe = facts.probes.get("tensorflow")
    if probe is None or probe.outcome != "ok":
        return
    mismatch = _cudnn_error(probe)
    if mismatch is not None:
        commands, advice = _libraries_for(facts)
        message = f"TensorFlow {version} cannot use cuDNN{mismatch}."
        blocks = () if all(device.ok for device in probe.devices) else ("tensorflow",)
        yield Problem(Code.TENSORFLOW_CUDNN, "tensorflow", "tensorflow", message, commands, advice, blocks)
    elif machine.nvidia and not any(device.name.startswith("GPU") for device in probe.devices):
        yield _explain_tensorflow(facts, probe)


def _cudnn_error(probe: Probe) -> str | None:
    """Return what is wrong with cuDNN, if anything."""
    match = CUDNN.search(probe.output)
    if match:
        return f": {match[1]} is loaded, but it was built for {match[2]}"
    if "DNN library is not found" in probe.output or "DNN library initialization failed" in probe.output:
        loaded = probe.value("cudnn_loaded")
        return f": {f'{loaded} is loaded' if loaded else 'none is found'}, it was built for {probe.value('cudnn')}"
    return None


def _explain_tensorflow(facts: Facts, probe: Probe) -> Problem:
    version, machine = facts.version("tensorflow"), facts.machine
    missing = _missing_libraries(probe)
    if machine.system == "win32" and not is_older(version, "2.11"):
        message = f"TensorFlow {version} does not use GPUs on Windows; 2.10, for Python 3.10, was the last that did."
        commands = environment_of((3, 10), machine)
        advice = "Or tag with onnxruntime, which uses the GPU with this Python too."
        return Problem(Code.TENSORFLOW_PYTHON, "tensorflow", "tensorflow", message, commands, advice)
    if not probe.about.get("cuda_build"):
        names = facts.modules.get("tensorflow") or ("tensorflow",)
        message = f"There is an NVIDIA GPU, but TensorFlow {version} is built without CUDA."
        commands = (here().uninstall(*names), install("tensorflow"))
        return Problem(Code.GPU_UNUSED, "tensorflow", "tensorflow", message, commands)
    commands, advice = _libraries_for(facts)
    if missing and not machine.is_gpu_hidden:
        wanted = f"CUDA {probe.value('cuda')} and cuDNN {probe.value('cudnn')}"
        message = f"TensorFlow {version} uses the CPU: it was built for {wanted} and did not find {missing[0]}."
        return Problem(Code.TENSORFLOW_LIBRARY, "tensorflow", "tensorflow", message, commands, advice)
    return _explain_unseen(facts, probe, advice, commands)


def _libraries_for(facts: Facts) -> tuple[tuple[str, ...], str]:
    """Return the commands that install the CUDA libraries that a TensorFlow was built for."""
    version, machine = facts.version("tensorflow"), facts.machine
    if machine.system == "win32":
        conda = "conda install -c conda-forge cudatoolkit=11.2 cudnn=8.1.0"
        return (conda,), "Without conda, install CUDA 11.2 and cuDNN 8.1 from NVIDIA."
    if is_older(version, "2.14"):
        return (here().install(*CUDA_11, "nvidia-cudnn-cu11==8.*"), *find_pip_libraries(machine)), ONE_SHELL
    separate = "If torch in the same environment then lacks its cuDNN, install TensorFlow in a separate environment."
    return (here().install(f"tensorflow[and-cuda]=={version}"),), separate
