"""What a run may be given: folders, images, patterns and lists of these."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import NoImages, UsageError
from sdprep.images import source as source_module
from sdprep.images.inputs import parse_list, settings_folder
from sdprep.images.source import ImageSource, is_link
from tests.images.test_source import make

LINKS = pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
PATH = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: str(Path(text)) == text and text[0] != "\ufeff"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(os.path.realpath(tmp_path))


def found(*inputs: Path | str, follow_links: bool = False) -> list[str]:
    return [item.rel for item in ImageSource([Path(each) for each in inputs], follow_links=follow_links).items()]


def listed(*inputs: str, follow_links: bool = True) -> tuple[list[str], str]:
    source = ImageSource([Path(each) for each in inputs], follow_links=follow_links)
    return [item.rel for item in source.items()], source.skipped


# Folders and files


def test_one_image_is_an_input_named_without_its_folder(here: Path) -> None:
    make(here, "x/a.png", "x/b.png")
    items = ImageSource(Path("x/a.png")).items()
    assert [(item.rel, item.path) for item in items] == [("a.png", here / "x" / "a.png")]


def test_several_folders_are_inputs_named_below_what_they_share(here: Path) -> None:
    make(here, "x/a.png", "x/sub/b.png", "y/a.png", "z/c.png")
    items = ImageSource([Path("y"), Path("x")]).items()
    assert [item.rel for item in items] == ["x/a.png", "x/sub/b.png", "y/a.png"]
    assert [item.path for item in items] == [here / item.rel for item in items]
    assert [item.target for item in items] == [here / item.rel for item in items]


def test_an_image_through_two_inputs_counts_once(here: Path) -> None:
    make(here, "x/a.png", "x/sub/b.png")
    assert found("x", "x/a.png", "x/sub", "x/sub/b.png", "x", here / "x") == ["a.png", "sub/b.png"]


def test_a_folder_in_another_counts_without_recursion_too(here: Path) -> None:
    make(here, "x/a.png", "x/sub/b.png", "x/other/c.png")
    items = ImageSource([Path("x"), Path("x/sub")], recursive=False).items()
    assert [item.rel for item in items] == ["a.png", "sub/b.png"]


def test_a_hidden_folder_or_image_that_is_given_counts(here: Path) -> None:
    make(here, "x/a.png", "x/.old/b.png", "x/.c.png")
    assert found("x", "x/.old", "x/.c.png") == [".c.png", ".old/b.png", "a.png"]


def test_no_catalog_is_made_in_a_folder_that_only_holds_inputs(here: Path) -> None:
    make(here, "x/a.png", "y/b.png", "y/sub/c.png")
    source = ImageSource([Path("x/a.png"), Path("y"), Path("y/sub/c.png")])
    assert list(source.homes) == [here / "y", here / "x"]


def test_sidecars_of_several_inputs_are_apart_in_an_output_folder(here: Path) -> None:
    make(here, "x/a.png", "y/a.png")
    items = ImageSource([Path("x"), Path("y")], output_dir=Path("out")).items()
    assert [item.target for item in items] == [here / "out/x/a.png", here / "out/y/a.png"]


def test_a_file_without_the_extension_of_an_image_is_named(here: Path) -> None:
    make(here, "x/a.png", "x/a.txt", "x/b-masklabel.png")
    expected = "skipped: 2 files without the extension of an image: a.txt, b-masklabel.png"
    assert listed("x/a.png", "x/a.txt", "x/b-masklabel.png") == (["a.png"], expected)


def test_inputs_without_an_image_are_named(here: Path) -> None:
    make(here, "x/a.txt", "y/b.txt")
    with pytest.raises(NoImages, match=r"no images in .*x, .*y \(looked for"):
        found("x", "y")


def test_a_sidecar_given_in_place_of_its_image_is_named_with_what_to_give(here: Path) -> None:
    make(here, "x/a.txt", "x/a.png")
    with pytest.raises(NoImages) as caught:
        found("x/a.txt")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"no image was given, but {here / 'x' / 'a.txt'}; skipped: ")
    assert second == f"Give images, or the folder in which they lie: {here / 'x'}"


def test_every_input_that_is_missing_is_named_before_anything_starts(here: Path) -> None:
    make(here, "x/a.png")
    missing = r"^no such file or folder: gone, x/b\.png\nno file matches the pattern: x/\*\.gif$"
    with pytest.raises(UsageError, match=missing):
        ImageSource([Path("x"), Path("gone"), Path("x/b.png"), Path("x/*.gif")])


# Patterns


def test_a_pattern_that_the_shell_left_is_expanded(here: Path) -> None:
    make(here, "x/a1.png", "x/a2.png", "x/b.png", "x/a1.txt", "x/.a3.png", "y/a4.png")
    assert found("x/a*.png") == ["a1.png", "a2.png"]
    assert found("**/a?.png") == ["x/a1.png", "x/a2.png", "y/a4.png"]
    assert found("[xy]") == ["x/a1.png", "x/a2.png", "x/b.png", "y/a4.png"]


def test_a_name_with_the_characters_of_a_pattern_is_a_name(here: Path) -> None:
    make(here, "x/a[1].png", "x/a1.png")
    assert found("x/a[1].png") == ["a[1].png"]


@given(names=st.sets(st.text("ab1[]", min_size=1, max_size=4), min_size=1), pattern=st.text("ab1*?", max_size=3))
def test_a_pattern_finds_what_fnmatch_finds(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], pattern: str
) -> None:
    from fnmatch import fnmatchcase

    folder = make(tmp_path_factory.mktemp("x"), *(f"{name}.png" for name in names))
    expected = {f"{name}.png" for name in names if fnmatchcase(f"{name}.png", f"{pattern}*.png")}
    if expected:
        assert set(found(folder / f"{pattern}*.png")) == expected
    else:
        with pytest.raises(UsageError):
            found(folder / f"{pattern}*.png")


# Lists


@given(paths=st.lists(PATH), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans(), last=st.booleans())
def test_a_list_has_one_path_per_line(paths: Sequence[str], end: str, bom: bool, last: bool) -> None:
    text = end.join(paths) + (end if last else "")
    assert parse_list(text.encode("utf-8-sig" if bom else "utf-8")) == [Path(each) for each in paths]


@given(paths=st.lists(PATH.map(lambda text: text + "\n"), min_size=1))
def test_a_list_with_nul_is_separated_by_it(paths: Sequence[str]) -> None:
    assert parse_list("".join(f"{each}\0" for each in paths).encode()) == [Path(each) for each in paths]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_list_may_hold_names_that_are_not_unicode(here: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    make(here, name)
    assert [item.rel for item in ImageSource(parse_list(b"\xff.png\n")).items()] == [name]


def test_the_settings_of_inputs_are_those_of_the_folder_that_holds_them(here: Path) -> None:
    make(here, "x/a.png", "x/sub/b.png", "y/c.png")
    assert settings_folder([Path("x")]) == Path("x")
    assert settings_folder([Path("x/a.png")]) == Path("x")
    assert settings_folder([Path("x/a.png"), Path("x/sub")]) == here / "x"
    assert settings_folder([Path("x"), Path("y")]) == here


# Links


@LINKS
def test_links_are_counted_and_the_option_that_follows_them_is_named(here: Path) -> None:
    make(here, "x/a.png", "y/b.png")
    (here / "x" / "link.png").symlink_to(here / "y" / "b.png")
    (here / "x" / "folder").symlink_to(here / "y")
    assert listed("x", follow_links=False) == (["a.png"], "skipped: 2 links (--follow-links includes them)")


@LINKS
def test_an_image_behind_a_link_has_its_sidecar_beside_the_link(here: Path) -> None:
    make(here, "x/a.png", "y/b.jpg")
    (here / "x" / "link.png").symlink_to("../y/b.jpg")
    source = ImageSource(Path("x"), follow_links=True)
    linked = source.items()[1]
    assert (linked.rel, linked.target, linked.is_link) == ("link.png", here / "x" / "link.png", True)
    assert source.skipped == f"followed: 1 link out of the inputs: link.png ({here / 'y' / 'b.jpg'})"


@LINKS
def test_a_folder_behind_a_link_is_included_with_a_catalog_of_its_own(here: Path) -> None:
    make(here, "x/a.png", "y/sub/b.png")
    (here / "x" / "link").symlink_to("../y")
    source = ImageSource(Path("x"), follow_links=True)
    items = source.items()
    assert [(item.rel, item.path) for item in items] == [
        ("a.png", here / "x/a.png"),
        ("link/sub/b.png", here / "y/sub/b.png"),
    ]
    assert list(source.homes) == [here / "x", here / "y"]
    assert source.skipped == f"followed: 1 link out of the inputs: link ({here / 'y'})"


@LINKS
def test_sidecars_of_a_folder_behind_a_link_lie_in_the_output_folder(here: Path) -> None:
    make(here, "x/a.png", "y/b.png")
    (here / "x" / "link").symlink_to("../y")
    items = ImageSource(Path("x"), follow_links=True, output_dir=Path("out")).items()
    assert [item.target for item in items] == [here / "out/a.png", here / "out/link/b.png"]


@LINKS
def test_links_in_a_circle_and_to_nothing_are_named(here: Path) -> None:
    make(here, "x/sub/a.png")
    (here / "x" / "sub" / "up").symlink_to(here / "x")
    (here / "x" / "self.png").symlink_to("self.png")
    (here / "x" / "gone.png").symlink_to("nowhere.png")
    expected = "skipped: 2 links in a circle: self.png, sub/up, 1 link to nothing: gone.png"
    assert listed("x") == (["sub/a.png"], expected)


@LINKS
def test_two_folders_that_link_to_each_other_are_included_once(here: Path) -> None:
    make(here, "x/a.png", "y/b.png")
    (here / "x" / "y").symlink_to("../y")
    (here / "y" / "x").symlink_to("../x")
    names, message = listed("x")
    assert names == ["a.png", "y/b.png"]
    assert "skipped: 1 folder included under another name: y/x" in message


@LINKS
def test_a_folder_that_is_reached_twice_is_included_once_and_named(here: Path) -> None:
    make(here, "x/real/a.png")
    (here / "x" / "again").symlink_to("real")
    assert listed("x") == (["real/a.png"], "skipped: 1 folder included under another name: again")


@LINKS
def test_an_image_that_is_reached_twice_is_included_under_both_names_and_named(here: Path) -> None:
    make(here, "x/a.png")
    (here / "x" / "b.png").symlink_to("a.png")
    assert listed("x") == (["a.png", "b.png"], "followed: 1 link to images included under another name: b.png")


@LINKS
def test_a_link_that_is_given_is_followed_without_the_option(here: Path) -> None:
    make(here, "y/b.png")
    make(here, "x/c.txt")
    (here / "x" / "link.png").symlink_to("../y/b.png")
    (here / "z").symlink_to("y")
    assert found("x/link.png", "z") == ["x/link.png", "y/b.png"]


# Windows


def test_the_folders_that_windows_keeps_on_each_disk_are_left_out(here: Path) -> None:
    make(here, "a.png", "$RECYCLE.BIN/S-1-5/b.png", "System Volume Information/c.png")
    assert found(here) == ["a.png"]


class Entry:
    """An entry of a folder as Windows shows it."""

    def __init__(self, tag: int) -> None:
        self._tag = tag

    def is_symlink(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool) -> object:
        assert not follow_symlinks
        return type("Status", (), {"st_reparse_tag": self._tag})


@pytest.mark.parametrize(("tag", "expected"), [(0xA0000003, True), (0, False), (0x9000001A, False)])
def test_a_junction_counts_as_a_link(monkeypatch: pytest.MonkeyPatch, tag: int, expected: bool) -> None:
    monkeypatch.setattr(source_module.sys, "platform", "win32")
    assert is_link(Entry(tag)) is expected  # type: ignore[arg-type]
