"""Tries torch on every device."""

from __future__ import annotations

from typing import Any

from sdprep.doctor.probes.probe import Emitter, describe


def probe(tell: Emitter) -> None:
    """Import torch and compute on the processor, on every CUDA card and on Metal."""
    tell.step("import")
    import torch

    tell.about(version=torch.__version__, cuda=torch.version.cuda, hip=getattr(torch.version, "hip", None))
    tell.step("devices")
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    for name in names:
        tell.step(name)
        try:
            wrong = _compute(torch, name)
            what = torch.cuda.get_device_name(name) if name.startswith("cuda") else ""
        except Exception as error:  # noqa: BLE001 - a device that raises is the finding
            tell.device(name, False, describe(error))
        else:
            tell.device(name, not wrong, wrong or what)
    cudnn: Any = torch.backends.cudnn
    tell.about(cudnn=cudnn.version() if len(names) > 1 else None)


def _compute(torch: Any, name: str) -> str:
    """A convolution and a product of matrices whose results are known; what is wrong with them, if anything."""
    pixels, kernel = torch.ones(1, 3, 8, 8, device=name), torch.ones(4, 3, 3, 3, device=name)
    folded = torch.nn.functional.conv2d(pixels, kernel)
    square = torch.ones(4, 4, device=name)
    found = (float(folded.min()), float(folded.max()), float((square @ square).max()))
    return "" if found == (27.0, 27.0, 4.0) else f"computed {found}, not (27.0, 27.0, 4.0)"
