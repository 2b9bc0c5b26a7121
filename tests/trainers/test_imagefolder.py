"""imagefolder: rows that name no image, and metadata that cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdprep.errors import MetadataError, UsageError
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.imagefolder import ImageFolder
from sdprep.trainers.target import Loaded, LoadOptions

PutImages = Callable[..., Path]


def load(root: Path) -> Loaded:
    return ImageFolder().load(DatasetFiles(root), LoadOptions())


def write(root: Path, *rows: Any) -> None:
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_file_names_begin_at_the_metadata_file(put_images: PutImages) -> None:
    root = put_images("train/a.png", "train/sub/b.png")
    write(root / "train", {"file_name": "a.png", "text": "one"}, {"file_name": "./sub/b.png", "text": ["two", "three"]})
    loaded = load(root)
    assert loaded.prompts == {"train/a.png": ["one"], "train/sub/b.png": ["two", "three"]}
    assert loaded.findings == []


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"file_name": "gone.png", "text": "x"}, [(Code.UNRESOLVED_KEY, "gone.png"), (Code.NOT_LISTED, "a.png")]),
        ({"file_name": "../a.png", "text": "x"}, [(Code.UNRESOLVED_KEY, "../a.png"), (Code.NOT_LISTED, "a.png")]),
        ({"text": "x"}, [(Code.BAD_ENTRY, "metadata.jsonl"), (Code.NOT_LISTED, "a.png")]),
        ({"file_name": "a.png", "text": 5}, [(Code.BAD_ENTRY, "a.png")]),
        ({"file_name": "a.png", "caption": "x"}, [(Code.NO_TEXT, "a.png")]),
    ],
)
def test_a_row_that_does_not_serve_is_found(
    row: dict[str, Any], found: list[tuple[Code, str]], put_images: PutImages
) -> None:
    root = put_images("a.png")
    write(root, row)
    assert [(each.code, each.path) for each in load(root).findings] == found


def test_an_image_that_is_listed_twice_is_found(put_images: PutImages) -> None:
    root = put_images("a.png")
    write(root, {"file_name": "a.png", "text": "one"}, {"file_name": "a.png", "text": "two"})
    assert [each.code for each in load(root).findings] == [Code.LISTED_TWICE]


@pytest.mark.parametrize("text", ["{", "[]", '"text"'])
def test_a_line_that_is_no_row_ends_the_check_and_is_named(text: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "metadata.jsonl").write_text(f"\n{text}\n")
    with pytest.raises(MetadataError, match="line 2"):
        load(root)


def test_a_csv_that_is_none_ends_the_check(put_images: PutImages) -> None:
    root = put_images("a.png")
    (root / "metadata.csv").write_text("file_name,text\na.png," + "x" * 200_000)
    with pytest.raises(MetadataError, match="CSV"):
        load(root)


def test_without_metadata_there_is_advice(put_images: PutImages) -> None:
    with pytest.raises(MetadataError, match="sdprep export"):
        load(put_images("a.png"))


def test_no_other_file_can_be_named(put_images: PutImages) -> None:
    with pytest.raises(UsageError, match="leave --caption-extension out"):
        ImageFolder().load(DatasetFiles(put_images("a.png")), LoadOptions(".txt"))
