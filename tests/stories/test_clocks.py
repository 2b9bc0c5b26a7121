"""Clocks that were set back, stand still, or show a year that nobody lives in."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.catalog.history import RunEntry, in_order
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import LOOSE, STRICT, USUAL, caption, counts, run_cli, tag, texts, write

DAY = 86_400.0


@pytest.fixture
def clock(monkeypatch):
    """Sets the clock of this process."""
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: seconds)


def test_undo_takes_back_the_last_run_whatever_the_clock_says(album, clock):
    made, runs = [{}], []
    for day, threshold in ((3, USUAL), (1, STRICT), (2, LOOSE)):
        clock(day * DAY)
        runs.append(tag(album, threshold=threshold).run)
        made.append(texts(album))
    clock(0.5 * DAY)

    undo(album)
    assert texts(album) == made[2]
    # The undo is the last run now, though the clock puts it before all others.
    undo(album)
    assert texts(album) == made[3]
    for run, left in zip(reversed(runs), reversed(made[:3]), strict=True):
        undo(album, run)
        assert texts(album) == left


def test_the_log_lists_runs_in_their_order_whatever_the_clock_says(album, clock):
    thresholds = {}
    for day, threshold in ((3, USUAL), (1, STRICT), (2, LOOSE)):
        clock(day * DAY)
        thresholds[tag(album, threshold=threshold).run] = threshold

    assert [thresholds[entry.uid] for entry in log(album)] == [USUAL, STRICT, LOOSE]


def test_a_run_over_two_catalogs_orders_their_runs(album, drawings, clock):
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])
    clock(9 * DAY)
    first = tag(album / "sub").run
    clock(5 * DAY)
    second = tag(album, threshold=STRICT).run
    clock(1 * DAY)
    third = tag(album / "sub", threshold=LOOSE).run

    assert [entry.uid for entry in log(album)] == [first, second, third]
    undo(album / "sub")
    assert [entry.command for entry in log(album)] == ["tag", "tag", "tag", "undo"]
    assert [entry.changed for entry in log(album)] == [1, 4, 1, 1]


@pytest.mark.parametrize("seconds", [-1.0, -3e9, -6e10, 0.0, 253_402_300_800.0, 1e12])
def test_a_clock_of_any_year_does_no_harm(album, clock, seconds):
    write(album / "a.txt", "mine")
    clock(seconds)

    assert counts(tag(album, existing="overwrite")) == {"written": 3}
    assert counts(caption(album)) == {"written": 3}
    assert [entry.command for entry in log(album)] == ["tag", "caption"]
    undo(album)
    undo(album, log(album)[0].uid)
    assert texts(album) == {"a.txt": b"mine"}


def test_the_log_shows_runs_of_any_year(album, clock):
    clock(-DAY)
    tag(album)

    done = run_cli("log", album)

    assert (done.returncode, done.stderr) == (0, "")
    assert "1969-12-3" in done.stdout


@pytest.mark.parametrize("year", [1900, 2300, 2400])
def test_files_of_any_year_are_known_again(album, year):
    seconds = int((year - 1970) * 365.2425) * 86_400
    for name in ("a.png", "b.png"):
        os.utime(album / name, ns=(0, seconds * 10**9))

    assert counts(tag(album)) == {"written": 3}
    assert counts(tag(album)) == {"current": 3}


# Any number of catalogs


def entry(uid, started):
    return RunEntry(uid, "tag", None, started, None, 1, Path())


@given(st.lists(st.tuples(st.sets(st.integers(0, 4), min_size=1), st.floats(-1e9, 1e9)), max_size=12))
def test_runs_of_any_catalogs_keep_the_order_that_each_of_them_has(made):
    """Each run is made in some of five catalogs, while the clock shows anything."""
    catalogs = [
        [entry(str(number), started) for number, (places, started) in enumerate(made) if place in places]
        for place in range(5)
    ]

    ordered = in_order(catalogs)

    assert {each.uid: each.changed for each in ordered} == {
        str(number): len(places) for number, (places, _) in enumerate(made)
    }
    position = {each.uid: place for place, each in enumerate(ordered)}
    for runs in catalogs:
        assert [position[each.uid] for each in runs] == sorted(position[each.uid] for each in runs)


def test_catalogs_that_contradict_each_other_still_list_every_run():
    one, two = entry("1", 1.0), entry("2", 2.0)

    assert [each.uid for each in in_order([[one, two], [two, one]])] == ["1", "2"]
