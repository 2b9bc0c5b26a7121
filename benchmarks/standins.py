"""Writes taggers of real ones' shapes with random weights: for measuring speed where real weights cannot be had.

    python -m benchmarks.standins FOLDER --shape vit

All take 448 pixels, NHWC in 0 to 255, and answer probabilities of 9083 labels, as the taggers of wd-v1-4: about
thirty tags an image, which mean nothing.

- vit: ViT-B/16, as wd-vit-tagger-v3
- swinv2: SwinV2-B with windows of 14, as wd-swinv2-tagger-v3
- convnext: ConvNeXt-B, as wd-convnext-tagger-v3
- tiny: the mean colours of 64 places and one product, so that reading the images is nearly all of the work
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper, save

SIZE = 448
LABELS = {"rating": (9, 4), "general": (0, 6947), "character": (4, 2132)}
# Logits of this mean and deviation: some thirty labels above 0.35, and some hundreds above 0.01, which are stored.
MEAN, DEVIATION = -9.0, 3.0


class Drawing:
    """A graph while it is drawn: each call adds a node and gives the name of what it computes."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def __call__(self, op: str, *inputs: str, **attributes: object) -> str:
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, values: object, dtype: type = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), f"weight_{len(self.weights)}"))
        return str(self.weights[-1].name)

    def random(self, *shape: int) -> str:
        """Weights that keep the variance of what they multiply."""
        return self.constant(self.rng.normal(size=shape) / np.sqrt(shape[0]))

    def linear(self, x: str, given: int, wanted: int) -> str:
        return self(
            "Add", self("MatMul", x, self.random(given, wanted)), self.constant(self.rng.normal(size=wanted) / 10)
        )

    def norm(self, x: str, width: int) -> str:
        return self(
            "LayerNormalization", x, self.constant(np.ones(width)), self.constant(np.zeros(width)), epsilon=1e-6
        )

    def gelu(self, x: str) -> str:
        """As exporters write it."""
        wakeup = self("Add", self("Erf", self("Div", x, self.constant(2**0.5))), self.constant(1))
        return self("Mul", self("Mul", x, wakeup), self.constant(0.5))

    def mlp(self, x: str, width: int) -> str:
        return self.linear(self.gelu(self.linear(x, width, 4 * width)), 4 * width, width)

    def shaped(self, x: str, *shape: int) -> str:
        """0 keeps a side, -1 is what is left."""
        return self("Reshape", x, self.constant(shape, np.int64))

    def turned(self, x: str, *order: int) -> str:
        return self("Transpose", x, perm=list(order))

    def pixels(self) -> str:
        """The input in -1 to 1, [N, 3, SIZE, SIZE]."""
        half = self.constant(127.5)
        return self.turned(self("Div", self("Sub", "input", half), half), 0, 3, 1, 2)

    def patches(self, x: str, given: int, wanted: int, side: int) -> str:
        """A convolution over squares that lie side by side."""
        kernel = self.constant(self.rng.normal(size=(wanted, given, side, side)) / (given * side**2) ** 0.5)
        return self("Conv", x, kernel, self.constant(np.zeros(wanted)), strides=[side, side])

    def head(self, x: str, width: int, labels: int) -> str:
        """Probabilities out of features of about unit variance, [N, width]."""
        weights = self.constant(DEVIATION * self.rng.normal(size=(width, labels)) / np.sqrt(width))
        return self("Sigmoid", self("Add", self("MatMul", x, weights), self.constant(np.full(labels, MEAN))))


def attention(draw: Drawing, x: str, width: int, heads: int, bias: str | None = None) -> str:
    """Multi-head attention over [N, tokens, width]; with a bias, the attention of SwinV2, by angles."""
    split, side = (0, -1, heads, width // heads), width // heads
    q, k, v = (draw.turned(draw.shaped(draw.linear(x, width, width), *split), 0, 2, 1, 3) for _ in range(3))
    if bias is None:
        scores = draw("MatMul", draw("Mul", q, draw.constant(side**-0.5)), draw.turned(k, 0, 1, 3, 2))
    else:
        q, k = (draw("LpNormalization", each, axis=-1, p=2) for each in (q, k))
        angles = draw("MatMul", q, draw.turned(k, 0, 1, 3, 2))
        scores = draw("Add", draw("Mul", angles, draw.constant(np.full((heads, 1, 1), 10.0))), bias)
    seen = draw.turned(draw("MatMul", draw("Softmax", scores, axis=-1), v), 0, 2, 1, 3)
    return draw.linear(draw.shaped(seen, 0, -1, width), width, width)


def vit(draw: Drawing, depth: int, labels: int) -> str:
    """ViT-B/16."""
    width = 768
    x = draw.turned(draw.shaped(draw.patches(draw.pixels(), 3, width, 16), 0, width, -1), 0, 2, 1)
    x = draw("Add", x, draw.constant(draw.rng.normal(size=(1, (SIZE // 16) ** 2, width)) / 10))
    for _ in range(depth):
        x = draw("Add", x, attention(draw, draw.norm(x, width), width, 12))
        x = draw("Add", x, draw.mlp(draw.norm(x, width), width))
    return draw.head(draw.norm(draw("ReduceMean", x, axes=[1], keepdims=0), width), width, labels)


def swinv2(draw: Drawing, depth: int, labels: int) -> str:
    """SwinV2-B with windows of 14 by 14; `depth` is that of its third stage."""
    width, side = 128, SIZE // 4
    x = draw.norm(draw.turned(draw.patches(draw.pixels(), 3, width, 4), 0, 2, 3, 1), width)
    for stage, blocks in enumerate((2, 2, depth, 2)):
        if stage:
            # Four neighbours become one place of twice the width.
            parts = draw.turned(draw.shaped(x, -1, side // 2, 2, side // 2, 2 * width), 0, 1, 3, 2, 4)
            merged = draw.shaped(parts, -1, side // 2, side // 2, 4 * width)
            x = draw("MatMul", merged, draw.random(4 * width, 2 * width))
            width, side = 2 * width, side // 2
            x = draw.norm(x, width)
        for block in range(blocks):
            shifted = block % 2 == 1 and side > 14
            x = draw("Add", x, draw.norm(windows(draw, x, (side, width, 4 << stage), shifted=shifted), width))
            x = draw("Add", x, draw.norm(draw.mlp(x, width), width))
    return draw.head(draw.norm(draw("ReduceMean", x, axes=[1, 2], keepdims=0), width), width, labels)


def windows(draw: Drawing, x: str, shape: tuple[int, int, int], *, shifted: bool) -> str:
    """Attention within windows of [N, side, side, width]; `shape` is side, width and heads."""
    side, width, heads = shape
    count = side // 14
    if shifted:
        x = rolled(draw, x, 7)
    x = draw.turned(draw.shaped(x, -1, count, 14, count, 14 * width), 0, 1, 3, 2, 4)
    bias = draw.constant(draw.rng.normal(size=(heads, 196, 196)))
    x = attention(draw, draw.shaped(x, -1, 196, width), width, heads, bias)
    x = draw.turned(draw.shaped(x, -1, count, count, 14, 14 * width), 0, 1, 3, 2, 4)
    x = draw.shaped(x, -1, side, side, width)
    return rolled(draw, x, side - 7) if shifted else x


def rolled(draw: Drawing, x: str, by: int) -> str:
    """The first rows and columns moved to the end."""
    for axis in (1, 2):
        bounds = [draw.constant([value], np.int64) for value in (0, by, 2**31, axis)]
        head, tail = (
            draw("Slice", x, start, end, bounds[3]) for start, end in ((bounds[0], bounds[1]), (bounds[1], bounds[2]))
        )
        x = draw("Concat", tail, head, axis=axis)
    return x


def convnext(draw: Drawing, depth: int, labels: int) -> str:
    """ConvNeXt-B; `depth` is that of its third stage."""
    width = 128
    x = draw.norm(draw.turned(draw.patches(draw.pixels(), 3, width, 4), 0, 2, 3, 1), width)
    for stage, blocks in enumerate((3, 3, depth, 3)):
        if stage:
            x = draw.turned(draw.patches(draw.turned(draw.norm(x, width), 0, 3, 1, 2), width, 2 * width, 2), 0, 2, 3, 1)
            width *= 2
        for _ in range(blocks):
            kernel = draw.constant(draw.rng.normal(size=(width, 1, 7, 7)) / 7)
            seen = draw("Conv", draw.turned(x, 0, 3, 1, 2), kernel, draw.constant(np.zeros(width)), group=width,
                        pads=[3, 3, 3, 3])  # fmt: skip
            seen = draw.mlp(draw.norm(draw.turned(seen, 0, 2, 3, 1), width), width)
            x = draw("Add", x, draw("Mul", seen, draw.constant(np.full(width, 0.1))))
    return draw.head(draw.norm(draw("ReduceMean", x, axes=[1, 2], keepdims=0), width), width, labels)


def tiny(draw: Drawing, _: int, labels: int) -> str:
    """Mean colours of eight by eight places."""
    cell = [SIZE // 8, SIZE // 8]
    colours = draw("Flatten", draw("AveragePool", draw.pixels(), kernel_shape=cell, strides=cell))
    return draw.head(draw("Mul", colours, draw.constant(2)), 192, labels)


Body = Callable[[Drawing, int, int], str]
# What draws each shape, and its depth.
SHAPES: dict[str, tuple[Body, int]] = {
    "vit": (vit, 12),
    "swinv2": (swinv2, 18),
    "convnext": (convnext, 27),
    "tiny": (tiny, 0),
}


def write(folder: Path, shape: str, depth: int | None = None) -> Path:
    """Write `model.onnx` and `selected_tags.csv` into a folder, unless they are there, and give the folder."""
    if (folder / "selected_tags.csv").exists():
        return folder
    names = [(f"{word}_{number}", code) for word, (code, count) in LABELS.items() for number in range(count)]
    rows = [f"{number},{name},{code},1" for number, (name, code) in enumerate(names)]
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(
        graph(shape, depth, len(names)), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    save(model, folder / "model.onnx")
    # Written last, as it says that the model is whole.
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows, ""]), "utf-8")
    return folder


def graph(shape: str, depth: int | None, labels: int) -> GraphProto:
    """The graph, from `input` of [N, SIZE, SIZE, 3] to `output` of [N, labels]."""
    draw, (body, usual) = Drawing(), SHAPES[shape]
    draw("Identity", body(draw, usual if depth is None else depth, labels))
    draw.nodes[-1].output[0] = "output"
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", SIZE, SIZE, 3])
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", labels])
    return helper.make_graph(draw.nodes, shape, [given], [made], draw.weights)


def main() -> None:
    """Write one tagger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="vit")
    parser.add_argument("--depth", type=int, help="blocks, instead of as many as the real one has")
    given = parser.parse_args()
    write(given.folder, given.shape, given.depth)


if __name__ == "__main__":
    main()
