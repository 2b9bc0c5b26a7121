"""`sdprep demo`: everything once, on a machine without network."""

import sys
from io import StringIO

import pytest

from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.tasks.demo import copy_images
from tests.in_process import run_in_process

COUNT = len([path for path in IMAGES.rglob("*") if path.is_file()])


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """A demo, and another in the same folder: exit code and output."""
    folder, home = tmp_path_factory.mktemp("demo"), str(tmp_path_factory.mktemp("home"))
    shown = []
    for _ in range(2):
        out = StringIO()
        code = run_in_process("demo", "shown", folder=folder, environment={"HOME": home}, out=out, err=StringIO())
        shown.append((code, out.getvalue()))
    return shown


def test_a_demo_succeeds(twice):
    assert twice[0][0] == 0


def test_a_demo_ends_in_a_dozen_lines_that_say_what_was_made(twice):
    lines = twice[0][1].splitlines()
    assert len(lines) <= 13
    made = ", ".join(f"{COUNT} {what}" for what in ("captions", "tag files", "chat captions", "entries"))
    assert lines[0] == f"{COUNT} images in shown have {made}"


def test_a_demo_shows_one_image_with_its_caption_and_tags(twice):
    assert "red-hair-hat.caption: a girl with long red hair" in twice[0][1]
    assert "red-hair-hat.txt: 1girl" in twice[0][1]
    assert "red-hair-hat.chat: a girl with long red hair" in twice[0][1]


def test_a_demo_names_the_commands_for_ones_own_folder(twice):
    commands = [line.strip() for line in twice[0][1].splitlines() if "./your-images" in line]
    assert commands == [f"sdprep {command} ./your-images" for command in ("caption", "tag", "merge")]


def test_a_demo_says_where_the_files_are(twice):
    assert "metadata" in twice[0][1]


def test_a_second_demo_shows_the_same(twice):
    assert twice[1][1] == twice[0][1]


def test_a_demo_without_torch_tags_and_says_what_is_missing(sdprep_command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    shown = sdprep_command("demo", "shown")
    assert shown.code == 0
    assert "not shown: sdprep caption. torch is not installed. Install it with: " in shown.err
    assert "red-hair-hat.txt: 1girl" in shown.out
    assert not list((tmp_path / "shown").glob("*.caption"))


def test_a_demo_with_no_framework_at_all_names_what_to_install_and_copies_nothing(
    sdprep_command, monkeypatch, tmp_path
):
    for package in ("torch", "onnxruntime", "tensorflow"):
        monkeypatch.setitem(sys.modules, package, None)
    shown = sdprep_command("demo", "shown")
    assert (shown.code, "onnxruntime is not installed" in shown.err) == (5, True)
    assert not (tmp_path / "shown").exists()


@pytest.fixture
def refused(sdprep_command, tmp_path):
    """A demo in a folder where another image has the name of one of the demo's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kuro.png").write_bytes(b"my own image")
    return sdprep_command("demo", "mine")


def test_a_demo_refuses_to_overwrite_a_file_that_is_not_its_own(refused):
    assert (refused.code, "kuro.png" in refused.err) == (2, True)


def test_an_image_of_any_size_is_told_from_one_of_the_demo_unread(tmp_path, monkeypatch):
    with (tmp_path / "kuro.png").open("wb") as stream:
        stream.truncate(6 * 2**30)
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: b"" if path.is_relative_to(IMAGES) else 1 / 0)

    with pytest.raises(UsageError, match=r"kuro\.png is not an image of the demo"):
        copy_images(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_no_image_of_a_demo_is_written_through_a_link(tmp_path):
    name = next(path.name for path in IMAGES.iterdir() if path.is_file())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).symlink_to(tmp_path / "elsewhere")

    copy_images(tmp_path / "mine")

    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "mine" / name).read_bytes() == (IMAGES / name).read_bytes()


def test_a_demo_that_is_refused_leaves_the_file(refused, tmp_path):
    assert (tmp_path / "mine" / "kuro.png").read_bytes() == b"my own image"


def test_a_demo_that_is_refused_copies_nothing(refused, tmp_path):
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kuro.png"]
