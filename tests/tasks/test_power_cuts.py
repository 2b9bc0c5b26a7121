"""Whatever a disk has received when the power goes, each file on it has its bytes of before or those of a run.

A run writes on a small disk of its own, and the file behind that disk is copied at one step after another: what is in
the copy is what a power cut would have left. `--power-cuts N` sets the number of copies that are looked at.
"""

import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import FILE, FOLDER
from sdprep.config import MergeSettings, RunOptions, TagSettings
from sdprep.rules.labels import TagRules
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag

IMAGES = 12
DISK_BYTES = 24_000_000
MINE = b"written by me for hours\n"
ONE_PROCESS = RunOptions(workers=0, batch_size=4)
OVER_MINE = RunOptions(workers=0, batch_size=4, existing="overwrite")


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The file behind an ext4 disk that is mounted at `tmp_path / "disk"`, with images and some texts of a user."""
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(DISK_BYTES)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
        with mounted(image, tmp_path / "disk") as place:
            (place / "set").mkdir()
            for number in range(IMAGES):
                rng = random.Random(number)
                draw(random_figure(rng), rng, (48, 48)).save(place / "set" / f"{number:02}.png")
                if number % 3 == 0:
                    (place / "set" / f"{number:02}.txt").write_bytes(MINE)
            os.sync()
            yield image
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this system does not let a test mount a disk of its own: {error}")


class Camera:
    """Copies the disk at its steps, at all of them or at some that are chosen by chance."""

    def __init__(self, image: Path, most: int) -> None:
        self.image, self.most, self.steps = image, most, 0
        self.copies: list[Path] = []

    def step(self) -> None:
        """Keep a copy of the disk: of the first steps all, later each with a falling chance in another's place."""
        place = self.steps if self.steps < self.most else random.Random(self.steps).randrange(self.steps + 1)
        self.steps += 1
        if place < self.most:
            copy = self.image.with_name(f"copy-{place}")
            # Holes stay holes, or a copy would take as long as the run.
            subprocess.run(["cp", "--sparse=always", str(self.image), str(copy)], check=True)
            self.copies = [*dict.fromkeys([*self.copies, copy])]

    def watching(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def watched(real: Callable[..., Any]) -> Callable[..., Any]:
            def stepped(*args: Any, **options: Any) -> Any:
                found = real(*args, **options)
                self.step()
                return found

            return stepped

        for name in ("replace", "fsync", "unlink"):
            monkeypatch.setattr(os, name, watched(getattr(os, name)))
        monkeypatch.setattr(Catalog, "flush", watched(Catalog.flush))


@pytest.fixture
def camera(disk: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Camera:
    camera = Camera(disk, request.config.getoption("--power-cuts"))
    camera.watching(monkeypatch)
    return camera


def texts(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.iterdir() if path.suffix in (".txt", ".json"))
    return {path.name: path.read_bytes() for path in found}


def check_journal(folder: Path) -> None:
    """Every change that the catalog calls done is on the disk, unless a later one followed."""
    if not (folder / FOLDER / FILE).exists():
        return
    with closing(Catalog(folder / FOLDER / FILE, folder)) as catalog:
        last = catalog.db.execute(
            "SELECT key, after, status FROM journal WHERE id IN (SELECT max(id) FROM journal GROUP BY key)"
        ).fetchall()
    for key, after, status in last:
        path = folder / key
        held = hashlib.sha256(path.read_bytes()).digest() if path.exists() else None
        assert status != "done" or held == after, f"{key} is done, and holds something else"


def look_at(camera: Camera, tmp_path: Path, allowed: list[dict[str, bytes]], first: dict[str, bytes]) -> None:
    assert camera.copies
    for copy in camera.copies:
        with mounted(copy, tmp_path / "after") as place:
            for name, data in texts(place / "set").items():
                assert data in [version.get(name) for version in allowed], f"{copy.name}: {name} holds {data!r}"
            check_journal(place / "set")
            # The next run goes on from there, and everything can still be taken back.
            tag(place / "set", TagSettings(model="demo-tag", run=OVER_MINE))
            for run in reversed([entry.uid for entry in log(place / "set") if entry.changed]):
                undo(place / "set", run)
            assert texts(place / "set") == first, copy.name


def test_a_power_cut_leaves_every_text_of_a_first_run_whole(disk: Path, camera: Camera, tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "set"
    first = texts(folder)
    tag(folder, TagSettings(model="demo-tag", run=ONE_PROCESS))
    camera.step()
    look_at(camera, tmp_path, [first, texts(folder)], first)


def test_a_power_cut_leaves_every_text_that_is_written_over_whole(disk: Path, camera: Camera, tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "set"
    versions = [texts(folder)]
    for threshold in (0.35, 0.9):
        settings = TagSettings(model="demo-tag", rules=TagRules(threshold=threshold), run=OVER_MINE)
        tag(folder, settings, layers=stating(settings, {"threshold", "existing"}))
        versions.append(texts(folder))
    camera.step()
    look_at(camera, tmp_path, versions, versions[0])


def test_a_power_cut_leaves_the_metadata_whole(disk: Path, camera: Camera, tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "set"
    versions = [texts(folder)]
    for fields in (("image_size",), ("tags", "image_size")):
        merge(folder, MergeSettings(keys="relative", fields=fields))
        versions.append(texts(folder))
    camera.step()
    look_at(camera, tmp_path, versions, versions[0])
