"""Paths that strangers have written."""

import sys
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.paths import is_inside, is_local_path, is_safe_relative

LEAVING = [
    "",
    ".",
    "/",
    "/etc/passwd",
    "..",
    "../a",
    "a/../b",
    "a/..",
    "C:",
    "C:a",
    "c:/a",
    "\\\\host\\share\\a",
    "//host/a",
]
LEAVING += [
    "a\\b",
    "..\\a",
    "a\0b",
    "a//b",
    "a/",
    "CON",
    "nul",
    "a/aux.txt",
    "COM1.onnx",
    "lpt9",
    "a:stream",
    "nul .txt",
    "com²",
]
FINE = [
    "a",
    "a.onnx",
    "v2/model.onnx",
    "./a",
    "..a",
    "a..b",
    "console.txt",
    "null.csv",
    "com10",
    "variables/variables.data-00000-of-00001",
]
NAMES = st.text(st.sampled_from("aC./\\:\0~ nul"), max_size=12)


@pytest.mark.parametrize("name", [each for each in LEAVING if each != "."])
def test_a_name_that_may_leave_its_folder_on_some_system_is_refused(name):
    assert not is_safe_relative(name)


@pytest.mark.parametrize("name", FINE)
def test_a_plain_name_is_fine(name):
    assert is_safe_relative(name)


@given(NAMES)
def test_a_name_that_stays_below_does_so_here_and_on_windows(name):
    if is_safe_relative(name):
        assert Path("/root/folder", name).resolve().is_relative_to("/root/folder") or sys.platform == "win32"
        path = PureWindowsPath("C:/root/folder", name)
        assert path.is_relative_to("C:/root/folder")
        assert ".." not in path.parts


@given(NAMES)
def test_any_name_can_be_asked_about(name):
    is_inside(Path("/root/folder") / name, Path("/root/folder"))


@pytest.mark.parametrize("name", ["//host/share/a.png", "\\\\host\\share\\a.png", "\\\\.\\pipe\\x", "a\0b"])
def test_shares_devices_and_nul_are_never_asked_about(name, tmp_path):
    assert not is_local_path(name)
    assert not is_inside(Path(name), Path("/"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_to_their_end(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "out").symlink_to(tmp_path)
    (tmp_path / "set" / "in").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "ring").symlink_to("ring")
    assert not is_inside(tmp_path / "set" / "out" / "a", tmp_path / "set")
    assert is_inside(tmp_path / "set" / "in" / "a", tmp_path / "set")
    assert not is_inside(tmp_path / "set" / "in" / ".." / "a", tmp_path / "set")
