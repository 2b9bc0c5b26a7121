"""Buckets: the sizes that sd-scripts gave for these images, and what must hold for any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.trainers.buckets import BucketRules, cover, fit_area

AT_512 = BucketRules((512, 512))
AT_1024 = BucketRules((1024, 1024), max_bucket_reso=2048)
SHRINK_512 = BucketRules((512, 512), bucket_no_upscale=True)
SHRINK_1024 = BucketRules((1024, 1024), max_bucket_reso=2048, bucket_no_upscale=True)


@pytest.mark.parametrize(
    ("rules", "count"),
    [
        (AT_512, 17),
        (BucketRules((768, 768)), 19),
        (AT_1024, 41),
        (BucketRules((1024, 1024), 512, 2048), 33),
        (BucketRules((1024, 1024), 256, 2048, 32), 81),
        (BucketRules((512, 768)), 19),
    ],
)
def test_the_list_of_sizes_is_as_long_as_that_of_sd_scripts(rules: BucketRules, count: int) -> None:
    assert len(rules.sizes) == count


def test_the_list_of_sizes_is_that_of_sd_scripts() -> None:
    tall = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]
    assert AT_512.sizes == sorted([*tall, (512, 512), *((height, width) for width, height in tall)])


@pytest.mark.parametrize(
    ("rules", "image", "size", "resized"),
    [
        (AT_512, (1920, 1080), (640, 384), (683, 384)),
        (AT_512, (1080, 1920), (384, 640), (384, 683)),
        (AT_512, (640, 480), (576, 448), (597, 448)),
        (AT_512, (1000, 1001), (512, 512), (512, 513)),
        (AT_512, (832, 1216), (384, 640), (438, 640)),
        (AT_512, (4000, 500), (1024, 256), (2048, 256)),
        (AT_512, (300, 300), (512, 512), (512, 512)),
        (SHRINK_512, (300, 300), (256, 256), (300, 300)),
        (SHRINK_512, (640, 480), (512, 384), None),
        (SHRINK_512, (832, 1216), (384, 576), (394, 576)),
        (SHRINK_512, (3000, 2000), (576, 384), None),
        (SHRINK_512, (4000, 500), (1024, 128), None),
        (SHRINK_512, (50, 400), (0, 384), None),
        (AT_1024, (1920, 1080), (1344, 768), (1365, 768)),
        (AT_1024, (640, 480), (1152, 896), (1195, 896)),
        (AT_1024, (832, 1216), (832, 1216), (832, 1216)),
        (AT_1024, (3000, 2000), (1216, 832), (1248, 832)),
        (SHRINK_1024, (512, 512), (512, 512), (512, 512)),
        (SHRINK_1024, (640, 480), (640, 448), (640, 480)),
        (SHRINK_1024, (1000, 1001), (960, 960), (1000, 1001)),
        (SHRINK_1024, (4000, 500), (2560, 320), None),
        (SHRINK_1024, (63, 700), (0, 640), (63, 700)),
    ],
)
def test_an_image_goes_where_sd_scripts_puts_it(
    rules: BucketRules, image: tuple[int, int], size: tuple[int, int], resized: tuple[int, int] | None
) -> None:
    bucket = rules.choose(image)
    assert bucket.size == size
    assert resized in (None, bucket.resized)


def test_half_of_a_very_wide_image_is_lost_to_the_crop() -> None:
    assert AT_512.choose((4000, 500)).crop_loss == 0.5


def test_limits_that_are_no_multiple_of_the_step_give_way_to_the_outside() -> None:
    rules = BucketRules((512, 512), 300, 1000)
    assert (rules.least, rules.most) == (256, 1024)


@pytest.mark.parametrize(
    ("least", "most", "word"), [(576, 1024, "smallest"), (256, 448, "largest"), (32, 1024, "below the step")]
)
def test_limits_with_which_sd_scripts_stops_are_refused(least: int, most: int, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        BucketRules((512, 512), least, most)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((1024, 1024), (512, 512)),
        ((300, 300), (256, 320)),
        ((1920, 1080), (640, 384)),
        ((832, 1216), (448, 576)),
        ((50, 400), (64, 384)),
        ((4000, 500), (1472, 128)),
    ],
)
def test_an_image_goes_where_ai_toolkit_puts_it(image: tuple[int, int], size: tuple[int, int]) -> None:
    assert fit_area(image, 512, 64).size == size


sides = st.integers(1, 20_000)


@given(st.tuples(sides, sides))
def test_a_bucket_of_the_list_is_covered_by_the_image(image: tuple[int, int]) -> None:
    bucket = AT_512.choose(image)
    assert bucket.size in AT_512.sizes
    assert 0 <= bucket.crop_loss < 1
    assert all(resized >= side for side, resized in zip(bucket.size, bucket.resized, strict=True))


@given(st.tuples(sides, sides), st.booleans())
def test_without_upscaling_every_side_is_a_multiple_of_the_step(image: tuple[int, int], large: bool) -> None:
    bucket = (SHRINK_1024 if large else SHRINK_512).choose(image)
    assert [side % 64 for side in bucket.size] == [0, 0]
    assert all(resized >= side for side, resized in zip(bucket.size, bucket.resized, strict=True))


@given(st.tuples(sides, sides))
def test_covering_leaves_no_gap(image: tuple[int, int]) -> None:
    assert all(r >= 512 for r in cover(image, (512, 512)).resized)
