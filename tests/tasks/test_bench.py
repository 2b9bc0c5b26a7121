"""`bench` as a function: what it measures, and that it leaves the folder of images unchanged."""

import os
from pathlib import Path

import pytest

from sdprep.config import BENCH_STAGES, BenchSettings
from sdprep.errors import NoImages, UsageError
from sdprep.report import NullListener
from sdprep.resources import configs_folder
from sdprep.tasks.bench import bench
from sdprep.tasks.demo import IMAGES

# A model that warns, since its description says fp16, which gains nothing on a CPU.
DEMO_AS_FP16 = (
    (configs_folder("models") / "demo-tag.toml")
    .read_text("utf-8")
    .replace('name = "demo-tag"', 'name = "half"\nprecision = "fp16"')
)


class Listening(NullListener):
    """A listener that keeps its notes."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def fill(folder, names):
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes((IMAGES / name).read_bytes())
    (folder / names[0]).with_suffix(".txt").write_text("my own words\n")
    return folder


@pytest.fixture
def album(tmp_path, monkeypatch):
    """Four images with a tag file, and a separate folder for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return fill(tmp_path / "album", ("aka.jpg", "kuro.png", "sora.webp", "red-hair-hat.jpg"))


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """A folder before and after a captioner was measured on it, and what was measured."""
    folder = fill(tmp_path_factory.mktemp("captioned") / "album", ("aka.jpg", "kuro.png"))
    before = contents(folder)
    made = bench(folder, BenchSettings(model="demo-caption"))
    return before, contents(folder), made


def contents(folder: Path):
    """Every file of a folder with its bytes and time."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_every_stage_of_a_tagger_sees_every_image(album):
    made = bench(album, BenchSettings(model="demo-tag"))
    assert {name: stage.images for name, stage in made.stages.items()} == dict.fromkeys(BENCH_STAGES, 4)


def test_every_stage_of_a_captioner_sees_every_image(captioned):
    _, _, made = captioned
    assert {name: stage.images for name, stage in made.stages.items()} == dict.fromkeys(BENCH_STAGES, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_stage_takes_time(album, workers):
    made = bench(album, BenchSettings(model="demo-tag", workers=workers))
    assert all(stage.seconds > 0 for stage in made.stages.values())
    assert made.environment.startup > 0


def test_the_cpu_time_of_a_run_with_a_worker_is_unknown(album):
    made = bench(album, BenchSettings(model="demo-tag"))
    assert [name for name, stage in made.stages.items() if stage.cpu_seconds is None] == ["all"]


@pytest.mark.parametrize("stages", [("read",), ("decode",), ("predict",), ("write",), ("all",), ("read", "all")])
def test_only_the_requested_stages_are_reported(album, stages):
    assert tuple(bench(album, BenchSettings(model="demo-tag", stage=stages)).stages) == stages


def test_the_stages_come_in_their_order(album):
    assert tuple(bench(album, BenchSettings(model="demo-tag", stage=("all", "read"))).stages) == ("read", "all")


def test_a_stage_that_does_not_exist_is_rejected():
    with pytest.raises(UsageError, match="read, decode, predict, write, all"):
        BenchSettings(stage=("sleep",))


def test_a_limit_takes_the_first_images(album):
    made = bench(album, BenchSettings(model="demo-tag", limit=3))
    assert {stage.images for stage in made.stages.values()} == {3}


def test_the_provider_is_that_of_the_model(album):
    assert bench(album, BenchSettings(model="demo-tag", stage=("all",))).environment.provider == "cpu"


def test_reading_alone_opens_no_model(album):
    assert bench(album, BenchSettings(model="demo-tag", stage=("read",))).environment.provider is None


def test_without_a_folder_the_images_of_the_demo_are_taken():
    made = bench(settings=BenchSettings(model="demo-tag", limit=2))
    assert {stage.images for stage in made.stages.values()} == {2}


@pytest.mark.parametrize("stages", [("predict",), ("all",), ()], ids=["the model", "a run", "everything"])
def test_a_note_of_the_model_is_reported_once(album, tmp_path, stages):
    model = tmp_path / "half.toml"
    model.write_text(DEMO_AS_FP16, "utf-8")
    listener = Listening()
    bench(album, BenchSettings(model=str(model), stage=stages), listener=listener)
    assert len([note for note in listener.notes if "fp16 is for GPUs" in note]) == 1


# Nothing changes


def test_a_tagger_leaves_the_folder_unchanged(album):
    before = contents(album)
    bench(album, BenchSettings(model="demo-tag"))
    assert contents(album) == before


def test_a_captioner_leaves_the_folder_unchanged(captioned):
    before, after, _ = captioned
    assert after == before


def test_a_sidecar_of_the_user_does_not_stop_the_benchmark(album):
    made = bench(album, BenchSettings(model="demo-tag", stage=("all",)))
    assert made.stages["all"].images == 4


def test_no_temporary_file_is_left(album):
    made = bench(album, BenchSettings(model="demo-tag"))
    assert list(made.written_to.iterdir()) == []
    assert made.written_to == album.parent / "temporary"


def test_no_temporary_file_is_left_by_a_run_that_is_broken_off(album, monkeypatch):
    def broken_off(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdprep.tasks.bench.tag", broken_off)
    with pytest.raises(KeyboardInterrupt):
        bench(album, BenchSettings(model="demo-tag", stage=("all",)))
    assert list((album.parent / "temporary").iterdir()) == []


# What cannot be measured


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(NoImages):
        bench(tmp_path, BenchSettings(model="demo-tag"))


def test_an_image_that_cannot_be_decoded_is_reported_once_and_counts_in_reading_only(album):
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    made = bench(album, BenchSettings(model="demo-tag"))
    assert [failure["path"] for failure in made.failures] == ["broken.jpg"]
    assert {name: stage.images for name, stage in made.stages.items()} == {**dict.fromkeys(BENCH_STAGES, 4), "read": 5}


def test_only_reading_is_reported_if_every_image_is_broken(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    assert list(bench(tmp_path, BenchSettings(model="demo-tag")).stages) == ["read"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever runs this may read every file")
def test_a_file_without_read_permission_is_reported(album):
    (album / "aka.jpg").chmod(0)
    made = bench(album, BenchSettings(model="demo-tag", stage=("read",)))
    assert [failure["code"] for failure in made.failures] == ["unreadable"]
