"""Metadata files: which keys each generation of sd-scripts finds, and how caption and tags become a prompt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdprep.errors import MetadataError, UsageError
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import Loaded, LoadOptions
from sdprep.trainers.targets import TARGETS

PutImages = Callable[..., Path]
OLD, MIDDLE, NEW = "sd-scripts-0.9", "sd-scripts-0.10", "sd-scripts"
ALL = (OLD, MIDDLE, NEW)


def load(target: str, root: Path, entries: dict[str, Any], *, wildcard: bool = False, name: str = "m.json") -> Loaded:
    file = root / name
    if name.endswith("l"):
        file.write_text("".join(json.dumps({"image_path": key, **entry}) + "\n" for key, entry in entries.items()))
    else:
        file.write_text(json.dumps(entries))
    return TARGETS[target].load(DatasetFiles(root), LoadOptions(metadata=(file,), wildcard=wildcard))


def codes(loaded: Loaded) -> list[Code]:
    return [each.code for each in loaded.findings]


@pytest.mark.parametrize(
    ("style", "finds"),
    [("absolute", {OLD, MIDDLE, NEW}), ("relative", {MIDDLE, NEW}), ("stem", {OLD, NEW}), ("stem path", {OLD, NEW})],
)
@pytest.mark.parametrize("target", ALL)
def test_a_key_finds_its_image(target: str, style: str, finds: set[str], put_images: PutImages) -> None:
    root = put_images("a.v2.png")
    key = {
        "absolute": str(root / "a.v2.png"),
        "relative": "a.v2.png",
        "stem": "a.v2",
        "stem path": str(root / "a.v2"),
    }[style]
    loaded = load(target, root, {key: {"caption": "x"}})
    if target in finds:
        assert (loaded.prompts, codes(loaded)) == ({"a.v2.png": ["x"]}, [])
    else:
        assert codes(loaded) == [Code.UNRESOLVED_KEY, Code.NOT_LISTED]


@pytest.mark.parametrize(
    ("target", "entry", "plain", "wildcard"),
    [
        (NEW, {"caption": "c", "tags": "t, u"}, ["c,t, u"], ["c,t, u"]),
        (NEW, {"caption": "c", "tags": ""}, ["c"], ["c,"]),
        (NEW, {"caption": "", "tags": "t"}, ["t"], [""]),
        (OLD, {"caption": "", "tags": "t"}, [",t"], [""]),
        (NEW, {"tags": "t"}, ["t"], [""]),
        (OLD, {"tags": "t"}, ["t"], ["t"]),
        (NEW, {"caption": "c\nd", "tags": "t"}, ["c"], ["c,t", "d,t"]),
        (NEW, {"caption": "c", "tags": "t\nu"}, ["c,t"], ["c,t,u"]),
        (NEW, {}, [""], [""]),
    ],
)
def test_caption_and_tags_become_a_prompt(
    target: str, entry: dict[str, str], plain: list[str], wildcard: list[str], put_images: PutImages
) -> None:
    root = put_images("a.png")
    key = str(root / "a.png")
    assert load(target, root, {key: entry}).prompts == {"a.png": plain}
    assert load(target, root, {key: entry}, wildcard=True).prompts == {"a.png": wildcard}


@pytest.mark.parametrize(
    ("entry", "wildcard", "found"),
    [
        ({"caption": "c\nd", "tags": "t"}, False, [Code.TAGS_LOST]),
        ({"caption": "c\nd", "tags": "t"}, True, []),
        ({"tags": "t"}, True, [Code.TAGS_LOST]),
        ({"tags": "t"}, False, []),
        ({"caption": "c\nd"}, False, [Code.LINES_LOST]),
    ],
)
def test_tags_that_do_not_reach_the_prompt_are_found(
    entry: dict[str, str], wildcard: bool, found: list[Code], put_images: PutImages
) -> None:
    root = put_images("a.png")
    assert codes(load(NEW, root, {str(root / "a.png"): entry}, wildcard=wildcard)) == found


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"tags": ["a", "b"]}, "tags is not a text"),
        ({"caption": ["a"]}, "caption is not a text"),
        ({"image_size": "64x64"}, "image_size is not [width, height]"),
        ("a caption", "the entry is not an object"),
        (None, "the entry is not an object"),
    ],
)
def test_an_entry_that_the_trainer_cannot_read_is_found(entry: Any, detail: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    loaded = load(NEW, root, {str(root / "a.png"): entry})
    assert [(each.code, each.detail) for each in loaded.findings] == [(Code.BAD_ENTRY, detail)]


@pytest.mark.parametrize("line", ["[]", '{"caption": "x"}', '{"image_path": 3}'])
def test_a_line_that_names_no_image_is_found_and_the_others_are_read(line: str, put_images: PutImages) -> None:
    root = put_images("a.png")
    file = root / "m.jsonl"
    file.write_text(f'{line}\n{{"image_path": "a.png", "caption": "c"}}\n')
    loaded = TARGETS[NEW].load(DatasetFiles(root), LoadOptions(metadata=(file,)))
    assert loaded.prompts == {"a.png": ["c"]}
    assert [(each.code, each.path, each.detail) for each in loaded.findings] == [
        (Code.BAD_ENTRY, "m.jsonl", "line 1 is not an object with an image_path")
    ]


def test_a_stated_size_is_that_of_the_metadata(put_images: PutImages) -> None:
    root = put_images("a.png")
    assert load(NEW, root, {"a.png": {"image_size": [64, 32]}}).sizes == {"a.png": (64, 32)}


def test_the_same_key_in_two_files_is_overwritten(put_images: PutImages) -> None:
    root = put_images("a.png")
    for name in ("m.json", "n.json"):
        (root / name).write_text(json.dumps({"a.png": {"caption": name}}))
    options = LoadOptions(metadata=(root / "m.json", root / "n.json"))
    loaded = TARGETS[NEW].load(DatasetFiles(root), options)
    assert loaded.prompts == {"a.png": ["n.json"]}
    assert [(each.code, each.detail) for each in loaded.findings] == [
        (Code.LISTED_TWICE, "in m.json and n.json: only the last counts")
    ]


def test_an_image_under_two_keys_is_trained_with_both(put_images: PutImages) -> None:
    root = put_images("a.png")
    loaded = load(NEW, root, {"a.png": {"caption": "c"}, str(root / "a.png"): {"caption": "d"}})
    assert (loaded.prompts, codes(loaded)) == ({"a.png": ["c", "d"]}, [Code.LISTED_TWICE])


@pytest.mark.parametrize("key", ["", "/", "//server/share/a.png", ".", "..", "a\0", "x" * 5000, "sub/"])
@pytest.mark.parametrize("target", ALL)
def test_a_key_that_no_file_can_have_is_unresolved(target: str, key: str, put_images: PutImages) -> None:
    assert codes(load(target, put_images("a.png"), {key: {}})) == [Code.UNRESOLVED_KEY, Code.NOT_LISTED]


@pytest.mark.parametrize(("target", "found"), [(OLD, [Code.BAD_ENTRY, Code.NOT_LISTED]), (MIDDLE, []), (NEW, [])])
def test_json_lines_are_read_since_0_10(target: str, found: list[Code], put_images: PutImages) -> None:
    assert codes(load(target, put_images("a.png"), {"a.png": {"caption": "c"}}, name="m.jsonl")) == found


def test_0_10_needs_cached_latents(put_images: PutImages) -> None:
    notes = {target: load(target, put_images("a.png"), {}).notes for target in ALL}
    assert {target for target in ALL if notes[target]} == {MIDDLE}


def test_an_image_of_another_folder_keeps_its_path(put_images: PutImages) -> None:
    root = put_images("set/a.png", "b.png")
    other = str(root / "b.png")
    loaded = load(NEW, root / "set", {other: {"caption": "c"}, "a.png": {"caption": "d"}})
    assert loaded.prompts == {other: ["c"], "a.png": ["d"]}


def test_without_a_metadata_file_there_is_advice(put_images: PutImages) -> None:
    with pytest.raises(MetadataError, match="sdprep merge"):
        TARGETS[NEW].load(DatasetFiles(put_images("a.png")), LoadOptions())


def test_an_extension_of_captions_has_no_meaning_here(put_images: PutImages) -> None:
    with pytest.raises(UsageError, match="--caption-extension"):
        TARGETS[NEW].load(DatasetFiles(put_images("a.png")), LoadOptions(".txt"))
