"""diffusion-pipe: a captions.json, and files that it takes for images."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdprep.errors import MetadataError, UsageError
from sdprep.trainers.diffusion_pipe import DiffusionPipe
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import Loaded, LoadOptions

PutImages = Callable[..., Path]


def load(root: Path) -> Loaded:
    return DiffusionPipe().load(DatasetFiles(root), LoadOptions())


def codes(loaded: Loaded) -> list[tuple[Code, str]]:
    return [(each.code, each.path) for each in loaded.findings]


def test_a_captions_json_takes_the_place_of_all_text_files(put_images: PutImages) -> None:
    root = put_images("a.png", "b.png")
    (root / "a.txt").write_text("from the text file")
    (root / "captions.json").write_text(json.dumps({"a.png": ["one", "two"], "gone.png": ["x"]}))
    loaded = load(root)
    assert loaded.prompts == {"a.png": ["one", "two"]}
    assert codes(loaded) == [(Code.NOT_LISTED, "b.png"), (Code.UNRESOLVED_KEY, "gone.png")]


@pytest.mark.parametrize("value", ["a text", [1]])
def test_values_of_a_captions_json_are_lists_of_texts(value: object, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "captions.json").write_text(json.dumps({"a.png": value}))
    assert codes(load(root)) == [(Code.BAD_ENTRY, "a.png")]


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_captions_json_that_is_none_ends_the_check(text: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "captions.json").write_text(text)
    with pytest.raises(MetadataError, match="captions"):
        load(root)


@pytest.mark.parametrize(
    ("name", "is_stray"),
    [("a.caption", True), ("dataset.toml", True), ("a.TXT", True), ("a.npz", False), ("b.mp4", False), ("x.db", False)],
)
def test_a_stray_file_is_taken_for_an_image(name: str, is_stray: bool, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.txt").write_text("text")
    (root / name).write_text("")
    assert codes(load(root)) == [(Code.STRAY_FILE, name)] * is_stray


def test_a_tar_file_is_noted_as_unchecked(put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.txt").write_text("text")
    (root / "more.tar").write_bytes(b"")
    loaded = load(root)
    assert (loaded.findings, len(loaded.notes)) == ([], 1)


def test_another_extension_cannot_be_set() -> None:
    with pytest.raises(UsageError, match="leave --caption-extension out"):
        DiffusionPipe().load(DatasetFiles(Path(__file__).parent), LoadOptions(".caption"))
