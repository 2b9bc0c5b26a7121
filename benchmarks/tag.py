"""Measures `sdprep tag` on generated images with stand-in models: against its peers, its floors, and itself.

Each function is one section of `python -m benchmarks`: it measures and gives Markdown. Floors come from `sdprep bench`:
processor seconds of decoding and of the model in a run of its own, in the same round as the whole run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import peers, standins
from benchmarks.images import KINDS, Album, fill
from benchmarks.measure import Taken, peak_memory, ratios, run, spread, table, take_turns

WORKERS, BATCH = 2, 8
SDPREP = (sys.executable, "-m", "sdprep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure; `work` keeps images and models, a checkout comes with the Python that runs it."""

    work: Path
    repeats: int = 5
    images: int = 300
    slow_images: int = 48
    many: int = 100_000
    kohya: tuple[Path, Path] | None = None
    wd14: tuple[Path, Path] | None = None

    def model(self, shape: str) -> Path:
        """The folder of a stand-in."""
        return standins.write(self.work / "models" / shape, shape)

    def album(self, count: int, least: float, most: float) -> Path:
        """The folder of some images."""
        folder = self.work / f"images-{least:g}-{most:g}-{count}"
        fill(folder, Album(count, float(least), float(most)))
        return folder


def stages(images: Path, model: Path) -> Taken:
    """`sdprep bench --json`."""
    sizes = ("--batch-size", str(BATCH), "--workers", str(WORKERS), "--limit", "1000000")
    return run([*SDPREP, "bench", images, "--model", model, *sizes, "--json"])


def floor(taken: Taken) -> Taken:
    """Processor seconds of decoding and the model, and these over the processors."""
    report = json.loads(taken.out)
    decode, predict = (report["stages"][name] for name in ("decode", "predict"))
    cpu = decode["cpu_seconds"] + predict["cpu_seconds"]
    return Taken(cpu / report["cpus"], cpu, taken.out)


def against_peers(plan: Plan) -> str:
    """Images of 1 to 3 megapixels and a tiny model: the loader decides."""
    images, model = plan.album(plan.images, 1, 3), plan.model("tiny")
    ours = peers.sdprep("sdprep", model, BATCH, WORKERS)
    exact = peers.sdprep("sdprep --exact-decode", model, BATCH, WORKERS, "--exact-decode")
    others = [
        *([peers.kohya(*plan.kohya, model, BATCH, WORKERS)] if plan.kohya else []),
        *([peers.wd14(*plan.wd14, model)] if plan.wd14 else []),
    ]
    found: dict[str, Texts] = {}

    def tag(peer: peers.Peer) -> Taken:
        taken = peer.tag(images)
        found[peer.name] = peers.texts(images)
        if len(found[peer.name]) != plan.images:
            raise RuntimeError(f"{peer.name} wrote {len(found[peer.name])} texts for {plan.images} images")
        return taken

    taken = take_turns({each.name: partial(tag, each) for each in (ours, exact, *others)}, plan.repeats)
    # As kohya's script prepares images; once, for its tags.
    alike = peers.sdprep("sdprep --preprocess kohya", model, BATCH, WORKERS, "--preprocess", "kohya")
    tag(alike)
    peers.forget(images)
    rows = []
    for name, times in taken.items():
        columns = [spread(each) for base in (ours, exact) for each in ratios(times, taken[base.name])]
        rows.append([name, seconds(times, "clock"), seconds(times, "cpu"), *columns])
    text = f"{plan.images} images of 1 to 3 megapixels, tiny stand-in, batch {BATCH}, {WORKERS} workers.\n\n"
    head = ("times sdprep's, clock", "times sdprep's, CPU", "times --exact-decode's, clock", "the same, CPU")
    text += table(("contestant", "seconds", "CPU seconds", *head), rows)
    pairs = [(one.name, other.name) for other in others for one in (ours, exact, alike)]
    pairs.append((ours.name, exact.name))
    same = [[one, other, *agreement(found[one], found[other])] for one, other in pairs]
    return text + "\n" + table(("tags of", "and of", "images with equal tags", "F1 of all tags"), same)


Texts = dict[str, list[str]]


def agreement(ours: Texts, theirs: Texts) -> tuple[str, str]:
    """Images whose tags are the same, in whatever order, and the F1 of all tags.

    Characters are left aside: wd14-tagger-standalone has no threshold of their own, and kohya's script none that works.
    """
    pairs = [tuple({tag for tag in texts[name] if not tag.startswith("character_")} for texts in (ours, theirs))
             for name in theirs]  # fmt: skip
    common, total = sum(len(a & b) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)
    return f"{sum(a == b for a, b in pairs)} of {len(pairs)}", f"{2 * common / total:.4f}"


def seconds(times: list[Taken], kind: str) -> str:
    """A column of seconds."""
    return spread([getattr(each, kind) for each in times], ".1f")


def floors(plan: Plan, shape: str, images: Path) -> str:
    """A whole run against the processor seconds of decoding and the model."""
    model, count = plan.model(shape), sum(path.suffix[1:] in KINDS for path in images.iterdir())
    ours = peers.sdprep("sdprep", model, BATCH, WORKERS)
    taken = take_turns({"sdprep": lambda: ours.tag(images), "stages": lambda: stages(images, model)}, plan.repeats)
    peers.forget(images)
    least = [floor(each) for each in taken["stages"]]
    clock, cpu = ratios(least, taken["sdprep"])
    reports = [json.loads(each.out)["stages"] for each in taken["stages"]]
    rows = [
        ["whole run", seconds(taken["sdprep"], "clock"), seconds(taken["sdprep"], "cpu"), "", ""],
        *(
            [name, spread([each[name]["seconds"] for each in reports], ".1f"),
             spread([each[name]["cpu_seconds"] for each in reports], ".1f"), "", ""]
            for name in ("decode", "predict")
        ),
        ["floor: both, over the processors", seconds(least, "clock"), seconds(least, "cpu"), spread(clock),
         spread(cpu)],
    ]  # fmt: skip
    head = ("", "seconds", "CPU seconds", "share of the whole run, clock", "share, CPU")
    return f"{count} images ({images.name}), {shape} stand-in.\n\n" + table(head, rows)


def loader_floor(plan: Plan) -> str:
    """The tiny model: nearly all is decoding."""
    return floors(plan, "tiny", plan.album(plan.images, 1, 3))


def model_floors(plan: Plan) -> str:
    """Models of real shapes, with images of all sizes; the rate of a large product beside them."""
    images = plan.album(plan.slow_images, 0.5, 12)
    text = f"A product of float32 matrices of the shape of a ViT-B: {spread(matmul_rates(plan.repeats), '.0f')} GFLOP "
    text += "per CPU second.\n\n"
    return text + "\n".join(floors(plan, shape, images) for shape in ("vit", "swinv2", "convnext"))


def matmul_rates(repeats: int) -> list[float]:
    """What onnxruntime makes of the largest product of a ViT-B, in GFLOP per processor second."""
    import onnxruntime
    from onnx import TensorProto, helper

    sides = (8 * 784, 768, 3072)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", sides[:2]), ("w", sides[1:]), ("y", (sides[0], sides[2])))]  # fmt: skip
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    wanted = onnxruntime.SessionOptions()
    wanted.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), wanted, providers=["CPUExecutionProvider"])
    given = {name: np.ones(shape, dtype=np.float32) for name, shape in (("x", sides[:2]), ("w", sides[1:]))}
    rates = []
    for _ in range(repeats + 1):
        began = time.process_time()
        for _ in range(10):
            session.run(None, given)
        rates.append(20 * sides[0] * sides[1] * sides[2] / 1e9 / (time.process_time() - began))
    return rates[1:]


def start(plan: Plan) -> str:
    """`--help`."""
    contestants: dict[str, Callable[[], Taken]] = {"sdprep --help": lambda: run([*SDPREP, "--help"])}
    if plan.kohya:
        peer = peers.kohya(*plan.kohya, plan.model("tiny"), BATCH, WORKERS)
        contestants["kohya -h"] = lambda: run([*peer.command[:2], "-h"], peer.env)
    taken = take_turns(contestants, plan.repeats)
    rows = []
    for name, times in taken.items():
        clock, cpu = ratios(times, taken["sdprep --help"])
        rows.append([name, spread([each.clock for each in times]), spread([each.cpu for each in times]),
                     spread(clock, ".0f"), spread(cpu, ".0f")])  # fmt: skip
    return table(("command", "seconds", "CPU seconds", "times sdprep's, clock", "times sdprep's, CPU"), rows)


def memory(plan: Plan) -> str:
    """The peak of all processes of a run together, above that of a run over one small image."""
    model, small, large = (
        plan.model("tiny"),
        plan.album(plan.many, 0.004, 0.004),
        plan.album(plan.slow_images, 0.5, 12),
    )
    cases: list[tuple[Path, int, int, int]] = [
        (small, 1, 1, 1), (small, plan.many // 100, 8, 2), (small, plan.many, 8, 2),
        (large, plan.slow_images, 8, 2), (large, plan.slow_images, 32, 8),
    ]  # fmt: skip
    rows, base = [], 0.0
    for images, count, batch, workers in cases:
        peers.forget(images)
        sizes = ("--limit", str(count), "--batch-size", str(batch), "--workers", str(workers))
        peak = peak_memory([*SDPREP, "tag", images, "--model", model, *sizes])
        base = base or peak
        rows.append([images.name, str(count), str(batch), str(workers), f"{peak:.0f}", f"{peak - base:.0f}"])
        peers.forget(images)
    return table(("images", "tagged", "batch", "workers", "peak MB", "above the first row"), rows)


def int8(plan: Plan) -> str:
    """The copy that `sdprep models quantize` makes of the ViT, and the original."""
    images, model = plan.album(plan.slow_images, 0.5, 12), plan.model("vit")
    out = plan.work / "models" / "vit-int8"
    if not out.exists():
        words = ("--images", images, "--sample", "8", "--force", "--out", out)
        run([*SDPREP, "models", "quantize", model, *words])
    contestants = {name: partial(stages, images, folder)
                   for name, folder in (("float32", model), ("int8", out))}  # fmt: skip
    taken = take_turns(contestants, plan.repeats)
    took = {name: [json.loads(each.out)["stages"]["predict"] for each in times] for name, times in taken.items()}
    rows = []
    for name, figures in took.items():
        columns = []
        for kind in ("seconds", "cpu_seconds"):
            per_image = [each[kind] / each["images"] for each in figures]
            gains = [one[kind] / other[kind] for one, other in zip(took["float32"], figures, strict=True)]
            columns += [spread(per_image), spread(gains)]
        rows.append([name, *columns])
    head = ("precision", "seconds an image", "faster", "CPU seconds an image", "faster, CPU")
    return "ViT stand-in, the model in a run.\n\n" + table(head, rows)
