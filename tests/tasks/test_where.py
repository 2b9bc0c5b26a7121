"""Runs over the images that a filter chooses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdprep import demo
from sdprep.config import CaptionSettings, MergeSettings, PathOptions, RunOptions, TagSettings
from sdprep.errors import NoImages, UsageError
from sdprep.report import NullListener
from sdprep.rules.labels import TagRules
from sdprep.tasks.caption import caption
from sdprep.tasks.merge import merge
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag

HERE = RunOptions(workers=0)
TAGS = TagSettings(model="demo-tag", rules=TagRules(threshold=0.5), run=HERE)


class Notes(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def where(settings: Any, text: str) -> Any:
    return replace(settings, paths=replace(settings.paths, where=text))


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.rglob(pattern))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four drawings, of which one has a hat; two have captions."""
    (tmp_path / "sub").mkdir()
    for name in ("aka.jpg", "kuro.png", "red-hair-hat.jpg"):
        (tmp_path / name).write_bytes((demo.IMAGES / name).read_bytes())
    (tmp_path / "sub" / "sora.webp").write_bytes((demo.IMAGES / "sora.webp").read_bytes())
    (tmp_path / "aka.caption").write_text("a girl")
    (tmp_path / "kuro.caption").write_text("a boy")
    return tmp_path


def test_tag_writes_for_the_images_that_match_alone(folder: Path) -> None:
    listener = Notes()
    report = tag(folder, where(TAGS, "missing:caption"), listener=listener)
    assert (report.found, report.written) == (2, 2)
    assert names(folder, "*.txt") == ["red-hair-hat.txt", "sora.txt"]
    assert "2 of 4 images match" in listener.notes


def test_a_dry_run_counts_the_images_that_match(folder: Path) -> None:
    report = tag(folder, replace(where(TAGS, "missing:caption"), run=RunOptions(dry_run=True)))
    assert (report.found, report.remaining) == (2, 2)
    assert names(folder, "*.txt") == []


def test_a_limit_counts_images_that_match(folder: Path) -> None:
    report = tag(folder, replace(where(TAGS, "missing:caption"), run=RunOptions(limit=1)))
    assert (report.written, report.remaining) == (1, 1)


def test_several_inputs_are_filtered_together(folder: Path) -> None:
    report = tag([folder / "sub", folder / "aka.jpg"], where(TAGS, "caption:girl OR path:sub/*"))
    assert (report.found, report.written) == (2, 2)


def test_what_is_stated_holds_for_the_images_that_match_alone(folder: Path) -> None:
    tag(folder, TAGS, layers=stating(TAGS, {"threshold"}))
    before = (folder / "kuro.txt").read_text()
    strict = where(replace(TAGS, rules=TagRules(threshold=0.99)), "name:aka*")
    tag(folder, strict, layers=stating(strict, {"threshold"}))
    # A later run states nothing.
    report = tag(folder, TagSettings(model="demo-tag", run=HERE))
    assert report.current == 4
    assert (folder / "kuro.txt").read_text() == before


def test_caption_asks_about_tags_and_its_own_file(folder: Path) -> None:
    tag(folder, TAGS)
    report = caption(
        folder, where(CaptionSettings(model="demo-caption", run=HERE), "missing:caption AND NOT path:sub/*")
    )
    assert report.written == 1
    assert names(folder, "*.caption") == ["aka.caption", "kuro.caption", "red-hair-hat.caption"]


def test_no_match_ends_the_run(folder: Path) -> None:
    with pytest.raises(NoImages, match="caption:dog: 0; path:sub"):
        tag(folder, where(TAGS, "caption:dog AND path:sub/*"))
    assert NoImages.exit_code == 4


def test_a_wrong_filter_is_refused_with_the_settings() -> None:
    with pytest.raises(UsageError, match="--where"):
        PathOptions(where="tag:")


# Merge


def merged(folder: Path, text: str | None = None, **options: Any) -> dict[str, Any]:
    settings = MergeSettings(keys="relative", **options)
    merge(folder, where(settings, text) if text else settings)
    found: dict[str, Any] = json.loads((folder / "metadata.json").read_text())
    return found


def test_merge_takes_the_images_that_match(folder: Path) -> None:
    assert list(merged(folder, "caption:girl")) == ["aka.jpg"]


def test_merge_leaves_the_entries_of_other_images(folder: Path) -> None:
    merged(folder)
    for name in ("aka", "kuro"):
        (folder / f"{name}.caption").write_text("a dog")
    found = merged(folder, "name:aka.*")
    assert (found["aka.jpg"]["caption"], found["kuro.png"]["caption"]) == ("a dog", "a boy")


def test_prune_takes_no_image_that_does_not_match_for_vanished(folder: Path) -> None:
    (folder / "red-hair-hat.caption").write_text("a hat")
    assert list(merged(folder)) == ["aka.jpg", "kuro.png", "red-hair-hat.jpg"]
    (folder / "red-hair-hat.jpg").unlink()
    assert list(merged(folder, "name:aka.*", prune=True)) == ["aka.jpg", "kuro.png"]


def test_merge_keeps_the_style_of_other_keys_and_counts_only_what_matches(folder: Path) -> None:
    merged(folder)
    report = merge(folder, where(MergeSettings(keys="absolute"), "name:aka.*"))
    assert (report.found, report.written + report.current) == (1, 1)
    assert "kuro.png" in json.loads((folder / "metadata.json").read_text())
