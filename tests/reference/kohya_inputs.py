"""The images and the tagger on which kohya's script and sdprep are compared, made alike on any machine.

No drawing, no resizing and no lossy encoder takes part: windows of one stored sheet of drawings, and formats without
loss. Images in lossy formats are stored whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tag_kohya"
# kohya's script knows no other size.
SIDE = 448
# Width and height: strips, small ones to be enlarged, exact multiples, and sizes for which every pixel counts in part.
SIZES = (
    (448, 448), (896, 896), (1344, 1344), (448, 300), (449, 448), (450, 447), (895, 897), (640, 480), (480, 640),
    (1000, 333), (333, 1000), (1216, 832), (832, 1216), (1023, 767), (64, 64), (100, 37), (37, 100), (447, 447),
    (446, 200), (224, 224), (300, 299), (1500, 20), (20, 1500), (1, 1), (7, 3), (1792, 500), (512, 512), (768, 513),
)  # fmt: skip
LABELS = (
    *(("general", 9), ("sensitive", 9), ("questionable", 9), ("explicit", 9)),
    *((name, 0) for name in "1girl 1boy 2girls solo long_hair short_hair blue_eyes red_hair ^_^ >_< o_o".split()),
    *((name, 0) for name in "(o)_(o) <o>_<o> ||_|| hat cat_ears scarf smile open_mouth school_uniform".split()),
    *(
        (name, 0)
        for name in "white_background looking_at_viewer don't_look :d ;) hair_between_eyes v no_humans".split()
    ),
    *((name, 4) for name in ("aka_(sdprep)", "kuro_(sdprep)", "sora_(winter)_(sdprep)", "shiro", "midori_(other)")),
)

Pixels = Any


def sheet() -> Pixels:
    """The stored drawings, uint8[512, 512, 3]."""
    return np.asarray(Image.open(GOLDEN / "drawings.png").convert("RGB"))


def window(drawings: Pixels, place: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """A part of the sheet, which goes on beyond its edges from the other side: uint8[height, width, 3]."""
    rows = (np.arange(size[1]) + place[1]) % len(drawings)
    columns = (np.arange(size[0]) + place[0]) % drawings.shape[1]
    return drawings[rows][:, columns]


def grey(pixels: Pixels) -> Pixels:
    return pixels[..., 1].copy()


def slope(pixels: Pixels) -> Pixels:
    """An alpha that runs from clear to solid, uint8[height, width]."""
    height, width = pixels.shape[:2]
    steps = np.arange(width)[None] * 3 + np.arange(height)[:, None] * 2
    return (steps * 255 // (3 * width + 2 * height)).astype(np.uint8)


def palette(pixels: Pixels) -> Image.Image:
    """Eight bits a pixel: three of red, three of green, two of blue."""
    indices = (pixels[..., 0] & 0xE0) | ((pixels[..., 1] & 0xE0) >> 3) | (pixels[..., 2] >> 6)
    image = Image.fromarray(indices)
    image.putpalette([value for n in range(256) for value in (n & 0xE0, (n << 3) & 0xE0, (n << 6) & 0xC0)])
    return image


def turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


Make = Callable[[Pixels], tuple[str, Image.Image, dict[str, Any]]]
KINDS: dict[str, Make] = {
    "rgb": lambda px: ("png", Image.fromarray(px), {}),
    "bmp": lambda px: ("bmp", Image.fromarray(px), {}),
    "webp": lambda px: ("webp", Image.fromarray(px), {"lossless": True}),
    "rgba": lambda px: ("png", Image.fromarray(np.dstack([px, slope(px)])), {}),
    "rgba-webp": lambda px: ("webp", Image.fromarray(np.dstack([px, slope(px)])), {"lossless": True, "exact": True}),
    "la": lambda px: ("png", Image.fromarray(np.dstack([grey(px), slope(px)])), {}),
    "palette": lambda px: ("png", palette(px), {}),
    "palette-alpha": lambda px: ("png", palette(px), {"transparency": bytes(n * 5 % 256 for n in range(256))}),
    "palette-key": lambda px: ("png", palette(px), {"transparency": 0xFF}),
    "rgb-key": lambda px: ("png", Image.fromarray(px), {"transparency": tuple(int(v) for v in px[0, 0])}),
    "grey": lambda px: ("png", Image.fromarray(grey(px)), {}),
    "grey-16": lambda px: ("png", Image.fromarray(grey(px).astype(np.uint16) * 3), {}),
    "bitmap": lambda px: ("png", Image.fromarray(grey(px) > 127), {}),
    "turned-6": lambda px: ("png", Image.fromarray(px), {"exif": turned(6)}),
    "turned-3": lambda px: ("webp", Image.fromarray(px), {"lossless": True, "exif": turned(3)}),
    "turned-5": lambda px: ("png", Image.fromarray(px), {"exif": turned(5)}),
}


def images() -> Iterator[tuple[str, Make, Pixels]]:
    """Name, maker and pixels of every image that is made: each size twice, each kind four times."""
    drawings, rng, kinds = sheet(), random.Random(19), list(KINDS)
    for number in range(4 * len(kinds)):
        kind, size = kinds[number % len(kinds)], SIZES[number % len(SIZES)]
        place = (rng.randrange(512), rng.randrange(512))
        yield f"{number:02}-{kind}", KINDS[kind], window(drawings, place, size)


def write_images(folder: Path) -> None:
    """All images of the comparison, in one folder."""
    for name, make, pixels in images():
        suffix, image, options = make(pixels)
        image.save(folder / f"{name}.{suffix}", **options)
    for stored in sorted((GOLDEN / "images").iterdir()):
        (folder / stored.name).write_bytes(stored.read_bytes())


def write_model(folder: Path) -> None:
    """`model.onnx` and `selected_tags.csv` of a tagger that looks at colours and edges, each in its own place."""
    (folder / "model.onnx").write_bytes(graph().SerializeToString())
    rows = [f"{number},{name},{category},1" for number, (name, category) in enumerate(LABELS)]
    text = "\n".join(["tag_id,name,category,count", *rows]) + "\n"
    (folder / "selected_tags.csv").write_bytes(text.encode())


def graph() -> onnx.ModelProto:
    """Probabilities from 48 mean colours and 96 mean differences of neighbours, over a grid of four by four cells.

    Mean differences tell one way of resizing from another, the places tell how an image was turned and centred.
    """
    kernels = np.zeros((6, 1, 2, 2), dtype=np.float32)
    kernels[0::2, 0, 0], kernels[1::2, 0, :, 0] = (-1, 1), (-1, 1)
    weights, bias = judgement()
    constants = {"kernels": kernels, "weights": weights, "bias": bias}
    cell = {"kernel_shape": [SIDE // 4] * 2, "strides": [SIDE // 4] * 2}
    nodes = [
        helper.make_node("Transpose", ["input_1:0"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["pixels"], ["colours"], **cell),
        helper.make_node("Conv", ["pixels", "kernels"], ["steps"], group=3, pads=[0, 0, 1, 1]),
        helper.make_node("Abs", ["steps"], ["edges"]),
        helper.make_node("AveragePool", ["edges"], ["edginess"], **cell),
        helper.make_node("Concat", ["colours", "edginess"], ["grid"], axis=1),
        helper.make_node("Flatten", ["grid"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["predictions_sigmoid"]),
    ]
    given = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])
    made = helper.make_tensor_value_info("predictions_sigmoid", TensorProto.FLOAT, ["N", len(LABELS)])
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "detail", [given], [made], stored)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def judgement() -> tuple[Pixels, Pixels]:
    """Each label compares two cells by colour and two by edges: float32[144, n] and float32[n]."""
    rng = random.Random(7)
    weights = np.zeros((144, len(LABELS)), dtype=np.float32)
    bias = np.zeros(len(LABELS), dtype=np.float32)
    for label, (_, category) in enumerate(LABELS):
        for first, last, gain in ((0, 48, 0.04), (48, 144, 0.4)):
            one, other = rng.sample(range(first, last), 2)
            weights[one, label], weights[other, label] = gain, -gain
        bias[label] = -2 if category == 4 else -1
    return weights, bias
