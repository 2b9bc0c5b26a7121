"""Text anew from stored results: other rules, the same answers, and no model."""

import shutil
from pathlib import Path

import pytest

from sdprep.config import CaptionSettings, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.report import RunReport
from sdprep.rules.captions import CaptionRules
from sdprep.rules.labels import TagRules
from sdprep.shards.plan import Sources
from sdprep.shards.results import Results, Shard
from sdprep.shards.store import FolderStore
from sdprep.shards.table import Row, ShardFacts, encode_rows
from sdprep.tasks.shards import run as module
from sdprep.tasks.shards.run import run_shards
from sdprep.tasks.shards.settings import ShardOptions
from tests.tasks.shards.made import captions_of, results_of

FIRST = TagSettings(model="demo-tag")
OTHER = TagSettings(model="demo-tag", rules=TagRules(threshold=0.9, remove_underscore=True), caption_separator="; ")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "imgs"
    folder.mkdir()
    for name in ("aka.jpg", "kuro.png", "sora.webp"):
        shutil.copy(IMAGES / name, folder)
    (folder / "broken.png").write_bytes((IMAGES / "kuro.png").read_bytes()[:300])
    return folder


@pytest.fixture(autouse=True)
def without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(module, "open_worker", refuse)


def anew(tmp_path: Path, settings: TagSettings | CaptionSettings = OTHER, *more: str) -> RunReport:
    """Make the text of the results in `first` anew, into `second`."""
    sources = Sources.of([str(tmp_path / "first"), *more])
    return run_shards(settings, ShardOptions(results=str(tmp_path / "second"), sources=sources))


def rows_in(folder: Path, task: str = "tag") -> list[Row]:
    return Results(FolderStore(folder)).rows("0000", task)


def test_the_text_is_that_of_a_run_with_the_same_rules(images: Path, tmp_path: Path) -> None:
    results_of(FolderStore(tmp_path / "first"), images, FIRST)
    report = anew(tmp_path)
    wanted = results_of(FolderStore(tmp_path / "wanted"), images, OTHER)
    assert rows_in(tmp_path / "second") == wanted.rows("0000", "tag") != rows_in(tmp_path / "first")
    assert (report.found, report.written, report.failed, report.predicted) == (4, 3, 1, 0)


def test_captions_get_other_rules_too(images: Path, tmp_path: Path) -> None:
    captions_of(FolderStore(tmp_path / "first"), images, CaptionSettings(model="demo-caption"))
    other = CaptionSettings(model="demo-caption", rules=CaptionRules(prefix="anime, "))
    assert anew(tmp_path, other).written == 4
    assert rows_in(tmp_path / "second", "caption")[0].text == "anime, a drawing of aka"


def test_warnings_about_the_old_text_do_not_stay(images: Path, tmp_path: Path) -> None:
    strict = TagSettings(model="demo-tag", rules=TagRules(exclude=("*",)))
    results_of(FolderStore(tmp_path / "first"), images, strict)
    anew(tmp_path, FIRST)
    before, after = (sum("no_tags" in row.warnings for row in rows_in(tmp_path / name)) for name in ("first", "second"))
    assert before > after == 0


def test_the_facts_of_the_first_run_stay(images: Path, tmp_path: Path) -> None:
    stored = results_of(FolderStore(tmp_path / "first"), images, FIRST)
    stored.store.put(
        "data/0000.parquet",
        encode_rows(stored.rows("0000", "tag"), ShardFacts("tag", "etag", "CUDA", "node7")),
        replace=True,
    )
    anew(tmp_path)
    second = Results(FolderStore(tmp_path / "second"))
    facts = second.facts(second.done()["0000"])
    assert (facts.etag, facts.provider, facts.host, facts.counts) == (
        "etag",
        "CUDA",
        "node7",
        {"ok": 3, "truncated": 1},
    )


def test_a_rerun_has_nothing_to_do(images: Path, tmp_path: Path) -> None:
    results_of(FolderStore(tmp_path / "first"), images, FIRST)
    anew(tmp_path)
    report = anew(tmp_path)
    assert (report.found, report.shards) == (
        0,
        {"found": 1, "before": 1, "done": 0, "damaged": 0, "failed": 0, "remaining": 0},
    )


def test_shards_that_the_first_run_has_not_done_remain(images: Path, tmp_path: Path) -> None:
    stored = results_of(FolderStore(tmp_path / "first"), images, FIRST)
    stored.store.delete("_sdprep/plan.jsonl")
    stored.plan(lambda: [Shard("0000", "a.tar"), Shard("0001", "b.tar")])
    report = anew(tmp_path)
    assert report.shards == {"found": 2, "before": 0, "done": 1, "damaged": 0, "failed": 0, "remaining": 1}


def test_results_of_another_preparation_are_refused_with_the_difference(images: Path, tmp_path: Path) -> None:
    results_of(FolderStore(tmp_path / "first"), images, FIRST)
    with pytest.raises(UsageError, match=r"and other settings of the model, .*\n.*decode: ") as caught:
        anew(tmp_path, TagSettings(model="demo-tag", exact_decode=True))
    assert "threshold" not in str(caught.value)
    assert not (tmp_path / "second").exists()


def test_results_of_another_command_are_refused(images: Path, tmp_path: Path) -> None:
    results_of(FolderStore(tmp_path / "first"), images, FIRST)
    with pytest.raises(UsageError, match=r"first was made by sdprep tag, so sdprep caption cannot use it"):
        anew(tmp_path, CaptionSettings(model="demo-caption"))


def test_results_are_the_only_source(images: Path, tmp_path: Path) -> None:
    results_of(FolderStore(tmp_path / "first"), images, FIRST)
    with pytest.raises(UsageError, match=r"first has results of another run; give it as the only source"):
        anew(tmp_path, OTHER, str(images))
