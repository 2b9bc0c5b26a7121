"""Values of options that are paths, or lists of them: as a catalog has them, and as a user writes them."""

import pytest

from sdprep.catalog.stated import StatedRow
from sdprep.config import TagSettings
from sdprep.tasks.option_values import OptionValues, as_flags

VALUES = OptionValues(TagSettings)


def row(value):
    return StatedRow("", "tag", "model", value, "flag", "run")


def test_models_below_the_folder_of_the_catalog_move_with_it(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.toml").write_text("")
    models = (str(tmp_path / "old" / "a.toml"), "demo-tag")
    stored = VALUES.to_row("model", models, tmp_path / "old")
    assert stored == ["./a.toml", "demo-tag"]
    assert VALUES.from_row(row(stored), tmp_path / "new") == (str(tmp_path / "new" / "a.toml"), "demo-tag")


@pytest.mark.parametrize(
    ("value", "is_refused"),
    [
        (["demo-tag", "cl_tagger"], False),
        (["demo-tag", "./a.toml"], False),
        (["demo-tag", "./../a.toml"], True),
        (["/etc/a.toml", "demo-tag"], True),
        ("/etc/a.toml", True),
        ("./a.toml", False),
    ],
)
def test_each_of_several_models_that_came_with_a_folder_stays_below_it(value, is_refused, tmp_path):
    assert (VALUES.path_fault(row(value), tmp_path) is not None) == is_refused


@pytest.mark.parametrize("value", [["a", 1], [["a"]], {"a": "b"}, 5])
def test_a_row_with_another_kind_of_value_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match="Expected"):
        VALUES.from_row(row(value), tmp_path)


def test_several_models_are_shown_as_they_are_typed():
    assert as_flags("model", ("a", "b c")) == "--model a --model 'b c'"
    assert as_flags("replace", ["a=b", "c=d"]) == "--replace a=b --replace c=d"
