"""The public API: its names, its options, and the examples of its page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sdprep
from sdprep import errors
from sdprep.demo import IMAGES
from tests.in_process import model_in_process

ROOT = Path(__file__).parents[1]
HEAVY = {"click", "numpy", "PIL", "torch", "onnxruntime", "tensorflow", "transformers", "huggingface_hub", "msgspec",
         "sqlite3", "tqdm"}  # fmt: skip


@pytest.fixture
def imgs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imgs").mkdir()
    for name in ("kuro.png", "aka.jpg"):
        (tmp_path / "imgs" / name).write_bytes((IMAGES / name).read_bytes())
    return tmp_path / "imgs"


def test_the_public_names_are_these():
    assert sdprep.__all__ == [
        "CancelToken", "CatalogError", "FolderInUse", "HubError", "Listener", "MetadataError", "MissingExtra",
        "MissingProvider", "MissingSidecars", "ModelError", "NoImages", "NoSidecars", "NullListener", "ReadOnlyFolder",
        "RunReport", "SdprepError", "UsageError", "WorkerError", "WriteError", "__version__",
        "apply", "caption", "check", "clean", "edit", "export", "import_", "merge", "plan_edit", "stats", "tag", "undo",
    ]  # fmt: skip


def test_every_public_name_can_be_used():
    assert [name for name in sdprep.__all__ if getattr(sdprep, name) is None] == []
    assert dir(sdprep) == sorted(sdprep.__all__)


def test_every_other_name_is_unknown():
    with pytest.raises(AttributeError, match="module 'sdprep' has no attribute 'caption_all'"):
        sdprep.caption_all  # noqa: B018


def test_every_public_error_is_one_of_sdprep():
    found = {getattr(sdprep, name) for name in sdprep.__all__ if issubclass(type(getattr(sdprep, name)), type)}
    assert {each for each in found if issubclass(each, Exception)} <= {
        each for each in vars(errors).values() if isinstance(each, type)
    }


def test_importing_sdprep_loads_nothing_heavy():
    code = "import sys, sdprep; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert HEAVY.isdisjoint(loaded.split())


def test_options_have_the_names_of_the_command_line(imgs):
    report = sdprep.tag(
        str(imgs), model="demo-tag", workers=0, prefix=["trigger"], max_tags=1, caption_extension="tags"
    )
    assert (report.written, report.exit_code) == (2, 0)
    assert [path.read_text().count(",") for path in imgs.glob("*.tags")] == [1, 1]
    assert all(path.read_text().startswith("trigger, ") for path in imgs.glob("*.tags"))


def test_a_string_is_a_list_of_one_and_a_dictionary_makes_pairs(imgs):
    sdprep.tag(imgs, model="demo-tag", workers=0, prefix="one two", tag_replacement={"1girl": "woman"})
    tags = (imgs / "kuro.txt").read_text().strip().split(", ")
    assert tags[0] == "one two"
    assert "1girl" not in tags


def test_a_path_may_be_a_string(imgs, tmp_path):
    report = sdprep.merge(str(imgs), output=str(tmp_path / "m.json"), missing="empty")
    assert (report.output, (tmp_path / "m.json").exists()) == (str(tmp_path / "m.json"), True)


def test_a_dataset_is_exported_and_imported(imgs, tmp_path):
    (imgs / "kuro.txt").write_text("1boy\n")
    report = sdprep.export(imgs, "onetrainer", tmp_path / "out", images="copy", repeats=2)
    assert (report.written, report.kept) == (1, 1)
    (tmp_path / "m.json").write_text('{"kuro": {"tags": "1girl"}}')
    assert sdprep.import_(tmp_path / "m.json", into=imgs).kept_paths == ["kuro.png"]
    assert sdprep.import_(tmp_path / "m.json", into=imgs, tag_extension="tags").written == 1
    with pytest.raises(sdprep.UsageError, match="wrong value of target: it takes sd-scripts"):
        sdprep.export(imgs, "kohya", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresold": 0.5}, "unknown option 'thresold'; did you mean 'threshold'"),
        ({"rules": None}, "unknown option 'rules'"),
        ({"batch_size": "8"}, "wrong value of batch_size: Expected `int`, got `str`"),
        ({"exclude": [1]}, "Expected `str`, got `int`"),
        (
            {"order": "by name"},
            "wrong value of order: it takes confidence, csv, alphabetical or category, not 'by name'",
        ),
        ({"threshold": 3}, "a threshold is a probability"),
        ({"scores": 5}, "expected Path, got int"),
    ],
)
def test_a_wrong_option_is_a_usage_error(imgs, options, message):
    with pytest.raises(sdprep.UsageError, match=message):
        sdprep.tag(imgs, **options)


def test_an_option_that_is_given_changes_what_sdprep_wrote(imgs):
    sdprep.tag(imgs, model="demo-tag", workers=0)
    assert sdprep.tag(imgs, model="demo-tag", workers=0, suffix=["end"]).written == 2


def test_an_undo_restores_what_a_run_replaced(imgs):
    (imgs / "kuro.txt").write_text("mine\n")
    run = sdprep.tag(imgs, model="demo-tag", workers=0, existing="overwrite").run
    assert sdprep.undo(imgs, run).written == 2
    assert (imgs / "kuro.txt").read_text() == "mine\n"


def test_a_cancelled_run_reports_the_rest_as_remaining(imgs):
    cancel = sdprep.CancelToken()
    cancel.exit_code = 130
    assert sdprep.tag(imgs, model="demo-tag", workers=0, cancel=cancel).remaining == 2


def test_the_examples_of_the_page_run_as_they_are(imgs):
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    with model_in_process():
        exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), {})
    assert (imgs / "metadata.json").exists()
