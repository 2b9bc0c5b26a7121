"""`bench` as a function: what it measures, and that it leaves the folder of images unchanged."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sdprep.config import BenchSettings
from sdprep.demo import IMAGES
from sdprep.errors import NoImages
from sdprep.files import configs_folder
from sdprep.report import NullListener
from sdprep.tasks.bench.bench import bench
from sdprep.tasks.tag import tag

STAGES = ("decode", "predict", "write", "all")
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
    made = bench(folder, BenchSettings(model="demo-caption", workers=0))
    return before, contents(folder), made


def contents(folder: Path):
    """Every file of a folder with its bytes and time."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_every_stage_of_a_tagger_sees_every_image(album):
    made = bench(album, BenchSettings(model="demo-tag"))
    assert {name: stage.images for name, stage in made.stages.items()} == dict.fromkeys(STAGES, 4)


def test_every_stage_of_a_captioner_sees_every_image(captioned):
    _, _, made = captioned
    assert {name: stage.images for name, stage in made.stages.items()} == dict.fromkeys(STAGES, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_stage_takes_time(album, workers):
    made = bench(album, BenchSettings(model="demo-tag", workers=workers))
    assert all(stage.seconds > 0 for stage in made.stages.values())
    assert made.environment.startup > 0


def test_the_stages_come_in_their_order_and_their_cpu_time_adds_up(album):
    *parts, whole = bench(album, BenchSettings(model="demo-tag")).stages.items()
    assert [name for name, _ in [*parts, whole]] == list(STAGES)
    assert whole[1].cpu_seconds == pytest.approx(sum(stage.cpu_seconds for _, stage in parts))


def test_the_seconds_of_decoding_are_those_of_all_threads_shared_by_them(album, monkeypatch):
    taken = {"decode": {"images": 4, "seconds": 3.0, "cpu_seconds": 2.0}}
    real = tag
    monkeypatch.setattr("sdprep.tasks.bench.bench.tag", lambda *a, **k: replace(real(*a, **k), timings=taken))
    assert bench(album, BenchSettings(model="demo-tag", workers=3)).stages["decode"].seconds == 1.0


def test_a_limit_takes_the_first_images(album):
    made = bench(album, BenchSettings(model="demo-tag", limit=3))
    assert {stage.images for stage in made.stages.values()} == {3}


def test_the_provider_is_that_of_the_model(album):
    assert bench(album, BenchSettings(model="demo-tag")).environment.provider == "cpu"


def test_without_a_folder_the_images_of_the_demo_are_taken():
    made = bench(settings=BenchSettings(model="demo-tag", limit=2))
    assert {stage.images for stage in made.stages.values()} == {2}


def test_a_note_of_the_model_is_reported_once(album, tmp_path):
    model = tmp_path / "half.toml"
    model.write_text(DEMO_AS_FP16, "utf-8")
    listener = Listening()
    bench(album, BenchSettings(model=str(model)), listener=listener)
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
    made = bench(album, BenchSettings(model="demo-tag"))
    assert made.stages["all"].images == 4


def test_no_temporary_file_is_left(album):
    made = bench(album, BenchSettings(model="demo-tag"))
    assert list(made.written_to.iterdir()) == []
    assert made.written_to == album.parent / "temporary"


def test_no_temporary_file_is_left_by_a_run_that_is_broken_off(album, monkeypatch):
    def broken_off(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdprep.tasks.bench.bench.tag", broken_off)
    with pytest.raises(KeyboardInterrupt):
        bench(album, BenchSettings(model="demo-tag"))
    assert list((album.parent / "temporary").iterdir()) == []


# What cannot be measured


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(NoImages):
        bench(tmp_path, BenchSettings(model="demo-tag"))


def test_an_image_that_cannot_be_decoded_is_reported_once_and_counts_in_no_stage(album):
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    made = bench(album, BenchSettings(model="demo-tag"))
    assert [failure["path"] for failure in made.failures] == ["broken.jpg"]
    assert {name: stage.images for name, stage in made.stages.items()} == dict.fromkeys(STAGES, 4)


def test_no_stage_is_reported_if_every_image_is_broken(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    made = bench(tmp_path, BenchSettings(model="demo-tag"))
    assert (made.stages, made.verdict.advice, len(made.failures)) == ({}, (), 1)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever runs this may read every file")
def test_a_file_without_read_permission_is_reported(album):
    (album / "aka.jpg").chmod(0)
    made = bench(album, BenchSettings(model="demo-tag"))
    assert [failure["code"] for failure in made.failures] == ["unreadable"]
