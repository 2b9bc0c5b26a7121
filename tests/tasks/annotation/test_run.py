"""A run from a source through a model into a sink, as the worked example in docs/architecture.md has it."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from sdprep.catalog.schema import checksum
from sdprep.config import RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import ModelError
from sdprep.models.files.hub import find_local
from sdprep.report import CancelToken
from sdprep.tasks.annotation import run
from sdprep.tasks.annotation.run import NONFINITE_LIMIT, NonfiniteCheck
from sdprep.tasks.tag import tag
from sdprep.types import Failure, FailureCode, ImageItem, Result

PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"
SETTINGS = TagSettings(model="demo-tag", run=RunOptions(workers=0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("aka.jpg", "kuro.png"):
        shutil.copy(IMAGES / name, tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    return tmp_path


@pytest.fixture
def export() -> ModuleType:
    """The module of the worked example."""
    code = re.search("### A sink\n.*?```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert code is not None
    module = ModuleType("export")
    exec(compile(code[1], "export.py", "exec"), module.__dict__)
    return module


def test_the_sink_of_the_worked_example_gets_what_a_folder_run_writes(folder: Path, export: ModuleType) -> None:
    lines = folder / "tags.jsonl"

    report = export.export_tags(folder, lines, SETTINGS)

    tag(folder, SETTINGS)
    texts = {path.stem: path.read_text("utf-8").rstrip("\n") for path in folder.glob("*.txt")}
    found = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    assert {Path(each["path"]).stem: ", ".join(each["tags"]) for each in found} == texts
    assert len(texts) == 2
    assert (report.found, report.written, report.failed, report.remaining, report.predicted) == (3, 2, 1, 0, 3)
    assert [failure["path"] for failure in report.failures] == ["broken.png"]


def test_a_cancelled_run_shows_the_model_nothing_and_counts_the_rest(folder: Path, export: ModuleType) -> None:
    stop = CancelToken()
    stop.exit_code = 130
    tagging = partial(export.Tagging, note=export.NullListener().note)
    annotation = export.Annotation("tag", tagging, SETTINGS, stop=stop)

    report = annotation.run(export.ImageSource(folder), export.JsonLinesSink(folder / "tags.jsonl", annotation.report))

    assert (report.found, report.remaining, report.predicted, report.stopped) == (3, 3, 0, 130)


def test_results_of_a_model_that_was_downloaded_after_planning_are_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "find_local", lambda _: None)
        patch.setattr(run, "ensure_downloaded", lambda spec, _: find_local(spec))
        first = tag(folder, SETTINGS)
    for path in folder.glob("*.txt"):
        path.unlink()

    second = tag(folder, SETTINGS)

    assert (first.written, first.predicted) == (2, 3)
    assert (second.written, second.predicted) == (2, 0)


def test_a_stored_result_that_is_not_one_of_the_models_is_predicted_again(folder: Path) -> None:
    tag(folder, SETTINGS)
    before = (folder / "aka.txt").read_bytes()
    other = b'{"text": "a caption of another model!!"}'
    with closing(sqlite3.connect(folder / ".sdprep" / "catalog.sqlite")) as catalog, catalog:
        for (digest,) in catalog.execute("SELECT digest FROM results").fetchall():
            values = (other, checksum(digest, other), digest)
            catalog.execute("UPDATE results SET data = ?, checksum = ? WHERE digest = ?", values)
    (folder / "aka.txt").unlink()

    report = tag(folder, SETTINGS)

    assert ((folder / "aka.txt").read_bytes(), report.predicted) == (before, 1)


ITEM = ImageItem.at(Path("a.png"))
NAN, OTHER = (Failure(ITEM, code, "") for code in (FailureCode.NONFINITE, FailureCode.CORRUPT))
GOOD = Result(ITEM, b"digest", b"data")


def test_a_model_that_only_answers_with_nan_ends_the_run() -> None:
    check = NonfiniteCheck(NONFINITE_LIMIT)
    for outcome in [NAN, OTHER] + [NAN] * (NONFINITE_LIMIT - 2):
        check.check(outcome)
    with pytest.raises(ModelError, match=f"each of its first {NONFINITE_LIMIT} images"):
        check.check(NAN)


def test_images_that_give_nan_beside_others_with_a_result_end_no_run() -> None:
    check = NonfiniteCheck(2)
    for outcome in (NAN, GOOD, NAN, NAN, NAN):
        check.check(outcome)
