"""One small computation per framework. `gather.py` runs each probe in a process of its own.

A probe prints what it finds as JSON, one object per line, as it goes: findings from before a crash are kept. At import
time this file loads no framework.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from sdprep.files import real_path
from sdprep.installation import installed_version
from sdprep.models.captioners.chat.quantize import without_hub_kernels
from sdprep.models.taggers.providers import AUTO_ORDER, PROVIDERS

# Maps float32[1,3,8,8] "x" to float32[1,4,6,6] "y" with kernels of ones: ones become 27s. A test rebuilds it.
GRAPH = "convolution.onnx"
# The providers that the tagger requests, in its order; others are tried after them.
USED = tuple(PROVIDERS[name].full for name in AUTO_ORDER)
CPU = USED[-1]
# Seconds to measure the cache, and of silence on the connection to the Hub.
CACHE_TIMEOUT, READ_TIMEOUT = 4.0, 5.0


class Emitter:
    """Writes what a probe finds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, name: str) -> None:
        """Name what is tried next; a crash is blamed on the last step."""
        self._write({"step": name})

    def about(self, **values: str | int | bool | None) -> None:
        """Report facts by name."""
        self._write({"about": values})

    def device(self, name: str, compute: Callable[[], str], model: Callable[[], str] = str) -> None:
        """Report a device, its model, and whether it computes what it should; `compute` returns what is wrong."""
        self.step(name)
        try:
            wrong = compute()
            detail = wrong or model()
        except Exception as error:  # noqa: BLE001 - a device that raises is the finding
            wrong = detail = describe(error)
        self._write({"device": {"name": name, "ok": not wrong, "detail": detail}})

    def error(self, error: BaseException) -> None:
        """Report what ended the probe."""
        self._write({"error": describe(error)})

    def _write(self, value: object) -> None:
        self._stream.write(json.dumps(value, ensure_ascii=True) + "\n")
        self._stream.flush()


def describe(error: BaseException) -> str:
    """Return the class and the first lines of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}"[:500]


def main(name: str, *arguments: str) -> int:
    """Run one probe and return the exit code of its process."""
    # Frameworks print to stdout, so the findings get a descriptor of their own.
    stream = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    emit = Emitter(stream)
    try:
        PROBES[name](emit, *arguments)
        emit.step("done")
    except BaseException as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
        traceback.print_exc()
        emit.error(error)
        return 1
    return 0


def probe_torch(emit: Emitter) -> None:
    """Import torch and compute on the CPU, on every CUDA GPU and on Metal."""
    emit.step("import")
    import torch

    emit.about(version=torch.__version__, cuda=torch.version.cuda, hip=getattr(torch.version, "hip", None))
    emit.step("devices")
    emit.device("cpu", partial(_compute_torch, torch, "cpu"))
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    for name in gpus:
        emit.device(name, partial(_compute_torch, torch, name), partial(torch.cuda.get_device_name, name))
    metal = torch.backends.mps.is_available()
    if metal:
        emit.device("mps", partial(_compute_torch, torch, "mps"))
    cudnn: Any = torch.backends.cudnn
    emit.about(cudnn=cudnn.version() if gpus or metal else None)


def _compute_torch(torch: Any, device: str) -> str:
    """Return what is wrong with a convolution and a matrix product whose results are known."""
    image, kernel = torch.ones(1, 3, 8, 8, device=device), torch.ones(4, 3, 3, 3, device=device)
    convolved = torch.nn.functional.conv2d(image, kernel)
    square = torch.ones(4, 4, device=device)
    return _compare((float(convolved.min()), float(convolved.max()), float((square @ square).max())))


def _compare(found: tuple[float, float, float]) -> str:
    return "" if found == (27.0, 27.0, 4.0) else f"computed {found}, not (27.0, 27.0, 4.0)"


def probe_transformers(emit: Emitter) -> None:
    """Import what a captioner needs: BLIP with its tokenizer, which imports torch, and the reader of weights."""
    emit.step("import safetensors")
    import safetensors.torch

    emit.step("import transformers")
    import transformers

    emit.about(version=transformers.__version__)
    emit.step("import BLIP")
    emit.about(
        model=transformers.BlipForConditionalGeneration.__name__,
        tokenizer=transformers.BertTokenizer.__name__,
        weights=safetensors.torch.load_file.__name__,
    )


def probe_bitsandbytes(emit: Emitter) -> None:
    """Make 4-bit weights, and numbers of them again, on every device that torch has."""
    emit.step("import")
    import torch

    with without_hub_kernels():
        import bitsandbytes

        emit.about(version=bitsandbytes.__version__)
        names = ["cpu"]
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
        for name in [*names, *(["mps"] if torch.backends.mps.is_available() else [])]:
            emit.device(name, partial(_compute_4bit, torch, bitsandbytes.functional, name))


def _compute_4bit(torch: Any, functional: Any, device: str) -> str:
    """Return what is wrong with ones in 4 bits, which are exact."""
    block = torch.ones(64, device=device)
    found = functional.dequantize_4bit(*functional.quantize_4bit(block, quant_type="nf4"))
    return "" if bool((found == block).all()) else f"computed {float(found.min())} to {float(found.max())}, not 1"


def probe_onnxruntime(emit: Emitter) -> None:
    """Open a session as the tagger does, then one with each available provider, and compute in each."""
    emit.step("import")
    import onnxruntime

    emit.about(version=onnxruntime.__version__)
    emit.step("providers")
    available = onnxruntime.get_available_providers()
    emit.about(available=" ".join(available))
    graph = (resources.files(__package__) / GRAPH).read_bytes()
    if USED[0] in available and hasattr(onnxruntime, "preload_dlls"):
        # The tagger does the same: it finds the CUDA libraries of torch and of NVIDIA's own packages.
        emit.step("preload")
        onnxruntime.preload_dlls()
    asked = [name for name in USED if name in available]
    emit.step("session")
    try:
        session = onnxruntime.InferenceSession(graph, providers=asked)
        emit.about(asked=" ".join(asked), got=" ".join(session.get_providers()))
    except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen classes of its own
        emit.about(asked=" ".join(asked), session_error=describe(error))
    for name in [*asked, *(name for name in available if name not in USED)]:
        emit.device(name, partial(_compute_onnx, onnxruntime, graph, name))


def _compute_onnx(onnxruntime: Any, graph: bytes, provider: str) -> str:
    """Return what is wrong with a provider: it is not used, or does not compute 27s."""
    import numpy as np

    session = onnxruntime.InferenceSession(graph, providers=list(dict.fromkeys([provider, CPU])))
    if provider not in session.get_providers():
        return f"asked for {provider}, got {' '.join(session.get_providers())}"
    found = session.run(None, {"x": np.ones((1, 3, 8, 8), dtype=np.float32)})[0]
    return "" if (found == 27).all() else f"computed {found.min()} to {found.max()}, not 27"


def probe_tensorflow(emit: Emitter) -> None:
    """Import TensorFlow, compute on every device that it lists, and find the cuDNN that it loads."""
    emit.step("import")
    # Many users silence it, but it reports missing libraries at the lowest levels. C code reads this, not Python.
    os.putenv("TF_CPP_MIN_LOG_LEVEL", "0")
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    emit.about(
        version=tf.__version__,
        cuda_build=bool(build.get("is_cuda_build")),
        cuda=_text(build.get("cuda_version")),
        cudnn=_text(build.get("cudnn_version")),
        keras=installed_version("keras"),
    )
    emit.step("devices")
    for device in tf.config.list_physical_devices("GPU"):
        # Otherwise it takes all memory of a GPU, even from a training that is running.
        tf.config.experimental.set_memory_growth(device, True)
    for device in tf.config.list_logical_devices():
        emit.device(device.name.rpartition("device:")[2], partial(_compute_tensorflow, tf, device.name))
    emit.step("libraries")
    emit.about(cudnn_loaded=_cudnn_version(build))


def _compute_tensorflow(tf: Any, device: str) -> str:
    """Return what is wrong with a convolution and a matrix product whose results are known."""
    with tf.device(device):
        convolved = tf.nn.conv2d(tf.ones([1, 8, 8, 3]), tf.ones([3, 3, 3, 4]), 1, "VALID")
        square = tf.linalg.matmul(tf.ones([4, 4]), tf.ones([4, 4]))
    used = convolved.device.rpartition("device:")[2]
    wrong = _compare((float(convolved.numpy().min()), float(convolved.numpy().max()), float(square.numpy().max())))
    return wrong or ("" if device.endswith(used) else f"was computed on {used}")


def _cudnn_version(build: Mapping[str, Any]) -> str | None:
    """Return the version of the cuDNN that is loaded, of the major version that TensorFlow was built for."""
    # "8" on Linux, "64_8" on Windows.
    major = re.search(r"(\d+)$", _text(build.get("cudnn_version")))
    if major is None:
        return None
    name = f"cudnn64_{major[1]}.dll" if sys.platform == "win32" else f"libcudnn.so.{major[1]}"
    try:
        number = int(ctypes.CDLL(name).cudnnGetVersion())
    except (OSError, AttributeError):
        return None
    # 8907 is 8.9.7, 90300 is 9.3.0.
    thousand = 10000 if number >= 90000 else 1000
    return f"{number // thousand}.{number % thousand // 100}.{number % 100}"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def probe_hub(emit: Emitter) -> None:
    """Find the cache and its size, and whether the Hub answers the client that downloads use; no token is sent."""
    emit.step("import")
    from huggingface_hub import constants, get_session

    cache = Path(constants.HF_HUB_CACHE)
    address = urlsplit(constants.ENDPOINT)
    endpoint = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    emit.about(endpoint=endpoint, offline=bool(constants.HF_HUB_OFFLINE), cache=str(cache))
    emit.step("cache")
    size, complete = _size(cache)
    existing = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free, writable = shutil.disk_usage(existing).free, os.access(existing, os.W_OK | os.X_OK)
    emit.about(size=size, complete=complete, free=free, writable=writable)
    if constants.HF_HUB_OFFLINE:
        return
    emit.step("answer")
    with get_session().stream("GET", f"{constants.ENDPOINT}/api/models?limit=1", timeout=READ_TIMEOUT) as response:
        emit.about(status=response.status_code)


def _size(folder: Path) -> tuple[int, bool]:
    """Return the bytes in a folder, links not followed, and whether there was time to count all of them."""
    end, total = time.monotonic() + CACHE_TIMEOUT, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if time.monotonic() > end:
                return total, False
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:
                continue
    return total, True


def probe_folder(emit: Emitter, folder: str) -> None:
    """Write a file into a folder and remove it again, and find the free space."""
    emit.step("read")
    path = real_path(Path(folder))
    status = path.stat()
    # Modes do not limit root (0), so they are not the cause there.
    owned = not hasattr(os, "getuid") or (os.getuid() != 0 and status.st_uid == os.getuid())
    locked = not status.st_mode & stat.S_IWUSR
    emit.about(path=str(path), free=shutil.disk_usage(path).free, chmod_helps=owned and locked)
    emit.step("write")
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".sdprep-doctor-", suffix=".tmp") as file:
            file.write(b"doctor\n")
    except OSError as error:
        emit.about(writable=False, reason=error.strerror or str(error))
    else:
        emit.about(writable=True)


PROBES: dict[str, Callable[..., None]] = {
    "torch": probe_torch,
    "transformers": probe_transformers,
    "bitsandbytes": probe_bitsandbytes,
    "onnxruntime": probe_onnxruntime,
    "tensorflow": probe_tensorflow,
    "hub": probe_hub,
    "folder": probe_folder,
}
