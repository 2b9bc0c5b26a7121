"""A run over shards: each image has one row, each shard is committed whole, and a second run goes on."""

import os
import tarfile

import pytest

from sdprep.engines import base
from sdprep.errors import UsageError
from sdprep.report import CancelToken, NullListener
from sdprep.shards.results import TRIES, FailedShard, Results
from sdprep.tasks.shards import run as module
from sdprep.tasks.shards import work
from sdprep.tasks.shards.retry import retry
from sdprep.tasks.shards.status import status
from sdprep.types import FailureCode
from tests.shards.tars import tar
from tests.tasks.shards import poison
from tests.tasks.shards.sets import outcomes, png, rows, run, settings, write_tars


class Notes(NullListener):
    """What a run has noted."""

    def __init__(self) -> None:
        self.lines = []

    def note(self, message):
        self.lines.append(message)


class AtWork(NullListener):
    """Does something when the model is loaded and the work begins."""

    def __init__(self, do) -> None:
        self._do = do

    def stage(self, name, *_):
        if name == "tagging":
            self._do()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def forbid_model(monkeypatch):
    """From its call on, no model may be opened."""

    def refuse(*_, **__):
        raise AssertionError("a model was opened")

    return lambda: monkeypatch.setattr(module, "open_worker", refuse)


def shards(report):
    return tuple(report.shards[name] for name in ("found", "before", "done", "failed", "remaining"))


# Rows


def test_each_image_of_each_tar_has_one_row(tmp_path, out):
    names = write_tars(tmp_path, 3)

    report = run(out, tmp_path / "{00..02}.tar")

    assert [row.member for row in rows(out)] == names
    assert (report.found, report.written, report.failed, report.exit_code) == (9, 9, 0, 0)
    assert shards(report) == (3, 0, 3, 0, 0)


def test_a_row_has_the_size_the_hash_the_tags_and_the_text_of_its_image(tmp_path, out):
    write_tars(tmp_path, 1, images=1)
    run(out, tmp_path)

    (row,) = rows(out)
    assert (row.key, row.member, row.outcome, row.width, row.height) == ("0000", "0000.png", "ok", 8, 6)
    assert row.text == ", ".join(row.tags) != ""
    assert len(row.digest) == 32
    assert row.result


def test_a_failed_image_is_a_row_and_the_run_exits_with_3(tmp_path, out):
    (tmp_path / "a.tar").write_bytes(tar({"a.png": png(1), "b.png": b"no image", "c.png": b""}))

    report = run(out, tmp_path / "a.tar")

    assert outcomes(out) == {"a.png": "ok", "b.png": "not_an_image", "c.png": "empty_file"}
    assert (report.written, report.failed, report.exit_code) == (1, 2, 3)
    assert [each["path"] for each in report.failures] == ["a/b.png", "a/c.png"]


def test_images_that_do_not_fit_into_the_spool_together_come_in_parts(tmp_path, out, monkeypatch):
    names = write_tars(tmp_path, 1, images=20)
    monkeypatch.setattr(module, "MEGABYTE", 200)

    report = run(out, tmp_path / "00.tar", spool=1)

    assert report.written == 20
    assert [row.member for row in rows(out)] == names


# Going on


def test_a_second_run_leaves_shards_that_are_done_and_opens_no_model(tmp_path, out, forbid_model):
    write_tars(tmp_path, 2)
    run(out, tmp_path)
    forbid_model()

    report = run(out, tmp_path)

    assert shards(report) == (2, 2, 0, 0, 0)
    assert report.found == 0


def test_a_run_goes_on_with_the_shards_that_are_not_done(tmp_path, out):
    names = write_tars(tmp_path, 3)
    run(out, tmp_path, index=1, count=3, steal=False)

    report = run(out, tmp_path)

    assert shards(report) == (3, 1, 2, 0, 0)
    assert sorted(outcomes(out)) == names


def test_other_settings_are_refused_with_the_difference(tmp_path, out, forbid_model):
    write_tars(tmp_path, 1)
    run(out, tmp_path)
    forbid_model()

    with pytest.raises(UsageError, match="caption_separator"):
        run(out, tmp_path, settings=settings(caption_separator="; "))


def test_a_run_that_is_cancelled_commits_no_part_of_a_shard(tmp_path, out):
    write_tars(tmp_path, 2)
    stop = CancelToken()

    def cancel():
        stop.exit_code = 130

    report = run(out, tmp_path, listener=AtWork(cancel), stop=stop)

    assert rows(out) == []
    assert report.exit_code == 130
    assert shards(report) == (2, 0, 0, 0, 2)


def test_a_source_that_is_not_there_leaves_no_results(tmp_path, out):
    write_tars(tmp_path, 1)
    with pytest.raises(UsageError, match=r"01\.tar: there is no such object"):
        run(out, tmp_path / "{00..01}.tar")
    with pytest.raises(UsageError, match="no such file or folder"):
        run(out, tmp_path / "out")
    assert not out.exists()


# Shares


def test_a_process_does_its_own_shards_and_then_those_of_others(tmp_path, out):
    write_tars(tmp_path, 4)

    alone = run(out, tmp_path, index=0, count=2, steal=False)
    both = run(out, tmp_path, index=0, count=2)

    assert shards(alone) == (4, 0, 2, 0, 2)
    assert shards(both) == (4, 2, 2, 0, 0)


def test_a_shard_that_another_process_does_meanwhile_is_not_counted_twice(tmp_path, out):
    names = write_tars(tmp_path, 2)

    report = run(out, tmp_path, listener=AtWork(lambda: run(out, tmp_path)))

    assert shards(report) == (2, 2, 0, 0, 0)
    assert sorted(outcomes(out)) == names


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(tmp_path, out, index, count):
    with pytest.raises(UsageError, match="--shard"):
        run(out, tmp_path, index=index, count=count)


# What goes wrong with a shard


def test_hostile_tars_have_their_outcomes_and_the_run_goes_on(tmp_path, out):
    whole = tar({"first.png": png(1), "second.png": png(2)})
    (tmp_path / "cut.tar").write_bytes(whole[: 512 * 3 + 20])
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "page.tar").write_bytes(b"<!DOCTYPE html><title>403</title>" * 100)
    (tmp_path / "last.tar").write_bytes(tar({"last.png": png(3)}))

    report = run(out, tmp_path)

    found = Results.at(str(out))
    by_shard = {shard: [(row.member, row.outcome) for row in found.rows(shard, "tag")] for shard in found.done()}
    assert by_shard == {
        "cut": [("first.png", "ok"), ("second.png", "truncated")],
        "empty": [("", "empty_file")],
        "page": [("", "corrupt")],
        "last": [("last.png", "ok")],
    }
    assert shards(report) == (4, 0, 4, 0, 0)
    assert (report.found, report.failed, report.shards["damaged"], report.exit_code) == (3, 1, 2, 3)
    told = status(found)
    assert (told.images, told.shards.damaged) == ({"ok": 2, "truncated": 1}, 2)
    assert [(each.id, each.reason) for each in retry(found, [FailureCode.CORRUPT], dry_run=True)] == [
        ("page", "the shard itself is corrupt")
    ]


def test_images_that_kill_the_worker_cost_one_row_each(tmp_path, out, monkeypatch):
    monkeypatch.setattr(base, "DECODE", poison.DECODER)
    monkeypatch.setattr(work, "MOST_DEATHS", 2)
    bad = {f"{number:02}.png" for number in range(3, 60, 9)}
    images = {f"{number:02}.png": png(number) for number in range(60)}
    marked = {name: data + poison.MARK if name in bad else data for name, data in images.items()}
    (tmp_path / "a.tar").write_bytes(tar(marked))

    report = run(out, tmp_path)

    assert outcomes(out) == {name: "crashed" if name in bad else "ok" for name in images}
    assert (len(bad), report.failed, shards(report)) == (7, 7, (1, 0, 1, 0, 0))
    assert Results.at(str(out)).failed() == {}


def test_images_that_killed_a_worker_before_are_not_tried_again(tmp_path, out, monkeypatch):
    write_tars(tmp_path, 1)
    run(out, tmp_path, index=1, count=2, steal=False)
    Results.at(str(out)).set_failure("00", FailedShard(1, "", poison={"0001.png": ("crashed", "as before")}))

    run(out, tmp_path)

    assert outcomes(out) == {"0000.png": "ok", "0001.png": "crashed", "0002.png": "ok"}


def test_a_source_that_has_changed_is_given_up_and_the_others_are_done(tmp_path, out):
    write_tars(tmp_path, 3)
    run(out, tmp_path, index=3, count=4, steal=False)
    for name in ("00", "01"):
        (tmp_path / f"{name}.tar").write_bytes(tar({"other.png": png(7)}))
    notes = Notes()

    report = run(out, tmp_path, listener=notes)

    assert shards(report) == (3, 0, 1, 2, 0)
    assert report.exit_code == 3
    told = [line for line in notes.lines if line.startswith("gave up the shard")]
    assert len(told) == 2
    assert all(
        "has changed since the run was planned. Take another --results for it, or put back" in line for line in told
    )


def test_a_source_that_has_changed_is_not_tried_again_until_asked_for(tmp_path, out):
    names = write_tars(tmp_path, 1)
    run(out, tmp_path, index=1, count=2, steal=False)
    whole, times = (tmp_path / "00.tar").read_bytes(), (tmp_path / "00.tar").stat()
    (tmp_path / "00.tar").write_bytes(tar({"other.png": png(7)}))
    run(out, tmp_path)
    notes = Notes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_worker", None)
        report = run(out, tmp_path, listener=notes)
    (tmp_path / "00.tar").write_bytes(whole)
    os.utime(tmp_path / "00.tar", ns=(times.st_atime_ns, times.st_mtime_ns))
    retry(Results.at(str(out)))
    again = run(out, tmp_path)

    assert (shards(report), report.exit_code) == ((1, 0, 0, 1, 0), 3)
    assert notes.lines == [f"1 shard was given up before; sdprep results status {out} shows why"]
    assert (shards(again), [row.member for row in rows(out)]) == ((1, 0, 1, 0, 0), names)


def test_a_shard_is_given_up_after_its_last_attempt(tmp_path, out, forbid_model):
    write_tars(tmp_path, 1)
    run(out, tmp_path, index=1, count=2, steal=False)
    forbid_model()
    Results.at(str(out)).set_failure("00", FailedShard(TRIES, "why"))

    report = run(out, tmp_path)

    assert shards(report) == (1, 0, 0, 1, 0)
    assert report.exit_code == 3


def test_several_models_are_refused(tmp_path, out):
    with pytest.raises(UsageError, match="one model"):
        run(out, tmp_path, settings=settings().__class__(model=("demo-tag", "wd-vit-tagger-v3")))


def test_a_member_larger_than_what_is_read_is_a_row(tmp_path, out):
    header = tarfile.TarInfo("huge.png")
    header.size = 5 * 10**9
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(tar({"a.png": png(1)})[:1024])
        file.write(header.tobuf(tarfile.GNU_FORMAT))

    run(out, tmp_path)

    assert outcomes(out) == {"a.png": "ok", "huge.png": "too_large", "": "truncated"}


# Shards that are read ahead


def watch_reads(monkeypatch, before=lambda _: None):
    """The shards that are read, in the order in which this begins; `before` is called first."""
    read, real = [], work.read_shard

    def watched(shard, sources, limit):
        before(shard)
        read.append(shard.id)
        return real(shard, sources, limit)

    monkeypatch.setattr(work, "read_shard", watched)
    return read


def test_shards_are_read_once_each_own_ones_first(tmp_path, out, monkeypatch):
    write_tars(tmp_path, 6)
    read = watch_reads(monkeypatch)

    run(out, tmp_path, index=1, count=3)

    assert (read[:2], sorted(read[2:])) == (["01", "04"], ["00", "02", "03", "05"])


def test_a_shard_that_another_process_does_while_it_is_read_ahead_is_left_to_it(tmp_path, out, monkeypatch):
    names = write_tars(tmp_path, 3)

    def do_it_elsewhere(shard):
        if shard.id == "01":
            monkeypatch.undo()
            run(out, tmp_path, index=1, count=3, steal=False)

    watch_reads(monkeypatch, do_it_elsewhere)
    report = run(out, tmp_path)

    assert shards(report) == (3, 1, 2, 0, 0)
    assert [row.member for row in rows(out)] == names


def test_a_shard_that_cannot_be_read_ahead_is_given_up_in_its_turn(tmp_path, out):
    names = write_tars(tmp_path, 3)
    run(out, tmp_path, index=3, count=4, steal=False)
    (tmp_path / "01.tar").unlink()

    report = run(out, tmp_path)

    assert shards(report) == (3, 0, 2, 1, 0)
    assert [row.member for row in rows(out)] == [name for name in names if not name.startswith("1")]
    assert Results.at(str(out)).failure("00") is None
