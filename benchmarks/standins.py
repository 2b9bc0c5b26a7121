"""Writes a tagger of a real one's shape with random weights: for measuring speed where real weights cannot be had.

    python benchmarks/standins.py FOLDER [--depth 12]

The shape is that of wd-vit-tagger-v3: a ViT-B/16 at 448 pixels, NHWC in 0 to 255, probabilities of 10861 labels out.
Its tags mean nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper, save

SIZE, PATCH, WIDTH, HEADS, MLP = 448, 16, 768, 12, 3072
LABELS = {"rating": (9, 4), "general": (0, 8106), "character": (4, 2751)}


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

    def norm(self, x: str) -> str:
        return self(
            "LayerNormalization", x, self.constant(np.ones(WIDTH)), self.constant(np.zeros(WIDTH)), epsilon=1e-6
        )

    def gelu(self, x: str) -> str:
        """As exporters write it."""
        bell = self("Add", self("Erf", self("Div", x, self.constant(2**0.5))), self.constant(1))
        return self("Mul", self("Mul", x, bell), self.constant(0.5))


def attention(draw: Drawing, x: str) -> str:
    """Multi-head attention over [N, tokens, WIDTH]."""
    split, merged = draw.constant([0, -1, HEADS, WIDTH // HEADS], np.int64), draw.constant([0, -1, WIDTH], np.int64)
    heads = [draw("Reshape", draw.linear(x, WIDTH, WIDTH), split) for _ in range(3)]
    q, v = (draw("Transpose", each, perm=[0, 2, 1, 3]) for each in (heads[0], heads[2]))
    k = draw("Transpose", heads[1], perm=[0, 2, 3, 1])
    scale = draw.constant((WIDTH // HEADS) ** -0.5)
    weights = draw("Softmax", draw("MatMul", draw("Mul", q, scale), k), axis=-1)
    seen = draw("Transpose", draw("MatMul", weights, v), perm=[0, 2, 1, 3])
    return draw.linear(draw("Reshape", seen, merged), WIDTH, WIDTH)


def vit(depth: int, labels: int) -> GraphProto:
    """The graph, from `input` of [N, SIZE, SIZE, 3] to `output` of [N, labels]."""
    draw = Drawing()
    half = draw.constant(127.5)
    x = draw("Transpose", draw("Div", draw("Sub", "input", half), half), perm=[0, 3, 1, 2])
    kernel = draw.constant(draw.rng.normal(size=(WIDTH, 3, PATCH, PATCH)) / (3 * PATCH**2) ** 0.5)
    x = draw("Conv", x, kernel, draw.constant(np.zeros(WIDTH)), strides=[PATCH, PATCH])
    x = draw("Transpose", draw("Reshape", x, draw.constant([0, WIDTH, -1], np.int64)), perm=[0, 2, 1])
    x = draw("Add", x, draw.constant(draw.rng.normal(size=(1, (SIZE // PATCH) ** 2, WIDTH)) / 10))
    for _ in range(depth):
        x = draw("Add", x, attention(draw, draw.norm(x)))
        x = draw("Add", x, draw.linear(draw.gelu(draw.linear(draw.norm(x), WIDTH, MLP)), MLP, WIDTH))
    x = draw("ReduceMean", draw.norm(x), axes=[1], keepdims=0)
    draw.nodes.append(helper.make_node("Sigmoid", [draw.linear(x, WIDTH, labels)], ["output"]))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", SIZE, SIZE, 3])
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", labels])
    return helper.make_graph(draw.nodes, "vit", [given], [made], draw.weights)


def main() -> None:
    """Write `model.onnx` and `selected_tags.csv` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--depth", type=int, default=12)
    given = parser.parse_args()
    names = [(f"{word}_{number}", code) for word, (code, count) in LABELS.items() for number in range(count)]
    rows = [f"{number},{name},{code},1" for number, (name, code) in enumerate(names)]
    given.folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(vit(given.depth, len(names)), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, given.folder / "model.onnx")
    (given.folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows, ""]), "utf-8")


if __name__ == "__main__":
    main()
