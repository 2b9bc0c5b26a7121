"""DreamBooth folders: repeats and class tokens in their names, and what each text file becomes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sdprep.trainers.dreambooth import DreamBooth, class_of
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import Loaded, LoadOptions

PutImages = Callable[..., Path]


def load(root: Path, *, wildcard: bool = False) -> Loaded:
    return DreamBooth().load(DatasetFiles(root), LoadOptions(wildcard=wildcard))


@pytest.mark.parametrize(
    ("folder", "tokens"),
    [("10_kuro", "kuro"), ("3_two_words", "two_words"), ("5", ""), ("0_kuro", None), ("kuro", None), ("-1_a", None)],
)
def test_a_folder_names_its_repeats_and_its_class(folder: str, tokens: str | None) -> None:
    assert class_of(folder) == tokens


def test_an_image_without_a_text_gets_the_class_of_its_folder(put_images: PutImages) -> None:
    loaded = load(put_images("10_kuro/a.png"))
    assert loaded.prompts == {"10_kuro/a.png": ["kuro"]}
    assert [each.detail for each in loaded.findings] == ["its prompt is 'kuro', of its folder"]


def test_images_beside_folders_with_repeats_are_not_loaded(put_images: PutImages) -> None:
    loaded = load(put_images("10_kuro/a.png", "b.png", "10_kuro/sub/c.png"))
    assert list(loaded.prompts) == ["10_kuro/a.png"]
    assert [(each.path, each.detail) for each in loaded.findings if each.code is Code.NOT_LOADED] == [
        ("b.png", "it is not in a folder with repeats such as 10_name"),
        ("10_kuro/sub/c.png", "it reads no subfolders"),
    ]


def test_a_text_of_0_bytes_stops_the_trainer_and_a_blank_one_is_an_empty_prompt(put_images: PutImages) -> None:
    root = put_images("a.png", "b.png")
    (root / "a.caption").write_text("")
    (root / "b.caption").write_text("\n")
    loaded = load(root)
    assert loaded.prompts == {"a.png": [], "b.png": [""]}
    assert [(each.code, each.path) for each in loaded.findings] == [(Code.EMPTY_TEXT_FILE, "a.caption")]


def test_only_the_first_line_counts_unless_wildcards_are_on(put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.caption").write_text("one\n\n two\n")
    plain, wildcard = load(root), load(root, wildcard=True)
    assert (plain.prompts["a.png"], [each.code for each in plain.findings]) == (["one"], [Code.LINES_LOST])
    assert (wildcard.prompts["a.png"], wildcard.findings) == (["one", "two"], [])


@pytest.mark.parametrize(("text", "found"), [("{a|b}", True), ("{{a|b}}", False), ("{a}", False), ("a|b", False)])
def test_choices_stay_in_the_prompt_unless_wildcards_are_on(text: str, found: bool, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.caption").write_text(text)
    assert [each.code for each in load(root).findings] == [Code.WILDCARD_OFF] * found
    assert load(root, wildcard=True).findings == []


def test_a_separator_of_kept_tokens_stays_in_the_prompt(put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "a.caption").write_text("a girl ||| 1girl")
    assert [each.code for each in load(root).findings] == [Code.SEPARATOR_IN_PROMPT]


def test_the_name_of_a_face_crop_falls_back_to_the_text_of_the_whole_image(put_images: PutImages) -> None:
    root = put_images("a_10_20_30_40.png")
    (root / "a.caption").write_text("whole")
    assert load(root).prompts == {"a_10_20_30_40.png": ["whole"]}
