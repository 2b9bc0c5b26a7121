"""A folder with every trap that is known: each file comes to what it must, and a bad one harms no good one."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from sdprep.tasks.merge import merge
from tests.corpus import LINUX, traps, write
from tests.stories.telling import FAKE_CAPTION, caption, codes, counts, leftovers, run_cli, tag, texts

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
ON_LINUX = pytest.mark.skipif(not LINUX, reason="other systems refuse such names, or have no pipes")
TRAPS = traps()
EXTENSIONS = {"tag": ".txt", "caption": ".caption"}


def expected(command):
    """The codes of the files that fail in a run of a command."""
    outcomes = {trap.rel: trap.outcome(command) for trap in TRAPS}
    return {rel: code for rel, code in outcomes.items() if code != "ok"}


def sidecars(command):
    return {Path(trap.rel).stem + EXTENSIONS[command] for trap in TRAPS if trap.outcome(command) == "ok"}


# The captioner itself is asked in this process; workers treat its images as they do those of the fake one.
FAKE = partial(caption, model=FAKE_CAPTION)
RUNS = {"tag": (tag, 0), "tag in workers": (tag, 2), "caption": (caption, 0), "caption in workers": (FAKE, 2)}


@pytest.fixture(scope="module", params=RUNS)
def through(request, tmp_path_factory, a_home_for_all):
    """What a run over the whole corpus came to: command, a function that runs it again, folder, report."""
    run, workers = RUNS[request.param]
    folder = tmp_path_factory.mktemp("corpus")
    write(TRAPS, folder)
    return request.param.split()[0], partial(run, workers=0), folder, run(folder, workers=workers)


def test_every_file_comes_to_what_it_must(through):
    command, *_, report = through
    assert codes(report) == expected(command)


def test_every_file_is_counted_and_every_good_one_written(through):
    command, _, folder, report = through
    assert (report.found, report.failed) == (len(TRAPS), len(expected(command)))
    assert report.written == len(sidecars(command))
    assert texts(folder, EXTENSIONS[command]).keys() == sidecars(command)
    assert report.exit_code == 3
    assert leftovers(folder) == []


def test_no_good_image_is_harmed_by_a_bad_one(through, tmp_path):
    command, run, folder, _ = through
    good = [trap for trap in TRAPS if trap.outcome(command) == "ok"]
    write(good, tmp_path / "good")

    report = run(tmp_path / "good")

    assert report.failures == []
    assert texts(folder, EXTENSIONS[command]) == texts(tmp_path / "good", EXTENSIONS[command])


def test_an_animated_or_misnamed_image_has_a_warning(through):
    *_, report = through
    warned = {path: {flag["code"] for flag in report.flagged if flag["path"] == path}
              for path in ("gif-animated.gif", "png-animated.png", "webp-animated.webp", "avif-animated.avif",
                           "misnamed-png.jpg", "misnamed-jpeg.png", "jpeg-stereo-mpo.jpg", "png.png")}  # fmt: skip
    assert [path for path, codes in warned.items() if "animated" in codes] == list(warned)[:4]
    assert [path for path, codes in warned.items() if "misnamed" in codes] == list(warned)[4:6]


def test_the_next_run_comes_to_the_same(through):
    command, run, folder, first = through
    before = texts(folder, EXTENSIONS[command])

    again = run(folder)

    assert codes(again) == expected(command)
    assert (again.written, again.current) == (0, first.written)
    assert texts(folder, EXTENSIONS[command]) == before


def test_merge_takes_the_tags_of_all_that_have_some(tmp_path):
    write(TRAPS, tmp_path / "all")
    tag(tmp_path / "all")

    report = merge(tmp_path / "all")

    assert codes(report) == expected("merge")
    entries = json.loads((tmp_path / "all" / "metadata.json").read_text("utf-8"))
    tagged = {trap.rel for trap in TRAPS if trap.outcome("tag") == "ok" and trap.outcome("merge") == "ok"}
    assert {Path(key).name for key in entries} == tagged
    for key, entry in entries.items():
        assert entry["tags"] == Path(key).with_suffix(".txt").read_text("utf-8").strip()
        assert len(entry["image_size"]) == 2


# What is no image file at all


@ON_LINUX
def test_files_that_are_not_read_are_skipped_and_reported(album):
    (album / "a.tiff").touch()
    (album / "loop").symlink_to(album)
    (album / "link.png").symlink_to(album / "a.png")
    os.mkfifo(album / "pipe.png")

    said = run_cli("tag", album, "--model", "demo-tag", "--workers", "0")

    assert "skipped: 1 .tiff, 2 links (--follow-links includes them), 1 pipes, sockets or devices" in said.stderr
    assert said.returncode == 0


# Odd names


@ON_LINUX
def test_a_name_that_leaves_no_room_for_a_text_file_fails_and_nothing_is_left(album):
    long = "n" * 250 + ".png"
    (album / "b.png").rename(album / long)

    report = caption(album, workers=0)

    assert codes(report) == {long: "unwritable"}
    assert ".caption: File name too long" in report.failures[0]["message"]
    assert list(texts(album, ".caption")) == ["a.caption", "c.caption"]
    assert leftovers(album) == []
    # A shorter ending fits.
    assert counts(tag(album)) == {"written": 3}


@ON_LINUX
def test_an_odd_name_breaks_neither_the_lines_nor_the_json_of_a_report(album):
    names = ["line\nbreak.png", "\x1b[31mred.png", os.fsdecode(b"b\xff.png")]
    for name in names:
        (album / name).write_bytes(b"")

    said = run_cli("tag", album, "--model", "demo-tag", "--workers", "0", "--json")

    report = json.loads(said.stdout)
    # A lone surrogate would be no UTF-8, and strict readers of JSON refuse it.
    assert json.dumps(report, ensure_ascii=False).encode("utf-8")
    assert {failure["path"] for failure in report["failures"]} == {*names[:2], r"b\xff.png"}
    failed = [line for line in said.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert failed[0].startswith("failed: 3 images (")
    assert "\x1b" not in said.stderr
