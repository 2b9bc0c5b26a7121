"""An image as a server gets it: a small JPEG, whatever it takes to make it so."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sdprep.models.captioners.server.images import data_url, encode_jpeg, smaller_jpeg

NOISE = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)


def opened(jpeg):
    return Image.open(io.BytesIO(jpeg))


def test_an_image_keeps_its_size_and_the_colors_of_its_edges():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    jpeg = encode_jpeg(stripes, 10**6)
    assert opened(jpeg).size == (64, 64)
    # Subsampled colors would be mixed with their neighbours'.
    assert np.abs(np.asarray(opened(jpeg)).astype(int) - stripes).mean() < 10


@pytest.mark.parametrize("limit", [400_000, 200_000, 60_000, 40_000])
def test_an_image_is_made_smaller_until_its_base64_fits(limit):
    jpeg = encode_jpeg(NOISE, limit)
    assert len(base64.b64encode(jpeg)) <= limit
    assert len(base64.b64encode(jpeg)) > limit / 3


def test_quality_is_lowered_before_the_size():
    full = len(base64.b64encode(encode_jpeg(NOISE, 10**9)))
    assert opened(encode_jpeg(NOISE, full - 1)).size == (600, 400)
    assert opened(encode_jpeg(NOISE, full // 4)).size != (600, 400)


def test_an_image_never_gets_smaller_than_a_model_can_use():
    assert max(opened(encode_jpeg(NOISE, 100)).size) == 256


def test_an_image_that_a_server_finds_too_large_is_halved():
    assert opened(smaller_jpeg(encode_jpeg(NOISE, 10**9), 10**9)).size == (300, 200)


def test_a_jpeg_is_sent_as_the_text_of_a_url():
    assert data_url(b"abc") == "data:image/jpeg;base64,YWJj"
