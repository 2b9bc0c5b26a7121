"""Runs that are killed at any point, one after another: the journal knows every sidecar, and undo gives it all back.

`pytest tests/stories/test_edit_kills.py --edit-kills 500` tries more sequences.
"""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.catalog.history import file_hash
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import CATALOG, FAKE_CAPTION, ROOT, leftovers, write
from tests.stories.test_kills import Mortal, tree

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGKILL and no fork here")

MODULES = (
    "sdprep.cli.main",
    "sdprep.tasks.tag",
    "sdprep.tasks.caption",
    "sdprep.tasks.exchange.import_",
    "sdprep.tasks.history",
    "sdprep.tasks.texts.clean",
    "sdprep.tasks.texts.edit",
    "sdprep.engines.runner",
    "sdprep.models.fake",
)
FAKE_TAG = str(ROOT / "tests" / "fake_models" / "fake-tag.toml")
# What another tool wrote: a text that differs for an image with sidecars, and both texts for one without.
TABLE = "metadata.json"
FIRST = {
    TABLE: '{"b": {"caption": "theirs", "tags": ["red_hat", "hat"], "width": 1.50}, '
    '"c.png": {"caption": "one", "tags": "1girl"}}',
    "a.txt": "mine, red_hat, hat\n",
    "b.txt": "\ufeffmine;hat; solo\r\n",
    "b.caption": "arafed a a girl  with a hat",
}
EDITS = [
    ["--add", "trigger@first"],
    ["--remove", "hat", "--sort"],
    ["--replace", "mine=yours", "--where", "tag:mine OR tag:hat"],
    ["--captions", "--prefix", "photo of "],
    ["--captions", "--regex", "s/ girl//"],
]
COMMANDS = [
    *(["edit", ".", *words] for words in EDITS),
    ["clean", ".", "--pack", "booru", "--pack", "captions"],
    ["clean", TABLE, "--pack", "booru"],
    ["tag", ".", "--model", FAKE_TAG, "--workers", "0", "--existing", "append"],
    ["tag", ".", "--model", FAKE_TAG, "--workers", "0", "--threshold", "0.9", "--update"],
    ["caption", ".", "--model", FAKE_CAPTION, "--workers", "0", "--existing", "append"],
    ["import", TABLE, "--existing", "overwrite"],
    ["undo", "--dir", "."],
]
# A command and the step before which it is killed; None: it is left alone.
STEPS = st.tuples(st.sampled_from(COMMANDS), st.none() | st.integers(1, 90))


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    started = Mortal(MODULES, tmp_path_factory.mktemp("home"))
    yield started
    with started.process as process:
        process.stdin.close()


@pytest.fixture
def first(album):
    """Two images with sidecars of a user, and one without."""
    for name, text in FIRST.items():
        write(album / name, text)
    return tree(album)


def test_after_runs_that_are_killed_at_any_point_every_sidecar_is_known_and_undo_gives_the_first_bytes(
    album, first, mortal, request, tmp_path
):
    numbers, ends = iter(range(10_000)), []

    @settings(max_examples=request.config.getoption("--edit-kills"), suppress_health_check=list(HealthCheck))
    @given(st.lists(STEPS, min_size=2, max_size=4))
    def live(steps):
        folder = shutil.copytree(album, tmp_path / str(next(numbers)))
        for words, event in steps:
            ends.append(mortal.run(words, folder, **({} if event is None else {"event": event}))["status"])
        # The next run that writes resolves what a killed one left.
        done = mortal.run(["edit", ".", "--add", "last"], folder)
        assert done["status"] == 0, done["said"]

        assert leftovers(folder) == []
        check_journaled(folder, first)
        for run in [entry.uid for entry in reversed(log(folder)) if entry.changed]:
            assert undo(folder, run).failures == []
        assert tree(folder) == first

    live()
    assert -9 in ends


def test_each_of_these_runs_ends_well_and_writes_something(album, first, mortal, tmp_path):
    for number, words in enumerate(COMMANDS[:-1]):
        folder = shutil.copytree(album, tmp_path / str(number))
        done = mortal.run(words, folder)
        assert done["status"] == 0, done["said"]
        assert tree(folder) != first, words


def check_journaled(folder, first):
    """Every file has its first bytes, or those of the last change that the journal has as done."""
    with closing(sqlite3.connect(folder / CATALOG)) as catalog:
        assert catalog.execute("SELECT count(*) FROM journal WHERE status NOT IN ('done', 'void')").fetchone() == (0,)
        last = dict(catalog.execute("SELECT key, after FROM journal WHERE status = 'done' ORDER BY id"))
    for name, data in tree(folder).items():
        assert file_hash(data) == last.get(name, file_hash(first.get(name))), name
