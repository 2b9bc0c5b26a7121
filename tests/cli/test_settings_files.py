"""The tables of an `sdprep.toml`, and files that are not one."""

from pathlib import Path
from typing import Any

import pytest

from sdprep.cli.settings_files import read_config
from sdprep.errors import UsageError


def read(folder: Path, text: str | bytes) -> dict[str, dict[str, Any]]:
    path = folder / "sdprep.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


def test_every_table_is_a_command(tmp_path: Path) -> None:
    found = read(tmp_path, "[tag]\nthreshold = 0.4\n[caption]\nprompt = ''\n")
    assert found == {"tag": {"threshold": 0.4}, "caption": {"prompt": ""}}


def test_hyphens_and_underscores_name_the_same_setting(tmp_path: Path) -> None:
    assert read(tmp_path, "[tag]\nremove-underscore = true\nbatch_size = 4\n") == {
        "tag": {"remove_underscore": True, "batch_size": 4}
    }


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff[tag]\nthreshold = 0.4\n") == {"tag": {"threshold": 0.4}}


def test_an_empty_file_has_no_settings(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize("text", ["[tag\n", "[tag]\nx = \n", b"[tag]\nx = '\xff'\n"], ids=["bracket", "value", "bytes"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(UsageError, match=r"sdprep\.toml: "):
        read(tmp_path, text)


def test_a_setting_outside_a_table_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'threshold' is outside a table; put it under \[caption\]"):
        read(tmp_path, "threshold = 0.4\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml"):
        read_config(tmp_path / "gone.toml")


def test_a_settings_file_of_many_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "sdprep.toml").open("wb") as stream:
        stream.truncate(6 << 30)
    with pytest.raises(UsageError, match="larger than 1,048,576 bytes"):
        read_config(tmp_path / "sdprep.toml")


def test_a_settings_file_with_a_key_that_takes_long_to_parse_is_refused(tmp_path):
    (tmp_path / "sdprep.toml").write_text(f"[tag]\n{'a.' * 1000}b = 1\n")
    with pytest.raises(UsageError, match=r"sdprep\.toml: a line has more than 500 dots"):
        read_config(tmp_path / "sdprep.toml")


@pytest.mark.parametrize("text", ["[tag]\nprefix = " + "[" * 2000, "[tag]\nprefix = " + "{a = " * 2000])
def test_a_settings_file_that_is_nested_too_deeply_is_refused_in_plain_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"sdprep\.toml: nested too deeply to be read"):
        read(tmp_path, text)
