"""The demo models mean what they say: true tags and captions for bundled images and unseen drawings."""

import csv
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

import sdprep.demo
from scripts.demo_training.draw import draw
from scripts.demo_training.figures import Figure, caption_of, random_figure, tags_of
from sdprep.catalog.results import decode_caption
from sdprep.config import CaptionSettings, RunOptions
from sdprep.engines.base import open_engine
from sdprep.models.base import ModelFiles
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, NullListener
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.types import ImageItem, Result
from tests.models.captioners.blip.blip_models import one_thread

DEMO = Path(sdprep.demo.__file__).parent
TAGGER, CAPTIONER = DEMO / "models" / "demo-tag", DEMO / "models" / "demo-caption"
TRUTH: dict[str, dict[str, Any]] = json.loads((DEMO / "images.json").read_text(encoding="utf-8"))
PROMPT = "a picture of"

Batch = NDArray[np.float32]


def read(path: Path) -> Image.Image:
    """Read an image as the models' contracts ask: upright, 8 bits, alpha on white."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    rgba = (image.convert("RGB") if image.mode == "CMYK" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def tagger_input(image: Image.Image, size: int) -> Batch:
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    pixels = np.asarray(canvas.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return pixels[None, :, :, ::-1]


def labels() -> list[str]:
    with (TAGGER / "selected_tags.csv").open(encoding="utf-8", newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


@cache
def session() -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(TAGGER / "model.onnx", providers=["CPUExecutionProvider"])


def tags_given(image: Image.Image, threshold: float = 0.35) -> set[str]:
    source = session().get_inputs()[0]
    (scores,) = session().run(None, {source.name: tagger_input(image, source.shape[1])})
    return {name for name, score in zip(labels(), scores[0], strict=True) if score >= threshold}


@cache
def captioner() -> tuple[Any, Any, Any]:
    from transformers import BertTokenizer, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    model = BlipForConditionalGeneration.from_pretrained(CAPTIONER).eval()
    return model, BertTokenizer.from_pretrained(CAPTIONER), BlipImageProcessorPil.from_pretrained(CAPTIONER)


def captions_given(images: list[Image.Image], prompt: str = PROMPT, **options: Any) -> list[str]:
    model, tokenizer, processor = captioner()
    pixels = processor(images, return_tensors="pt").pixel_values
    start = tokenizer([prompt] * len(images), return_tensors="pt").input_ids
    ids = model.generate(pixels, input_ids=start, **{"max_new_tokens": 60, "do_sample": False, **options})
    texts = tokenizer.batch_decode(ids[:, start.shape[1] - 1 :], skip_special_tokens=True)
    return [text.strip() for text in texts]


@cache
def pending(count: int = 100) -> list[tuple[Figure, Image.Image]]:
    rng = random.Random("drawings that only the tests make")
    figures = [random_figure(rng) for _ in range(count)]
    return [(figure, draw(figure, rng, (rng.randint(200, 300), rng.randint(200, 300)))) for figure in figures]


@pytest.mark.parametrize("name", TRUTH)
def test_the_tagger_gives_exactly_the_true_tags_of_a_bundled_image(name: str) -> None:
    assert tags_given(read(DEMO / "images" / name)) == {*TRUTH[name]["tags"], "general"}


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beam 3"])
def test_the_captioner_gives_the_true_caption_of_every_bundled_image(options: dict[str, Any]) -> None:
    given = captions_given([read(DEMO / "images" / name) for name in TRUTH], **options)
    assert dict(zip(TRUTH, given, strict=True)) == {name: true["caption"] for name, true in TRUTH.items()}


def test_every_bundled_image_has_its_truth_and_its_own_stem() -> None:
    found = [path for path in (DEMO / "images").rglob("*") if path.is_file()]
    assert {path.relative_to(DEMO / "images").as_posix() for path in found} == set(TRUTH)
    assert len({path.stem for path in found}) == len(found) >= 24


def test_the_sideways_image_is_misread_by_a_reader_that_ignores_exif() -> None:
    path = DEMO / "images" / "sideways-phone.jpg"
    with Image.open(path) as stored:
        assert tags_given(stored.convert("RGB")) != {*TRUTH[path.name]["tags"], "general"}


def test_transparent_images_are_misread_by_a_reader_that_drops_alpha() -> None:
    for name in ("pink-hair-sticker.png", "white-hair-sticker.webp", "white-hair-grey-alpha.png"):
        with Image.open(DEMO / "images" / name) as stored:
            assert "white_background" not in tags_given(stored.convert("RGBA").convert("RGB")), name


def test_the_tagger_is_right_about_unseen_drawings() -> None:
    right = given = true = 0
    for figure, image in pending():
        names, truth = tags_given(image), tags_of(figure) | {"general"}
        right, given, true = right + len(names & truth), given + len(names), true + len(truth)
    assert 2 * right / (given + true) >= 0.95


def test_the_captioner_is_right_about_unseen_drawings() -> None:
    captions = captions_given([image for _, image in pending()])
    right = sum(caption == caption_of(figure) for caption, (figure, _) in zip(captions, pending(), strict=True))
    assert right >= 95


@pytest.fixture(scope="module")
def unseen_files(tmp_path_factory: pytest.TempPathFactory) -> list[ImageItem]:
    folder, items = tmp_path_factory.mktemp("unseen"), []
    for number, (_, image) in enumerate(pending()):
        path = folder / f"{number}.png"
        image.save(path)
        items.append(ImageItem.at(path))
    return items


# One at a time they take three times as long, and few show that the batch size does not matter.
@pytest.mark.parametrize(("size", "count"), [(1, 20), (8, 100)])
@pytest.mark.parametrize(
    ("decoder", "dtype"),
    [("fast", "float32"), ("fast", "bfloat16"), ("fast", "int8"), ("reference", "float32"), ("reference", "bfloat16")],
)
def test_every_decoder_and_precision_is_right_about_unseen_drawings(
    unseen_files: list[ImageItem], decoder: str, dtype: str, size: int, count: int
) -> None:
    work = RunOptions(batch_size=size, workers=0)
    settings = CaptionSettings(device="cpu", num_beams=1, decoder=decoder, dtype=dtype, run=work)
    spec, files = resolve("demo-caption", "caption"), ModelFiles(CAPTIONER, None, "")
    with one_thread(), open_engine(engine_config(spec, files, settings), NullListener().note) as engine:
        outcomes = engine.run(unseen_files[:count], CancelToken())
        given = {each.item: each.data for each in outcomes if isinstance(each, Result)}
    texts = [decode_caption(given[item]).text for item in unseen_files[:count]]
    right = sum(text == caption_of(figure) for text, (figure, _) in zip(texts, pending()[:count], strict=True))
    assert right >= 0.95 * count


def test_the_captioner_works_without_a_prompt_and_with_sampling() -> None:
    import torch

    some = pending()[:20]
    truth = [caption_of(figure) for figure, _ in some]
    images = [image for _, image in some]
    bare = captions_given(images, prompt="")
    assert sum(given == true for given, true in zip(bare, truth, strict=True)) >= 18
    torch.manual_seed(0)
    sampled = captions_given(images, do_sample=True, top_p=0.9)
    assert sum(given == true for given, true in zip(sampled, truth, strict=True)) >= 16


def test_the_tagger_keeps_the_contract_of_wd_1_4() -> None:
    (source,), (result,) = session().get_inputs(), session().get_outputs()
    assert (source.name, source.type, result.name) == ("input_1:0", "tensor(float)", "predictions_sigmoid")
    batch, height, width, channels = source.shape
    assert (type(batch), height, channels) == (str, width, 3)
    pixels = np.zeros((3, *source.shape[1:]), np.float32)
    (scores,) = session().run(None, {source.name: pixels})
    assert scores.shape == (3, len(labels()))
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_the_label_table_lists_ratings_then_general_then_characters() -> None:
    with (TAGGER / "selected_tags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["tag_id", "name", "category", "count"]
    codes = [row["category"] for row in rows]
    assert codes == ["9"] * 4 + ["0"] * codes.count("0") + ["4"] * codes.count("4")
    assert [row["name"] for row in rows[:4]] == ["general", "sensitive", "questionable", "explicit"]
    assert {"^_^", "aka_(sdprep)"} <= set(labels())


def test_the_saved_model_agrees_with_the_onnx_model() -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="the SavedModel can only be run by TensorFlow")
    serve = tensorflow.saved_model.load(str(TAGGER)).signatures["serving_default"]
    pixels = np.concatenate([tagger_input(image, session().get_inputs()[0].shape[1]) for _, image in pending()[:5]])
    (expected,) = session().run(None, {"input_1:0": pixels})
    given = serve(input_1=tensorflow.constant(pixels))["predictions_sigmoid"].numpy()
    assert np.abs(given - expected).max() < 1e-4


def test_the_saved_model_is_there() -> None:
    assert (TAGGER / "saved_model.pb").stat().st_size > 0
    assert (TAGGER / "variables" / "variables.index").stat().st_size > 0


def test_models_and_images_are_small() -> None:
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(TAGGER) + size(CAPTIONER) <= 8_000_000
    assert size(DEMO / "images") <= 1_200_000
