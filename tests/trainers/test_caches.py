"""Caches of sd-scripts that no longer fit the image, the resolution or the text."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdprep.trainers.buckets import BucketRules
from sdprep.trainers.caches import find_stale_latents, find_stale_texts, latents_of
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Finding

RULES = BucketRules((512, 512))
SIZE = (512, 512)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image and its text, from long ago."""
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1girl\n")
    for path in tmp_path.iterdir():
        os.utime(path, (1000, 1000))
    return tmp_path


def save_latents(path: Path, width: int = 512, height: int = 512) -> None:
    np.savez(path, latents=np.zeros((4, height // 8, width // 8), np.float32))


def stale_latents(folder: Path) -> list[Finding]:
    return find_stale_latents("a.png", SIZE, RULES.choose(SIZE), DatasetFiles(folder))


def test_a_cache_has_the_size_of_the_image_in_its_name() -> None:
    assert "sub/a.b_0832x1216_sdxl.npz" in latents_of("sub/a.b.png", (832, 1216))


def test_latents_of_the_bucket_are_fresh(folder: Path) -> None:
    save_latents(folder / "a_0512x0512_sd.npz")
    assert stale_latents(folder) == []


@pytest.mark.parametrize("name", ["a_0512x0512_sd.npz", "a_0512x0512_sdxl.npz", "a.npz"])
def test_latents_of_another_resolution_are_stale(name: str, folder: Path) -> None:
    save_latents(folder / name, 768, 768)
    assert [(each.path, each.detail) for each in stale_latents(folder)] == [
        (name, "it was made for 768x768, the bucket is 512x512")
    ]


def test_latents_of_several_resolutions_in_one_file_are_left_to_the_trainer(folder: Path) -> None:
    save_latents(folder / "a_0512x0512_flux.npz", 768, 768)
    assert stale_latents(folder) == []


def test_latents_of_an_image_that_was_changed_since_are_stale(folder: Path) -> None:
    save_latents(folder / "a_0512x0512_flux.npz")
    os.utime(folder / "a_0512x0512_flux.npz", (500, 500))
    assert [each.detail for each in stale_latents(folder)] == ["the image is newer"]


@pytest.mark.parametrize("header", [b"", b"nothing", b"\x93NUMPY\x01\x00\x04\x00((((", b"\x93NUMPY\x02\x00"])
def test_an_archive_without_sound_latents_says_nothing(header: bytes, folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("latents.npy", header)
    assert stale_latents(folder) == []


@pytest.mark.parametrize("damage", [lambda _: b"nothing", lambda data: data[:100], lambda data: data[50:]])
def test_a_file_that_is_no_archive_says_nothing(damage: Callable[[bytes], bytes], folder: Path) -> None:
    save_latents(folder / "a.npz", 768, 768)
    (folder / "a.npz").write_bytes(damage((folder / "a.npz").read_bytes()))
    assert stale_latents(folder) == []


@pytest.mark.parametrize(("modified", "stale"), [(500, ["a_te_outputs.npz"]), (2000, [])])
def test_an_encoding_is_stale_when_its_text_is_newer(modified: int, stale: list[str], folder: Path) -> None:
    (folder / "a_te_outputs.npz").write_bytes(b"")
    os.utime(folder / "a_te_outputs.npz", (modified, modified))
    assert [each.path for each in find_stale_texts("a.png", "a.txt", DatasetFiles(folder))] == stale
