"""Running a graph in ONNX Runtime, and quantizing one; the only file that imports onnxruntime."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from sdprep.errors import ModelError
from sdprep.installation import installed_version, upgrade
from sdprep.models.backends import importing
from sdprep.models.execution import Execution, thread_count, usable_cpus
from sdprep.models.taggers.graph import chosen_output, failed_run
from sdprep.models.taggers.providers import (
    CPU,
    PROVIDERS,
    candidates,
    check_active,
    openvino_options,
    options,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from onnxruntime import InferenceSession

    from sdprep.types import Scores

ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
# The main library of TensorRT in the versions that onnxruntime 1.17 and later were made for.
TENSORRT = [f"nvinfer_{n}.dll" if sys.platform == "win32" else f"libnvinfer.so.{n}" for n in (10, 8)]


class OnnxSession:
    """A graph with one input and one output, chosen by name or index; `provider` runs it, `notes` are for the user.

    Raises MissingExtra without onnxruntime, MissingProvider for a provider that it lacks, ModelError if onnxruntime
    cannot be loaded, or if the graph cannot be run, runs on a provider that was not asked for, or has other inputs.
    """

    def __init__(self, path: Path, execution: Execution, output: str | int = 0) -> None:
        onnxruntime = _import()
        asked = candidates(execution.provider, _available(onnxruntime), execution.device)
        self._session, reasons = _open(onnxruntime, path, asked, execution)
        self._path, self._run_options = path, onnxruntime.RunOptions()
        # By default it also prints what it raises.
        self._run_options.log_severity_level = 4
        self.provider, note = check_active(asked, self._session.get_providers(), reasons)
        self.notes = () if note is None else (note,)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [node.type for node in inputs] != ["tensor(float)"]:
            raise ModelError(f"{path} takes {', '.join(node.type for node in inputs)}, not one tensor of float32")
        made = outputs[chosen_output([node.name for node in outputs], output, path)]
        self.input_name, self.input_shape = inputs[0].name, inputs[0].shape
        self.output_name, self.output_shape = made.name, made.shape

    def run(self, values: npt.NDArray[np.float32]) -> Scores:
        """The output for a batch. Raises ModelError if the graph fails or memory runs out."""
        try:
            scores: Scores = self._session.run([self.output_name], {self.input_name: values}, self._run_options)[0]
        except Exception as error:  # onnxruntime raises a dozen classes of its own
            raise failed_run(self._path, "onnxruntime", error, self.input_shape[0], len(values)) from error
        return scores


def _import() -> Any:
    with importing("onnxruntime", "tag"):
        import onnxruntime
    return onnxruntime


def _available(onnxruntime: Any) -> list[str]:
    """The providers of the installed onnxruntime; it lists TensorRT even where that is not installed."""
    names: list[str] = onnxruntime.get_available_providers()
    if PROVIDERS["cuda"].full in names and hasattr(onnxruntime, "preload_dlls"):
        # The system does not search the folder where pip installs CUDA.
        onnxruntime.preload_dlls()
    if PROVIDERS["tensorrt"].full in names and not can_load(TENSORRT):
        names.remove(PROVIDERS["tensorrt"].full)
    return names


def can_load(libraries: Sequence[str]) -> bool:
    """Whether the system can load at least one of these libraries."""
    for name in libraries:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _open(
    onnxruntime: Any, path: Path, asked: Sequence[str], execution: Execution
) -> tuple[InferenceSession, list[str]]:
    """A session of the first provider that works, and the errors of those before it."""
    reasons: list[str] = []
    for start in range(len(asked)):
        names = asked[start:] if CPU in asked[start:] else (*asked[start:], CPU)
        providers = [(PROVIDERS[name].full, _options(name, execution.device_id)) for name in names]
        try:
            # Its own fallback prints to stdout and skips providers.
            return onnxruntime.InferenceSession(
                str(path), _session_options(onnxruntime, names[0], execution), providers, enable_fallback=0
            ), reasons
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen classes of its own
            reasons.append(str(error))
    if (reason := _too_new(onnxruntime, reasons[-1])) is not None:
        raise ModelError(f"{path} {reason}")
    what = f"{path} is not a model that onnxruntime {onnxruntime.__version__} can run on {asked[-1]}"
    raise ModelError(f"{what}: {reasons[-1]}")


def _too_new(onnxruntime: Any, error: str) -> str | None:
    """What to say if the format of a graph is newer than onnxruntime, which refuses it before it reads any weight."""
    opset = re.search(r"Opset (\d+) is under development.*till opset (\d+)", error, re.DOTALL)
    ir = re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", error)
    if (found := opset or ir) is None:
        return None
    kind = "opset" if opset else "IR version"
    installed = next((name for name in ONNXRUNTIMES if installed_version(name)), ONNXRUNTIMES[0])
    commands, advice = upgrade([f"{installed}>{onnxruntime.__version__}"], "tag")
    return (
        f"has {kind} {found[1]}, but onnxruntime {onnxruntime.__version__} reads it up to {found[2]}\n"
        f"Export the model again with {kind} {found[2]}, or use a newer onnxruntime. "
        f"{f'{advice} ' if advice else ''}Run: {' && '.join(commands)}"
    )


def _options(name: str, device_id: str) -> dict[str, str]:
    if name == "openvino":
        from onnxruntime.capi import _pybind_state

        return openvino_options(_pybind_state.get_available_openvino_device_ids())
    # Processes that compile for different GPUs must not overwrite each other's files.
    cache = user_cache_path("sdprep") / f"card-{device_id}" if device_id else user_cache_path("sdprep")
    if name == "tensorrt":
        (cache / name).mkdir(parents=True, exist_ok=True)
    return options(name, cache, device_id)


def _session_options(onnxruntime: Any, first: str, execution: Execution) -> Any:
    """Run one operator at a time, on the CPUs that this process may use."""
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = thread_count(usable_cpus(), os.cpu_count() or 1, execution.num_processes)
    wanted.inter_op_num_threads = 1
    wanted.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if first == "directml":
        wanted.enable_mem_pattern = False
    if first == CPU and execution.decode_threads:
        # A thread that spins while it waits takes CPU time from the decode threads.
        wanted.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return wanted


def write_int8(
    graph: Path, target: Path, feeds: Iterable[dict[str, npt.NDArray[np.float32]]], *, reduce_range: bool
) -> None:
    """Write a graph whose matrix products and convolutions use int8, with ranges calibrated on `feeds`.

    Weights have a scale per channel and 8 bits, or 7 with `reduce_range`. Other operators stay in float32, since
    onnxruntime has no fast int8 for them. Needs the package onnx.
    """
    with importing("onnx", "quantize"):
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self._feeds, None)

    prepared = target.with_name(f"prepared-{target.name}")
    with _less_talk():
        quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # Rounding the result of a product costs time and agreement, but a convolution needs it to use int8.
            extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
    prepared.unlink()


def write_fp16(graph: Path, target: Path) -> None:
    """Write a graph in float16 whose input and output stay float32. Needs onnx."""
    with importing("onnx", "quantize"):
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

    with _less_talk():
        onnx.save(convert_float_to_float16(onnx.load(str(graph)), keep_io_types=True), str(target))


@contextmanager
def _less_talk() -> Iterator[None]:
    """Without the quantizer's warnings, which are meant for its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
