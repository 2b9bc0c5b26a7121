"""A disk that is full ends the run at once, with no file half written, and the run after that completes the work."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from tests.stories.telling import PYTHON, ROOT

IMAGES = 12
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "SDPREP_TAG_MODEL": "demo-tag"}
# Texts that fill a block each, and cannot be packed.
LONG = ",".join(f"{random.Random(number).random()}" for number in range(150))
TAG = ["tag", ".", "--workers", "0", "--batch-size", "1", "--prefix", LONG]
MERGE = ["merge", ".", "--keys", "relative", "--fields", "tags"]


def can_mount():
    try:
        done = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


small_disk = pytest.mark.skipif(not can_mount(), reason="this system does not let a test mount a disk of its own")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of a dozen small images."""
    folder = tmp_path_factory.mktemp("many") / "album"
    folder.mkdir()
    for number in range(IMAGES):
        rng = random.Random(number)
        draw(random_figure(rng), rng, (48, 48)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def tagged(many, tmp_path_factory):
    """The same folder after a run that had room."""
    return run(copy(many, tmp_path_factory.mktemp("tagged")), TAG)


def run(folder, words):
    done = subprocess.run(
        [PYTHON, "-m", "sdprep", *words], cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def plain(folder):
    return {path.name: path.read_bytes().hex() for path in folder.iterdir() if path.is_file()}


def on_a_full_disk(tmp_path, album, room, words):
    """What happened on a disk with room for so many blocks, and what the run after it made of it."""
    (tmp_path / "disk").mkdir()
    program = [PYTHON, "-m", "tests.stories.full_disk", str(tmp_path / "disk"), str(album), str(room), *words]
    done = subprocess.run(
        [*NAMESPACE, *program], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def copy(album, tmp_path):
    return Path(shutil.copytree(album, tmp_path / "copy"))


def check(found, wanted, missing=None):
    """Nothing is half written, what is missing is said, and the next run makes the rest."""
    full, after = found["full"], found["after"]
    assert full["code"] == 1
    assert "Traceback" not in full["said"]
    assert full["tree"].items() <= wanted.items()
    if missing is not None:
        assert f"{missing} of {IMAGES} images are missing" in full["said"]
    assert (after["code"], after["tree"]) == (0, wanted)


def missing_in(found):
    return IMAGES - sum(name.endswith(".txt") for name in found["full"]["tree"])


@small_disk
@pytest.mark.parametrize("room", [2, 45, 75], ids=["from the start", "before the texts", "after them"])
def test_tag_stops_where_the_catalog_has_no_room_and_the_next_run_completes_it(tmp_path, many, tagged, room):
    found = on_a_full_disk(tmp_path, many, room, TAG)

    assert "disk is full" in found["full"]["said"]
    check(found, plain(tagged), missing_in(found))


@small_disk
def test_tag_stops_where_the_texts_have_no_room_and_the_next_run_completes_it(tmp_path, many, tagged):
    words = [*TAG, "--catalog", str(tmp_path / "elsewhere" / "catalog.sqlite")]
    found = on_a_full_disk(tmp_path, many, 5, words)

    assert "No space left on device" in found["full"]["said"]
    assert 0 < missing_in(found) < IMAGES
    check(found, plain(tagged), missing_in(found))


@small_disk
@pytest.mark.parametrize("elsewhere", [False, True], ids=["catalog", "JSON"])
def test_merge_stops_where_there_is_no_room_and_the_next_run_completes_it(tmp_path, tagged, elsewhere):
    album = Path(shutil.copytree(tagged, tmp_path / "copy", ignore=shutil.ignore_patterns(".sdprep")))
    words = [*MERGE, "--catalog", str(tmp_path / "elsewhere.sqlite")] if elsewhere else MERGE
    found = on_a_full_disk(tmp_path, album, 3, words)

    assert "metadata.json" not in found["full"]["tree"]
    check(found, plain(run(album, MERGE)))


# Without a disk of its own: a limit on the size of files


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))
from sdprep.cli.main import main
main()
"""


def limited(folder, most, words):
    done = subprocess.run(
        [PYTHON, "-c", LIMITED.format(most=most), *words],
        cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    return {"code": done.returncode, "said": done.stderr, "tree": plain(folder)}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
@pytest.mark.parametrize("most", [60_000, 250_000], ids=["from the start", "in the midst"])
def test_a_catalog_that_may_not_grow_is_met_like_a_full_disk(tmp_path, many, most):
    album = copy(many, tmp_path)
    (tmp_path / "long.toml").write_text(f'[tag]\nprefix = "{"word " * 60_000}"')
    words = ["tag", ".", "--workers", "0", "--config", str(tmp_path / "long.toml")]
    full = limited(album, most, words)
    after = {"code": 0, "tree": plain(run(album, words))}

    assert "cannot be used: disk I/O error" in full["said"]
    check({"full": full, "after": after}, after["tree"], IMAGES)
