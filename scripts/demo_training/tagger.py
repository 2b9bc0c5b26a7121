"""Trains the demo tagger and writes it under the contract of the WD v1.4 taggers."""

import csv
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from scripts.demo_training.figures import CHARACTER_TAGS, GENERAL_TAGS, RATINGS, Figure, tags_of
from scripts.demo_training.pool import TAGGER_SIZE, Pool, as_batch, jittered

LABELS = (*RATINGS, *GENERAL_TAGS, *CHARACTER_TAGS)
WIDTHS = ((3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 80, 1), (80, 112, 2), (112, 112, 1))
"""Input channels, output channels and stride of each 3 x 3 convolution."""

Weights = dict[str, NDArray[np.float32]]


class Tagger(nn.Module):
    """A small convolutional net: RGB float32[N, 3, size, size] in 0..255 to logits[N, labels]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, s, 1, bias=False) for i, o, s in WIDTHS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in WIDTHS)
        # The mean counts (two girls), the maximum finds (one pair of glasses among two faces).
        self.head = nn.Linear(2 * WIDTHS[-1][1], len(LABELS))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return one logit per label."""
        x = pixels / 127.5 - 1
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
        logits: torch.Tensor = self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return logits


def targets_of(figures: Sequence[Figure]) -> NDArray[np.float32]:
    """Return float32[N, labels] with 1 for the tags that are true; every drawing is rated general."""
    rows = [tags_of(figure) | {"general"} for figure in figures]
    return np.array([[label in row for label in LABELS] for row in rows], np.float32)


def train_tagger(pool: Pool, epochs: int, seed: int, batch_size: int = 64) -> Tagger:
    """Train on the padded images of a pool, with one cycle of the learning rate."""
    torch.manual_seed(seed)
    generator, order = torch.Generator().manual_seed(seed), random.Random(seed)
    model = Tagger()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = len(pool.figures) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, epochs * steps, pct_start=0.15)
    targets = torch.from_numpy(targets_of(pool.figures))
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        indices = order.sample(range(len(pool.figures)), len(pool.figures))
        for step in range(steps):
            chosen = indices[step * batch_size : (step + 1) * batch_size]
            pixels = jittered(as_batch(pool.padded[chosen]), generator)
            logits = model(pixels.contiguous(memory_format=torch.channels_last))
            loss = functional.binary_cross_entropy_with_logits(logits, targets[chosen]) * len(LABELS)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"tagger epoch {epoch + 1}: loss {total / steps:.4f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    return model.eval()


def folded_weights(model: Tagger) -> Weights:
    """Fold the batch norms into the convolutions: `kernel0` (O, I, 3, 3), `bias0`, ..., `head` (in, out)."""
    weights: Weights = {}
    for index, (convolution, norm) in enumerate(zip(model.convolutions, model.norms, strict=True)):
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weights[f"kernel{index}"] = (convolution.weight * scale.view(-1, 1, 1, 1)).detach().numpy()
        weights[f"bias{index}"] = (norm.bias - norm.running_mean * scale).detach().numpy()
    weights["head"] = np.ascontiguousarray(model.head.weight.detach().numpy().T)
    weights["head_bias"] = model.head.bias.detach().numpy()
    return weights


def onnx_model(weights: Weights) -> onnx.ModelProto:
    """Build the graph with the names, layout and value range of the WD v1.4 exports (NHWC, BGR, 0..255)."""
    constants = {**weights, "half": np.array(127.5, np.float32), "one": np.array(1.0, np.float32)}
    constants["flip"] = np.array([2, 1, 0], np.int64)
    nodes = [
        helper.make_node("Gather", ["input_1:0", "flip"], ["rgb"], axis=3),
        helper.make_node("Transpose", ["rgb"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["x0"]),
    ]
    for index, (_, _, stride) in enumerate(WIDTHS):
        inputs = [f"x{index}", f"kernel{index}", f"bias{index}"]
        sides = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", inputs, [f"c{index}"], **sides))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]))
    last = f"x{len(WIDTHS)}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["mean"]),
        helper.make_node("GlobalMaxPool", [last], ["peak"]),
        helper.make_node("Concat", ["mean", "peak"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "head_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["predictions_sigmoid"]),
    ]
    source = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, ["N", TAGGER_SIZE, TAGGER_SIZE, 3])
    result = helper.make_tensor_value_info("predictions_sigmoid", TensorProto.FLOAT, ["N", len(LABELS)])
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "demo_tagger", [source], [result], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="sdprep")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def write_tagger(model: Tagger, figures: Sequence[Figure], folder: Path) -> None:
    """Write `model.onnx` and `selected_tags.csv`, whose counts are those of the training images."""
    # A SavedModel of earlier weights must not stay beside the new ones.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    onnx.save(onnx_model(folded_weights(model)), folder / "model.onnx")
    counts = Counter(tag for figure in figures for tag in (*tags_of(figure), "general"))
    category = {**dict.fromkeys(RATINGS, 9), **dict.fromkeys(CHARACTER_TAGS, 4)}
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("tag_id", "name", "category", "count"))
        for index, label in enumerate(LABELS):
            table.writerow((index, label, category.get(label, 0), counts[label]))
