"""Tries onnxruntime with every provider that it says it has."""

from __future__ import annotations

from typing import Any

from sdprep.doctor.probes.probe import Emitter, describe
from sdprep.doctor.tiny_graph import make_graph
from sdprep.models.taggers.providers import AUTO_ORDER, PROVIDERS

# Those that the tagger asks for, in its order; others are tried after them.
USED = tuple(PROVIDERS[name].full for name in AUTO_ORDER)
CPU = USED[-1]


def probe(tell: Emitter) -> None:
    """Import onnxruntime, open a session as the tagger does, then one with each provider, and compute in each."""
    tell.step("import")
    import numpy as np
    import onnxruntime

    tell.about(version=onnxruntime.__version__)
    tell.step("providers")
    available = onnxruntime.get_available_providers()
    tell.about(available=" ".join(available))
    graph = make_graph()
    pixels = np.ones((1, 3, 8, 8), dtype=np.float32)
    if USED[0] in available and hasattr(onnxruntime, "preload_dlls"):
        # As the tagger does: it finds the CUDA of torch and of NVIDIA's own packages.
        tell.step("preload")
        onnxruntime.preload_dlls()
    asked = [name for name in USED if name in available]
    tell.step("session")
    try:
        session = onnxruntime.InferenceSession(graph, providers=asked)
        tell.about(asked=" ".join(asked), got=" ".join(session.get_providers()))
    except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen classes of its own
        tell.about(asked=" ".join(asked), session_error=describe(error))
    for name in [*asked, *(name for name in available if name not in USED)]:
        tell.step(name)
        works, detail = _compute(onnxruntime, graph, pixels, name)
        tell.device(name, works, detail)


def _compute(onnxruntime: Any, graph: bytes, pixels: Any, name: str) -> tuple[bool, str]:
    """Whether a provider serves and computes what it should, and what is wrong if not."""
    try:
        session = onnxruntime.InferenceSession(graph, providers=[name] if name == CPU else [name, CPU])
        if name not in session.get_providers():
            return False, f"asked for {name}, got {' '.join(session.get_providers())}"
        found = session.run(None, {"x": pixels})[0]
    except Exception as error:  # noqa: BLE001 - a provider that raises is the finding
        return False, describe(error)
    if not (found == 27).all():
        return False, f"computed {found.min()} to {found.max()}, not 27"
    return True, ""
