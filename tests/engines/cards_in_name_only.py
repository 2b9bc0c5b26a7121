"""A worker that imports this has an onnxruntime that says it has CUDA. A session notes what it was asked for, and
computes on the processor."""

import json
import os

import onnxruntime

from sdprep.images import decode as image

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
ASKED = []


class Session(onnxruntime.InferenceSession):
    """A session that is not where it says."""

    def __init__(self, path, options, providers, **rest):
        ASKED.append(providers)
        super().__init__(path, options, [CPU], **rest)

    def get_providers(self):
        return [CUDA, CPU]


onnxruntime.InferenceSession = Session
onnxruntime.get_available_providers = lambda: [CUDA, CPU]
onnxruntime.preload_dlls = lambda: None


def decode(item, fit):
    """Decode an image, and write beside it what the session of its worker was asked for."""
    item.path.with_suffix(f".{os.getpid()}.asked").write_text(json.dumps(ASKED), "utf-8")
    return image.decode(item, fit)
