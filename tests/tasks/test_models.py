"""Which models there are and where their files are, against a small Hub on 127.0.0.1 and real folders."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from sdprep.errors import ModelError, UsageError, WriteError
from sdprep.files import configs_folder
from sdprep.models.files.lockfile import lock_path
from sdprep.models.registry import registry
from sdprep.models.registry.registry import names, resolve
from sdprep.tasks import models as api
from sdprep.tasks.models import FileState
from tests.models.fake_hub import COMMITS, LABELS, MODEL, NEW, OLD, REPO, Notes, at_home, check_active

PINNED = f"{REPO}@{COMMITS[0]}"
OTHER = f"{REPO}@{COMMITS[1]}"
TAGGER = """
# my own tagger
name = "mine"
task = "tag"
backend = "onnx"
files = ["model.onnx", "selected_tags.csv"]
threshold = 0.4
[source]
{source}
[image]
fit = "pad"
[labels]
file = "selected_tags.csv"
categories = {{ general = 0 }}
"""
HEAVY = {"torch", "transformers", "onnxruntime", "tensorflow", "numpy", "PIL"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    """The user's own models folder; it does not exist at first."""
    monkeypatch.setattr(registry, "user_config_path", lambda app: tmp_path / "config" / app)
    return tmp_path / "config" / "sdprep" / "models"


@pytest.fixture
def hub(monkeypatch):
    with check_active(monkeypatch) as fake:
        yield fake


@pytest.fixture
def downloaded(hub):
    """The folder of a model that was just downloaded; nothing has been asked of the Hub since."""
    done = api.download([REPO], "tag")
    hub.requests.clear()
    return done.models[0].folder


def write_toml(folder, source, name="mine"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(TAGGER.format(source=source).replace('"mine"', f'"{name}"'), encoding="utf-8")
    return path


def write_weights(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in OLD.items():
        (folder / name).write_bytes(data)
    return folder


def listed(name):
    return next(model for model in api.list_models().models if model.name == name)


def states(found):
    return {file.name: file.state.value for file in found.files}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def rot(path):
    """Change a file of the cache and leave its size."""
    content = path.resolve()
    content.write_bytes(b"\0" + content.read_bytes()[1:])


# list


def test_every_model_that_has_a_name_is_listed():
    assert [model.name for model in api.list_models().models] == names()


@pytest.mark.parametrize("task", ["caption", "tag"])
def test_the_list_can_be_limited_to_one_task(task):
    assert [model.name for model in api.list_models(task).models] == names(task)


def test_a_model_of_the_package_needs_no_download_and_is_here():
    assert listed("demo-tag") == api.ModelSummary(
        "demo-tag", "tag", "onnx", 0, None, "Apache-2.0", True, note="toy for the demo"
    )


def test_a_model_that_was_never_downloaded_has_no_size_and_is_not_here():
    assert listed("blip-base") == api.ModelSummary("blip-base", "caption", "blip", None, None, "BSD-3-Clause", False)


def test_a_download_has_a_size_and_is_here(downloaded, user_folder):
    write_toml(user_folder, f'repo = "{REPO}"')
    assert (listed("mine").download, listed("mine").cached) == (sum(map(len, OLD.values())), True)


def test_a_download_whose_files_were_deleted_keeps_its_size(downloaded, user_folder):
    write_toml(user_folder, f'repo = "{REPO}"')
    (downloaded / MODEL).unlink()
    assert (listed("mine").download, listed("mine").cached) == (sum(map(len, OLD.values())), False)


def test_a_file_that_was_cut_is_not_here(downloaded, user_folder):
    write_toml(user_folder, f'repo = "{REPO}"')
    (downloaded / MODEL).resolve().write_bytes(b"cut")
    assert not listed("mine").cached


def test_a_pinned_model_that_another_program_downloaded_is_here(downloaded, user_folder):
    write_toml(user_folder, f'repo = "{REPO}"\nrevision = "{COMMITS[0]}"')
    lock_path().unlink()
    assert (listed("mine").download, listed("mine").cached) == (sum(map(len, OLD.values())), True)


def test_a_folder_that_lacks_a_file_is_not_here(user_folder, tmp_path):
    write_toml(user_folder, 'path = "weights"')
    assert not listed("mine").cached


def test_the_list_reads_no_file_of_a_folder(user_folder, monkeypatch):
    write_weights(user_folder / "weights")
    write_toml(user_folder, 'path = "weights"')
    monkeypatch.setattr("sdprep.models.files.hub.sha256_of", lambda path: pytest.fail(f"{path} was read"))
    assert listed("mine").cached


def test_a_broken_file_of_the_user_does_not_hide_the_other_models(user_folder):
    ours = names()
    user_folder.mkdir(parents=True)
    (user_folder / "broken.toml").write_text("name =")
    assert [model.name for model in api.list_models().models] == ours


def test_a_broken_file_of_the_user_is_reported_with_its_path(user_folder):
    user_folder.mkdir(parents=True)
    (user_folder / "broken.toml").write_text("name =")
    (failure,) = api.list_models().failures
    assert (failure.model, str(user_folder / "broken.toml") in failure.message) == ("broken", True)


def test_the_list_asks_nothing_of_the_hub(hub):
    api.list_models()
    assert hub.requests == []


# show


@pytest.mark.parametrize("name", [path.stem for path in sorted(configs_folder("models").glob("*.toml"))])
def test_every_model_that_has_a_name_can_be_shown(name):
    shown = api.show(name)
    assert shown.spec == resolve(name, shown.spec.task)


def test_a_toml_file_can_be_shown(tmp_path):
    assert api.show(str(write_toml(tmp_path, 'path = "weights"'))).spec.threshold == 0.4


def test_a_folder_can_be_shown(tmp_path):
    folder = write_weights(tmp_path / "weights")
    assert [file.path for file in api.show(str(folder)).files] == [folder / MODEL, folder / LABELS]


def test_a_file_that_a_folder_lacks_is_shown_without_a_path(tmp_path):
    path = write_toml(tmp_path, 'path = "weights"')
    assert api.show(str(path)).files == (
        api.ModelFile(MODEL, None, None, None),
        api.ModelFile(LABELS, None, None, None),
    )


def test_a_repository_of_the_registry_is_shown_without_a_task():
    assert api.show("SmilingWolf/wd-swinv2-tagger-v3").spec.name == "wd-swinv2-tagger-v3"


def test_a_repository_that_nothing_describes_needs_a_task():
    with pytest.raises(UsageError, match="--task tag or --task caption"):
        api.show("some-one/model")


@pytest.mark.parametrize(("task", "backend"), [("tag", "onnx"), ("caption", "blip")])
def test_a_task_decides_what_a_repository_is(task, backend):
    assert api.show("some-one/model", task).spec.backend == backend


def test_a_repository_that_was_downloaded_needs_no_task(downloaded):
    assert api.show(REPO).spec.task == "tag"


def test_a_folder_that_holds_both_families_needs_a_task(tmp_path):
    folder = write_weights(tmp_path / "both")
    (folder / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(UsageError, match="both may be a tagger or a captioner"):
        api.show(str(folder))


def test_an_unknown_name_is_called_a_model_and_brings_close_ones():
    with pytest.raises(UsageError, match=r"no model is called 'blip-larg'.*blip-large"):
        api.show("blip-larg")


def test_a_download_is_shown_with_its_commit(downloaded):
    assert api.show(REPO).commit == COMMITS[0]


def test_a_download_is_shown_with_sizes_checksums_and_paths(downloaded):
    assert api.show(REPO).files == tuple(
        api.ModelFile(name, len(data), sha256(data), downloaded / name) for name, data in OLD.items()
    )


def test_a_branch_that_was_never_downloaded_has_no_commit_and_no_folder(hub):
    shown = api.show(REPO, "tag")
    assert (shown.commit, shown.folder) == (None, None)


def test_a_commit_that_was_never_downloaded_is_shown_with_the_folder_where_it_will_be(hub, downloaded):
    assert api.show(OTHER).folder == downloaded.with_name(COMMITS[1])


# download


def test_every_requested_model_is_downloaded(hub):
    done = api.download([PINNED, OTHER], "tag")
    assert [(each.folder / MODEL).read_bytes() for each in done.models] == [OLD[MODEL], NEW[MODEL]]


def test_a_model_that_is_requested_twice_is_downloaded_once(hub):
    assert len(api.download([REPO, REPO], "tag").models) == 1


def test_a_second_download_asks_nothing_of_the_hub(hub, downloaded):
    api.download([REPO])
    assert hub.requests == []


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_model_that_cannot_be_had_does_not_stop_the_others(hub, order):
    done = api.download([REPO, "nobody"][order], "tag")
    assert [each.model for each in done.models] == [REPO]


def test_a_model_that_is_not_available_is_reported(hub):
    (failure,) = api.download([REPO, "nobody"], "tag").failures
    assert (failure.model, "no tagger is called 'nobody'" in failure.message) == ("nobody", True)


def test_a_hub_that_fails_is_a_failure_of_the_model(hub):
    hub.status = 503
    (failure,) = api.download([REPO], "tag").failures
    assert (failure.model, "HTTP 503" in failure.message) == (REPO, True)


def test_a_download_reports_its_size(hub):
    listener = Notes()
    api.download([REPO], "tag", listener=listener)
    assert listener.heard[1].startswith(f"stage: downloading {REPO} (0.0 MB) to ")


def test_a_model_of_the_package_is_a_download_that_is_done():
    (done,) = api.download(["demo-tag"]).models
    assert (done.commit, (done.folder / MODEL).is_file()) == (None, True)


def test_a_folder_that_lacks_a_file_is_a_failure(tmp_path):
    (failure,) = api.download([str(write_toml(tmp_path, 'path = "weights"'))]).failures
    assert f"there is no {MODEL} in {tmp_path / 'weights'}" in failure.message


def test_a_damaged_file_is_downloaded_again_although_its_size_is_right(hub, downloaded):
    rot(downloaded / MODEL)
    api.download([REPO])
    assert (hub.downloads, (downloaded / MODEL).read_bytes()) == ([MODEL], OLD[MODEL])


# verify


def test_files_as_they_were_at_first_are_ok(downloaded):
    assert states(api.verify([REPO])) == {MODEL: "ok", LABELS: "ok"}


def test_a_changed_byte_is_damage(downloaded):
    rot(downloaded / MODEL)
    assert states(api.verify([REPO])) == {MODEL: "damaged", LABELS: "ok"}


def test_a_cut_file_is_damage(downloaded):
    (downloaded / LABELS).resolve().write_bytes(b"")
    assert states(api.verify([REPO])) == {MODEL: "ok", LABELS: "damaged"}


def test_a_deleted_file_is_missing(downloaded):
    (downloaded / LABELS).unlink()
    assert states(api.verify([REPO])) == {MODEL: "ok", LABELS: "missing"}


def test_a_link_of_the_cache_that_leads_nowhere_is_a_missing_file(downloaded):
    (downloaded / MODEL).resolve().unlink()
    assert states(api.verify([REPO]))[MODEL] == "missing"


def test_a_file_that_the_description_has_gained_since_is_missing(downloaded, tmp_path):
    path = write_toml(tmp_path, f'repo = "{REPO}"')
    path.write_text(path.read_text().replace(f'"{LABELS}"]', f'"{LABELS}", "extra.txt"]'))
    assert states(api.verify([str(path)]))["extra.txt"] == "missing"


def test_a_file_that_the_disk_does_not_give_is_a_failure(downloaded, monkeypatch):
    def broken(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(api, "sha256_of", broken)
    assert api.verify([REPO]).failures[0] == api.ModelFailure(REPO, f"{MODEL} cannot be read: Input/output error")


def test_all_downloads_are_checked_if_none_is_named(hub, downloaded):
    api.download([OTHER])
    assert [file.model for file in api.verify().files] == [PINNED, PINNED, OTHER, OTHER]


def test_a_download_goes_by_the_name_that_the_registry_has_for_it(downloaded, user_folder):
    write_toml(user_folder, f'repo = "{REPO}"')
    assert {file.model for file in api.verify().files} == {"mine"}


def test_nothing_to_verify_is_not_a_failure():
    assert api.verify() == api.Verification((), ())


@pytest.mark.parametrize("state", [FileState.DAMAGED, FileState.MISSING])
def test_what_verify_finds_is_repaired_by_downloading_the_models_that_it_names(hub, downloaded, state):
    rot(downloaded / MODEL)
    (downloaded / LABELS).unlink()
    api.download(api.verify().models(state))
    assert states(api.verify()) == {MODEL: "ok", LABELS: "ok"}


def test_verify_asks_nothing_of_the_hub(hub, downloaded):
    rot(downloaded / MODEL)
    api.verify()
    assert hub.requests == []


def test_verify_changes_no_file(downloaded):
    rot(downloaded / MODEL)
    api.verify()
    assert (downloaded / MODEL).read_bytes()[0] == 0


def test_verify_reports_which_model_it_checks(downloaded):
    listener = Notes()
    api.verify([REPO], listener=listener)
    assert listener.heard == [f"checking {REPO} (0.0 MB)"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("blip-base", "sdprep models download blip-base"),
        ("some-one/model", "sdprep models download some-one/model"),
        ("demo-tag", "demo-tag was not downloaded"),
        ("nobody", "no model is called 'nobody'"),
    ],
)
def test_a_model_that_was_never_downloaded_is_a_failure(model, said):
    (failure,) = api.verify([model]).failures
    assert said in failure.message


def test_a_model_that_was_never_downloaded_does_not_stop_the_others(downloaded):
    assert len(api.verify(["blip-base", REPO]).files) == 2


# add


def test_a_model_that_was_added_has_a_name(tmp_path):
    api.add(write_toml(tmp_path / "there", 'repo = "a/b"'))
    assert resolve("mine", "tag").source.repo == "a/b"


def test_the_name_is_the_one_in_the_file(tmp_path, user_folder):
    path = write_toml(tmp_path / "there", 'repo = "a/b"')
    assert api.add(path.rename(path.with_name("download (1).toml"))).path == user_folder / "mine.toml"


def test_a_file_without_a_folder_is_copied_byte_for_byte(tmp_path):
    path = write_toml(tmp_path / "there", 'repo = "a/b"')
    assert api.add(path).path.read_bytes() == path.read_bytes()


def test_nothing_else_is_left_in_the_folder(tmp_path, user_folder):
    api.add(write_toml(tmp_path / "there", 'repo = "a/b"'))
    assert [path.name for path in user_folder.iterdir()] == ["mine.toml"]


RELATIVE = {
    "a string": 'path = "weights"',
    "a literal string": "path = 'weights'",
    "a dot": 'path = "./weights" # beside this file',
    "a comment before it": '# path = "weights"\npath = "weights"',
    "a quoted key": '"path" = "weights"',
}


@pytest.mark.parametrize("source", RELATIVE.values(), ids=RELATIVE)
def test_a_relative_folder_still_leads_to_the_weights(source, tmp_path):
    api.add(write_toml(tmp_path / "there", source))
    assert resolve("mine", "tag").source.path == str(tmp_path / "there" / "weights")


def test_a_relative_folder_is_found_in_an_inline_table(tmp_path):
    path = write_toml(tmp_path / "there", "")
    path.write_text('source = { path = "weights" }\n' + path.read_text().replace("[source]", ""))
    api.add(path)
    assert resolve("mine", "tag").source.path == str(tmp_path / "there" / "weights")


def test_a_folder_with_special_characters_is_written_so_that_it_can_be_read(tmp_path):
    there = tmp_path / 'my "own" 模型'
    if sys.platform == "win32":
        there = tmp_path / "my own 模型"
    api.add(write_toml(there, 'path = "weights"'))
    assert resolve("mine", "tag").source.path == str(there / "weights")


def test_only_the_folder_is_rewritten(tmp_path):
    path = write_toml(tmp_path / "there", "path = 'weights'")
    expected = path.read_text().replace("'weights'", json.dumps(str(tmp_path / "there" / "weights")))
    assert api.add(path).path.read_text() == expected


@pytest.mark.parametrize("folder", ["~/weights", os.path.abspath(os.sep)])  # noqa: PTH100 - of this drive
def test_an_absolute_folder_stays_as_it_is_written(folder, tmp_path):
    path = write_toml(tmp_path / "there", f"path = '{folder}'")
    assert api.add(path).path.read_bytes() == path.read_bytes()


def test_a_relative_folder_that_cannot_be_rewritten_is_rejected(tmp_path):
    path = write_toml(tmp_path / "there", 'path = """weights"""')
    with pytest.raises(ModelError, match=r"mine\.toml: source\.path is relative"):
        api.add(path)


def test_files_that_are_missing_in_the_folder_are_reported(tmp_path):
    assert api.add(write_toml(tmp_path / "there", 'path = "weights"')).missing == (MODEL, LABELS)


def test_a_whole_folder_lacks_nothing(tmp_path):
    write_weights(tmp_path / "there" / "weights")
    assert api.add(write_toml(tmp_path / "there", 'path = "weights"')).missing == ()


def test_an_invalid_file_is_rejected_with_its_path_and_field(tmp_path):
    path = write_toml(tmp_path / "there", 'path = "w"\nrepo = "a/b"')
    with pytest.raises(ModelError, match=r"mine\.toml: \[source\] needs exactly one"):
        api.add(path)


def test_an_invalid_file_leaves_no_trace(tmp_path, user_folder):
    with pytest.raises(ModelError):
        api.add(write_toml(tmp_path / "there", ""))
    assert not user_folder.exists()


@pytest.mark.parametrize("name", ["", "../mine", "a/b", "a:b", ".hidden"])
def test_a_name_that_is_not_a_file_name_is_rejected(name, tmp_path):
    path = write_toml(tmp_path / "there", 'repo = "a/b"')
    path.write_text(path.read_text().replace('"mine"', f'"{name}"'))
    with pytest.raises(ModelError, match="cannot be a file name"):
        api.add(path)


@pytest.mark.parametrize("name", ["mine", "demo-tag"])
def test_a_name_that_is_taken_is_rejected(name, tmp_path, user_folder):
    write_toml(user_folder, 'repo = "old/one"')
    with pytest.raises(UsageError, match=f"already a model called {name}, described in "):
        api.add(write_toml(tmp_path / "there", 'repo = "a/b"', name))


def test_a_name_that_is_taken_keeps_its_description(tmp_path, user_folder):
    write_toml(user_folder, 'repo = "old/one"')
    with pytest.raises(UsageError):
        api.add(write_toml(tmp_path / "there", 'repo = "a/b"'))
    assert resolve("mine", "tag").source.repo == "old/one"


def test_a_model_with_the_same_name_can_be_replaced(tmp_path, user_folder):
    write_toml(user_folder, 'repo = "old/one"')
    api.add(write_toml(tmp_path / "there", 'repo = "a/b"'), replace=True)
    assert resolve("mine", "tag").source.repo == "a/b"


def test_a_bundled_model_can_be_replaced_and_its_file_is_reported(tmp_path):
    added = api.add(write_toml(tmp_path / "there", 'repo = "a/b"', "demo-tag"), replace=True)
    assert added.replaced == configs_folder("models") / "demo-tag.toml"


def test_a_broken_description_can_be_replaced(tmp_path, user_folder):
    user_folder.mkdir(parents=True)
    (user_folder / "mine.toml").write_text("name =")
    api.add(write_toml(tmp_path / "there", 'repo = "a/b"'), replace=True)
    assert resolve("mine", "tag").source.repo == "a/b"


def test_a_folder_that_cannot_be_created_is_reported(tmp_path, user_folder):
    user_folder.parent.mkdir(parents=True)
    user_folder.write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        api.add(write_toml(tmp_path / "there", 'repo = "a/b"'))


def test_a_write_that_fails_leaves_the_old_description_whole(tmp_path, user_folder, monkeypatch):
    write_toml(user_folder, 'repo = "old/one"')

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(WriteError):
        api.add(write_toml(tmp_path / "there", 'repo = "a/b"'), replace=True)
    assert [path.name for path in user_folder.iterdir()] == ["mine.toml"]


# what is loaded


def test_no_framework_is_loaded_for_any_of_them(downloaded, tmp_path):
    added = write_toml(tmp_path / "there", 'repo = "a/b"')
    code = (
        "import sys; from pathlib import Path; from sdprep.tasks import models as api\n"
        "api.list_models(); api.show('demo-tag'); api.download(['demo-tag']); api.verify()\n"
        f"api.add(Path({str(added)!r})); print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_huggingface_hub_is_loaded_only_for_its_cache_or_the_network(tmp_path):
    added = write_toml(tmp_path / "there", 'repo = "a/b"')
    code = (
        "import sys; from pathlib import Path; from sdprep.tasks import models as api\n"
        "api.show('demo-tag'); api.download(['demo-tag']); api.verify()\n"
        f"api.add(Path({str(added)!r})); print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_lock_that_cannot_be_read_is_reported(home):
    lock_path().parent.mkdir(parents=True)
    lock_path().write_text("{")
    with pytest.raises(ModelError, match=r"models\.lock\.json"):
        api.verify()
