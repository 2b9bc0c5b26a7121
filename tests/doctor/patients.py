"""Facts of machines: of one without problems, and what frameworks really printed on others."""

from sdprep.doctor.doctor import diagnose
from sdprep.doctor.facts import Device, Facts, Machine, Probe

CARD = {"cards": ("NVIDIA GeForce RTX 4090",), "driver": "580.82.07"}
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PACKAGES = {
    "click": "8.5.1",
    "cykooz-resizer": "4.0.1",
    "filelock": "4.1.0",
    "huggingface-hub": "2.4.0",
    "msgspec": "0.22.0",
    "numpy": "2.4.6",
    "packaging": "26.3",
    "pillow": "13.0.0",
    "platformdirs": "4.14.7",
    "tqdm": "4.70.1",
    "tomli": "2.4.0",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "safetensors": "0.8.0",
    "onnxruntime": "1.32.0",
}

# Printed by onnxruntime-gpu 1.31.1 without CUDA, without the colours.
CUDA_NOT_LOADED = (
    "2026-11-22 20:00:39.080864765 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] /onnxruntime_src/"
    "onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() "
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /venv/lib/python3.11/site-packages/onnxruntime/capi/"
    "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such file or "
    "directory\n"
    "2026-11-22 20:00:39.080 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 "
    "CreateExecutionProviderFactoryInstance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. "
    "Please install all dependencies as mentioned in the GPU requirements page, make sure they're in the PATH, and "
    "that your GPU is supported.\n"
)
# Printed by TensorFlow 2.10 without CUDA 11.
NO_CUDART = (
    "2026-11-22 19:59:06: W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load dynamic "
    "library 'libcudart.so.11.0'; dlerror: libcudart.so.11.0: cannot open shared object file: No such file\n"
    "2026-11-22 19:59:06: I tensorflow/stream_executor/cuda/cudart_stub.cc:29] Ignore above cudart dlerror if you "
    "do not have a GPU set up on your machine.\n"
)
# Printed by TensorFlow 2.10 with or without a GPU, whenever TensorRT is not installed.
NO_TENSORRT = (
    "2026-11-22 19:59:08: W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load dynamic "
    "library 'libnvinfer.so.7'; dlerror: libnvinfer.so.7: cannot open shared object file: No such file or directory\n"
)
# From a report about tagging with kohya's script.
CUDNN_MISMATCH = (
    "2024-03-15 07:13:09.570854: E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:447] Loaded runtime CuDNN "
    "library: 8.7.0 but source was compiled with: 8.9.4.  CuDNN library needs to have matching major version and equal "
    "or higher minor version. If using a binary install, upgrade your CuDNN library.\n"
    "2024-03-15 07:13:09.571655: W tensorflow/core/framework/op_kernel.cc:1839] OP_REQUIRES failed at "
    "conv_ops_impl.h:1199 : UNIMPLEMENTED: DNN library is not found.\n"
)
NO_DNN = "UnimplementedError: DNN library is not found. [Op:Conv2D]"
# Printed by TensorFlow 2.10 with protobuf 5 and with numpy 2.
PROTOBUF = (
    "TypeError: Descriptors cannot be created directly. If this call came from a _pb2.py file, your generated code"
)
NUMPY_2 = "TypeError: Unable to convert function return value to a Python type! The signature was () -> handle"
OLD_DRIVER = (
    "torch/cuda/__init__.py:182: UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found "
    "version 12080). Please update your GPU driver by downloading and installing a new version.\n"
)
LEFTOVER = "AttributeError: module 'onnxruntime' has no attribute '__version__'"


def machine(**changes):
    """A Linux machine without a GPU."""
    values = {"python": (3, 11, 7), "system": "linux", "arch": "x86_64", "sdprep": "0.1.0"} | changes
    return Machine(**values)


def probe(name, outcome="ok", step="done", devices=(), **rest):
    """A probe; a device is a name, or a name and what is wrong with it."""
    made = [Device(each, True) if isinstance(each, str) else Device(each[0], False, each[1]) for each in devices]
    return Probe(name, outcome, step, devices=tuple(made), **rest)


def torch_probe(**changes):
    about = {"version": "2.13.0", "cuda": "13.0"}
    return probe("torch", **({"about": about, "devices": ["cpu"]} | changes))


def onnx_probe(*providers, **changes):
    about = {"version": "1.32.0", "available": " ".join(providers or [CPU])}
    return probe("onnxruntime", **({"about": about, "devices": providers or [CPU]} | changes))


def tensorflow_probe(version="2.10.0", **changes):
    about = {"version": version, "cuda_build": True, "cuda": "11.2", "cudnn": "8", "keras": "2.10.0"}
    return probe("tensorflow", **({"about": about, "devices": ["CPU:0"]} | changes))


def facts(*probes, packages=(), modules=(), here=None, **of_machine):
    """The facts of a machine with everything but TensorFlow, with these probes in place of successful ones."""
    found = {"torch": torch_probe(), "transformers": probe("transformers"), "onnxruntime": onnx_probe()}
    provided = {name: (name,) for name in ("torch", "transformers", "safetensors", "onnxruntime")} | dict(modules)
    found |= {each.name: each for each in probes}
    models = dict.fromkeys(("caption", "tag", "tensorflow"), "wd-vit-tagger-v3") if here is None else here
    return Facts(machine(**of_machine), PACKAGES | dict(packages), provided, found, models)


def tensorflow_facts(*probes, version="2.10.0", packages=(), **of_machine):
    """The facts of a machine that also has TensorFlow."""
    of_machine = {"python": (3, 10, 13)} | of_machine
    versions = {"tensorflow": version, "keras": "2.10.0", "numpy": "1.26.4"} | dict(packages)
    tried = probes or (tensorflow_probe(version),)
    return facts(*tried, packages=versions, modules={"tensorflow": ("tensorflow",)}, **of_machine)


def codes(*arguments, **rest):
    """The codes of the problems in some facts."""
    return [problem.code.value for problem in diagnose(*arguments, **rest).problems]


def only_problem(*arguments, **rest):
    """The one problem in some facts."""
    (problem,) = diagnose(*arguments, **rest).problems
    return problem
