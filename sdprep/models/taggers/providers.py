"""What `--provider` and `--device` mean to a tagger: names, order, options, and the check of what a session got."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdprep.devices import split_device
from sdprep.errors import MissingProvider, ModelError, UsageError
from sdprep.models.backends import BACKENDS

AUTO = "auto"
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider: its name in onnxruntime, the packages for pip, and the system it needs."""

    full: str
    packages: str
    system: str = "any system"


PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", '"sdprep[tag]"'),
    "cuda": Provider("CUDAExecutionProvider", '"sdprep[tag-gpu]"'),
    "tensorrt": Provider("TensorrtExecutionProvider", '"sdprep[tag-gpu]" tensorrt'),
    "rocm": Provider("ROCMExecutionProvider", "onnxruntime-rocm", "Linux"),
    "migraphx": Provider("MIGraphXExecutionProvider", "onnxruntime-migraphx", "Linux"),
    "directml": Provider("DmlExecutionProvider", '"sdprep[tag-directml]"', "Windows"),
    "coreml": Provider("CoreMLExecutionProvider", '"sdprep[tag]"', "macOS"),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
}
# Without TensorRT, which builds engines for minutes, and OpenVINO, whose results are wrong on some GPUs.
AUTO_ORDER = ("cuda", "rocm", "migraphx", "directml", "coreml", CPU)
# Providers that tune or compile for each new shape, so the shape must stay the same.
FIXED_SHAPES = frozenset(PROVIDERS) - {CPU, "openvino"}
# Providers with a `device_id`, for the NVIDIA and AMD GPUs that torch calls cuda.
NUMBERED = ("cuda", "tensorrt", "rocm", "migraphx")


def parse(text: str) -> tuple[str, ...]:
    """The names in `auto` or `tensorrt,cuda,cpu`, each once. Raises UsageError for an unknown name."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    unknown = [name for name in names if name not in PROVIDERS]
    if names != (AUTO,) and unknown:
        known = ", ".join((AUTO, *PROVIDERS))
        raise UsageError(f"--provider takes {known}, or several of them separated by commas without auto, not '{text}'")
    return names


def check(text: str, backend: str, devices: Sequence[str] = (AUTO,)) -> None:
    """Raise UsageError if `--provider` is unknown, does not suit the backend, or contradicts `--device`."""
    names = parse(text)
    row = BACKENDS[backend]
    if row.providers:
        if len(names) > 1 or names[0] not in row.providers:
            raise UsageError(f"--provider {text} is for ONNX; {row.title} takes {_either(row.providers)}")
        if tuple(devices) != (AUTO,):
            others = _either([each for each in row.providers if each != AUTO])
            raise UsageError(f"--device is for ONNX; {row.title} takes --provider {others}")
    for device in devices:
        on_device(text, device)


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def on_device(text: str, device: str) -> tuple[str, ...]:
    """The names in `--provider` for a device. Raises UsageError if one of them cannot run on it."""
    names = parse(text)
    if device == AUTO:
        return names
    if device == CPU and names in ((AUTO,), (CPU,)):
        return (CPU,)
    if split_device(device)[0] == "cuda" and (names == (AUTO,) or (names[0] != CPU and {*names} <= {*NUMBERED, CPU})):
        return names
    raise UsageError(
        f"--device {device} does not go with --provider {text}: cuda:N is a GPU for {', '.join(NUMBERED)}, and cpu is "
        "for the provider cpu"
    )


def candidates(text: str, available: Collection[str], device: str = AUTO) -> tuple[str, ...]:
    """The providers to ask for, best first; `available` are those of the installed onnxruntime, by its names.

    Raises MissingProvider if a named one is not available, or none is for a GPU.
    """
    names = on_device(text, device)
    if names == (AUTO,) and device == AUTO:
        return tuple(name for name in AUTO_ORDER if name == CPU or PROVIDERS[name].full in available)
    if names == (AUTO,):
        # If a GPU is named, the CPU is no substitute.
        found = (name for name in AUTO_ORDER if name in NUMBERED and PROVIDERS[name].full in available)
        names = tuple(found) or ("cuda",)
    for name in names:
        if PROVIDERS[name].full not in available:
            has = [each for each, provider in PROVIDERS.items() if provider.full in available]
            raise MissingProvider(name, has, PROVIDERS[name].packages, PROVIDERS[name].system)
    return names


def options(name: str, cache: Path, device_id: str = "") -> dict[str, str]:
    """The options of a provider; `cache` is a folder for what it compiles.

    By default the CUDA arena doubles whenever it grows, and cuDNN tries every algorithm for every shape.
    """
    chosen = {"device_id": device_id} if device_id and name in NUMBERED else {}
    if name == "cuda":
        return {**chosen, "arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    if name == "rocm":
        return {**chosen, "arena_extend_strategy": "kSameAsRequested"}
    if name == "tensorrt":
        return {
            **chosen,
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache / "tensorrt"),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache / "tensorrt"),
        }
    return chosen


def openvino_options(devices: Sequence[str]) -> dict[str, str]:
    """The options of OpenVINO: a GPU if it finds one, in float32.

    With device AUTO it lists itself and leaves all of the work to onnxruntime's CPU provider (seen with 1.24).
    """
    has_gpu = any(device.startswith("GPU") for device in devices)
    return {"device_type": "GPU" if has_gpu else "CPU", "precision": "FP32"}


def check_active(asked: Sequence[str], got: Sequence[str], reasons: Sequence[str] = ()) -> tuple[str, str | None]:
    """The provider of a session, and a note if it is not the first one asked for.

    `got` are onnxruntime's names. Raises ModelError if the provider is not one of those asked for.
    """
    short = {provider.full: name for name, provider in PROVIDERS.items()}
    first = short.get(got[0], got[0])
    if first == asked[0]:
        return first, None
    said = "".join(f": {reason}" for reason in reasons[:1])
    fault = f"--provider asked for {asked[0]}, but onnxruntime runs on {first}{said}\nAsk `sdprep doctor` why"
    if first not in asked:
        raise ModelError(f"{fault}; --provider {','.join(asked)},{first} accepts it")
    return first, f"WARNING: {fault}; --provider {first} takes it without this warning"


def precision_warning(precision: str, provider: str) -> str | None:
    """A warning if weights of a precision ("float32", "fp16", "int8") do not suit a provider."""
    if precision == "fp16" and provider == CPU:
        return "fp16 is for GPUs: the CPU runs it no faster than the original model"
    if precision == "int8" and provider not in (CPU, "openvino"):
        return f"int8 is for the CPU: {provider} runs it no faster than the original model"
    return None
