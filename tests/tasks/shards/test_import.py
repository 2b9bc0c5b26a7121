"""Results in the catalog of a folder: the next run writes their texts without a model, and undo takes them back."""

import shutil
from pathlib import Path

import pytest

from sdprep.config import CaptionSettings, PathOptions, RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import ImageError, NoImages
from sdprep.rules.labels import TagRules
from sdprep.shards.store import Store
from sdprep.tasks.caption import caption
from sdprep.tasks.history.undo import undo
from sdprep.tasks.shards import import_ as module
from sdprep.tasks.shards.import_ import import_
from sdprep.tasks.tag import tag
from sdprep.types import FailureCode, ImageItem
from tests.shards.rows import record
from tests.tasks.shards.made import captions_of, results_of

NAMES = ("aka.jpg", "kuro.png", "sora.webp")
TAGS, CAPTIONS = TagSettings(model="demo-tag"), CaptionSettings(model="demo-caption")


def folder_with(path: Path, names: dict[str, str] | tuple[str, ...] = NAMES) -> Path:
    """A folder with these demo images, under other names if it is a mapping."""
    path.mkdir()
    for name in names:
        shutil.copy(IMAGES / name, path / (names[name] if isinstance(names, dict) else name))
    return path


def texts(folder: Path, suffix: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(f"*{suffix}"))}


def test_the_next_run_writes_the_same_texts_without_a_model(memory: Store, tmp_path: Path) -> None:
    seen, folder = folder_with(tmp_path / "seen"), folder_with(tmp_path / "imgs")
    report = import_(results_of(memory, seen, TAGS), folder)
    assert (report.found, report.imported, report.missing) == (3, 3, [])
    done = tag(folder, TAGS)
    assert (done.written, done.predicted) == (3, 0)
    assert texts(folder, ".txt") == texts(seen, ".txt")


def test_captions_are_written_without_a_model_too(memory: Store, tmp_path: Path) -> None:
    results = captions_of(memory, folder_with(tmp_path / "seen"), CAPTIONS)
    folder = folder_with(tmp_path / "imgs")
    import_(results, folder)
    done = caption(folder, CAPTIONS)
    assert (done.written, done.predicted) == (3, 0)
    assert texts(folder, ".caption")["aka.caption"] == b"a drawing of aka\n"


def test_the_text_of_a_row_is_that_of_the_sidecar(memory: Store, tmp_path: Path) -> None:
    seen = folder_with(tmp_path / "seen")
    rows = results_of(memory, seen, TAGS).rows("0000", "tag")
    assert {f"{Path(row.member).stem}.txt": f"{row.text}\n".encode() for row in rows} == texts(seen, ".txt")


def test_undo_takes_the_texts_back(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    folder = folder_with(tmp_path / "imgs")
    import_(results, folder)
    tag(folder, TAGS)
    undo(folder)
    assert texts(folder, ".txt") == {}


def test_another_threshold_needs_no_model_either(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    folder = folder_with(tmp_path / "imgs")
    import_(results, folder)
    done = tag(folder, TagSettings(model="demo-tag", rules=TagRules(threshold=0.9)))
    assert (done.written, done.predicted) == (3, 0)


def test_images_are_known_by_their_content_whatever_their_names(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    folder = folder_with(tmp_path / "imgs", {"aka.jpg": "renamed.jpg"})
    shutil.copy(folder / "renamed.jpg", folder / "again.jpg")
    report = import_(results, folder)
    assert (report.found, report.imported) == (2, 2)
    assert tag(folder, TAGS).predicted == 0


def test_images_that_are_not_in_the_results_are_named(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    report = import_(results, folder_with(tmp_path / "imgs", ("aka.jpg", "two-girls.jpg")))
    assert (report.imported, report.missing) == (1, ["two-girls.jpg"])


def test_an_image_that_failed_fails_again_without_being_decoded(memory: Store, tmp_path: Path) -> None:
    seen, folder = folder_with(tmp_path / "seen"), folder_with(tmp_path / "imgs")
    for each in (seen, folder):
        (each / "broken.png").write_bytes((IMAGES / "kuro.png").read_bytes()[:300])
    report = import_(results_of(memory, seen, TAGS), folder)
    assert (report.imported, report.failed) == (3, 1)
    done = tag(folder, TAGS)
    assert (done.predicted, done.failed, done.failed_before) == (0, 1, ["broken.png"])


def test_a_truncated_image_has_its_result_only_for_runs_that_accept_it(memory: Store, tmp_path: Path) -> None:
    lenient = TagSettings(model="demo-tag", run=RunOptions(allow_truncated=True))
    seen, folder = folder_with(tmp_path / "seen"), folder_with(tmp_path / "imgs")
    for each in (seen, folder):
        data = (IMAGES / "aka.jpg").read_bytes()
        (each / "cut.jpg").write_bytes(data[: len(data) // 2])
    import_(results_of(memory, seen, lenient), folder)
    assert tag(folder, TAGS).failed == 1
    assert tag(folder, lenient).predicted == 0


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_imported(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    folder = folder_with(tmp_path / "imgs")
    digest = module.file_digest

    def fail_once(item: ImageItem) -> bytes:
        if item.rel == "kuro.png":
            raise ImageError(FailureCode.UNREADABLE, "Input/output error")
        return digest(item)

    monkeypatch.setattr(module, "file_digest", fail_once)
    report = import_(results, folder)
    assert ([each["path"] for each in report.unreadable], report.imported) == (["kuro.png"], 2)


def test_the_command_that_writes_the_sidecars_is_told(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    folder = folder_with(tmp_path / "imgs")
    assert import_(results, folder).command == f"sdprep tag {folder} --model demo-tag"


def test_only_options_of_the_command_are_in_it(tmp_path: Path) -> None:
    stated = {"threshold": 0.5, "exclude": ["a b", "$(rm)"], "; rm -rf": 1}
    command = module._command(record(stated=stated), tmp_path)
    assert command == f"sdprep tag {tmp_path} --model demo-tag --threshold 0.5 --exclude 'a b,$(rm)'"


def test_subfolders_are_left_out_on_request(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    folder = folder_with(tmp_path / "imgs")
    folder_with(folder / "sub")
    assert import_(results, folder, PathOptions(recursive=False)).found == 3


def test_a_folder_without_images_is_named(memory: Store, tmp_path: Path) -> None:
    results = results_of(memory, folder_with(tmp_path / "seen"), TAGS)
    with pytest.raises(NoImages):
        import_(results, folder_with(tmp_path / "imgs", ()))
