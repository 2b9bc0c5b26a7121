"""Problems of versions, of places, and of anything that breaks when it is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdprep.doctor.facts import CORE, JOBS, Facts, Probe
from sdprep.doctor.packages import RESIZER, RESIZER_MACHINES, Requirement, is_older, release, requirements
from sdprep.doctor.probes.probe_onnxruntime import USED
from sdprep.doctor.problems import ALL, Code, Problem, environment_of, extra_of, install
from sdprep.models.files.hub_errors import WAYS_OUT

# Bytes: the largest registered model takes less than the first, a small folder's text and catalog less than the second.
MODEL_ROOM, TEXT_ROOM = 4 * 10**9, 2 * 10**8
# A Hub that is there: with a list, for those who log in only, or busy.
HUB_ANSWERS = (200, 401, 403, 429)
# The newest Python that TensorFlow 2.21 has wheels for.
TENSORFLOW_PYTHON = (3, 13)
PARTS = {"torch": "caption", "transformers": "caption", "onnxruntime": "tag", "tensorflow": "tensorflow"}


def find_core(facts: Facts) -> Iterator[Problem]:
    """Core packages that are missing or too old."""
    for need in requirements(CORE, facts.machine.python):
        version = facts.packages.get(need.name)
        command = (f'pip install "{need}"',)
        if version is None and need.name == RESIZER:
            if facts.machine.arch in RESIZER_MACHINES:
                says = f"{RESIZER} is not installed, so Pillow resizes images, which takes it several times as long."
                yield Problem(Code.PACKAGE_MISSING, CORE, RESIZER, says, command)
        elif version is None:
            yield Problem(Code.PACKAGE_MISSING, CORE, need.name, f"{need.name} is not installed.", command, blocks=ALL)
        elif need.name == "pillow":
            yield from _find_pillow(facts, version, need)
        elif is_older(version, need.at_least):
            says = f"{need.name} {version} is older than {need.at_least}."
            yield Problem(Code.PACKAGE_TOO_OLD, CORE, need.name, says, command, blocks=ALL)
    probe = facts.probes.get("hub")
    if probe is not None and probe.outcome != "ok" and probe.step in ("start", "import"):
        says = f"huggingface_hub cannot be imported: {probe.error}."
        commands = ("pip uninstall -y huggingface_hub", "pip install --upgrade sdprep")
        yield Problem(Code.IMPORT_FAILS, CORE, "huggingface_hub", says, commands, blocks=ALL)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _find_pillow(facts: Facts, version: str, need: Requirement) -> Iterator[Problem]:
    if not is_older(version, "13"):
        return
    danger = f"Pillow {version} has a heap overflow in its JPEG decoder, which Pillow 13 has not."
    if facts.machine.python >= (3, 11):
        yield Problem(Code.PILLOW_TOO_OLD, CORE, "pillow", danger, (f'pip install "{need}"',), blocks=ALL)
        return
    old = is_older(version, need.at_least)
    commands = (f'pip install "{need}"',) if old else ()
    advice = "Pillow 13 needs Python 3.11. With this Python, read only images that you trust."
    yield Problem(Code.PILLOW_TOO_OLD, CORE, "pillow", danger, commands, advice, blocks=ALL if old else ())


def is_aside(step: str) -> bool:
    """Whether a device is none that a job takes by itself: a second card, a provider that sdprep does not use."""
    return re.search(r":[1-9]", step) is not None or (step.endswith("ExecutionProvider") and step not in USED)


def find_missing(facts: Facts, asked: tuple[str, ...]) -> Iterator[Problem]:
    """What the jobs that are asked for lack."""
    for job in asked:
        for need in requirements(job, facts.machine.python):
            if need.name in facts.modules:
                continue
            says, code = f"{need.name} is not installed.", Code.PACKAGE_MISSING
            commands: tuple[str, ...] = (install(extra_of(job, facts.machine)),)
            if job == "tensorflow" and facts.machine.python[:2] > TENSORFLOW_PYTHON:
                says = f"{says} sdprep knows of none for a Python newer than {_dotted(TENSORFLOW_PYTHON)}."
                code, commands = Code.TENSORFLOW_PYTHON, environment_of(TENSORFLOW_PYTHON, facts.machine)
            yield Problem(code, job, need.name, says, commands, blocks=(job,))


def find_old(facts: Facts) -> Iterator[Problem]:
    """Frameworks that are older than sdprep needs."""
    for job in ("caption", "tag"):
        for need in requirements(job, facts.machine.python):
            version = facts.version(need.name)
            if need.name in facts.modules and is_older(version, need.at_least):
                names = facts.modules[need.name] or (need.name,)
                commands = tuple(f'pip install "{name}>={need.at_least}"' for name in names)
                says = f"{need.name} {version} is older than {need.at_least}."
                yield Problem(Code.PACKAGE_TOO_OLD, job, need.name, says, commands, blocks=(job,))


def find_broken(facts: Facts) -> Iterator[Problem]:
    """Frameworks that cannot be imported, and probes that crashed or hung."""
    for name, probe in facts.probes.items():
        if name not in PARTS or probe.outcome == "ok" or any(True for _ in find_known(facts, name)):
            continue
        if name == "transformers" and "torch" in facts.probes and facts.probes["torch"].outcome != "ok":
            # It imports torch, whose failure is reported.
            continue
        part = PARTS[name]
        imports = probe.step.startswith(("start", "import"))
        blocks = () if is_aside(probe.step) else (part,)
        names = " ".join(facts.modules.get(name) or (name,))
        again = (f"pip uninstall -y {names}", install(extra_of(part, facts.machine)))
        avoid = "" if imports else "Until then, CUDA_VISIBLE_DEVICES=-1 keeps it off the card."
        if probe.outcome == "timeout":
            says = f"{name} hangs at '{probe.step}': {probe.error}."
            advice = (
                f"Look for another program that holds the device, restart the machine, or renew the driver. {avoid}"
            )
            yield Problem(Code.HANGS, part, name, says, (), advice.strip(), blocks)
        elif probe.outcome == "crash":
            says = f"{name} crashes at '{probe.step}': {probe.error}."
            advice = "" if imports else f"If it still crashes after that, renew the driver of the device. {avoid}"
            yield Problem(Code.CRASHES, part, name, says, again, advice, blocks)
        else:
            says = f"{name} fails at '{probe.step}': {probe.error.rstrip('.')}."
            yield Problem(Code.IMPORT_FAILS, part, name, says, again, blocks=blocks)


def find_known(facts: Facts, name: str) -> Iterator[Problem]:
    """Failures whose message tells the cause."""
    probe = facts.probes[name]
    if probe.outcome == "ok":
        return
    part, heard = PARTS[name], probe.heard
    older = is_older(facts.version(name), "2.18") if name == "tensorflow" else "compiled using NumPy 1" in heard
    if "Descriptors cannot be created directly" in heard:
        says = f"protobuf {facts.packages.get('protobuf', '')} is too new for {name} {facts.version(name)}."
        yield Problem(Code.PROTOBUF, part, name, says, ('pip install "protobuf<3.20"',), blocks=(part,))
    elif older and release(facts.packages.get("numpy", "0")) >= (2,):
        says = f"{name} {facts.version(name)} does not work with numpy {facts.packages['numpy']}, only with numpy 1."
        yield Problem(Code.NUMPY_2, part, name, says, ('pip install "numpy<2"',), blocks=(part,))
    elif facts.machine.system == "win32" and ("DLL load failed" in heard or "[WinError 126]" in heard):
        says = f"{name} cannot load its libraries: the Visual C++ runtime is missing or too old."
        command = "winget install Microsoft.VCRedist.2015+.x64"
        yield Problem(Code.VISUAL_CPP, part, name, says, (command,), blocks=(part,))
    elif _dies_of_its_instructions(probe):
        says = f"{name} uses instructions (AVX) that this processor does not have."
        advice = "No wheel of it runs here." + (" Tag with onnxruntime instead." if name == "tensorflow" else "")
        yield Problem(Code.NO_AVX, part, name, says, advice=advice, blocks=(part,))
    elif name == "onnxruntime" and "module 'onnxruntime' has no attribute" in heard:
        names = " ".join(facts.modules[name] or ("onnxruntime",))
        says = "Files of onnxruntime are missing, as after uninstalling one of two of its packages."
        commands = (f"pip uninstall -y {names}", install(extra_of("tag", facts.machine)))
        yield Problem(Code.ONNXRUNTIME_BROKEN, part, name, says, commands, blocks=(part,))


def _dies_of_its_instructions(probe: Probe) -> bool:
    # The number is Windows' for the same signal.
    return probe.outcome == "crash" and probe.error in ("SIGILL", "exit code 0xc000001d")


def find_all_known(facts: Facts) -> Iterator[Problem]:
    """Failures whose message tells the cause, of every framework."""
    for name in facts.probes:
        if name in PARTS:
            yield from find_known(facts, name)


def find_places(facts: Facts) -> Iterator[Problem]:
    """Problems of the Hub, its cache and the folder of images."""
    if "hub" in facts.probes:
        yield from _find_hub(facts.probes["hub"])
    if "folder" in facts.probes:
        yield from _find_folder(facts.probes["folder"])


def _find_hub(probe: Probe) -> Iterator[Problem]:
    cache, free, status = probe.value("cache"), probe.about.get("free"), probe.about.get("status")
    another = "Set HF_HOME to a folder on another disk."
    if probe.about.get("writable") is False:
        yield Problem(Code.CACHE_UNWRITABLE, "hub", "cache", f"{cache} cannot be written.", advice=another)
    if isinstance(free, int) and free < MODEL_ROOM:
        says = f"{cache} has {free / 10**9:.1f} GB left; a model needs up to {MODEL_ROOM / 10**9:.0f} GB."
        yield Problem(Code.LITTLE_ROOM, "hub", "cache", says, advice=another)
    if probe.step == "cache":
        says = f"{cache} cannot be read: {probe.error}."
        yield Problem(Code.CACHE_UNWRITABLE, "hub", "cache", says, advice=another)
    elif probe.step == "answer" or status not in (None, *HUB_ANSWERS):
        reason = f"does not answer as a Hub (HTTP {status})" if status else f"cannot be reached: {probe.error}"
        says = f"{probe.value('endpoint')} {reason}. Models that are here work without it."
        yield Problem(Code.HUB_UNREACHABLE, "hub", "answer", says, advice=f"{WAYS_OUT}.")


def _find_folder(probe: Probe) -> Iterator[Problem]:
    path, free = probe.value("path"), probe.about.get("free")
    if probe.about.get("writable") is not True:
        reason = probe.value("reason") or probe.error
        says = f"{path or 'the folder'} cannot be written: {reason}."
        commands = (f'chmod u+w "{path}"',) if probe.about.get("chmod_helps") else ()
        advice = "" if commands else "With --output-dir OUT, sdprep writes elsewhere and leaves the folder untouched."
        yield Problem(Code.FOLDER_UNWRITABLE, "folder", "DIR", says, commands, advice, JOBS)
    if isinstance(free, int) and free < TEXT_ROOM:
        says = f"{path} has {free / 10**6:.0f} MB left."
        yield Problem(
            Code.LITTLE_ROOM, "folder", "DIR", says, advice="Make room on this disk, or use --output-dir OUT."
        )
