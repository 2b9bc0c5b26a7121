"""The stages of a model's own `preprocess.json`."""

import json

import pytest

from sdprep.errors import ModelError
from sdprep.models.base import ImageSpec, ModelFiles
from sdprep.models.taggers.preprocess_json import prepared
from sdprep.types import Fit

PAD = {"type": "pad_to_size", "size": [512, 512], "background_color": "white", "interpolation": "bilinear"}
RESIZE = {"type": "resize", "size": 384, "interpolation": "bicubic", "max_size": None, "antialias": True}
CROP = {"type": "center_crop", "size": [384, 384]}
TENSOR = {"type": "to_tensor"}
NORMALIZE = {"type": "normalize", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
WHITE = (255, 255, 255)


@pytest.fixture
def read(tmp_path):
    def prepare(value):
        text = value if isinstance(value, str) else json.dumps({"stages": value})
        (tmp_path / "preprocess.json").write_text(text)
        return prepared(ImageSpec(recipe="preprocess.json"), ModelFiles(tmp_path, None, ""))

    return prepare


def refusal(read, stages):
    with pytest.raises(ModelError, match=r"preprocess\.json") as caught:
        read(stages)
    return str(caught.value)


def test_stages_become_one_fit_after_another(read):
    image, fit = read([PAD, RESIZE, CROP, {"type": "maybe_to_tensor"}, NORMALIZE])
    assert fit == Fit(384, "squash", first=Fit(512, "letterbox", WHITE, "bilinear"))
    assert (image.size, image.scale, image.channels) == (384, "0..1", "rgb")
    assert (image.mean, image.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_crop_takes_the_middle_of_a_larger_square(read):
    _, fit = read([PAD, RESIZE, {"type": "center_crop", "size": 336}, TENSOR])
    assert fit == Fit(336, "crop", first=Fit(384, "squash", first=Fit(512, "letterbox", WHITE, "bilinear")))


def test_stages_may_lie_under_test(read):
    _, fit = read(json.dumps({"test": [PAD, TENSOR], "val": []}))
    assert fit == Fit(512, "letterbox", WHITE, "bilinear")


@pytest.mark.parametrize(("colour", "rgb"), [("black", (0, 0, 0)), ("#010203", (1, 2, 3)), ([4, 5, 6], (4, 5, 6))])
def test_a_colour_is_a_word_or_three_numbers(read, colour, rgb):
    assert read([{**PAD, "background_color": colour}, TENSOR])[1].pad_color == rgb


def test_one_number_stands_for_all_channels(read):
    image, _ = read([PAD, TENSOR, {"type": "normalize", "mean": 0.5, "std": 0.25}])
    assert (image.mean, image.std) == ((0.5,) * 3, (0.25,) * 3)


def test_stages_that_leave_the_filter_out_are_bilinear(read):
    assert read([{"type": "resize", "size": [8, 8]}, TENSOR])[1] == Fit(8, "squash", resampling="bilinear")


def test_without_a_recipe_the_description_holds(tmp_path):
    image = ImageSpec(fit="pad", size=8)
    assert prepared(image, ModelFiles(tmp_path, None, "")) == (image, None)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"type": "rotate"}], "stage 1 (rotate): sdprep does not support this stage"),
        ([PAD, {"size": 3}], "stage 2 (None)"),
        ([RESIZE], "stage 1 (resize): one number keeps the shape"),
        ([PAD, {**RESIZE, "size": 0}], "stage 2 (resize): size is 0, but must be between 1 and 8192"),
        ([{**PAD, "size": [512, 384]}], "sdprep supports squares only"),
        ([{**PAD, "interpolation": "hamming"}], "interpolation: 'hamming' is not known here"),
        ([{**PAD, "background_color": "no such colour"}], "stage 1 (pad_to_size): unknown color"),
        ([PAD, {**RESIZE, "antialias": False}], "antialiasing"),
        ([PAD, {**RESIZE, "max_size": 9}], "max_size"),
        ([PAD, {**RESIZE, "new": 9}], "unknown field `new`"),
        ([CROP], "stage 1 (center_crop): it needs a larger square before it"),
        ([PAD, NORMALIZE], "stage 2 (normalize): sdprep supports sizes first"),
        ([TENSOR, PAD], "stage 2 (pad_to_size): sdprep supports sizes first"),
        ([PAD, TENSOR, TENSOR], "stage 3 (to_tensor): sdprep supports sizes first"),
        ([PAD, TENSOR, NORMALIZE, NORMALIZE], "stage 4 (normalize)"),
        ([PAD, TENSOR, {**NORMALIZE, "std": 0}], "std must be above 0"),
        ([PAD], "do not end in a square of numbers"),
        ([TENSOR], "do not end in a square of numbers"),
        ([], "has no stages"),
        ("{}", "has no stages"),
        ('{"stages": {"type": "resize"}}', "expected a list"),
        ("[1]", "expected a table"),
        ('{"stages": [', "truncated"),
    ],
)
def test_what_cannot_be_followed_is_named_with_its_stage(read, stages, said):
    assert said in refusal(read, stages)
