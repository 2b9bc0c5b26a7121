"""Problems of versions, of folders and the Hub, and of packages that fail when they are imported."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.requirements import Requirement

from sdprep.doctor.facts import CORE, JOBS, Facts
from sdprep.doctor.packages import RESIZER, is_older, is_too_old, release, requirements
from sdprep.doctor.probes import USED
from sdprep.doctor.problems import ALL, Code, Problem, environment_of, extra_of, install
from sdprep.installation import here, upgrade
from sdprep.models.backends import QUANTIZE_EXTRA
from sdprep.models.base import Task
from sdprep.models.files.hub_errors import WAYS_OUT
from sdprep.models.registry.registry import RECOMMENDED

# Bytes: the largest registered model needs less than the first, sidecars and catalog of a small folder less than the
# second.
MODEL_SPACE, FOLDER_SPACE = 4 * 10**9, 2 * 10**8
# The answers of a Hub: with a list, only after a login, or busy.
HUB_ANSWERS = (200, 401, 403, 429)
# The newest Python that TensorFlow 2.21 has wheels for.
TENSORFLOW_PYTHON = (3, 13)
PARTS = {
    "torch": "caption",
    "transformers": "caption",
    "bitsandbytes": QUANTIZE_EXTRA,
    "onnxruntime": "tag",
    "tensorflow": "tensorflow",
}


def find_core(facts: Facts) -> Iterator[Problem]:
    """Find core packages that are missing or too old."""
    for need in requirements(CORE, facts.machine):
        version = facts.packages.get(need.name)
        command = (install_package(need),)
        if version is None and need.name == RESIZER:
            message = f"{RESIZER} is not installed, so Pillow resizes images, which takes several times as long."
            yield Problem(Code.PACKAGE_MISSING, CORE, RESIZER, message, command)
        elif version is None:
            yield Problem(Code.PACKAGE_MISSING, CORE, need.name, f"{need.name} is not installed.", command, blocks=ALL)
        elif need.name == "pillow":
            yield from _find_pillow(facts, version, need)
        elif is_too_old(version, need):
            message = f"{need.name} {version} is too old: sdprep needs {need.specifier}."
            yield Problem(Code.PACKAGE_TOO_OLD, CORE, need.name, message, command, blocks=ALL)
    probe = facts.probes.get("hub")
    if probe is not None and probe.outcome != "ok" and probe.step in ("start", "import"):
        message = f"huggingface_hub cannot be imported: {probe.error}."
        commands = (here().uninstall("huggingface_hub"), here().update())
        yield Problem(Code.IMPORT_FAILS, CORE, "huggingface-hub", message, commands, blocks=ALL)


def install_package(need: Requirement) -> str:
    """Return the command that installs a package, without the marker of its requirement."""
    return here().install(f"{need.name}{need.specifier}")


def _find_pillow(facts: Facts, version: str, need: Requirement) -> Iterator[Problem]:
    if not is_older(version, "13"):
        return
    danger = f"Pillow {version} has a heap overflow in its JPEG decoder, which Pillow 13 fixes."
    if facts.machine.python >= (3, 11):
        yield Problem(Code.PILLOW_TOO_OLD, CORE, "pillow", danger, (install_package(need),), blocks=ALL)
        return
    old = is_too_old(version, need)
    commands = (install_package(need),) if old else ()
    advice = "Pillow 13 needs Python 3.11. With this Python, read only images that you trust."
    yield Problem(Code.PILLOW_TOO_OLD, CORE, "pillow", danger, commands, advice, blocks=ALL if old else ())


def is_unused(step: str) -> bool:
    """Return whether no job uses a device by default: a second GPU, or a provider that sdprep does not use."""
    return re.search(r":[1-9]", step) is not None or (step.endswith("ExecutionProvider") and step not in USED)


def find_missing(facts: Facts, asked: tuple[str, ...]) -> Iterator[Problem]:
    """Find the packages that the requested jobs lack."""
    for job in asked:
        for need in requirements(job, facts.machine):
            if need.name in facts.modules:
                continue
            message, code = f"{need.name} is not installed.", Code.PACKAGE_MISSING
            commands: tuple[str, ...] = (install(extra_of(job, facts.machine)),)
            if job == "tensorflow" and facts.machine.python[:2] > TENSORFLOW_PYTHON:
                newest = ".".join(map(str, TENSORFLOW_PYTHON))
                message = f"{message} There is none for a Python newer than {newest}."
                code, commands = Code.TENSORFLOW_PYTHON, environment_of(TENSORFLOW_PYTHON, facts.machine)
            yield Problem(code, job, need.name, message, commands, blocks=(job,))


def find_old(facts: Facts) -> Iterator[Problem]:
    """Find frameworks that are older than sdprep needs."""
    for job in ("caption", "tag"):
        for need in requirements(job, facts.machine):
            version = facts.version(need.name)
            if need.name in facts.modules and is_too_old(version, need):
                names = facts.modules[need.name] or (need.name,)
                message = f"{need.name} {version} is too old: sdprep needs {need.specifier}."
                wanted = [f"{name}{need.specifier}" for name in names]
                commands, advice = upgrade(wanted, extra_of(job, facts.machine))
                yield Problem(Code.PACKAGE_TOO_OLD, job, need.name, message, commands, advice, blocks=(job,))


def find_failures(facts: Facts) -> Iterator[Problem]:
    """Find frameworks that cannot be imported, crash or hang: first those whose message shows the cause."""
    failed = {name: probe for name, probe in facts.probes.items() if name in PARTS and probe.outcome != "ok"}
    known = {name: problem for name in failed if (problem := _find_cause(facts, name)) is not None}
    yield from known.values()
    for name, probe in failed.items():
        if name in known:
            continue
        if name in ("transformers", "bitsandbytes") and "torch" in failed:
            # They import torch, whose failure is reported already.
            continue
        part = PARTS[name]
        imports = probe.step.startswith(("start", "import"))
        blocks = () if is_unused(probe.step) else (part,)
        names = facts.modules.get(name) or (name,)
        again = (here().uninstall(*names), install(extra_of(part, facts.machine)))
        avoid = "" if imports else "Until then, CUDA_VISIBLE_DEVICES=-1 keeps it off the GPU."
        if probe.outcome == "timeout":
            message = f"{name} hangs at '{probe.step}': {probe.error}."
            advice = f"Close other programs that use the device, restart the machine, or update the driver. {avoid}"
            yield Problem(Code.HANGS, part, name, message, (), advice.strip(), blocks)
        elif probe.outcome == "crash":
            message = f"{name} crashes at '{probe.step}': {probe.error}."
            advice = "" if imports else f"If it still crashes after that, update the driver of the device. {avoid}"
            yield Problem(Code.CRASHES, part, name, message, again, advice, blocks)
        else:
            message = f"{name} fails at '{probe.step}': {probe.error.rstrip('.')}."
            yield Problem(Code.IMPORT_FAILS, part, name, message, again, blocks=blocks)


def _find_cause(facts: Facts, name: str) -> Problem | None:
    """Return the problem of a framework whose message shows the cause of its failure."""
    probe, part = facts.probes[name], PARTS[name]
    output = probe.output
    older = is_older(facts.version(name), "2.18") if name == "tensorflow" else "compiled using NumPy 1" in output
    if "Descriptors cannot be created directly" in output:
        message = f"protobuf {facts.packages.get('protobuf', '')} is too new for {name} {facts.version(name)}."
        return Problem(Code.PROTOBUF, part, name, message, (here().install("protobuf<3.20"),), blocks=(part,))
    if older and release(facts.packages.get("numpy", "0")) >= (2,):
        message = f"{name} {facts.version(name)} does not work with numpy {facts.packages['numpy']}, only with numpy 1."
        return Problem(Code.NUMPY_2, part, name, message, (here().install("numpy<2"),), blocks=(part,))
    if facts.machine.system == "win32" and ("DLL load failed" in output or "[WinError 126]" in output):
        message = f"{name} cannot load its libraries: the Visual C++ runtime is missing or too old."
        command = "winget install Microsoft.VCRedist.2015+.x64"
        return Problem(Code.VISUAL_CPP, part, name, message, (command,), blocks=(part,))
    # The signal for an unknown instruction, or the number that Windows has for it.
    if probe.outcome == "crash" and probe.error in ("SIGILL", "exit code 0xc000001d"):
        message = f"{name} uses instructions (AVX) that this CPU does not have."
        advice = "None of its wheels runs here." + (" Tag with onnxruntime instead." if name == "tensorflow" else "")
        return Problem(Code.NO_AVX, part, name, message, advice=advice, blocks=(part,))
    if name == "onnxruntime" and "module 'onnxruntime' has no attribute" in output:
        names = facts.modules[name] or ("onnxruntime",)
        message = "Files of onnxruntime are missing, probably because one of two of its packages was uninstalled."
        commands = (here().uninstall(*names), install(extra_of("tag", facts.machine)))
        return Problem(Code.ONNXRUNTIME_BROKEN, part, name, message, commands, blocks=(part,))
    return None


def find_models(facts: Facts) -> Iterator[Problem]:
    """Find the jobs that have no model on this machine, where none can be downloaded either."""
    if (reason := _why_no_download(facts)) is None:
        return
    for job, what in (("caption", "captioner"), ("tag", "tagger"), ("tensorflow", "tagger for TensorFlow")):
        is_installed = all(need.name in facts.modules for need in requirements(job, facts.machine))
        if is_installed and job not in facts.models:
            message = f"no {what} is on this machine, and none can be downloaded: {reason}."
            advice = f"When the Hub can be reached: sdprep models download {RECOMMENDED[_task_of(job)]}. {WAYS_OUT}."
            yield Problem(Code.MODEL_MISSING, job, "model", message, advice=advice, blocks=(job,))


def _task_of(job: str) -> Task:
    return "caption" if job == "caption" else "tag"


def _why_no_download(facts: Facts) -> str | None:
    """Why no model can be downloaded, or None if nothing is known against it."""
    if (probe := facts.probes.get("hub")) is None:
        return None
    if probe.about.get("offline"):
        return "HF_HUB_OFFLINE is set"
    status = probe.about.get("status")
    if probe.step == "answer" or status not in (None, *HUB_ANSWERS):
        return f"{probe.value('endpoint')} cannot be reached"
    return None


def find_hub(facts: Facts) -> Iterator[Problem]:
    """Find problems of the Hub and its cache."""
    if (probe := facts.probes.get("hub")) is None:
        return
    cache, free, status = probe.value("cache"), probe.about.get("free"), probe.about.get("status")
    elsewhere = "Set HF_HOME to a folder on another disk."
    if probe.about.get("writable") is False:
        yield Problem(Code.CACHE_UNWRITABLE, "hub", "cache", f"{cache} is not writable.", advice=elsewhere)
    if isinstance(free, int) and free < MODEL_SPACE:
        message = f"{cache} has {free / 10**9:.1f} GB free; a model needs up to {MODEL_SPACE / 10**9:.0f} GB."
        yield Problem(Code.LITTLE_ROOM, "hub", "cache", message, advice=elsewhere)
    if probe.step == "cache":
        message = f"{cache} cannot be read: {probe.error}."
        yield Problem(Code.CACHE_UNWRITABLE, "hub", "cache", message, advice=elsewhere)
    elif probe.step == "answer" or status not in (None, *HUB_ANSWERS):
        reason = f"does not answer as a Hub (HTTP {status})" if status else f"cannot be reached: {probe.error}"
        message = f"{probe.value('endpoint')} {reason}. Models that are already downloaded work without it."
        yield Problem(Code.HUB_UNREACHABLE, "hub", "answer", message, advice=f"{WAYS_OUT}.")


def find_folder(facts: Facts) -> Iterator[Problem]:
    """Find problems of the dataset folder."""
    if (probe := facts.probes.get("folder")) is None:
        return
    path, free = probe.value("path"), probe.about.get("free")
    if probe.about.get("writable") is not True:
        reason = probe.value("reason") or probe.error
        message = f"{path or 'the folder'} is not writable: {reason}."
        commands = (f'chmod u+w "{path}"',) if probe.about.get("chmod_helps") else ()
        advice = "" if commands else "With --output-dir OUT, sdprep leaves this folder unchanged."
        yield Problem(Code.FOLDER_UNWRITABLE, "folder", "DIR", message, commands, advice, JOBS)
    if isinstance(free, int) and free < FOLDER_SPACE:
        message = f"{path} has {free / 10**6:.0f} MB free."
        advice = "Free disk space, or use --output-dir OUT."
        yield Problem(Code.LITTLE_ROOM, "folder", "DIR", message, advice=advice)
