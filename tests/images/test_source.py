"""Finding the images of a folder."""

import os
import random
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import NoImages, UsageError
from sdprep.images.source import ImageSource, natural_key
from sdprep.types import ImageItem

NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse or fold such names")


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def found(folder: Path, *, recursive: bool = True) -> list[str]:
    return [item.rel for item in ImageSource(folder, recursive=recursive).items()]


# What is listed


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "bmp", "gif", "avif", "JPG", "Jpg", "pNg"])
def test_an_image_is_known_by_its_extension_in_any_case(tmp_path: Path, suffix: str) -> None:
    assert found(make(tmp_path, f"a.{suffix}")) == [f"a.{suffix}"]


@pytest.mark.parametrize("name", ["a.txt", "a.caption", "a.tiff", "a.svg", "a.jpg.bak", "jpg", "a", "a.jpg~"])
def test_other_files_are_left_out(tmp_path: Path, name: str) -> None:
    assert found(make(tmp_path, "x.png", name)) == ["x.png"]


@pytest.mark.parametrize("name", [".a.png", ".hidden/a.png", "deep/.git/a.png", ".png"])
def test_hidden_files_and_folders_are_left_out(tmp_path: Path, name: str) -> None:
    assert found(make(tmp_path, "x.png", name)) == ["x.png"]


@pytest.mark.parametrize("name", ["a-masklabel.png", "a-condlabel.png", "a-MaskLabel.PNG", "sub/a-masklabel.png"])
def test_masks_and_condition_images_of_trainers_are_left_out(tmp_path: Path, name: str) -> None:
    assert found(make(tmp_path, "a.png", name)) == ["a.png"]


def test_a_name_that_only_holds_a_helpers_ending_is_a_image(tmp_path: Path) -> None:
    assert found(make(tmp_path, "masklabel.png", "a-masklabel-2.png")) == ["a-masklabel-2.png", "masklabel.png"]


def test_subfolders_are_included(tmp_path: Path) -> None:
    assert found(make(tmp_path, "a.png", "sub/deep/b.png")) == ["a.png", "sub/deep/b.png"]


def test_subfolders_can_be_left_out(tmp_path: Path) -> None:
    assert found(make(tmp_path, "a.png", "sub/b.png"), recursive=False) == ["a.png"]


def test_a_folder_with_the_name_of_an_image_is_walked_and_not_listed(tmp_path: Path) -> None:
    assert found(make(tmp_path, "a.png/b.png")) == ["a.png/b.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_a_link_to_an_image_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert found(tmp_path) == ["a.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_a_folder_that_links_to_its_parent_does_not_loop(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.png")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert found(tmp_path) == ["sub/a.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders there")
def test_a_named_pipe_is_left_out_since_reading_it_would_wait_for_ever(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert found(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["日本語.png", "🎨 👩‍🎨.png", "a b  .png", "#1%20?.png", 'it\'s "quoted".png'])
@ON_LINUX
def test_a_name_in_any_script_is_listed_as_it_is(tmp_path: Path, name: str) -> None:
    assert found(make(tmp_path, name)) == [name]


@ON_LINUX
def test_a_newline_in_a_name_is_part_of_the_name(tmp_path: Path) -> None:
    assert found(make(tmp_path, "a\nb.png")) == ["a\nb.png"]


@ON_LINUX
def test_a_name_that_is_no_unicode_is_listed_and_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"here")
    (item,) = ImageSource(tmp_path).items()
    assert item.path.read_bytes() == b"here"


@ON_LINUX
def test_two_unicode_forms_of_a_name_are_two_images(tmp_path: Path) -> None:
    assert len(found(make(tmp_path, f"{NFC}.png", f"{NFD}.png"))) == 2


# Folders that cannot be listed


def skipped(folder: Path) -> tuple[list[str], str]:
    source = ImageSource(folder)
    return [item.rel for item in source.items()], source.skipped


def deepen(folder: Path, name: str, depth: int) -> None:
    """Folders in folders, as no path could name them, with an image in each."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("a.png", os.O_CREAT, dir_fd=here))
    os.close(here)


@ON_LINUX
def test_a_tree_whose_paths_become_too_long_is_listed_as_far_as_they_reach(tmp_path: Path) -> None:
    deepen(tmp_path, "d" * 199, 30)
    names, message = skipped(tmp_path)
    room = os.pathconf(tmp_path, "PC_PATH_MAX") - len(os.fsencode(tmp_path))
    assert len(names) == (room - 2) // 200
    assert re.fullmatch(r"skipped: 1 folder that cannot be read: (d+/)+ \(File name too long\)", message)


def test_a_tree_deeper_than_python_recurses_is_listed_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "/".join(["d"] * 300) + "/a.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        assert len(found(tmp_path)) == 1
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("error", [FileNotFoundError, NotADirectoryError, PermissionError, TimeoutError])
def test_a_folder_that_is_gone_or_exchanged_or_forbidden_is_named_and_the_rest_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    make(tmp_path, "a.png", "gone/b.png", "sub/c.png")
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.rstrip("/").endswith("gone"):
            raise error(1, "a reason", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    expected = "skipped: 1 folder that cannot be read: gone/ (a reason)"
    assert skipped(tmp_path) == (["a.png", "sub/c.png"], expected)


def test_a_folder_that_goes_while_it_is_listed_keeps_what_was_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.png", "sub/b.png")
    real = os.scandir

    class Listing:
        """The entries of a folder, and then an error."""

        def __init__(self, path: str) -> None:
            self._path, self._real = path, real(path)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            yield from self._real
            if self._path.endswith("sub/"):
                raise OSError(5, "a bad disk", self._path)

        def __exit__(self, *_: object) -> None:
            self._real.close()

    monkeypatch.setattr(os, "scandir", Listing)
    names, message = skipped(tmp_path)
    assert names == ["a.png", "sub/b.png"]
    assert message == "skipped: 1 folder that cannot be read: sub/ (a bad disk)"


def test_of_many_folders_that_cannot_be_listed_a_few_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png", *(f"{number}/b.png" for number in range(9)))
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: real(path if path == f"{tmp_path}/" else path + "gone"))
    names, message = skipped(tmp_path)
    assert names == ["a.png"]
    assert message.startswith("skipped: 9 folders that cannot be read: ")
    assert message.count("No such file") == 5
    assert message.endswith(" and 4 more")


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_a_link_that_leads_to_itself_is_passed_by(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "loop").symlink_to("loop")
    assert skipped(tmp_path) == (["a.png"], "")


@ON_LINUX
def test_a_folder_whose_name_is_too_long_is_a_matter_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file or folder: .*nnn"):
        ImageSource(tmp_path / ("n" * 300))


# Order


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["img1.png", "img2.png", "img10.png", "img10b.png", "img100.png"]
    assert found(make(tmp_path, *random.Random(3).sample(names, len(names)))) == names


def test_letter_case_does_not_part_names() -> None:
    assert sorted(["b1", "A2", "a1", "B2"], key=natural_key) == ["a1", "A2", "b1", "B2"]


def test_numbers_that_are_equal_but_for_zeros_have_a_fixed_order() -> None:
    assert sorted(["a01", "a1", "a001"], key=natural_key) == sorted(["a001", "a01", "a1"], key=natural_key)


def test_a_name_of_digits_alone_and_one_of_letters_can_be_compared() -> None:
    assert sorted(["b", "10", "9"], key=natural_key) == ["9", "10", "b"]


def test_a_very_long_number_can_be_compared() -> None:
    assert natural_key("9" * 255) > natural_key("8" * 255)


@given(st.lists(st.text("aAbß-1203/ ²", max_size=6), max_size=6))
def test_the_order_is_that_of_texts_and_numbers_in_turn(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(names, key=in_turn)


def in_turn(name: str) -> list[tuple[int, int, str]]:
    parts = re.split("([0-9]+)", name)
    key = [(0, int(part), "") if place % 2 else (1, 0, part.casefold()) for place, part in enumerate(parts)]
    return [*key, (2, 0, name)]


# Items


def test_the_name_of_an_item_has_forward_slashes(tmp_path: Path) -> None:
    (item,) = ImageSource(make(tmp_path, "sub/a.png")).items()
    assert item == ImageItem(tmp_path, "sub/a.png", tmp_path)


def test_an_output_folder_mirrors_the_tree(tmp_path: Path) -> None:
    (item,) = ImageSource(make(tmp_path / "in", "sub/a.png"), output_dir=tmp_path / "out").items()
    assert item.target == tmp_path / "out" / "sub" / "a.png"


def test_a_relative_folder_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "in/a.png")
    monkeypatch.chdir(tmp_path)
    assert ImageSource(Path("in")).items()[0].path == tmp_path / "in" / "a.png"


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NoImages, match="avif bmp gif heic heif jpeg jpg jxl png webp"):
        found(make(tmp_path, "a.txt"))


def test_a_folder_with_images_that_are_not_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoImages, match=r"skipped: 2 \.tiff"):
        found(make(tmp_path, "a.tiff", "b.tiff"))
