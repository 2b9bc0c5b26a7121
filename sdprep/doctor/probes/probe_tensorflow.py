"""Tries TensorFlow on every device, and looks for the CUDA libraries that it was built for."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from sdprep.doctor.probes.probe import Emitter, describe


def probe(tell: Emitter) -> None:
    """Import TensorFlow and compute on every device that it lists."""
    tell.step("import")
    # Many silence it; what it says of missing libraries is of the lowest levels. Its own code reads this, not Python.
    os.putenv("TF_CPP_MIN_LOG_LEVEL", "0")
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    tell.about(
        version=tf.__version__,
        cuda_build=bool(build.get("is_cuda_build")),
        cuda=_text(build.get("cuda_version")),
        cudnn=_text(build.get("cudnn_version")),
        keras=_installed("keras"),
    )
    tell.step("devices")
    for device in tf.config.list_physical_devices("GPU"):
        # Otherwise it takes all memory of a card, also from a training that is under way.
        tf.config.experimental.set_memory_growth(device, True)
    for device in tf.config.list_logical_devices():
        name = device.name.rpartition("device:")[2]
        tell.step(name)
        try:
            wrong = _compute(tf, device.name)
        except Exception as error:  # noqa: BLE001 - a device that raises is the finding
            tell.device(name, False, describe(error))
        else:
            tell.device(name, not wrong, wrong)
    tell.step("libraries")
    tell.about(cudnn_loaded=_cudnn_version(build))


def _compute(tf: Any, name: str) -> str:
    """A convolution and a product of matrices whose results are known; what is wrong with them, if anything."""
    with tf.device(name):
        folded = tf.nn.conv2d(tf.ones([1, 8, 8, 3]), tf.ones([3, 3, 3, 4]), 1, "VALID")
        square = tf.linalg.matmul(tf.ones([4, 4]), tf.ones([4, 4]))
    found = (float(folded.numpy().min()), float(folded.numpy().max()), float(square.numpy().max()))
    if found != (27.0, 27.0, 4.0):
        return f"computed {found}, not (27.0, 27.0, 4.0)"
    place = folded.device.rpartition("device:")[2]
    return "" if name.endswith(place) else f"was computed on {place}"


def _cudnn_version(build: Mapping[str, Any]) -> str | None:
    """The version of the cuDNN that is loaded, of the major version that TensorFlow was built for."""
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


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(value: object) -> str:
    return "" if value is None else str(value)
