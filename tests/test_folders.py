"""Folders below one root: no link on the way leads out of it, and files are replaced in one step."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from sdprep.folders import MOST_OPEN, Folder, Folders, read_below, write_obstacle

ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_bytes(b"secret")
    return folder


def write(root: Path, rel: str, name: str = "a.txt", data: bytes = b"new") -> None:
    with Folders(root) as folders:
        folder = folders.at(rel, make=True)
        folder.write_new("short.tmp", data, private=False)
        folder.sync("short.tmp")
        folder.replace("short.tmp", name)
        folder.sync_names()


def outside(root: Path) -> dict[str, bytes]:
    """Everything beside the root, links not followed."""
    found = (path for path in root.parent.rglob("*") if not path.is_relative_to(root))
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


# Folders


def test_a_file_is_written_in_a_folder_that_is_made_for_it(root: Path) -> None:
    write(root, "new/deep")
    assert (root / "new" / "deep" / "a.txt").read_bytes() == b"new"


def test_the_root_is_made_too(tmp_path: Path) -> None:
    write(tmp_path / "not" / "there", "")
    assert (tmp_path / "not" / "there" / "a.txt").read_bytes() == b"new"


def test_a_folder_that_is_not_there_is_none(root: Path) -> None:
    with Folders(root) as folders:
        assert folders.find("gone") is None


def test_a_folder_that_must_be_there_is_named(root: Path) -> None:
    with Folders(root) as folders, pytest.raises(FileNotFoundError, match="not there"):
        folders.at("gone")


def test_a_file_in_the_place_of_a_folder_is_named(root: Path) -> None:
    (root / "file").touch()
    with Folders(root) as folders, pytest.raises(NotADirectoryError):
        folders.at("file")


@ON_POSIX
def test_a_root_that_was_exchanged_for_a_link_is_not_followed(root: Path) -> None:
    root.rename(root.parent / "moved")
    root.symlink_to(root.parent / "elsewhere")
    with pytest.raises(OSError):  # noqa: PT011 - systems name it in different ways
        write(root, "")
    assert (root.parent / "elsewhere" / "a.txt").read_bytes() == b"secret"


@ON_POSIX
def test_a_link_to_a_folder_below_the_root_is_followed(root: Path) -> None:
    (root / "link").symlink_to("sub")
    write(root, "link")
    assert (root / "sub" / "a.txt").read_bytes() == b"new"


@ON_POSIX
@pytest.mark.parametrize(
    "rel", ["link", "link/deeper", "sub/inner", "sub/inner/deeper", "..", "../elsewhere", "sub/../.."]
)
def test_no_folder_outside_the_root_is_reached_or_made(root: Path, rel: str) -> None:
    (root / "link").symlink_to(root.parent / "elsewhere")
    (root / "sub" / "inner").symlink_to("../../elsewhere")
    before = outside(root)
    with Folders(root) as folders, pytest.raises(PermissionError, match="leads out of"):
        folders.at(rel, make=True)
    assert outside(root) == before


@ON_POSIX
def test_a_link_to_nothing_makes_no_folder_at_its_other_end(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "nothing")
    with pytest.raises(PermissionError):
        write(root, "link/deeper")
    assert not (root.parent / "nothing").exists()


@ON_POSIX
def test_a_folder_that_is_exchanged_for_a_link_while_it_is_open_gains_nothing(root: Path) -> None:
    with Folders(root) as folders:
        folder = folders.at("sub")
        (root / "sub").rename(root / "moved")
        (root / "sub").symlink_to(root.parent / "elsewhere")
        folder.write_new("short.tmp", b"new", private=False)
        folder.replace("short.tmp", "a.txt")
    assert (root.parent / "elsewhere" / "a.txt").read_bytes() == b"secret"
    assert (root / "moved" / "a.txt").read_bytes() == b"new"


@ON_POSIX
def test_a_folder_that_is_exchanged_for_a_link_while_its_path_is_looked_at_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "link").symlink_to("sub")
    real = os.path.realpath

    def swapped(path: str) -> str:
        found = real(path)
        if found.endswith("sub"):
            (root / "sub").rmdir()
            (root / "sub").symlink_to(root.parent / "elsewhere")
        return found

    with Folders(root) as folders:
        monkeypatch.setattr(os.path, "realpath", swapped)
        with pytest.raises(OSError):  # noqa: PT011 - systems name it in different ways
            folders.at("link")


def test_only_so_many_folders_are_open_at_once(root: Path) -> None:
    for number in range(3 * MOST_OPEN):
        (root / str(number)).mkdir()
    with Folders(root) as folders:
        opened = [folders.at(str(number)) for number in range(3 * MOST_OPEN)]
        assert sum(is_open(folder) for folder in opened) <= MOST_OPEN
    assert not any(is_open(folder) for folder in opened)


def is_open(folder: Folder) -> bool:
    try:
        return folder.descriptor is not None and os.path.samestat(os.fstat(folder.descriptor), Path(folder.path).stat())
    except OSError:
        return False


def test_a_path_that_does_not_begin_with_the_root_is_refused(root: Path) -> None:
    with Folders(root) as folders, pytest.raises(PermissionError, match="leads out of"):
        folders.relative(root.parent / "elsewhere")


# Reading


def test_a_missing_file_has_no_bytes(root: Path) -> None:
    assert read_below(root, root / "a.txt", 10) is None


def test_a_file_in_a_missing_folder_has_no_bytes(root: Path) -> None:
    assert read_below(root, root / "gone" / "a.txt", 10) is None


def test_a_name_that_is_too_long_for_any_file_has_no_bytes(root: Path) -> None:
    assert read_below(root, root / ("a" * 300), 10) is None


def test_a_file_beyond_its_limit_is_refused(root: Path) -> None:
    (root / "a.txt").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="larger than 10 bytes") as caught:
        read_below(root, root / "a.txt", 10)
    assert caught.value.errno == errno.EFBIG


@ON_POSIX
def test_a_link_to_a_file_below_the_root_is_read(root: Path) -> None:
    (root / "b.txt").write_bytes(b"mine")
    (root / "sub" / "a.txt").symlink_to("../b.txt")
    assert read_below(root, root / "sub" / "a.txt", 10) == b"mine"


@ON_POSIX
@pytest.mark.parametrize("through", ["", "b.txt"])
def test_a_link_to_a_file_outside_the_root_is_refused_by_its_end(root: Path, through: str) -> None:
    (root / "b.txt").symlink_to("../elsewhere/a.txt")
    (root / "a.txt").symlink_to(through or "../elsewhere/a.txt")
    with pytest.raises(PermissionError, match="leads out of"):
        read_below(root, root / "a.txt", 10)


@ON_POSIX
def test_a_link_to_nothing_has_no_bytes(root: Path) -> None:
    (root / "a.txt").symlink_to("gone.txt")
    assert read_below(root, root / "a.txt", 10) is None


@ON_POSIX
def test_a_ring_of_links_is_named(root: Path) -> None:
    (root / "a.txt").symlink_to("a.txt")
    with pytest.raises(OSError, match="link to itself"):
        read_below(root, root / "a.txt", 10)


@ON_POSIX
def test_a_pipe_is_refused_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "a.txt")
    with pytest.raises(PermissionError, match="not a regular file"):
        read_below(root, root / "a.txt", 10)


# Writing


def test_a_file_is_replaced_and_no_temporary_file_stays(root: Path) -> None:
    (root / "sub" / "a.txt").write_bytes(b"old")
    write(root, "sub")
    assert [(path.name, path.read_bytes()) for path in (root / "sub").iterdir()] == [("a.txt", b"new")]


def test_a_hard_link_to_the_old_file_keeps_the_old_bytes(root: Path) -> None:
    (root / "a.txt").write_bytes(b"old")
    os.link(root / "a.txt", root / "backup.txt")
    write(root, "")
    assert (root / "backup.txt").read_bytes() == b"old"


@ON_POSIX
def test_the_mode_of_the_old_file_is_kept(root: Path) -> None:
    (root / "a.txt").write_bytes(b"old")
    (root / "a.txt").chmod(0o640)
    write(root, "")
    assert stat.S_IMODE((root / "a.txt").stat().st_mode) == 0o640


@ON_POSIX
def test_a_link_is_replaced_and_its_target_left_alone(root: Path) -> None:
    (root / "a.txt").symlink_to(root.parent / "elsewhere" / "a.txt")
    write(root, "")
    assert not (root / "a.txt").is_symlink()
    assert (root.parent / "elsewhere" / "a.txt").read_bytes() == b"secret"


@ON_POSIX
@pytest.mark.parametrize("target", ["elsewhere/a.txt", "elsewhere/nothing"])
def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(root: Path, target: str) -> None:
    (root / "short.tmp").symlink_to(root.parent / target)
    before = outside(root)
    with pytest.raises(FileExistsError):
        write(root, "")
    assert outside(root) == before


def test_a_file_that_could_not_be_written_whole_is_gone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write(root, "")
    assert [path.name for path in root.iterdir()] == ["sub"]


def test_a_file_is_written_whole_however_little_the_system_takes_at_a_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:2]))
    write(root, "", data=b"seven letters")
    assert (root / "a.txt").read_bytes() == b"seven letters"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are limited elsewhere otherwise")
def test_a_file_of_the_longest_name_can_be_written(root: Path) -> None:
    write(root, "", "n" * 251 + ".txt")
    assert (root / ("n" * 251 + ".txt")).read_bytes() == b"new"


def test_a_folder_that_may_be_written_has_no_obstacle_and_nothing_is_left_there(root: Path) -> None:
    assert (write_obstacle(root, root / "sub"), list((root / "sub").iterdir())) == (None, [])


@ON_POSIX
def test_a_link_that_leads_out_is_an_obstacle(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "elsewhere")
    assert isinstance(write_obstacle(root, root / "link" / "deeper"), PermissionError)


def test_a_name_that_no_folder_can_have_is_an_obstacle(root: Path) -> None:
    obstacle = write_obstacle(root, root / ("x" * 300))
    assert obstacle is not None
    assert obstacle.errno == errno.ENAMETOOLONG


# Systems that reach files by path only


@pytest.fixture
def by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdprep.folders.BY_NAME", False)


@pytest.mark.usefixtures("by_path")
def test_without_open_folders_files_are_written_and_read_by_their_paths(root: Path) -> None:
    write(root, "new/deep")
    assert read_below(root, root / "new" / "deep" / "a.txt", 10) == b"new"


@pytest.mark.usefixtures("by_path")
@ON_POSIX
def test_without_open_folders_no_link_leads_out_either(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "elsewhere")
    (root / "a.txt").symlink_to("../elsewhere/a.txt")
    with pytest.raises(PermissionError, match="leads out of"):
        write(root, "link")
    with pytest.raises(PermissionError, match="leads out of"):
        read_below(root, root / "a.txt", 10)
