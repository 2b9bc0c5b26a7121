"""What trainers with a text file for each image have in common."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import Loaded, LoadOptions
from sdprep.trainers.targets import TARGETS

SIDECARS = ("dreambooth", "onetrainer", "simpletuner", "ai-toolkit", "diffusion-pipe")
PutImages = Callable[..., Path]


def load(target: str, root: Path, extension: str = "") -> Loaded:
    return TARGETS[target].load(DatasetFiles(root), LoadOptions(extension))


def codes(loaded: Loaded) -> list[tuple[Code, str]]:
    return [(each.code, each.path) for each in loaded.findings]


@pytest.mark.parametrize("target", SIDECARS)
def test_an_image_without_a_text_is_found(target: str, put_images: PutImages) -> None:
    assert codes(load(target, put_images("a.png"))) == [(Code.NO_TEXT, "a.png")]


@pytest.mark.parametrize("target", SIDECARS)
@pytest.mark.parametrize("name", ["a.caption", "a.txt", "a.TXT", "a.png.txt", "a.tags"])
def test_a_text_of_another_name_is_a_wrong_extension(target: str, name: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / name).write_text("1girl\n")
    is_wanted = name == f"a{TARGETS[target].extension}"
    found = [each for each in codes(load(target, root)) if each[0] is not Code.STRAY_FILE]
    assert found == ([] if is_wanted else [(Code.WRONG_EXTENSION, "a.png")])


def test_the_default_of_dreambooth_is_caption_while_most_write_txt(put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.txt").write_text("1girl\n")
    (found,) = load("dreambooth", root).findings
    assert found.detail == "a.caption is wanted, a.txt is there"


@pytest.mark.parametrize("extension", [".txt", "txt"])
def test_another_extension_may_be_set(extension: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.txt").write_text("1girl\n")
    assert load("dreambooth", root, extension).prompts == {"a.png": ["1girl"]}


@pytest.mark.parametrize("target", SIDECARS)
def test_a_text_that_is_not_utf_8_is_found_with_the_first_wrong_byte(target: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    name = f"a{TARGETS[target].extension}"
    (root / name).write_bytes("fünf".encode("latin-1"))
    assert [(each.code, each.path, each.detail) for each in load(target, root).findings] == [
        (Code.NOT_UTF_8, name, "byte 1")
    ]


@pytest.mark.parametrize("target", SIDECARS)
def test_a_byte_order_mark_becomes_part_of_the_prompt(target: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    name = f"a{TARGETS[target].extension}"
    (root / name).write_bytes(b"\xef\xbb\xbf1girl")
    loaded = load(target, root)
    assert loaded.prompts["a.png"] == ["\ufeff1girl"]
    assert codes(loaded) == [(Code.BYTE_ORDER_MARK, name)]


@pytest.mark.parametrize("target", SIDECARS)
def test_images_that_share_a_text_are_found(target: str, put_images: PutImages) -> None:
    root = put_images("a.png", "a.jpg")
    (root / f"a{TARGETS[target].extension}").write_text("1girl")
    assert codes(load(target, root)) == [(Code.STEM_COLLISION, "a.jpg"), (Code.STEM_COLLISION, "a.png")]


@pytest.mark.parametrize(
    ("target", "name", "why"),
    [
        ("dreambooth", "a.gif", "it does not read .gif files"),
        ("dreambooth", "a.Png", ".Png is neither all lower nor all upper case"),
        ("dreambooth", "sub/a.png", "it reads no subfolders"),
        ("onetrainer", "a.gif", "it does not read .gif files"),
        ("ai-toolkit", "a.bmp", "it does not read .bmp files"),
        ("diffusion-pipe", "sub/a.png", "it reads no subfolders"),
    ],
)
def test_an_image_that_is_not_loaded_is_named_with_the_reason(
    target: str, name: str, why: str, put_images: PutImages
) -> None:
    found = [each for each in load(target, put_images(name)).findings if each.code is Code.NOT_LOADED]
    assert [(each.path, each.detail) for each in found] == [(name, why)]


def test_a_text_that_a_link_leads_to_outside_is_not_read(put_images: PutImages, tmp_path: Path) -> None:
    root = put_images("set/a.png") / "set"
    (tmp_path / "secret").write_text("secret")
    (root / "a.txt").symlink_to(tmp_path / "secret")
    loaded = load("onetrainer", root)
    assert codes(loaded) == [(Code.UNREADABLE_TEXT, "a.txt")]
    assert loaded.prompts == {"a.png": []}


@pytest.mark.parametrize("name", ["a-masklabel.png", "a-condlabel.png", ".hidden.png", ".cache/a.png"])
def test_masks_and_hidden_files_are_no_images(name: str, put_images: PutImages) -> None:
    assert list(DatasetFiles(put_images(name)).images()) == []


def test_linked_folders_are_not_entered(put_images: PutImages, tmp_path: Path) -> None:
    root = put_images("set/a.png", "other/b.png") / "set"
    (root / "linked").symlink_to(tmp_path / "other")
    files = DatasetFiles(root)
    assert (list(files.images()), files.linked) == (["a.png"], ["linked"])
