"""Runs that are killed with SIGKILL at any point: the next run completes the work as if nothing had happened.

`pytest tests/stories/test_kills.py --kills 5000` kills more often; with enough kills, before every step that writes.
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing

import pytest

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.tasks.history.restore import file_versions
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import CATALOG, FAKE_CAPTION, PYTHON, ROOT, leftovers, write

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGKILL and no fork here")

TAG = ["tag", ".", "--existing", "overwrite", "--remove-underscore", "--scores", "scores.jsonl", "--workers"]
CAPTION = ["caption", ".", "--existing", "append", "--num-beams", "1", "--workers"]
# What is killed: the words, and how many of 100 kills are its share.
RUNS = {
    "tag": ([*TAG, "0"], 32),
    "tag with a worker": ([*TAG, "2"], 10),
    "merge": (["merge", ".", "--keys", "relative"], 22),
    "undo": (["undo", "LAST", "--dir", ".", "--force"], 26),
    "caption": ([*CAPTION, "0"], 8),
    "caption with a worker": ([*CAPTION, "2"], 2),
}
# What the dataset held before sdprep ever wrote to it, and all that sdprep could have written.
FIRST = {
    "a.txt": b"mine, a",
    "b.txt": b"mine, b",
    "b.caption": b"the user's words",
    "metadata.json": b'{"a.png": {"theirs": 1, "tags": "old"}, "gone.png": {}}',
}
SIDECARS = [f"{stem}{ending}" for stem in ("a", "b", "sub/c", "sub/d") for ending in (".txt", ".caption")]
# Loaded once for all runs of a kind; a worker loads its own.
LOADED = {
    "tag": ("sdprep.engines.runner", "sdprep.models.taggers.onnx_tagger", "onnxruntime"),
    "caption": ("sdprep.engines.runner", "sdprep.models.fake"),
}
COMMON = (
    "sdprep.cli.main",
    "sdprep.tasks.tag",
    "sdprep.tasks.caption",
    "sdprep.tasks.merge",
    "sdprep.tasks.history.undo",
)


def pytest_generate_tests(metafunc):
    if "kill" in metafunc.fixturenames:
        total = metafunc.config.getoption("--kills")
        kills = [(name, number, max(1, total * share // 100)) for name, (_, share) in RUNS.items()
                 for number in range(max(1, total * share // 100))]  # fmt: skip
        metafunc.parametrize("kill", kills, ids=[f"{name} {number}" for name, number, _ in kills])


class Mortal:
    """The process that runs sdprep in forks of its own, see `mortal.py`."""

    def __init__(self, modules, home):
        environment = os.environ | {name: str(home) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        environment |= {"SDPREP_TAG_MODEL": "demo-tag", "SDPREP_CAPTION_MODEL": FAKE_CAPTION}
        self.process = subprocess.Popen(
            [PYTHON, "-m", "tests.stories.mortal", *modules], cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True
        )

    def run(self, words, folder, **end):
        print(json.dumps({"words": words, "folder": str(folder), **end}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def mortals(tmp_path_factory):
    """One such process for each kind of run, started when it is needed first; they share a home and the key in it."""
    started, home = {}, tmp_path_factory.mktemp("home")

    def mortal(name):
        if name not in started:
            modules = [*COMMON, *LOADED.get(name, ())]
            started[name] = Mortal(modules, home)
        return started[name]

    yield mortal
    for each in started.values():
        with each.process as process:
            process.stdin.close()


@pytest.fixture(scope="module")
def before(tmp_path_factory, mortals):
    """A dataset with a past: half of it tagged, two texts of the user's, a metadata JSON of another tool."""
    folder = tmp_path_factory.mktemp("before") / "album"
    (folder / "sub").mkdir(parents=True)
    paint(folder, "a.png", "sub/c.png")
    write(folder / "a.txt", "mine, a")
    past = mortals("tag").run(["tag", ".", "--existing", "overwrite", "--workers", "0"], folder)
    assert past["status"] == 0, past["said"]
    paint(folder, "b.png", "sub/d.png")
    write(folder / "b.txt", "mine, b")
    write(folder / "b.caption", "the user's words")
    write(folder / "metadata.json", FIRST["metadata.json"].decode())
    return folder


def paint(folder, *names):
    for name in names:
        rng = random.Random(name)
        draw(random_figure(rng), rng, (64, 64)).save(folder / name)


@pytest.fixture(scope="module")
def undisturbed(before, mortals, tmp_path_factory):
    """What each run makes of the dataset if it is left alone: the words, the tree, steps and seconds."""
    known = {}

    def made(name):
        if name not in known:
            folder = shutil.copytree(before, tmp_path_factory.mktemp("undisturbed") / "album")
            words = [log(folder)[-1].uid if word == "LAST" else word for word in RUNS[name][0]]
            answer = mortals(name).run(words, folder)
            assert answer["status"] == 0, answer["said"]
            known[name] = words, tree(folder), answer["events"], answer["seconds"]
        return known[name]

    return made


def tree(folder):
    """Every file but the catalog, as bytes."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".sdprep" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def killed(mortal, name, number, share, before, undisturbed, tmp_path):
    """A copy of the dataset in which the run was killed: two of three before one of its steps, one at some time.

    Half of them are begun and killed again, up to five times, wherever that may be.
    """
    words, _, steps, seconds = undisturbed
    rng = random.Random(f"{name} {number}")
    for attempt in range(20):
        folder = shutil.copytree(before, tmp_path / str(attempt) / "album")
        if number % 3 < 2:
            # Spread over all steps: the more kills, the closer they lie.
            end = {"event": 1 + (steps * number // share + rng.randrange(max(1, steps // share))) % steps}
        else:
            end = {"seconds": rng.uniform(0.002, seconds) / (1 + attempt)}
        if mortal.run(words, folder, **end)["status"] == -9:
            for _ in range(rng.choice((0, 0, 0, 1, 2, 5))):
                mortal.run(words, folder, event=rng.randrange(1, steps + 10))
            return folder
    raise AssertionError(f"{name} is never killed")


@pytest.fixture
def completed(kill, mortals, before, undisturbed, tmp_path):
    """The dataset after a run that was killed and the same run once more; and what the second was to make."""
    name, number, share = kill
    wanted = undisturbed(name)
    folder = killed(mortals(name), name, number, share, before, wanted, tmp_path)
    answer = mortals(name).run(wanted[0], folder)
    assert answer["status"] == 0, answer["said"]
    return folder, wanted[1]


def undo_everything(folder):
    for run in [entry.uid for entry in reversed(log(folder)) if entry.changed]:
        report = undo(folder, run)
        assert report.failures == []


def test_a_run_that_was_killed_is_completed_by_the_next(completed):
    folder, wanted = completed

    assert tree(folder) == wanted
    assert leftovers(folder) == []
    with closing(sqlite3.connect(folder / CATALOG)) as catalog:
        assert catalog.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert catalog.execute("SELECT count(*) FROM journal WHERE status = 'intent'").fetchone() == (0,)
    # The user's texts are there, or can be restored.
    assert "mine, a" in [version.excerpt for version in file_versions(folder / "a.txt")]
    assert (folder / "b.txt").read_bytes() == b"mine, b" or file_versions(folder / "b.txt")[0].excerpt == "mine, b"
    undo_everything(folder)
    assert {name: data for name, data in tree(folder).items() if name in FIRST or name in SIDECARS} == FIRST


def test_the_undisturbed_runs_change_what_they_should(before, undisturbed):
    """Else a killed run would have nothing to lose."""
    changed = {name: Counter(difference(tree(before), undisturbed(name)[1])) for name in RUNS}

    with_all = {"changed": 1, "new": 3}
    assert changed == {
        "tag": {"changed": 3, "new": 2},
        "tag with a worker": {"changed": 3, "new": 2},
        "merge": {"changed": 1},
        "undo": {"changed": 1, "gone": 1},
        "caption": with_all,
        "caption with a worker": with_all,
    }


def difference(old, new):
    yield from ("changed" for name in old.keys() & new.keys() if old[name] != new[name])
    yield from ("new" for name in new.keys() - old.keys())
    yield from ("gone" for name in old.keys() - new.keys())
