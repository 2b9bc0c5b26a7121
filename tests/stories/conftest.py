"""The album of the stories: drawings for which every threshold of the stories gives other tags."""

import io
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from PIL import Image

import sdprep.demo
from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from tests.stories.telling import ALBUM, LOOSE, STRICT, USUAL, tag

CANDIDATES, NEEDED = 40, 5


def drawing(seed):
    rng = random.Random(seed)
    return draw(random_figure(rng), rng, (96, 96))


def misty(seed):
    """A drawing through which another one shows, so that a tagger is not sure of everything."""
    stream = io.BytesIO()
    Image.blend(drawing(seed), drawing(seed + 1000), 0.35).save(stream, "PNG")
    return stream.getvalue()


def is_graded(scores):
    """Whether every threshold gives other tags, one of which is the same in all stories."""
    values = {**scores["general"], **scores["character"]}.values()
    strict, usual, loose = (sum(value >= limit for value in values) for limit in (STRICT, USUAL, LOOSE))
    return 3 <= strict < usual < loose and scores["general"].get("simple_background", 0) >= STRICT


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(hasty_catalogs, monkeypatch):
    """No story pulls the plug: a process that is killed loses nothing that it gave to the system."""
    for name in ("fdatasync", "fsync"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, lambda _: None)


@pytest.fixture(autouse=True)
def drawings_that_the_demo_models_know(monkeypatch):
    """The stories draw figures as the demo does, so a demo model is no toy for them and no run says that it is."""
    monkeypatch.setattr("sdprep.tasks.annotation.run.toy_note", lambda *_: None)


@pytest.fixture(scope="session")
def a_home_for_all(tmp_path_factory):
    """A home folder for what is made once for all stories; each story has its own besides."""
    home = tmp_path_factory.mktemp("home-for-all")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "APPDATA"):
            patch.setenv(name, str(home))
        yield


@pytest.fixture(scope="session")
def drawings(tmp_path_factory, a_home_for_all):
    """Five images as PNG bytes, no two alike."""
    folder = tmp_path_factory.mktemp("candidates")
    for seed in range(CANDIDATES):
        (folder / f"{seed}.png").write_bytes(misty(seed))
    scores = folder / "scores.jsonl"
    tag(folder, scores=scores, scores_min=0.01)
    lines = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    graded = [(folder / line["path"]).read_bytes() for line in lines if is_graded(line)]
    assert len(graded) >= NEEDED, "the demo tagger is sure of every drawing: the stories need other thresholds"
    return graded[:NEEDED]


@pytest.fixture
def album(tmp_path, drawings):
    """A folder with three images and nothing else."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name, data in zip(ALBUM, drawings, strict=False):
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def tagged(album):
    """The album after its first run of tag."""
    tag(album)
    return album


@pytest.fixture
def other_model(tmp_path):
    """A second tagger: the demo model with other names for its general tags."""
    folder = tmp_path / "other-tagger"
    source = Path(sdprep.demo.__file__).parent / "models" / "demo-tag"
    folder.mkdir()
    shutil.copyfile(source / "model.onnx", folder / "model.onnx")
    rows = (source / "selected_tags.csv").read_text(encoding="utf-8").splitlines()
    place = rows[0].split(",").index("name")
    renamed = [row.split(",") for row in rows[1:]]
    for row in renamed:
        row[place] = f"other_{row[place]}"
    lines = [rows[0], *(",".join(row) for row in renamed)]
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)
