"""Every family of taggers by its TOML file alone, against sums that use nothing of sdprep.

Each has a tiny graph with the layout, size, outputs and label file of the real one. What an image must become is
written out below with Pillow and numpy.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from sdprep.config import RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import ModelError
from sdprep.files import configs_folder
from sdprep.images.decode import decode
from sdprep.models.backends import open_tagger
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import load
from sdprep.rules.labels import ARGMAX_CATEGORIES
from sdprep.rules.tags import TagRules
from sdprep.tasks.tag import tag
from sdprep.types import Batch, Decoded, ImageItem
from tests.models.taggers.tiny_graphs import Contract, expected_probabilities, write_graph

# Square, tall, wide, much larger than a model's square, and with transparency.
NAMES = ["aka.jpg", "tall-poster.jpg", "wide-banner.jpg", "large-canvas.webp", "pink-hair-sticker.png"]
RGB, BGR = slice(None), slice(None, None, -1)
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


# What becomes of an image, without sdprep


def on_white(name: str) -> Image.Image:
    image = Image.open(IMAGES / name).convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def centred(image: Image.Image, side: int, colour: tuple[int, int, int]) -> Image.Image:
    canvas = Image.new("RGB", (side, side), colour)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def padded_then_resized(image: Image.Image, size: int) -> Image.Image:
    return centred(image, max(image.size), (255, 255, 255)).resize((size, size), Image.Resampling.BICUBIC)


def resized_then_padded(
    image: Image.Image, size: int, colour: tuple[int, int, int], sampling: Image.Resampling
) -> Image.Image:
    ratio = size / max(image.size)
    shape = (round(image.width * ratio), round(image.height * ratio))
    return centred(image.resize(shape, sampling), size, colour)


def wd(image: Image.Image) -> Any:
    return np.asarray(padded_then_resized(image, 448)).astype(np.float64)[..., BGR]


def cl_tagger(image: Image.Image) -> Any:
    return np.asarray(padded_then_resized(image, 448))[..., BGR] / 127.5 - 1


def pixai(image: Image.Image) -> Any:
    return (np.asarray(image.resize((448, 448), Image.Resampling.BILINEAR)) / 255 - 0.5) / 0.5


def pixai_v1(image: Image.Image) -> Any:
    square = resized_then_padded(image, 1008, (0, 0, 0), Image.Resampling.BILINEAR)
    return (np.asarray(square) / 255 - 0.5) / 0.5


def cl_tagger_v2(image: Image.Image) -> Any:
    return np.asarray(padded_then_resized(image, 384)) / 127.5 - 1


def dbv4(size: int, bilinear: bool = False) -> Callable[[Image.Image], Any]:
    def prepare(image: Image.Image) -> Any:
        square = resized_then_padded(image, 512, (255, 255, 255), Image.Resampling.BILINEAR)
        sampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
        return (np.asarray(square.resize((size, size), sampling)) / 255 - IMAGENET[0]) / IMAGENET[1]

    return prepare


def camie(image: Image.Image) -> Any:
    return np.asarray(resized_then_padded(image, 512, (0, 0, 0), Image.Resampling.LANCZOS)) / 255


def camie_v2(image: Image.Image) -> Any:
    square = resized_then_padded(image, 512, (124, 116, 104), Image.Resampling.LANCZOS)
    return (np.asarray(square) / 255 - IMAGENET[0]) / IMAGENET[1]


def deepdanbooru(image: Image.Image) -> Any:
    return np.asarray(resized_then_padded(image, 512, (0, 0, 0), Image.Resampling.BICUBIC)) / 255


# The label files of the families, in their real forms

WD_ROWS = [("general", 9), ("sensitive", 9), ("1girl", 0), ("long_hair", 0), (";)", 0), ("aka_(sdprep)", 4)]
Table = list[tuple[str, str]]
WORDS = {0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "species", 7: "meta", 8: "lore", 9: "rating"}
PLACE = 'Tokyo, "the city"; Japan'


def csv_labels(rows: list[tuple[str, int]], header: str, row: str) -> tuple[str, Table]:
    lines = [row.format(number, '"' + name.replace('"', '""') + '"', code) for number, (name, code) in enumerate(rows)]
    return "\n".join([header, *lines, ""]), [(name, WORDS[code]) for name, code in rows]


WD_LABELS = csv_labels(WD_ROWS, "tag_id,name,category,count", "{},{},{},100")
Z3D_ROWS = [
    ("anthro", 0), ("someone_(artist)", 1), ("a_film", 3), ("a_hero", 4), ("fox", 5), ("hi_res", 7), ("x_(lore)", 8),
]  # fmt: skip
Z3D_LABELS = csv_labels(Z3D_ROWS, "tag_id,name,category,count", "{},{},{},100")
PIXAI_LABELS = csv_labels(
    [("1girl", 0), (PLACE, 0), ("aka_(sdprep)", 4)],
    "id,tag_id,name,category,count,ips",
    '{0},{0},{1},{2},100,"[""sdprep""]"',
)
PIXAI_1_ROWS = [
    ("1girl", "general", 0), ("someone", "style", 1), ("sdprep", "copyright", 3), ("aka_(sdprep)", "character", 4),
    ("highres", "meta", 5), ("rating:g", "rating", 9), ("rating:e", "rating", 9),
]  # fmt: skip
PIXAI_1_LABELS = (
    "\n".join(["id,name,category", *(f"{row},{name},{code}" for row, (name, _, code) in enumerate(PIXAI_1_ROWS)), ""]),
    [(name, word) for name, word, _ in PIXAI_1_ROWS],
)
DBV4_LABELS = csv_labels(WD_ROWS, "id,tag_id,name,category,count,best_threshold", "{0},{0},{1},{2},100,0.{0}5")
DANBOORU_LABELS = csv_labels(
    [("1girl", 0), ("aka", 4), ("rating:safe", 9), ("rating:explicit", 9)],
    "id,name,real_name,category",
    "{0},{1},{1},{2}",
)
# cl_tagger: numbers 2 and 5 belong to no tag, and the order of the file is not theirs.
CL_TAGS = {
    7: ("general", "Rating"), 0: ("1girl", "General"), 1: ("aka_(sdprep)", "Character"), 3: ("sdprep", "Copyright"),
    4: ("someone", "Artist"), 6: ("best_quality", "Quality"), 8: ("absurdres", "Meta"), 9: ("some_model", "Model"),
}  # fmt: skip
CL_LABELS = (
    json.dumps({str(number): {"tag": tag, "category": word} for number, (tag, word) in CL_TAGS.items()}),
    [(tag, word.lower()) for _, (tag, word) in sorted(CL_TAGS.items())],
)
# cl_tagger v2: two maps, and capitals in some versions of the file.
CL_2_TAGS = [
    ("1girl", "General"), ("aka_(sdprep)", "Character"), ("sdprep", "Copyright"), ("highres", "Meta"),
    ("best_quality", "Quality"), ("explicit", "Rating"), ("general", "Rating"),
]  # fmt: skip
CL_2_MAPS = {
    "idx_to_tag": {str(number): tag for number, (tag, _) in enumerate(CL_2_TAGS)},
    "tag_to_category": dict(CL_2_TAGS),
    "num_tags": len(CL_2_TAGS),
}
CAMIE_TAGS = [
    ("1girl", "general"), ("aka", "character"), ("sdprep", "copyright"), ("someone", "artist"), ("highres", "meta"),
    ("year_2024", "year"), ("rating_general", "rating"), (PLACE, "general"),
]  # fmt: skip
CAMIE_MAPS = {
    "idx_to_tag": {str(number): tag for number, (tag, _) in enumerate(CAMIE_TAGS)},
    "tag_to_category": dict(CAMIE_TAGS),
}


def stages(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return list(given)


TO_TENSOR = {"type": "maybe_to_tensor"}
PAD = {"type": "pad_to_size", "size": [512, 512], "background_color": "white", "interpolation": "bilinear"}
DBV4_NORMALIZE = {"type": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def dbv4_recipe(size: int, interpolation: str) -> dict[str, Any]:
    resize = {"type": "resize", "size": size, "interpolation": interpolation, "max_size": None, "antialias": True}
    crop = {"type": "center_crop", "size": [size, size]}
    return {"test": stages(PAD, resize, crop, TO_TENSOR, DBV4_NORMALIZE), "val": stages(resize)}


PIXAI_RECIPE = {
    "stages": stages(
        {"type": "resize", "size": [448, 448], "interpolation": "bilinear", "max_size": None, "antialias": True},
        TO_TENSOR,
        {"type": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    )
}


@dataclass(frozen=True)
class Family:
    """A shipped TOML file, the contract of its graph, its label file with what it means, and what an image becomes.

    The weights of a graph that `is_split` are in a second file.
    """

    toml: str
    contract: Contract
    labels: tuple[str, Table]
    prepare: Callable[[Image.Image], Any]
    outputs: tuple[int, ...] = ()
    is_split: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)


def wd_contract(batch: Any, labels: int, name: str = "input_1:0", output: str = "predictions_sigmoid") -> Contract:
    return Contract(
        (batch, 448, 448, 3), 448, ((output, "probabilities"),), labels, name, centre=127.5, spread=127.5
    )  # fmt: skip


V1, V3 = wd_contract(1, 6), wd_contract("batch", 6, "input", "output")
PREDICTION = (("embedding", "embedding"), ("logits", "logits"), ("prediction", "probabilities"))
INITIAL_AND_REFINED = (("initial", "other"), ("refined", "logits"))


def nchw(size: Any, outputs: tuple[tuple[str, str], ...], labels: int, **more: Any) -> Contract:
    return Contract(("batch", 3, size, size), more.pop("real", size), outputs, labels, channels_first=True, **more)


FAMILIES = {
    "WD v1": Family("wd-v1-4-vit-tagger", V1, WD_LABELS, wd),
    "WD v2, batch 1": Family("wd-v1-4-moat-tagger-v2", V1, WD_LABELS, wd),
    "WD v2.1": Family("wd-v1-4-swinv2-tagger-v2", wd_contract("N", 6, "input", "output"), WD_LABELS, wd),
    "WD v3": Family("wd-eva02-large-tagger-v3", V3, WD_LABELS, wd),
    "idolsankaku": Family("idolsankaku-eva02-large-tagger-v1", V3, WD_LABELS, wd),
    "Z3D": Family("z3d-e621-convnext", wd_contract(1, 7), Z3D_LABELS, wd),
    "cl_tagger": Family("cl_tagger", nchw("H", (("output", "logits"),), 10, real=448), CL_LABELS, cl_tagger,
                        outputs=(0, 1, 3, 4, 6, 7, 8, 9)),
    "PixAI": Family("pixai-tagger-v0.9-onnx", nchw(448, PREDICTION, 3), PIXAI_LABELS, pixai, recipe=PIXAI_RECIPE),
    "PixAI v1.0": Family("pixai-tagger-v1.0", nchw(1008, PREDICTION[2:], 7), PIXAI_1_LABELS, pixai_v1),
    "cl_tagger v2": Family("cl-tagger-v2", nchw(384, (("embedding", "embedding"), ("logits", "logits")), 7),
                           (json.dumps(CL_2_MAPS), [(tag, word.lower()) for tag, word in CL_2_TAGS]), cl_tagger_v2,
                           is_split=True),
    "dbv4 at 384": Family("caformer_b36.dbv4-full", nchw(384, PREDICTION, 6, spread=2.0), DBV4_LABELS, dbv4(384),
                          recipe=dbv4_recipe(384, "bicubic")),
    "dbv4 at 448": Family("eva02_large_patch14_448.dbv4-full", nchw("size", PREDICTION, 6, real=448, spread=2.0),
                          DBV4_LABELS, dbv4(448, bilinear=True), recipe=dbv4_recipe(448, "bilinear")),
    "Camie v1": Family("camie-tagger", nchw(512, (("output", "logits"),), 8, centre=0.5, spread=0.5),
                       (json.dumps({**CAMIE_MAPS, "total_tags": 8}), CAMIE_TAGS), camie),
    "Camie v2": Family("camie-tagger-v2", nchw("H", INITIAL_AND_REFINED, 8, real=512, spread=2.0),
                       (json.dumps({"dataset_info": {"tag_mapping": CAMIE_MAPS}, "model_info": {"img_size": 512}}),
                        CAMIE_TAGS), camie_v2),
    "DeepDanbooru": Family("deepdanbooru", Contract(("N", 512, 512, 3), 512, (("activation", "probabilities"),), 4,
                                                    "input_1", centre=0.5, spread=0.5),
                           DANBOORU_LABELS, deepdanbooru),
}  # fmt: skip


def write_family(folder: Path, family: Family, changes: Callable[[str], str] = str) -> Path:
    """The shipped TOML file with its [source] replaced by a folder, and the model's files in that folder."""
    text = (configs_folder("models") / f"{family.toml}.toml").read_text()
    text = re.sub(r"^repo = .*\n(#.*\n)*revision = .*\n", 'path = "weights"\n', text, flags=re.M)
    toml = folder / "model.toml"
    toml.write_text(changes(text))
    spec = load(toml)
    graph = folder / "weights" / spec.files[0]
    made = write_graph(graph, family.contract)
    if family.is_split:
        onnx.save_model(made, graph, save_as_external_data=True, location=f"{graph.name}.data")
    assert spec.labels is not None
    (folder / "weights" / spec.labels.file).write_text(family.labels[0])
    if family.recipe:
        (folder / "weights" / "preprocess.json").write_text(json.dumps(family.recipe, indent=4))
    return toml


def opened(spec: ModelSpec) -> Any:
    files = find_local(spec)
    assert files is not None
    return open_tagger(spec, files)


def scores_of(model: Any, names: list[str] = NAMES) -> Any:
    decoded = [decode(ImageItem.at(IMAGES / name), replace(model.fit, exact=True)) for name in names]
    assert all(isinstance(image, Decoded) for image in decoded)
    pixels = np.stack([image.pixels for image in decoded if isinstance(image, Decoded)])
    found = dict(model.predict([Batch(tuple(names), (b"",) * len(names), pixels)]))
    return np.stack([found[name].scores for name in names])


@pytest.fixture(params=FAMILIES, ids=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_probabilities_are_those_of_sums_without_sdprep(tmp_path: Path, family: Family) -> None:
    model = opened(load(write_family(tmp_path, family)))
    images = (family.prepare(on_white(name))[None] for name in NAMES)
    wanted = np.concatenate([expected_probabilities(family.contract, image) for image in images])
    found = scores_of(model)
    assert wanted.std() > 0.05
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[:, list(family.outputs)] if family.outputs else wanted, atol=1e-4)


def test_labels_and_categories_are_those_of_the_file(tmp_path: Path, family: Family) -> None:
    labels = opened(load(write_family(tmp_path, family))).labels
    assert list(zip(labels.names, labels.categories, strict=True)) == family.labels[1]
    assert len(labels.best_thresholds) == (6 if family.labels is DBV4_LABELS else 0)


def test_a_folder_is_tagged_by_its_description(tmp_path: Path, family: Family) -> None:
    toml = write_family(tmp_path, family)
    shutil.copy(IMAGES / "tall-poster.jpg", tmp_path)
    place = "first" if "rating" in {category for _, category in family.labels[1]} else "none"
    tag(tmp_path, TagSettings(model=str(toml), rules=TagRules(ratings=place), run=RunOptions(workers=0)))
    (wanted,) = expected_probabilities(family.contract, family.prepare(on_white("tall-poster.jpg"))[None])
    scores = wanted[list(family.outputs)] if family.outputs else wanted
    labels = [(score, *label) for score, label in zip(scores, family.labels[1], strict=True)]
    ratings = sorted(((score, name) for score, name, category in labels if category == "rating"), reverse=True)
    names = {name for score, name, category in labels if category not in ARGMAX_CATEGORIES and score >= 0.35}
    written = (tmp_path / "tall-poster.txt").read_text().strip().replace(PLACE, "place").split(", ")
    assert set(written) == {name.replace(PLACE, "place") for name in names | {name for _, name in ratings[:1]}}


def test_thresholds_by_tag_come_from_their_column(tmp_path: Path) -> None:
    labels = opened(load(write_family(tmp_path, FAMILIES["dbv4 at 384"]))).labels
    assert labels.best_thresholds == (0.05, 0.15, 0.25, 0.35, 0.45, 0.55)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_weights_in_a_second_file_are_read_through_the_links_of_the_cache_of_the_hub(tmp_path: Path) -> None:
    spec = load(write_family(tmp_path, FAMILIES["cl_tagger v2"]))
    wanted = scores_of(opened(spec))
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "commit", tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (snapshot / "v2_00").mkdir(parents=True)
    for number, name in enumerate(spec.files):
        (tmp_path / "weights" / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(f"../../../blobs/{number}")
    of_hub = msgspec.structs.replace(spec, source=Source(repo="a/b"))
    files = ModelFiles(snapshot, "commit", "5" * 64)
    np.testing.assert_array_equal(scores_of(open_tagger(of_hub, files)), wanted)
    # The links of any other folder are not those of the cache.
    with pytest.raises(ModelError, match="keeps its weights in other files"):
        open_tagger(spec, files)


def test_weights_in_a_second_file_are_part_of_what_a_result_depends_on(tmp_path: Path) -> None:
    spec = load(write_family(tmp_path, FAMILIES["cl_tagger v2"]))
    before = find_local(spec)
    data = tmp_path / "weights" / spec.files[1]
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    after = find_local(spec)
    assert before is not None
    assert after is not None
    assert before.weights != after.weights


# Each part of a description changes the answer: the graphs above would notice a part that is forgotten.

CAMIE_2 = FAMILIES["Camie v2"]
CHANGES: dict[str, tuple[str, str]] = {
    "fit": ('fit = "letterbox"', 'fit = "squash"'),
    "fit, order": ('fit = "letterbox"', 'fit = "pad"'),
    "pad colour": ("pad_color = [124, 116, 104]", "pad_color = [0, 0, 0]"),
    "resampling": ('resampling = "lanczos"', 'resampling = "bilinear"'),
    "resampling, area": ('resampling = "lanczos"', 'resampling = "area"'),
    "channels": ('scale = "0..1"', 'scale = "0..1"\nchannels = "bgr"'),
    "scale": ('scale = "0..1"', 'scale = "0..255"'),
    "mean": ("mean = [0.485", "mean = [0.385"),
    "std": ("std = [0.229", "std = [0.329"),
    "output": ("output = 1", "output = 0"),
    "output by name": ("output = 1", 'output = "initial"'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_part_of_a_description_changes_the_answer(tmp_path: Path, change: tuple[str, str]) -> None:
    old, new = change
    for folder in ("right", "wrong"):
        (tmp_path / folder).mkdir()
    right = load(write_family(tmp_path / "right", CAMIE_2))
    wrong = load(write_family(tmp_path / "wrong", CAMIE_2, lambda text: text.replace(old, new, 1)))
    assert right != wrong
    assert right.result_key() != wrong.result_key()
    assert right.fingerprint() != wrong.fingerprint()
    difference = np.abs(scores_of(opened(right)) - scores_of(opened(wrong))).max()
    assert difference > 2e-3


def test_an_output_may_be_given_by_its_name(tmp_path: Path) -> None:
    by_place = load(write_family(tmp_path, CAMIE_2))
    by_name = msgspec.structs.replace(by_place, output="refined")
    np.testing.assert_array_equal(scores_of(opened(by_place)), scores_of(opened(by_name)))


def test_logits_taken_for_probabilities_are_refused(tmp_path: Path) -> None:
    spec = load(write_family(tmp_path, CAMIE_2, lambda text: text.replace('answers = "logits"\n', "")))
    with pytest.raises(ModelError, match=r'which are not probabilities\n.*answers = "logits"'):
        scores_of(opened(spec))


def test_a_wrong_layout_is_refused(tmp_path: Path) -> None:
    spec = load(write_family(tmp_path, CAMIE_2, lambda text: text.replace('"nchw"', '"nhwc"')))
    with pytest.raises(ModelError, match="not a batch of square RGB images in the layout nhwc"):
        opened(spec)


@pytest.mark.parametrize("labels", ["file", "within", "categories"])
def test_what_concerns_labels_alone_changes_texts(tmp_path: Path, labels: str) -> None:
    spec = load(write_family(tmp_path, CAMIE_2))
    assert spec.labels is not None
    value = {"tag": "general"} if labels == "categories" else "other"
    other = msgspec.structs.replace(spec, labels=msgspec.structs.replace(spec.labels, **{labels: value}))
    assert other.fingerprint() != spec.fingerprint()
    assert (other.result_key() == spec.result_key()) == (labels == "categories")
