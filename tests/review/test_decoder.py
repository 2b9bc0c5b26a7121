"""Copies of images are made elsewhere: what an image does to its decoder costs that image alone."""

import asyncio

import pytest

from sdprep.demo import IMAGES
from sdprep.review import decoder
from sdprep.review.decoder import LARGE, SMALL, Decoders
from sdprep.types import ImageItem

GOOD = ImageItem.at(IMAGES / "kuro.png")
# A decoder that dies, or never ends, for images of these names.
FRAGILE = """
import os, sys, time
sys.path[:] = {path!r}
from sdprep.review import decoder
copied = decoder._copied
def fragile(wanted):
    if wanted.within == b"dies.png":
        os._exit(9)
    if wanted.within == b"hangs.png":
        time.sleep(600)
    return copied(wanted)
decoder._copied = fragile
decoder.main()
"""


def copies(*wanted, time_limit=60.0):
    async def ask():
        decoders = Decoders(time_limit)
        try:
            return await asyncio.gather(*(decoders.copy(item, side) for item, side in wanted))
        finally:
            await decoders.close()

    return asyncio.run(ask())


@pytest.fixture
def fragile(monkeypatch):
    monkeypatch.setattr(decoder, "PROGRAM", FRAGILE)


def test_an_image_that_kills_its_decoder_costs_itself_alone(tmp_path, fragile):
    dies = ImageItem(tmp_path, "dies.png", tmp_path)

    found = copies((GOOD, SMALL), (dies, SMALL), (GOOD, LARGE), (dies, SMALL), (GOOD, SMALL))

    assert [bool(copy.data) for copy in found] == [True, False, True, False, True]
    assert "crashed" in found[1].failure


def test_an_image_that_takes_too_long_is_given_up(tmp_path, fragile):
    [found] = copies((ImageItem(tmp_path, "hangs.png", tmp_path), SMALL), time_limit=0.5)

    assert "too long" in found.failure


def test_what_is_no_image_has_the_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")

    [found] = copies((ImageItem(tmp_path, "a.png", tmp_path), SMALL))

    assert found.data == b""
    assert found.failure


def test_a_link_that_leads_out_of_the_folder_is_not_read(tmp_path):
    inside = tmp_path / "imgs"
    inside.mkdir()
    (inside / "a.png").symlink_to(IMAGES / "kuro.png")

    [found] = copies((ImageItem(inside, "a.png", inside), SMALL))

    assert found.failure
