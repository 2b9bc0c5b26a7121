"""What a run says of its model: a toy is named, and so is another model than the one that wrote the sidecars."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from sdprep.config import TagSettings
from sdprep.demo import IMAGES
from sdprep.models.registry.registry import find
from sdprep.report import RunReport
from sdprep.tasks.annotation.notes import other_models_note, toy_note
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag
from sdprep.types import ImageItem

FAKE = str(Path(__file__).parents[2] / "fake_models" / "fake-tag.toml")


class Notes:
    """A listener that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stage(self, name: str, total: int | None = None, unit: str = "images") -> None:
        pass

    def advance(self, count: int = 1) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one image of the demo."""
    (tmp_path / "imgs").mkdir()
    shutil.copy(IMAGES / "kuro.png", tmp_path / "imgs" / "mine.png")
    return tmp_path / "imgs"


def run(folder: Path, model: str, **explicit: object) -> tuple[RunReport, list[str]]:
    notes = Notes()
    settings = TagSettings(model=model)
    return tag(folder, settings, layers=stating(settings, {"model"}), listener=notes), notes.notes


def add_photo(folder: Path) -> None:
    Image.new("RGB", (40, 40), (10, 120, 60)).save(folder / "photo.png")


def test_a_demo_model_on_an_image_that_is_not_of_the_demo_is_a_warning_in_each_run(folder: Path) -> None:
    add_photo(folder)
    for _ in range(2):
        _, notes = run(folder, "demo-tag")
        assert "demo-tag is a toy trained on drawings; its tags for your images mean nothing" in notes[0]
        assert "--model wd-swinv2-tagger-v3" in notes[0]


def test_a_demo_model_on_images_of_the_demo_alone_is_no_warning_whatever_their_names(folder: Path) -> None:
    assert run(folder, "demo-tag")[1] == []


def test_a_real_model_is_no_toy(folder: Path) -> None:
    add_photo(folder)
    items = [ImageItem.at(path) for path in folder.glob("*.png")]
    assert toy_note(find("wd-vit-tagger-v3"), items) is None
    assert "captions" in str(toy_note(find("demo-caption"), items))


def test_an_image_that_is_gone_is_not_one_of_the_demo(folder: Path) -> None:
    assert toy_note(find("demo-tag"), [ImageItem.at(folder / "gone.png")]) is not None


def test_another_model_than_before_is_said_by_name(folder: Path) -> None:
    run(folder, "demo-tag")
    report, notes = run(folder, FAKE)
    assert [note for note in notes if "sidecar" in note] == [
        "1 sidecar was written with demo-tag; this run uses fake-tag"
    ]
    assert sum(report.other_models.values()) == 1


def test_the_same_model_as_before_is_not_mentioned(folder: Path) -> None:
    run(folder, "demo-tag")
    assert run(folder, "demo-tag")[1] == []


def test_several_models_are_counted_by_name_the_most_frequent_first() -> None:
    found = {"a@" + "1" * 40: 2, "b#123": 5, "a@main": 1, "c": 1, "d": 1}
    assert other_models_note(found, "e#12") == (
        "5 sidecars were written with b, 3 sidecars with a, 1 sidecar with c and more with other models; "
        "this run uses e"
    )


def test_other_weights_of_the_same_name_are_told_apart_by_their_checksum() -> None:
    old, new = "mine#" + "a" * 12, "mine#" + "b" * 12
    assert other_models_note({old: 12}, new) == (
        "12 sidecars were written with mine#aaaaaaa; this run uses mine#bbbbbbb"
    )
