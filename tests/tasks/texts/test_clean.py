"""`clean` changes what its packs name, in sidecars and in metadata files, and undo gives back the first bytes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sdprep.config import MergeSettings, PathOptions, RunOptions, TagSettings
from sdprep.errors import MetadataError, NoSidecars, UsageError
from sdprep.rules.labels import TagRules
from sdprep.tasks.history.undo import undo
from sdprep.tasks.tag import tag
from sdprep.tasks.texts.clean import plan, plan_metadata
from sdprep.tasks.texts.packs import load_pack
from sdprep.tasks.texts.plan import Plan, apply

GOLDEN = Path(__file__).parents[2] / "golden" / "clean"
# Every tag of the demo tagger that is not impossible, behind those that are there.
EVERYTHING = TagSettings(model="demo-tag", rules=TagRules(threshold=0.01), run=RunOptions(existing="append"))
PACK = """
description = "mine"
[[tags]]
rule = "exclusive"
tags = ["black hair", "red hair"]
"""


@pytest.fixture
def imgs(tmp_path, put_image):
    folder = tmp_path / "imgs"
    for name in ("a.png", "sub/b.png", "c.png"):
        put_image(folder / name)
    (folder / "a.txt").write_bytes("\ufeff1girl,long_hair\r\n".encode())
    (folder / "a.caption").write_text("arafed girl girl\n")
    (folder / "sub" / "b.txt").write_bytes("1girl; blue_eyes".encode("utf-16"))
    return folder


def texts(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".txt", ".caption")
    }


def test_tags_and_captions_are_cleaned_and_keep_their_encoding(imgs):
    report = apply(plan(imgs, ["booru", "captions"]))
    assert texts(imgs) == {
        "a.txt": "\ufeff1girl,long hair\r\n".encode(),
        "a.caption": b"girl\n",
        "sub/b.txt": "1girl; blue eyes".encode("utf-16"),
    }
    assert (report.found, report.written, report.missing_paths) == (4, 3, ["c.png"])


def test_undo_gives_back_the_first_bytes(imgs):
    before = texts(imgs)
    apply(plan(imgs, ["booru", "captions"]))
    undo(imgs)
    assert texts(imgs) == before


def test_a_second_time_there_is_nothing_to_do_and_no_run(imgs):
    apply(plan(imgs, ["booru", "captions"]))
    report = apply(plan(imgs, ["booru", "captions"]))
    assert (report.written, report.current, report.run) == (0, 3, None)


def test_only_the_wanted_kind_and_the_matching_images_are_cleaned(imgs):
    matching = MergeSettings(paths=PathOptions(where="path:sub/*"))
    assert [change.path.name for change in plan(imgs, ["booru"], matching).changes] == ["b.txt"]
    assert [change.path.name for change in plan(imgs, ["kohya"], kinds=("caption",)).changes] == ["a.caption"]


def test_a_tag_that_was_cleaned_away_does_not_come_back(imgs):
    (imgs / "a.txt").write_text("mine\n")
    tag(imgs / "a.png", EVERYTHING)
    written = (imgs / "a.txt").read_text()
    (imgs / "drop.toml").write_text('[[tags]]\nrule = "drop"\ntags = ["*hair*"]\n')
    apply(plan(imgs / "a.png", [str(imgs / "drop.toml")]))
    tag(imgs / "a.png", EVERYTHING)
    assert "hair" in written
    assert "hair" not in (imgs / "a.txt").read_text()


def test_the_tag_with_the_highest_stored_score_stays(imgs, tmp_path):
    scores = tmp_path / "scores.jsonl"
    tag(imgs / "a.png", replace(EVERYTHING, scores=scores, scores_min=0.01))
    found = json.loads(scores.read_text())["general"]
    (tmp_path / "mine.toml").write_text(PACK)
    best = max(("black_hair", "red_hair"), key=lambda name: found.get(name, 0))
    for order in (["red hair", "black hair"], ["black hair", "red hair"]):
        (imgs / "a.txt").write_text(", ".join(order))
        apply(plan(imgs / "a.png", [str(tmp_path / "mine.toml")]))
        assert (imgs / "a.txt").read_text() == best.replace("_", " ")


def metadata(imgs, data, name="meta.json") -> Path:
    path = imgs / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_a_metadata_file_is_cleaned_as_kohyas_script_does_it(imgs):
    path = metadata(imgs, (GOLDEN / "input.json").read_text())
    apply(plan_metadata(path, ["kohya-exact"], output=imgs / "out.json"))
    assert json.loads((imgs / "out.json").read_text()) == json.loads((GOLDEN / "expected.json").read_text())
    assert json.loads(path.read_text()) == json.loads((GOLDEN / "input.json").read_text())


def test_other_fields_numbers_and_lists_of_tags_stay_what_they_are(imgs):
    path = metadata(imgs, '{"a.png": {"tags": ["long_hair", "hat"], "x": 1.10, "train_resolution": [1, 2]}, "b": {}}')
    apply(plan_metadata(path, ["booru"]))
    assert json.loads(path.read_text())["a.png"]["tags"] == ["long hair", "hat"]
    assert '"x": 1.10' in path.read_text()


def test_a_list_that_no_rule_changes_keeps_tags_with_commas_and_blank_ones(imgs):
    path = metadata(imgs, {"a": {"tags": ["red, white", "", "hat"]}, "b": {"tags": ["long_hair"]}})
    apply(plan_metadata(path, ["booru"]))
    assert json.loads(path.read_text()) == {"a": {"tags": ["red, white", "", "hat"]}, "b": {"tags": ["long hair"]}}


def test_json_lines_are_cleaned_line_by_line(imgs):
    path = metadata(imgs, '{"image_path": "a.png", "caption": "arafed cat"}\n', "meta.jsonl")
    apply(plan_metadata(path, ["captions"]))
    assert json.loads(path.read_text()) == {"image_path": "a.png", "caption": "cat"}


def test_a_metadata_file_without_anything_to_clean_is_not_touched(imgs):
    path = metadata(imgs, '{ "a.png":{"tags":"hat"}}')
    assert apply(plan_metadata(path, ["booru"])).run is None
    assert path.read_text() == '{ "a.png":{"tags":"hat"}}'


def test_cleaning_a_metadata_file_can_be_undone(imgs):
    path = metadata(imgs, {"a": {"tags": "long_hair"}})
    before = path.read_bytes()
    apply(plan_metadata(path, ["booru"]))
    undo(imgs)
    assert path.read_bytes() == before


def shown(made: Plan) -> list[tuple[str, str | None, str | None]]:
    return [(text.name, text.before, text.after) for change in made.changes for text in change.shown()]


def test_the_plan_shows_the_entries_of_a_metadata_file_that_change(imgs):
    path = metadata(imgs, {"a": {"tags": "long_hair", "caption": "a cat"}, "b": {"tags": "hat"}})
    assert shown(plan_metadata(path, ["booru", "captions"])) == [("a: tags", "long_hair", "long hair")]


@pytest.mark.parametrize(
    ("packs", "kinds", "fault"),
    [
        ([], ("tags",), "--pack booru        booru tags: spaces"),
        (["nope"], ("tags",), "no rule pack is named 'nope'; there are booru"),
        (["captions"], ("tags",), "captions has no rules for tags"),
        (["gone.toml"], ("tags",), "gone.toml: No such file"),
    ],
)
def test_a_pack_that_cannot_be_used_is_named(imgs, packs, kinds, fault):
    for make in (lambda: plan(imgs, packs, kinds=kinds), lambda: plan_metadata(imgs / "x.json", packs, kinds=kinds)):
        with pytest.raises(UsageError) as raised:
            make()
        assert fault in str(raised.value)


def test_a_pack_with_a_mistake_in_its_toml_is_named(tmp_path):
    (tmp_path / "mine.toml").write_text("[[tags\n")
    with pytest.raises(UsageError, match=r"mine\.toml is not valid TOML"):
        load_pack(str(tmp_path / "mine.toml"))


def test_a_metadata_file_that_is_not_there_is_named(imgs):
    with pytest.raises(MetadataError, match=r"gone\.json"):
        plan_metadata(imgs / "gone.json", ["booru"])


def test_images_without_any_of_the_files_are_named(tmp_path, put_image):
    put_image(tmp_path / "imgs" / "a.png")
    with pytest.raises(NoSidecars, match=r"has a tag file \(a\.txt\) or caption file \(a\.caption\)"):
        plan(tmp_path / "imgs", ["kohya"])
