"""Runs in which system calls fail at random: nothing is lost or torn, and the next run completes the work.

`pytest tests/stories/test_failing_calls.py --failing-calls 5000` has more of them fail than CI does.
"""

import errno
import json
import os
import random
import shutil
import sys
from contextlib import contextmanager

import pytest

from sdprep.cli.main import main
from sdprep.tasks.history.runs import log
from tests.stories.telling import leftovers, write

CALLS = "open read write close replace rename fsync fdatasync unlink mkdir chmod".split()
CALLS += "scandir listdir stat lstat fstat".split()
# Neither EINTR, after which Python tries again by itself, nor that a file is there or is not, which would be a lie.
ERRORS = "EIO ENOSPC EDQUOT EACCES EPERM EROFS EMFILE ENFILE ENOMEM ESTALE ETXTBSY EBUSY EINVAL ENOTSUP".split()
ERRORS += "ENAMETOOLONG ELOOP ENOTDIR EISDIR ENODEV ETIMEDOUT".split()
# What closing a file can say of what was written to it.
LATE = "EIO ENOSPC EDQUOT".split()
TAG = ["tag", ".", "--model", "demo-tag", "--workers", "0", "--existing"]
RUNS = {
    "overwrite": [*TAG, "overwrite", "--threshold", "0.1"],
    "append": [*TAG, "append", "--threshold", "0.1", "--scores", "scores.jsonl"],
    "to another folder": [*TAG, "overwrite", "--threshold", "0.1", "--output-dir", "out"],
    "merge": ["merge", ".", "--keys", "relative"],
    "undo": ["undo", "LAST", "--dir", ".", "--force"],
}

# Where a call fails amid the start of the watchdog, Python gives up a process that ends by itself, with its pipe.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def pytest_generate_tests(metafunc):
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(metafunc.config.getoption("--failing-calls")))


class Failing:
    """Counts system calls, and fails those that are chosen: from the `first` to the `last`, of one `kind` or of all."""

    def __init__(self, first=0, last=0, code="EIO", kind=None):
        self.count, self.failed = 0, []
        self._chosen, self._code, self._kind = range(first, last + 1), code, kind

    def wrapped(self, name, real):
        def call(*args, **options):
            self.count += 1
            if self.count not in self._chosen or self._kind not in (None, name):
                return real(*args, **options)
            if name == "close":
                # It is closed even where that is said to have failed.
                real(*args, **options)
                if self._code not in LATE:
                    return None
            self.failed.append(name)
            path = args[0] if args and isinstance(args[0], str | bytes | os.PathLike) else None
            raise OSError(getattr(errno, self._code), os.strerror(getattr(errno, self._code)), path)

        return call

    @contextmanager
    def inside(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                if hasattr(os, name):
                    patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
            yield self


@pytest.fixture
def run(monkeypatch, capsys):
    def run(words, folder, failing=None):
        """The exit code of a run in a folder, and what it said."""
        monkeypatch.chdir(folder)
        monkeypatch.setattr(
            sys, "argv", ["sdprep", *(log(folder)[-1].uid if word == "LAST" else word for word in words)]
        )
        code = 0
        try:
            with (failing or Failing()).inside():
                main()
        except SystemExit as leaving:
            code = leaving.code or 0
        return code, "".join(capsys.readouterr())

    return run


def is_whole(path, data, before, wanted):
    """Whether a file has the bytes of before or those of the run; metadata and scores may lack images that failed."""
    if path == "metadata.json":
        return json.loads(data)["gone.png"] == {}
    if path == "scores.jsonl":
        return set(data.splitlines()) <= set(wanted[path].splitlines())
    return data in (before.get(path), wanted.get(path)) or path.endswith(".tmp")


def comparable(files):
    """Files by path; metadata without the order of its entries, since those that failed come last at the next run."""
    return {path: json.loads(data) if path == "metadata.json" else data for path, data in files.items()}


def tree(folder):
    """Every file but the catalog, as bytes."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".sdprep" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def pasts():
    return {}


@pytest.fixture
def past(pasts, drawings, run, tmp_path_factory):
    """A dataset half of which is tagged, with texts of a user and somebody's metadata JSON."""
    if not pasts:
        folder = tmp_path_factory.mktemp("past") / "album"
        (folder / "sub").mkdir(parents=True)
        for name, data in zip(("a.png", "b.png", "sub/c.png", "sub/d.png"), drawings, strict=False):
            (folder / name).write_bytes(data)
        write(folder / "a.txt", "mine, a")
        first = tree(folder)
        assert run([*TAG, "append"], folder)[0] == 0
        mine = write(folder / "sub" / "c.txt", "mine, c")
        theirs = write(folder / "metadata.json", '{"a.png": {"theirs": 1, "tags": "old"}, "gone.png": {}}')
        first |= {"sub/c.txt": mine.read_bytes(), "metadata.json": theirs.read_bytes()}
        pasts.update(folder=folder, first=first, before=tree(folder))
    return pasts


@pytest.fixture
def undisturbed(past, run, tmp_path):
    """What a run makes of the dataset if no call fails, and how many calls that takes."""

    def made(name):
        if name not in past:
            folder = shutil.copytree(past["folder"], tmp_path / "undisturbed" / "album")
            counting = Failing()
            code, said = run(RUNS[name], folder, counting)
            assert code == 0, said
            past[name] = tree(folder), counting.count
        return past[name]

    return made


def test_no_call_that_fails_loses_a_text_or_keeps_the_next_run_from_its_work(number, past, run, undisturbed, tmp_path):
    rng = random.Random(number)
    name = list(RUNS)[number % len(RUNS)]
    wanted, calls = undisturbed(name)
    folder = shutil.copytree(past["folder"], tmp_path / "album")
    first = rng.randint(1, calls)
    last = first + rng.choice([0, 0, 1, 5, calls])
    failing = Failing(first, last, rng.choice(ERRORS), rng.choice([None, None, *CALLS]))

    code, said = run(RUNS[name], folder, failing)

    context = f"{name}: calls {first} to {last} of {calls}: {vars(failing)}\n{said}"
    assert "Traceback" not in said, context
    assert code in (0, 1, 2, 3, 4), context
    before, after = past["before"], tree(folder)
    assert [path for path, data in after.items() if not is_whole(path, data, before, wanted)] == [], context
    assert before.keys() & wanted.keys() <= after.keys(), context
    if name != "undo":
        code, again = run(RUNS[name], folder)
        assert code == 0, f"{again}\nafter {context}"
        assert comparable(tree(folder)) == comparable(wanted), context
        assert leftovers(folder) == [], context
    for each in reversed(log(folder)):
        run(["undo", each.uid, "--dir", "."], folder)
    left = {path: data for path, data in tree(folder).items() if not path.startswith("scores")}
    assert left == past["first"], context
