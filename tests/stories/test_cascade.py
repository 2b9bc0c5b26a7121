"""Any sequence of runs over nested folders gives each image the settings that a small model of the cascade predicts."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.stated import forget
from sdprep.config import RunOptions, TagSettings
from sdprep.tasks.settings import Layers, Statement
from sdprep.tasks.tag import tag
from tests.stories.telling import CATALOG, hide_models

FOLDERS = ("", "a", "a/b", "c")
USUAL = TagSettings(model="demo-tag", run=RunOptions(workers=0))
DEFAULTS = {"prefix": (), "suffix": (), "caption_separator": ", ", "max_tags": None, "remove_underscore": False}
PRESETS = {None: {}, "short": {"max_tags": 1, "suffix": ("short",)}, "long": {"max_tags": 9, "caption_separator": "; "}}

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.sampled_from([(), ("one",), ("two", "three")]),
        "suffix": st.sampled_from([(), ("end",)]),
        "caption_separator": st.sampled_from([", ", " | "]),
        "max_tags": st.sampled_from([2, 3]),
        "remove_underscore": st.booleans(),
    },
)
PRESET = st.fixed_dictionaries({}, optional={"preset": st.sampled_from(["short", "long"])})
PLACE = st.sampled_from(FOLDERS)
RUN = st.tuples(st.just("run"), PLACE, OPTIONS, PRESET)
WRITE_FILE = st.tuples(st.just("write_file"), PLACE, OPTIONS)
STEPS = st.one_of(
    RUN,
    RUN,
    WRITE_FILE,
    st.tuples(st.just("forget"), PLACE, st.sets(st.sampled_from([*DEFAULTS, "preset"]))),
    st.tuples(st.just("edit"), PLACE),
    st.tuples(st.just("add_image"), PLACE),
)


def is_below(place, folder):
    return folder in ("", place) or place.startswith(f"{folder}/")


class Predicted:
    """What the settings of each folder are: the rules of the cascade once more, with dictionaries."""

    def __init__(self):
        self.files, self.memory = {}, {}

    def run(self, folder, now):
        for place in FOLDERS:
            if is_below(place, folder):
                self.forget(place, now)
                kept = (
                    now if place == folder else {name: now[name] for name in self.files.get(place, {}) if name in now}
                )
                self.memory[place] = {**self.memory.get(place, {}), **kept}

    def forget(self, folder, names):
        for place in [place for place in self.memory if is_below(place, folder)]:
            self.memory[place] = {name: each for name, each in self.memory[place].items() if name not in names}

    def settings(self, place):
        found = {}
        for above in sorted(each for each in FOLDERS if is_below(place, each)):
            found |= {**self.files.get(above, {}), **self.memory.get(above, {})}
        return {**DEFAULTS, **PRESETS[found.pop("preset", None)], **found}


class Dataset:
    """Folders of images on disk, and what their tag files should be."""

    def __init__(self, folder, tags):
        self.folder, self.tags, self.predicted = folder, tags, Predicted()
        self.images, self.texts = dict.fromkeys(FOLDERS, 1), {}

    def run(self, folder, options, preset):
        now = {**options, **preset}
        layers = Layers(
            preset=PRESETS.__getitem__,
            folder=lambda path: self.predicted.files.get(self.place(path), {}),
            now={name: Statement(value) for name, value in now.items()},
        )
        self.predicted.run(folder, now)
        before = self.on_disk()
        report = tag(self.folder / folder, USUAL, layers=layers)
        for place in [place for place in FOLDERS if is_below(place, folder)]:
            for number in range(self.images[place]):
                if self.texts.get((place, number)) != "mine":
                    self.texts[place, number] = self.text(**self.predicted.settings(place))
        assert self.on_disk() == self.texts
        assert report.written == sum(text != before.get(name) for name, text in self.texts.items())
        assert report.other_settings == 0

    def text(self, prefix, suffix, caption_separator, max_tags, remove_underscore):
        tags = [each.replace("_", " ") if remove_underscore else each for each in self.tags[:max_tags]]
        return caption_separator.join([*prefix, *tags, *suffix])

    def place(self, path):
        return "" if path == self.folder else path.relative_to(self.folder).as_posix()

    def on_disk(self):
        found = {}
        for path in self.folder.rglob("*.txt"):
            found[self.place(path.parent), int(path.stem)] = path.read_text(encoding="utf-8").removesuffix("\n")
        return found

    def write_file(self, folder, options):
        self.predicted.files[folder] = options

    def forget(self, folder, names):
        catalog = Catalog(self.folder / CATALOG, self.folder)
        forget(catalog, folder, "tag", names)
        catalog.close()
        self.predicted.forget(folder, names)

    def edit(self, folder):
        (self.folder / folder / "0.txt").write_text("mine\n", encoding="utf-8")
        self.texts[folder, 0] = "mine"

    def add_image(self, folder):
        shutil.copy(self.folder / "0.png", self.folder / folder / f"{self.images[folder]}.png")
        self.images[folder] += 1


@pytest.fixture
def prepared(tmp_path, drawings):
    """A dataset of nested folders whose scores are known, without tag files, and the tags of its one image."""
    folder = tmp_path / "prepared"
    for place in FOLDERS:
        (folder / place).mkdir(exist_ok=True, parents=True)
        (folder / place / "0.png").write_bytes(drawings[0])
    tag(folder, USUAL)
    tags = (folder / "0.txt").read_text(encoding="utf-8").strip().split(", ")
    for path in folder.rglob("*.txt"):
        path.unlink()
    assert len(tags) > 4
    assert any("_" in each for each in tags[:2])
    return folder, tags


def test_any_sequence_of_runs_gives_each_image_the_settings_that_the_cascade_predicts(prepared, tmp_path, monkeypatch):
    hide_models(monkeypatch)
    template, tags = prepared
    numbers = iter(range(10**6))

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(STEPS, min_size=2, max_size=8))
    def live(steps):
        dataset = Dataset(Path(shutil.copytree(template, tmp_path / str(next(numbers)))), tags)
        for name, *details in steps:
            getattr(dataset, name)(*details)
        dataset.run("", {}, {})
        shutil.rmtree(dataset.folder)

    live()
