"""Three small taggers whose scores are known, to be combined in tests."""

import shutil

import numpy as np
import pytest

import sdprep.models.fake as fake
from sdprep.config import RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.tasks.settings import Layers, Statement
from sdprep.types import TagScores

INLINE = RunOptions(workers=0, batch_size=1)
LABELS = {
    "one": ["general,9", "explicit,9", "1girl,0", "long_hair,0", "aka_(sdprep),4"],
    "two": ["explicit,9", "general,9", "Long Hair,0", "1girl,0", "hat,5"],
    "three": ["1girl,0", "hat,0"],
}
# By model, the scores of every image.
SCORES = {
    "one": [0.9, 0.1, 0.9, 0.4, 0.6],
    "two": [0.6, 0.2, 0.2, 0.5, 0.6],
    "three": [0.1, 0.6],
}
IMAGE_NAMES = ("aka.jpg", "kuro.png", "sora.webp")


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Descriptions of three models, with what they were asked: pairs of a model and the hash of an image."""
    asked, failing = [], set()
    monkeypatch.setattr(fake.FakeTagger, "answer", lambda self, digest, _: _answer(self, digest, asked, failing))
    for name, rows in LABELS.items():
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        lines = [f"{number},{row}" for number, row in enumerate(rows)]
        (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category", *lines, ""]))
        (folder / "name").write_text(name)
        threshold = {"one": 0.2, "two": 0.7, "three": 0.5}[name]
        (folder.parent / f"{name}.toml").write_text(
            f'name = "{name}"\ntask = "tag"\nbackend = "fake-tag"\nfiles = ["selected_tags.csv", "name"]\n'
            f'threshold = {threshold}\nsource = {{ path = "{name}" }}\nimage = {{ fit = "pad" }}\n'
            'labels = { file = "selected_tags.csv", categories = '
            "{ general = 0, character = 4, style = 5, rating = 9 } }\n"
        )
    return Models(tmp_path / "models", asked, failing)


class Models:
    def __init__(self, folder, asked, failing):
        self.folder, self.asked, self.failing = folder, asked, failing

    def __call__(self, *names):
        paths = tuple(str(self.folder / f"{name}.toml") for name in names)
        return paths[0] if len(paths) == 1 else paths

    def asked_now(self):
        """How often each model has answered since the last time."""
        found = {name: sum(model == name for model, _ in self.asked) for name, _ in self.asked}
        self.asked.clear()
        return found


def _answer(model, digest, asked, failing):
    name = next(name for name, rows in LABELS.items() if len(rows) == len(model.labels.names)
                and rows[0].startswith(model.labels.names[0]))  # fmt: skip
    asked.append((name, digest))
    values = [float("nan")] * len(LABELS[name]) if name in failing else SCORES[name]
    return TagScores(np.array(values, np.float32))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in IMAGE_NAMES:
        shutil.copy(IMAGES / name, folder)
    return folder


def tags(folder, name="aka"):
    return (folder / f"{name}.txt").read_text().strip()


def settings(models, *names, **more):
    return TagSettings(**{"model": models(*names), "run": INLINE, **more})


def stated(models, *names):
    return Layers(now={"model": Statement(models(*(names or ("one", "two"))))})
