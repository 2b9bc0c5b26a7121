"""Changes of files, recorded before they are made."""

import errno
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.journal import Change, apply, record_existing, recover
from sdprep.catalog.schema import FILE
from sdprep.errors import WriteError
from sdprep.folders import Folder
from sdprep.rules.mixed_text import MixedText, Part
from sdprep.rules.policy import SidecarState

RUN = RunInfo("run-1", "tag", {}, {}, None, 1.0)
STATE = SidecarState("tag", "new", b"d" * 32, MixedText((Part("tag", ("new",), digest=b"d" * 32),)))


class Killed(BaseException):
    """The end of the process."""


@pytest.fixture
def catalog(tmp_path: Path):
    (tmp_path / ".sdprep").mkdir()
    opened = Catalog(tmp_path / ".sdprep" / FILE, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old\n")
    return path


def change(path: Path, before: bytes | None = b"old\n", after: bytes | None = b"new\n") -> Change:
    return Change(path, before, after, STATE)


def statuses(catalog: Catalog) -> list[str]:
    return [status for (status,) in catalog.db.execute("SELECT status FROM journal ORDER BY id")]


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".sdprep"}


def die(*_: object, **__: object) -> None:
    raise Killed


def intend(catalog: Catalog, *changes: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave intents behind as a run does that dies before it has replaced anything."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        patch.setattr(os, "unlink", lambda *_, **__: None)
        patch.setattr("sdprep.catalog.journal._record_outcome", lambda *_, **__: None)
        with pytest.raises(Killed):
            apply(catalog, RUN, changes, catalog.root)


# Changes


def test_a_change_writes_the_file(catalog: Catalog, file: Path) -> None:
    apply(catalog, RUN, [change(file)], catalog.root)
    assert file.read_bytes() == b"new\n"


def test_a_change_that_was_made_is_done_and_its_state_known(catalog: Catalog, file: Path) -> None:
    apply(catalog, RUN, [change(file)], catalog.root)
    assert (statuses(catalog), catalog.state_of("a.txt")) == (["done"], STATE)


def test_the_texts_of_before_and_after_are_kept(catalog: Catalog, file: Path) -> None:
    apply(catalog, RUN, [change(file)], catalog.root)
    before, after = catalog.db.execute("SELECT before, after FROM journal").fetchone()
    assert (catalog.text(before), catalog.text(after)) == (b"old\n", b"new\n")


def test_a_file_that_was_absent_is_made_with_its_folders(catalog: Catalog, tmp_path: Path) -> None:
    apply(catalog, RUN, [change(tmp_path / "sub" / "deep" / "b.txt", before=None)], catalog.root)
    assert (tmp_path / "sub" / "deep" / "b.txt").read_bytes() == b"new\n"


def test_a_file_can_be_made_to_be_gone(catalog: Catalog, file: Path) -> None:
    apply(catalog, RUN, [Change(file, b"old\n", None)], catalog.root)
    assert not file.exists()


def test_no_temporary_file_stays(catalog: Catalog, file: Path) -> None:
    apply(catalog, RUN, [change(file)], catalog.root)
    assert visible(file.parent) == {"a.txt"}


def test_the_intent_is_on_disk_before_the_file_changes(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.replace

    def spy(*paths: Any, **folders: Any) -> None:
        other = Catalog(catalog.file, catalog.root)
        seen.extend(statuses(other))
        other.close()
        real(*paths, **folders)

    monkeypatch.setattr(os, "replace", spy)
    apply(catalog, RUN, [change(file)], catalog.root)
    assert seen == ["intent"]


def test_the_new_text_of_a_private_file_is_never_readable_by_others(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.chmod(0o600)
    modes, sync = list[int](), Folder.sync

    def watched(folder: Folder, name: str) -> None:
        modes.append(stat.S_IMODE((file.parent / name).stat().st_mode))
        sync(folder, name)

    monkeypatch.setattr(Folder, "sync", watched)
    apply(catalog, RUN, [change(file)], catalog.root)
    assert (modes, stat.S_IMODE(file.stat().st_mode)) == ([0o600], 0o600)


# Files that someone else changes meanwhile


@pytest.mark.parametrize("before", [b"something else\n", None], ids=["edited", "appeared"])
def test_a_file_that_is_not_as_it_was_seen_is_left_alone(catalog: Catalog, file: Path, before: bytes | None) -> None:
    assert apply(catalog, RUN, [change(file, before)], catalog.root).conflicts == [change(file, before)]
    assert file.read_bytes() == b"old\n"


def test_a_file_that_was_deleted_meanwhile_is_not_made_again(catalog: Catalog, file: Path) -> None:
    file.unlink()
    assert apply(catalog, RUN, [change(file)], catalog.root).conflicts == [change(file)]
    assert not file.exists()


def test_a_change_that_was_overtaken_is_void_and_no_state_is_known(catalog: Catalog, file: Path) -> None:
    apply(catalog, RUN, [change(file, b"something else\n")], catalog.root)
    assert (statuses(catalog), catalog.state_of("a.txt")) == (["void"], None)


def test_one_overtaken_file_does_not_hold_up_the_others(catalog: Catalog, file: Path) -> None:
    other = file.with_name("b.txt")
    apply(catalog, RUN, [change(file, b"something else\n"), change(other, None)], catalog.root)
    assert (statuses(catalog), other.read_bytes()) == (["void", "done"], b"new\n")


# Disks that fail


@pytest.fixture
def disk_that_fails_at_the_second_file(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.replace, []

    def failing(*paths: Any, **folders: Any) -> None:
        calls.append(paths)
        if len(calls) >= 2:
            raise OSError(28, "No space left on device", str(paths[1]))
        real(*paths, **folders)

    monkeypatch.setattr(os, "replace", failing)


@pytest.mark.usefixtures("disk_that_fails_at_the_second_file")
def test_what_was_written_before_a_fault_of_the_disk_is_known(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No space left"):
        apply(catalog, RUN, [change(tmp_path / name, None) for name in ("a.txt", "b.txt", "c.txt")], catalog.root)
    assert statuses(catalog) == ["done", "intent", "intent"]


@pytest.mark.usefixtures("disk_that_fails_at_the_second_file")
def test_what_a_fault_of_the_disk_prevented_is_resolved_by_the_next_command(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(WriteError):
        apply(catalog, RUN, [change(tmp_path / name, None) for name in ("a.txt", "b.txt", "c.txt")], catalog.root)
    recover(catalog, catalog.root)
    assert statuses(catalog) == ["done", "void", "void"]


@pytest.mark.parametrize("error", [errno.EACCES, errno.ENAMETOOLONG, errno.EINVAL, errno.EIO])
def test_an_obstacle_of_one_file_does_not_hold_up_the_others(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    real, other = os.replace, file.with_name("b.txt")

    def refusing(source: str, target: str, **folders: Any) -> None:
        if target == file.name:
            raise OSError(error, os.strerror(error), target)
        real(source, target, **folders)

    monkeypatch.setattr(os, "replace", refusing)
    applied = apply(catalog, RUN, [change(file), change(other, None)], catalog.root)
    assert (list(applied.errors), file.read_bytes(), other.read_bytes()) == ([change(file)], b"old\n", b"new\n")


@pytest.mark.usefixtures("disk_that_fails_at_the_second_file")
def test_a_fault_of_the_disk_leaves_no_file_half_written(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(WriteError):
        apply(catalog, RUN, [change(tmp_path / name, None) for name in ("a.txt", "b.txt", "c.txt")], catalog.root)
    assert visible(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "the answer was lost")], ids=["Ctrl-C", "network"])
def test_a_file_that_was_replaced_just_before_a_fault_is_known_as_written(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    real = os.replace

    def lost(*paths: Any, **folders: Any) -> None:
        real(*paths, **folders)
        raise error

    monkeypatch.setattr(os, "replace", lost)
    with suppress(KeyboardInterrupt):
        apply(catalog, RUN, [change(file)], catalog.root)
    recover(catalog, catalog.root)
    assert (statuses(catalog), catalog.state_of("a.txt")) == (["done"], STATE)


# Runs that die


def test_after_a_crash_a_file_with_the_new_bytes_was_written(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend(catalog, change(file), monkeypatch=monkeypatch)
    file.write_bytes(b"new\n")
    recover(catalog, catalog.root)
    assert (statuses(catalog), catalog.state_of("a.txt")) == (["done"], STATE)


def test_after_a_crash_a_file_with_the_old_bytes_was_not_written(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend(catalog, change(file), monkeypatch=monkeypatch)
    recover(catalog, catalog.root)
    assert (statuses(catalog), catalog.state_of("a.txt")) == (["void"], None)


@pytest.mark.parametrize("found", [b"a user was here\n", None], ids=["edited", "deleted"])
def test_after_a_crash_it_is_unclear_whether_any_other_file_was_written(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch, found: bytes | None
) -> None:
    intend(catalog, change(file), monkeypatch=monkeypatch)
    file.unlink() if found is None else file.write_bytes(found)
    recover(catalog, catalog.root)
    assert (statuses(catalog), catalog.state_of("a.txt")) == (["unclear"], None)


def test_after_a_crash_a_file_that_was_to_be_gone_and_is_gone_was_removed(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdprep.catalog.journal._record_outcome", lambda *_, **__: None)
    apply(catalog, RUN, [Change(file, b"old\n", None)], catalog.root)
    monkeypatch.undo()
    recover(catalog, catalog.root)
    assert statuses(catalog) == ["done"]


def test_recovering_touches_no_file(catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    intend(catalog, change(file), monkeypatch=monkeypatch)
    recover(catalog, catalog.root)
    assert file.read_bytes() == b"old\n"


def test_the_temporary_file_of_a_run_that_died_is_removed(
    catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend(catalog, change(file), monkeypatch=monkeypatch)
    before = visible(file.parent)
    recover(catalog, catalog.root)
    assert (len(before), visible(file.parent)) == (2, {"a.txt"})


# Adopting


def test_an_adopted_text_is_known_without_a_change_in_the_journal(catalog: Catalog, file: Path) -> None:
    state = replace(STATE, text="old")
    record_existing(catalog, file, state)
    assert (catalog.state_of("a.txt"), statuses(catalog)) == (state, [])
