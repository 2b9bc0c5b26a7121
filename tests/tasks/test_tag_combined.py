"""Several models in one run: each answers on its own, its scores are stored on their own, and rules combine them."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from sdprep.config import RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.report import CancelToken, NullListener
from sdprep.rules.labels import TagRules
from sdprep.tasks.history.undo import undo
from sdprep.tasks.tag import tag
from tests import several_models
from tests.several_models import INLINE, settings, stated, tags

images, models = several_models.images, several_models.models
UPDATE = RunOptions(workers=0, update=True)


@pytest.mark.parametrize(
    ("combine", "text"),
    [
        ("union", "1girl, aka_(sdprep), hat, long_hair"),
        ("vote", "hat, 1girl"),
        ("mean", "aka_(sdprep), hat, 1girl"),
    ],
)
def test_tags_are_those_of_any_of_most_or_of_the_mean(combine, text, models, images):
    report = tag(images, settings(models, "one", "two", "three", combine=combine))
    assert report.written == report.predicted == 3
    assert tags(images) == text


def test_another_way_to_combine_needs_no_model(models, images):
    tag(images, settings(models, "one", "two", "three"))
    assert models.asked_now() == {"one": 3, "two": 3, "three": 3}
    report = tag(
        images, settings(models, "one", "two", "three", combine="vote", run=RunOptions(workers=0, update=True))
    )
    assert (report.written, models.asked_now(), tags(images)) == (3, {}, "hat, 1girl")


def test_scores_that_are_stored_are_not_asked_for_again(models, images):
    tag(images, settings(models, "one"))
    (images / "aka.txt").unlink()
    tag(images / "kuro.png", settings(models, "two", run=RunOptions(workers=0, existing="overwrite", update=True)))
    assert models.asked_now() == {"one": 3, "two": 1}
    tag(images, settings(models, "one", "two", run=RunOptions(workers=0, existing="overwrite")), layers=stated(models))
    assert models.asked_now() == {"two": 2}
    # Each alone, and both in another order, are known too.
    for names in (("one",), ("two",), ("two", "one")):
        now = stated(models, *names)
        tag(images, settings(models, *names, run=RunOptions(workers=0, existing="overwrite")), layers=now)
    assert models.asked_now() == {}


def test_refresh_asks_every_model_again(models, images):
    tag(images, settings(models, "one", "two"))
    models.asked_now()
    report = tag(images, settings(models, "one", "two", run=RunOptions(workers=0, refresh=True)))
    assert models.asked_now() == {"one": 3, "two": 3}
    assert (report.predicted, report.current) == (3, 3)


def test_one_model_in_a_list_is_that_model(models, images):
    tag(images, settings(models, "one"))
    alone = tags(images)
    report = tag(images, settings(models, model=(models("one"),), run=INLINE))
    assert (report.current, tags(images)) == (3, alone)


@pytest.mark.parametrize("failing", ["one", "two"])
def test_an_image_on_which_one_model_fails_has_failed(failing, models, images):
    models.failing.add(failing)
    report = tag(images, settings(models, "one", "two", run=RunOptions(workers=0, batch_size=1)))
    assert [each["code"] for each in report.failures] == ["nonfinite"] * 3
    assert not list(images.glob("*.txt"))
    # One that has failed is not shown to the next model.
    assert models.asked_now() == ({"one": 3} if failing == "one" else {"one": 3, "two": 3})
    models.failing.clear()
    tag(images, settings(models, "one", "two"))
    assert models.asked_now() == ({"one": 3, "two": 3} if failing == "one" else {"two": 3})
    assert len(list(images.glob("*.txt"))) == 3


def test_a_run_that_ends_early_keeps_what_the_first_model_said(models, images, monkeypatch):
    class Stopping(NullListener):
        stop = CancelToken()

        def stage(self, name, total=None, unit="images"):  # noqa: ARG002 - as the listener has it
            if name == "loading two":
                self.stop.exit_code = 130

    listener = Stopping()
    report = tag(images, settings(models, "one", "two"), listener=listener, stop=listener.stop)
    assert (report.remaining, report.written, report.stopped) == (3, 0, 130)
    assert models.asked_now() == {"one": 3}
    tag(images, settings(models, "one", "two"))
    assert models.asked_now() == {"two": 3}


def test_an_image_that_changes_between_two_models_has_failed(models, images):
    class Changing(NullListener):
        def stage(self, name, total=None, unit="images"):  # noqa: ARG002 - as the listener has it
            if name == "loading two":
                shutil.copy(IMAGES / "kuro.png", images / "aka.jpg")
                shutil.copy(IMAGES / "aka.jpg", images / "kuro.png")
                (images / "aka.jpg").write_bytes((images / "aka.jpg").read_bytes() + b"\0")

    report = tag(images, settings(models, "one", "two"), listener=Changing())
    assert {each["path"]: each["code"] for each in report.failures} == {"aka.jpg": "changing"}
    assert report.written == 2


def test_truncated_images_have_a_warning_with_several_models_too(models, images):
    data = (images / "aka.jpg").read_bytes()
    (images / "aka.jpg").write_bytes(data[: len(data) * 2 // 3])
    run_options = RunOptions(workers=0, allow_truncated=True)
    for existing in ("keep", "overwrite"):
        options = replace(run_options, existing=existing)
        report = tag(images, settings(models, "one", "two", run=options), layers=stated(models, "one", "two"))
        assert [(each["path"], each["code"]) for each in report.flagged] == [("aka.jpg", "truncated")]
        (images / "aka.txt").unlink()
    assert models.asked_now() == {"one": 3, "two": 3}


def test_thresholds_of_the_cards_are_those_of_each_model(models, images):
    # 1girl: 0.9 of 0.2, 0.5 of 0.7; hat: 0.6 of 0.7 and of 0.5; the mean of the character is 0.6 of 0.2.
    rules = TagRules(threshold="auto", ratings="first")
    tag(images, settings(models, "one", "two", "three", rules=rules))
    assert tags(images) == "general, 1girl, aka_(sdprep), hat, long_hair"


def test_an_option_about_a_category_counts_for_the_models_that_have_it(models, images):
    rules = TagRules(threshold=0.35, category_threshold=(("style", 0.7),))
    tag(images, settings(models, "one", "two", rules=rules))
    assert "hat" not in tags(images)


def test_an_option_about_a_category_of_no_model_is_refused(models, images):
    with pytest.raises(UsageError, match="--artist-threshold: one and two have no such category; they have general"):
        tag(images, settings(models, "one", "two", rules=TagRules(artist_threshold=0.3)))


def test_the_same_model_twice_is_refused(models, images):
    twin = models.folder / "twin.toml"
    shutil.copy(models("one"), twin)
    with pytest.raises(UsageError, match="is the same model as another one"):
        tag(images, TagSettings(model=(models("one"), str(twin))))


def test_the_record_of_a_text_names_all_models(models, images):
    report = tag(images, settings(models, "one", "two"))
    assert report.model == "one, two"
    with closing(sqlite3.connect(images / ".sdprep" / "catalog.sqlite")) as catalog:
        (name,) = catalog.execute("SELECT model FROM runs").fetchone()
    assert [each.split("#")[0] for each in name.split(" + ")] == ["one", "two"]
    other = tag(images, settings(models, "one"), layers=stated(models, "one"))
    assert [each.split("#")[0] for each in next(iter(other.other_models)).split(" + ")] == ["one", "two"]


def test_undo_brings_back_what_was_there(models, images):
    tag(images, settings(models, "one"))
    before = tags(images)
    tag(images, settings(models, "one", "two"), layers=stated(models))
    assert tags(images) != before
    said = []
    listener = NullListener()
    listener.note = said.append
    undo(images, listener=listener)
    assert tags(images) == before
    assert "tag, one + two)" in said[0]


def test_a_file_of_scores_has_those_of_all_models_together(models, images, tmp_path):
    path = tmp_path / "scores.jsonl"
    tag(images, settings(models, "one", "two", combine="mean", scores=path))
    line = json.loads(path.read_text().splitlines()[0])
    # Scores are stored in 16 bits.
    assert line["character"] == pytest.approx({"aka_(sdprep)": 0.6}, abs=1e-3)
    assert line["general"] == pytest.approx({"1girl": 0.7, "long_hair": 0.3}, abs=1e-3)
    assert line["rating"] == pytest.approx({"general": 0.55, "explicit": 0.35}, abs=1e-3)


def test_folders_may_have_models_of_their_own(models, images):
    (images / "sub").mkdir()
    shutil.copy(images / "aka.jpg", images / "sub" / "b.jpg")
    tag(images / "sub", TagSettings(run=INLINE), layers=stated(models, "two", "three"))
    tag(images, TagSettings(run=INLINE), layers=stated(models, "one", "two"))
    models.asked_now()
    (images / "aka.txt").unlink()
    (images / "sub" / "b.txt").unlink()
    tag(images, TagSettings(run=INLINE))
    assert (tags(images), tags(images / "sub", "b")) == ("1girl, aka_(sdprep), hat, long_hair",) * 2
    assert models.asked_now() == {}


def test_a_dry_run_loads_no_model(models, images):
    report = tag(images, settings(models, "one", "two", run=RunOptions(workers=0, dry_run=True)))
    assert (report.remaining, models.asked_now()) == (3, {})


def test_workers_of_several_models_run_one_after_the_other(models, images):
    report = tag(images, settings(models, "one", "two", run=RunOptions(workers=1)))
    assert report.written == 3
