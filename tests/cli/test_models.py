"""`sdprep models` as a person meets it: tables and JSON on stdout, talk on stderr, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdprep.cli.commands.models import models
from sdprep.cli.param_types import hyphenate
from sdprep.errors import ModelError, UsageError
from sdprep.models.registry import registry
from sdprep.models.registry.registry import names
from tests.models.fake_hub import COMMITS, LABELS, MODEL, OLD, REPO, at_home, check_active

ROOT = Path(__file__).parents[2]
COMMANDS = ["list", "show", "download", "verify", "add"]
HEAVY = {"torch", "transformers", "onnxruntime", "tensorflow", "numpy", "PIL"}
TAGGER = f"""
name = "mine"
task = "tag"
backend = "onnx"
files = ["{MODEL}", "{LABELS}"]
threshold = 0.4
licence = "MIT"
[source]
repo = "{REPO}"
[image]
fit = "pad"
channels = "bgr"
[labels]
file = "{LABELS}"
categories = {{ general = 0, character = 4 }}
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "user_config_path", lambda app: tmp_path / "config" / app)
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch):
    with check_active(monkeypatch) as fake:
        yield fake


@pytest.fixture
def mine(tmp_path):
    """A TOML file that describes the model of the Hub."""
    path = tmp_path / "mine.toml"
    path.write_text(TAGGER)
    return path


@pytest.fixture
def downloaded(hub, mine):
    """The folder of `mine`, which has a name and was downloaded."""
    run("add", mine)
    return Path(json.loads(run("download", "mine", "--json").stdout)["models"][0]["folder"])


def run(*words):
    return CliRunner().invoke(models, [str(word) for word in words], token_normalize_func=hyphenate)


def table(result):
    """The cells of the lines on stdout; there are two spaces at least between cells, and one at most in them."""
    return [[cell for cell in line.split("  ") if cell] for line in result.stdout.splitlines()]


def row(result, name):
    return next([cell.strip() for cell in cells] for cells in table(result) if cells[:1] == [name])


# list


def test_the_list_has_a_line_for_every_model_below_its_head():
    assert [cells[0] for cells in table(run("list"))] == ["name", *names()]


def test_the_list_can_be_limited_to_one_task():
    assert [cells[0] for cells in table(run("list", "--task", "caption"))] == ["name", *names("caption")]


def test_a_model_of_the_package_is_listed_with_nothing_to_download():
    assert row(run("list"), "demo-tag") == ["demo-tag", "tag", "onnx", "none", "Apache-2.0", "yes", "toy for the demo"]


def test_a_model_that_was_never_downloaded_is_listed_with_about_the_size_of_its_description():
    listing = run("list")
    assert row(listing, "wd-vit-tagger-v3") == ["wd-vit-tagger-v3", "tag", "onnx", "about 379 MB", "see card", "no"]
    assert row(listing, "blip-large")[3] == "about 1.88 GB"


def test_a_model_of_unknown_size_is_listed_without_one():
    assert row(run("list"), "blip-base") == ["blip-base", "caption", "blip", "BSD-3-Clause", "no"]


def test_a_download_is_listed_with_its_size(downloaded):
    assert row(run("list"), "mine") == ["mine", "tag", "onnx", "0.0 MB", "MIT", "yes"]


def test_the_columns_of_the_list_are_aligned():
    lines = run("list").stdout.splitlines()
    cached, note = lines[0].index("cached"), lines[0].index("note")
    assert {line[cached:note].strip() for line in lines} == {"cached", "yes", "no"}


def test_a_broken_file_of_the_user_is_reported_below_the_others(home):
    (home / "config" / "sdprep" / "models").mkdir(parents=True)
    (home / "config" / "sdprep" / "models" / "broken.toml").write_text("name =")
    result = run("list")
    assert (result.exit_code, "demo-tag" in result.stdout, "failed: broken: " in result.stderr) == (1, True, True)


# show


SHOWN = {
    "licence": "MIT",
    "source": REPO,
    "revision": "main",
    "commit": COMMITS[0],
    "image": "padded to a square with (255, 255, 255), size from the weights, bicubic, BGR 0..255, not normalised",
    "labels": f"{LABELS} (general 0, character 4)",
    "card threshold": "0.4",
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_model_is_shown_with_its(name, downloaded):
    assert row(run("show", "mine"), name) == [name, SHOWN[name]]


def test_a_model_is_shown_with_the_folder_of_its_files(downloaded):
    assert row(run("show", "mine"), "on this machine")[1] == f"2 of 2 files, in {downloaded}"


def test_a_file_is_shown_with_bytes_and_checksum(downloaded):
    sha256 = json.loads(run("show", "mine", "--json").stdout)["files"][0]["sha256"]
    assert row(run("show", "mine"), MODEL) == [MODEL, "8,000", "yes", sha256]


SHOWN_OF_OURS = [
    ("caformer_b36.dbv4-full", "labels", "thresholds in column best_threshold"),
    ("camie-tagger-v2", "labels", ", within dataset_info.tag_mapping"),
    ("wd-v1-4-moat-tagger-v2", "for TensorFlow", "saved_model.pb, variables/"),
    ("demo-tag", "precision", "float32"),
    ("cl_tagger", "image", ", channels first"),
    ("wd-vit-tagger-v3", "download", "about 379 MB"),
]


@pytest.mark.parametrize(("name", "field", "said"), SHOWN_OF_OURS)
def test_nothing_of_a_description_is_left_out(name, field, said):
    assert said in row(run("show", name), field)[1]


def test_images_prepared_in_kohyas_way_are_shown_so(mine):
    mine.write_text(TAGGER.replace('fit = "pad"', 'fit = "pad"\npreprocess = "kohya"'))
    assert row(run("show", mine), "image")[1].endswith("not normalised, prepared as by kohya's tagger")


def test_a_captioner_is_shown_with_mean_and_standard_deviation():
    said = row(run("show", "blip-base"), "image")[1]
    assert said.startswith("squashed to a square, 384 x 384, bicubic, RGB 0..1, mean (0.48145466, ")


def test_a_model_without_local_files_is_shown_as_such():
    assert row(run("show", "blip-base"), "on this machine")[1] == "0 of 6 files"


def test_an_unknown_model_is_a_usage_error():
    assert isinstance(run("show", "nobody").exception, UsageError)


# download


def test_a_download_is_printed_with_commit_and_folder(downloaded):
    assert table(run("download", "mine")) == [["mine", COMMITS[0][:12], str(downloaded)]]


def test_a_download_talks_on_stderr(hub):
    result = run("download", REPO, "--task", "tag")
    assert f"\ndownloading {REPO} (0.0 MB) to " in result.stderr


def test_a_download_without_trouble_ends_with_0(hub):
    assert run("download", REPO, "--task", "tag").exit_code == 0


def test_a_download_that_fails_gives_1_after_the_others(hub):
    result = run("download", "nobody", REPO, "--task", "tag")
    assert (result.exit_code, [cells[0] for cells in table(result)]) == (1, [REPO])


def test_a_download_that_fails_is_reported(hub):
    assert "failed: nobody: no tagger is called 'nobody'" in run("download", "nobody", REPO, "--task", "tag").stderr


def test_a_download_needs_a_name():
    assert run("download").exit_code == 2


# verify


def test_files_as_they_were_end_with_0(downloaded):
    result = run("verify")
    assert (result.exit_code, table(result)) == (0, [["ok", "mine", MODEL], ["ok", "mine", LABELS]])


def test_a_damaged_file_is_printed_with_its_path(downloaded):
    (downloaded / MODEL).resolve().write_bytes(b"rot")
    assert row(run("verify", "mine"), "damaged")[1:] == ["mine", MODEL, str(downloaded / MODEL)]


def test_a_damaged_file_gives_1(downloaded):
    (downloaded / MODEL).resolve().write_bytes(b"rot")
    assert run("verify").exit_code == 1


def test_a_missing_file_gives_0_as_the_next_use_downloads_it(downloaded):
    (downloaded / MODEL).unlink()
    assert run("verify").exit_code == 0


@pytest.mark.parametrize("state", ["damaged", "missing"])
def test_verify_ends_with_the_command_that_repairs(downloaded, state):
    (downloaded / MODEL).resolve().write_bytes(b"rot")
    (downloaded / LABELS).unlink()
    advice = next(line for line in run("verify").stderr.splitlines() if line.startswith(state))
    assert advice.endswith("with: sdprep models download mine")


def test_the_command_that_repairs_works(downloaded):
    (downloaded / MODEL).resolve().write_bytes(b"rot")
    run("download", "mine")
    assert (downloaded / MODEL).read_bytes() == OLD[MODEL]


def test_the_counts_are_talk(downloaded):
    assert "verify: 2 files: 2 ok, 0 damaged, 0 missing" in run("verify").stderr


def test_nothing_to_verify_is_reported():
    result = run("verify")
    assert (result.exit_code, result.stderr) == (0, "verify: nothing has been downloaded yet\n")


def test_a_model_that_was_never_downloaded_gives_1():
    result = run("verify", "blip-base")
    assert (result.exit_code, result.stderr.startswith("failed: blip-base: no checksum")) == (1, True)


# add


def test_a_model_that_was_added_is_listed(mine):
    run("add", mine)
    assert row(run("list"), "mine")[0] == "mine"


def test_an_addition_prints_where_the_copy_is(mine, home):
    assert run("add", mine).stdout == f"{home / 'config' / 'sdprep' / 'models' / 'mine.toml'}\n"


def test_add_prints_how_to_use_the_model(mine):
    assert run("add", mine).stderr == "added: --model mine\n"


def test_add_prints_which_model_it_overrides(mine):
    mine.write_text(TAGGER.replace('"mine"', '"demo-tag"'))
    assert "it overrides the model of the same name in " in run("add", mine, "--replace").stderr


def test_add_prints_which_files_are_missing(mine, tmp_path):
    mine.write_text(TAGGER.replace(f'repo = "{REPO}"', 'path = "weights"'))
    assert f"not yet in {tmp_path / 'weights'}: {MODEL}, {LABELS}" in run("add", mine).stderr


def test_a_second_addition_of_the_same_name_is_a_usage_error(mine):
    run("add", mine)
    assert isinstance(run("add", mine).exception, UsageError)


def test_replace_allows_a_second_addition(mine):
    run("add", mine)
    assert run("add", mine, "--replace").exit_code == 0


def test_a_wrong_file_cannot_be_added(mine):
    mine.write_text("name =")
    assert isinstance(run("add", mine).exception, ModelError)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    assert run("add", tmp_path / "nowhere.toml").exit_code == 2


# all of them


FIELDS = {
    "list": {"schema", "models", "failures"},
    "show": {
        "schema", "name", "task", "backend", "source", "files", "savedmodel", "image", "labels", "answers",
        "output", "threshold", "precision", "licence", "description", "megabytes", "commit", "folder",
        "model_type", "prompt", "generate", "answer", "server",
    },
    "download": {"schema", "models", "failures"},
    "verify": {"schema", "files", "failures"},
    "add": {"schema", "name", "path", "replaced", "folder", "missing"},
}  # fmt: skip
WORDS = {"show": ["mine"], "download": ["mine"], "add": ["mine.toml", "--replace"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_object_with_the_documented_fields(command, downloaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert json.loads(run(command, *WORDS.get(command, []), "--json").stdout).keys() == FIELDS[command]


def test_json_of_a_failure_has_model_and_message():
    (failure,) = json.loads(run("download", "nobody", "--json").stdout)["failures"]
    assert failure.keys() == {"model", "message"}


def test_json_of_a_checked_file_has_its_state(downloaded):
    (downloaded / MODEL).unlink()
    assert json.loads(run("verify", "--json").stdout)["files"][0] == {
        "model": "mine", "commit": COMMITS[0], "name": MODEL, "state": "missing", "path": str(downloaded / MODEL),
    }  # fmt: skip


def test_json_has_a_path_where_a_file_is(downloaded):
    assert json.loads(run("show", "mine", "--json").stdout)["files"][1]["path"] == str(downloaded / LABELS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_of_it(command):
    assert run(command, "--help").stdout.splitlines()[-1].startswith(f"  sdprep models {command}")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_about_models_names_the_command(command):
    assert f"`sdprep models {command}" in (ROOT / "docs" / "models.md").read_text("utf-8")


def test_nothing_imports_a_framework(mine, tmp_path):
    commands = [["list"], ["show", "demo-tag"], ["download", "demo-tag"], ["verify"], ["add", str(mine)]]
    code = (
        f"import sys; from sdprep.cli.commands.models import models\nfor words in {commands!r}:\n"
        f"    models(words, standalone_mode=False)\nprint(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_does_not_even_load_huggingface_hub():
    code = (
        "import sys; from sdprep.cli.commands.models import models\nmodels(['list', '--help'], standalone_mode=False)\n"
        "print(sorted({'huggingface_hub', 'msgspec'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_list_marks_the_default_and_a_recommendation_of_each_task(sdprep_command):
    lines = {line.split()[0]: line for line in sdprep_command("models", "list").out.splitlines()}
    assert lines["wd-v1-4-swinv2-tagger-v2"].endswith("default")
    assert lines["wd-swinv2-tagger-v3"].endswith("recommended")
    assert lines["blip-large"].endswith("default, recommended")
    assert lines["demo-tag"].endswith("toy for the demo")


def test_a_model_at_a_server_is_shown_with_its_address_and_has_nothing_to_download(tmp_path):
    path = tmp_path / "served.toml"
    path.write_text(
        'name = "served"\ntask = "caption"\nbackend = "server"\n[image]\nfit = "inside"\nsize = 512\n'
        '[server]\nurl = "http://127.0.0.1:8000"\nmodel = "theirs"\n'
    )
    run("add", path)
    shown = run("show", "served")
    assert row(shown, "source")[1] == "the server http://127.0.0.1:8000"
    assert row(shown, "model")[1] == "theirs"
    assert "on this machine" not in shown.stdout
    for command in ("download", "verify"):
        done = run(command, "served")
        assert done.exit_code == 1
        assert "at the server http://127.0.0.1:8000: it has no files on this machine" in done.output
