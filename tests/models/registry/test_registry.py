"""From what `--model` says to a description of a model."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from sdprep.config import RunOptions, TagSettings
from sdprep.errors import ModelError, UsageError
from sdprep.files import configs_folder
from sdprep.models.base import ModelSpec, Task
from sdprep.models.captioners.chat.families import PROCESSORS
from sdprep.models.files.hub import find_local
from sdprep.models.registry import infer, registry
from sdprep.models.registry.registry import RECOMMENDED, load, names, resolve
from sdprep.report import NullListener
from sdprep.tasks.tag import tag

OURS = sorted(configs_folder("models").glob("*.toml"))
PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
TAGGER = """
name = "mine"
task = "tag"
backend = "onnx"
files = ["model.onnx", "selected_tags.csv"]
[source]
path = "weights"
[image]
fit = "pad"
channels = "bgr"
[labels]
file = "selected_tags.csv"
categories = { general = 0 }
"""
PREPROCESSOR = {"size": {"height": 96, "width": 96}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]}


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own model folder, in a home of its own."""
    monkeypatch.setattr(registry, "user_config_path", lambda app: tmp_path / "config" / app)
    folder = tmp_path / "config" / "sdprep" / "models"
    folder.mkdir(parents=True)
    return folder


def write_blip(folder: Path, preprocessor: dict[str, object] | None = None, **config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "blip", **config}))
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(b"x")
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def write_wd(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("model.onnx", "selected_tags.csv"):
        (folder / name).write_bytes(b"x")
    return folder


# No commit of these is known for sure: what is downloaded first stays.
FLORENCE = ("florence2-base", "florence2-base-ft", "florence2-large", "florence2-large-ft")
UNPINNED = ("joycaption-beta-one", "smolvlm2", "toriigate-0.4-7b", *FLORENCE)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_model_of_ours_is_whole(path: Path) -> None:
    spec = load(path)
    assert spec.name == path.stem
    assert spec.description
    assert resolve(path.stem, spec.task) == resolve(str(path), spec.task) == spec
    assert not any(name.endswith((".bin", ".pth", ".pt", ".pkl")) for name in spec.files)
    if spec.source.repo is not None and spec.name not in UNPINNED:
        assert re.fullmatch(r"[0-9a-f]{40}|v\d+\.\d+", spec.source.revision)
    if spec.name.startswith(("wd-", "demo-tag", "idolsankaku")):
        assert (spec.image.fit, spec.image.channels) == ("pad", "bgr")
        assert spec.labels is not None
        assert spec.labels.categories == {"general": 0, "character": 4, "rating": 9}
    if spec.backend == "chat":
        assert spec.image.fit == "inside"
        assert spec.model_type in PROCESSORS
        assert spec.prompt.user
    if spec.backend == "blip":
        assert (spec.image.fit, spec.image.channels) == ("squash", "rgb")
        assert spec.image.mean == infer.CLIP_MEAN
        assert spec.image.std == infer.CLIP_STD


def test_a_folder_with_a_chat_model_needs_no_description() -> None:
    described = resolve("demo-chat", "caption")
    files = find_local(described)
    assert files is not None
    own = resolve(str(files.folder), "caption")
    assert (own.backend, own.model_type, own.image.fit) == ("chat", "llava", "inside")
    found = find_local(own)
    assert found is not None
    assert found.weights == files.weights


def test_a_folder_with_a_florence_2_needs_no_description(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "florence2"}', "utf-8")
    own, ours = resolve(str(tmp_path), "caption"), resolve("florence2-base", "caption")
    assert (own.backend, own.model_type, own.files, own.image) == (
        ours.backend, ours.model_type, ours.files, ours.image,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["demo-caption", "demo-tag"])
def test_a_demo_model_is_in_the_package_and_is_what_its_files_say(name: str) -> None:
    task: Task = "caption" if name == "demo-caption" else "tag"
    spec = resolve(name, task)
    files = find_local(spec)
    assert files is not None
    own = resolve(str(files.folder), task)
    assert (own.image, own.labels) == (spec.image, spec.labels)
    assert set(own.files) <= set(spec.files)


def test_names_are_listed_by_task() -> None:
    assert names() == sorted(path.stem for path in OURS)
    assert {"blip-large", "demo-caption", "demo-chat", "qwen3-vl-4b"} <= set(names("caption"))
    assert sorted(names("caption") + names("tag")) == names()


def test_a_user_adds_a_model_with_a_toml_file_and_no_code(user_folder: Path) -> None:
    (user_folder / "mine.toml").write_text(TAGGER)
    assert "mine" in names("tag")
    assert resolve("mine", "tag").source.path == str(user_folder / "weights")


def test_a_users_file_wins_over_ours_of_the_same_name(user_folder: Path) -> None:
    (user_folder / "blip-base.toml").write_text(TAGGER.replace('"mine"', '"blip-base"'))
    assert resolve("blip-base", "tag").source.path == str(user_folder / "weights")


def test_a_toml_file_that_was_copied_without_changing_its_name_is_refused(user_folder: Path) -> None:
    (user_folder / "copy.toml").write_text(TAGGER)
    with pytest.raises(ModelError, match=r'name is "mine", but the file is called copy\.toml'):
        resolve("copy", "tag")


def test_a_path_in_a_toml_file_starts_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "any.toml").write_text(TAGGER)
    monkeypatch.chdir(tmp_path)
    spec = resolve("any.toml", "tag")
    assert spec.source.path == str(tmp_path / "weights")
    assert spec.name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('task = "tag"', 'task = "draw"', "task: 'draw' is not known here"),
        ('task = "tag"\n', "", "missing required field `task`"),
        ('backend = "onnx"', 'backend = "onyx"', "backend: 'onyx' is not known here"),
        ('task = "tag"', 'task = "caption"', "backend `onnx` is for task `tag`"),
        ('fit = "pad"', 'fit = "pad"\nsizes = 3', "unknown field `sizes`"),
        ('channels = "bgr"', "size = '448'", "image.size: expected a whole number"),
        ('path = "weights"', "", "exactly one of repo, path and bundled"),
        ('path = "weights"', 'path = "w"\nrepo = "a/b"', "exactly one of repo, path and bundled"),
        ('path = "weights"', 'repo = "a/../b"', "source.repo must be owner/name"),
        ('path = "weights"', 'repo = "a/b"\nrevision = "../x"', "source.revision a branch"),
        ('"model.onnx"', '"../model.onnx"', "files inside the model's folder"),
        ('"model.onnx", ', "", ".onnx file"),
        ('["model.onnx", "selected_tags.csv"]', "[]", "files must name files"),
        ('file = "selected_tags.csv"', 'file = "other.csv"', "labels.file"),
        ("[image]", "[image", "Expected"),
        ('fit = "pad"', 'fit = "stretch"', "image.fit: 'stretch' is not known here"),
        ('fit = "pad"', "", "[image] needs fit"),
        ('fit = "pad"', 'recipe = "preprocess.json"', "image.recipe must be one of files"),
        ('fit = "pad"', 'fit = "pad"\nsize = 0', "image.size: expected a whole number >= 1"),
        ('fit = "pad"', 'fit = "pad"\npad_color = [0, 0, 256]', "image.pad_color[2]: expected a whole number <= 255"),
        ('fit = "pad"', 'fit = "pad"\nstd = [1.0, 0.0, 1.0]', "image.std[1]: expected a number > 0"),
        ('fit = "pad"', 'fit = "pad"\nstd = [1.0, inf, 1.0]', "must be finite"),
        ("general = 0", "general = 0, character = 0", "labels.categories must give each category a code of its own"),
        ("{ general = 0 }", "{ }", "labels.categories"),
        ("{ general = 0 }", '{ general = 0 }\nwithin = "a"', "labels.within is for a .json file"),
        ('task = "tag"', 'task = "tag"\nthreshold = 35', "threshold must lie between 0 and 1"),
        ('task = "tag"', 'task = "tag"\nthreshold = { species = 0.5 }', "threshold names species"),
        ('task = "tag"', 'task = "tag"\nthreshold = "high"', "threshold: expected a number or a table"),
        ('task = "tag"', 'task = "tag"\nanswers = "scores"', "answers: 'scores' is not known here"),
        ('task = "tag"', 'task = "tag"\noutput = 1.5', "output: expected"),
    ],
)
def test_a_wrong_toml_file_is_named_with_its_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    assert old in TAGGER
    path.write_text(TAGGER.replace(old, new, 1))
    with pytest.raises(ModelError) as caught:
        resolve(str(path), "tag")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_captioner_must_state_its_size(tmp_path: Path) -> None:
    text = (configs_folder("models") / "blip-base.toml").read_text()
    (tmp_path / "x.toml").write_text(text.replace("size = 384\n", ""))
    with pytest.raises(ModelError, match=r"image\.size"):
        load(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('scale = "0..1"\n', "", 'a captioner needs scale = "0..1"'),
        ('fit = "squash"', 'fit = "squash"\nchannels = "bgr"', "image.channels"),
        ("[source]", "threshold = 0.5\n[source]", "are for taggers"),
    ],
)
def test_a_captioner_is_described_as_one(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (configs_folder("models") / "blip-base.toml").read_text()
    assert old in text
    (tmp_path / "x.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "x.toml")
    assert said in str(caught.value)


def test_a_recipe_stands_for_the_other_fields_of_a_image(tmp_path: Path) -> None:
    text = (configs_folder("models") / "caformer_b36.dbv4-full.toml").read_text()
    (tmp_path / "x.toml").write_text(text.replace("recipe =", 'channels = "bgr"\nrecipe ='))
    with pytest.raises(ModelError, match=r"image\.recipe says all but layout"):
        load(tmp_path / "x.toml")


def test_labels_are_csv_or_json(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(TAGGER.replace("selected_tags.csv", "tags.txt"))
    with pytest.raises(ModelError, match=r'labels\.file must be a \.csv or \.json file, not "tags\.txt"'):
        load(tmp_path / "x.toml")


def test_a_graph_with_channels_first_is_not_taken_for_a_wd_tagger_unasked(tmp_path: Path) -> None:
    assert resolve(str(write_wd(tmp_path / "my tagger")), "tag").image.layout == "nhwc"
    assert resolve("some-one/a.model", "tag").image.layout == "nhwc"


def test_a_missing_toml_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"^nowhere\.toml: No such file"):
        resolve("nowhere.toml", "tag")


def test_a_broken_file_of_the_user_spoils_no_other_name(user_folder: Path) -> None:
    (user_folder / "broken.toml").write_text("name =")
    assert resolve("demo-tag", "tag").name == "demo-tag"
    with pytest.raises(UsageError):
        resolve("nothing-like-this", "tag")
    with pytest.raises(ModelError, match=r"broken\.toml"):
        names()


def forbidden(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, looked_at = Path.iterdir, Path.stat

    def iterdir(path: Path) -> Iterator[Path]:
        if path == user_folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    def stat(path: Path, **how: bool) -> os.stat_result:
        if path == user_folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return looked_at(path, **how)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(Path, "stat", stat)


def test_a_folder_of_the_user_that_may_not_be_read_is_passed_over_with_the_reason(
    user_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden(user_folder, monkeypatch)
    assert resolve("demo-tag", "tag").name == "demo-tag"
    with pytest.raises(UsageError, match="are not used: Permission denied"):
        resolve("nothing-like-this", "tag")


def test_a_run_notes_that_the_models_of_the_user_may_not_be_read(
    user_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    listener = NullListener()
    monkeypatch.setattr(listener, "note", notes.append)
    (tmp_path / "imgs").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "imgs" / "a.png")
    forbidden(user_folder, monkeypatch)
    report = tag(tmp_path / "imgs", TagSettings(model="demo-tag", run=RunOptions(workers=0)), listener=listener)
    assert report.failed == 0
    assert f"models in {user_folder} are not used: Permission denied" in notes


def test_a_folder_with_an_onnx_model_and_its_tags_is_a_wd_tagger(tmp_path: Path) -> None:
    folder = write_wd(tmp_path / "my tagger")
    spec = resolve(str(folder), "tag")
    assert (spec.name, spec.source.path) == ("my tagger", str(folder))
    assert spec.files == ("model.onnx", "selected_tags.csv")
    assert (spec.image.fit, spec.image.channels) == ("pad", "bgr")


def test_a_folder_is_found_from_here_and_stays_found_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wd(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert resolve("./here", "tag").source.path == str(tmp_path / "here")


def test_a_blip_folder_brings_its_own_preprocessing(tmp_path: Path) -> None:
    spec = resolve(str(write_blip(tmp_path / "b", dict(PREPROCESSOR))), "caption")
    assert spec.files == ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")
    assert spec.image == msgspec.structs.replace(infer.BLIP_IMAGE, size=96, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))


def test_a_blip_folder_without_a_preprocessor_gets_that_of_blip(tmp_path: Path) -> None:
    assert resolve(str(write_blip(tmp_path / "b")), "caption").image == infer.BLIP_IMAGE


@pytest.mark.parametrize(
    ("change", "said"),
    [({"size": {"height": 96, "width": 64}}, "squares"), ({"image_mean": [0.5]}, "image_mean: expected a list")],
)
def test_a_preprocessor_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    folder = write_blip(tmp_path / "b", {**PREPROCESSOR, **change})
    with pytest.raises(ModelError) as caught:
        resolve(str(folder), "caption")
    assert "preprocessor_config.json" in str(caught.value)
    assert said in str(caught.value)


def test_a_folder_that_holds_both_serves_either_command(tmp_path: Path) -> None:
    folder = write_wd(write_blip(tmp_path / "both"))
    assert resolve(str(folder), "caption").backend == "blip"
    assert resolve(str(folder), "tag").backend == "onnx"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "a.PT"])
def test_pickled_weights_are_named_among_the_files(tmp_path: Path, name: str) -> None:
    folder = write_blip(tmp_path / "b")
    (folder / "model.safetensors").rename(folder / name)
    assert name in resolve(str(folder), "caption").files


def test_of_two_pickles_none_is_taken_for_the_weights(tmp_path: Path) -> None:
    folder = write_blip(tmp_path / "b")
    (folder / "model.safetensors").rename(folder / "a.pt")
    (folder / "optimizer.pt").write_bytes(b"")
    assert "model.safetensors" in resolve(str(folder), "caption").files


@pytest.mark.parametrize("config", [None, "{}", '{"model_type": "clip"}'])
def test_a_folder_of_something_else_says_what_a_model_has(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"model\.onnx and selected_tags\.csv"):
        resolve(str(tmp_path), "caption")


LACKING = {
    "no labels": ("model.onnx", r"has model\.onnx but no selected_tags\.csv"),
    "no labels for TensorFlow": ("saved_model.pb", r"has saved_model\.pb but no selected_tags\.csv"),
    "no graph": ("selected_tags.csv", r"has selected_tags\.csv but neither model\.onnx nor saved_model\.pb"),
}


@pytest.mark.parametrize(("there", "said"), LACKING.values(), ids=LACKING)
def test_a_folder_with_half_a_tagger_says_what_it_lacks(tmp_path: Path, there: str, said: str) -> None:
    (tmp_path / there).write_bytes(b"x")
    with pytest.raises(ModelError, match=said):
        resolve(str(tmp_path), "tag")


def test_a_repository_of_the_registry_keeps_its_description() -> None:
    known = resolve("wd-swinv2-tagger-v3", "tag")
    assert resolve("smilingwolf/wd-swinv2-tagger-v3", "tag") == known
    other = resolve("SmilingWolf/wd-swinv2-tagger-v3@v1.0", "tag")
    assert other.source.revision == "v1.0"
    assert (other.name, other.image, other.threshold) == (known.name, known.image, known.threshold)


@pytest.mark.parametrize(("task", "backend"), [("tag", "onnx"), ("caption", "blip")])
def test_any_other_repository_is_taken_for_the_family_of_the_task(task: Task, backend: str) -> None:
    spec = resolve("some-one/a.model@refs/pr/3", task)
    assert (spec.name, spec.source.repo, spec.source.revision) == ("some-one/a.model", "some-one/a.model", "refs/pr/3")
    assert (spec.task, spec.backend) == (task, backend)
    assert resolve("a/b", task).source.revision == "main"


@pytest.mark.parametrize("model", ["blip-large", "Salesforce/blip-image-captioning-large"])
def test_a_model_of_the_other_task_is_refused_with_the_right_ones(model: str) -> None:
    with pytest.raises(UsageError, match=r"is a captioner, but `sdprep tag` needs a tagger\n.*wd-swinv2-tagger-v3"):
        resolve(model, "tag")


def test_an_unknown_name_brings_close_ones_and_the_four_ways() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("wd-swinv2-v3", "tag")
    first, second = str(caught.value).split("\n")
    assert "wd-swinv2-tagger-v3" in first
    assert all(way in second for way in ("a name", ".toml", "folder", "owner/name"))


@pytest.mark.parametrize("model", ["demo", "demo-tagg", "demotag", "nothing-like-it", "fake-tag", ""])
@pytest.mark.parametrize(("task", "other"), [("tag", "blip"), ("caption", "wd-")])
def test_an_unknown_name_never_suggests_a_toy_or_a_model_of_the_other_task(model: str, task: Task, other: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(model, task)
    advice = str(caught.value).replace(f"'{model}'", "")
    assert RECOMMENDED[task] in advice or "Did you mean" in advice
    assert not any(word in advice for word in ("demo", "fake", other))


def test_a_part_of_a_name_brings_the_names_that_have_it() -> None:
    with pytest.raises(UsageError, match=r"Did you mean wd-convnext-tagger-v3 or wd-v1-4-convnext"):
        resolve("convnext-tagger", "tag")


def test_a_model_of_the_other_task_is_refused_without_advising_a_toy() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("wd-vit-tagger-v3", "caption")
    assert "demo" not in str(caught.value)


def test_the_recommended_models_exist_and_are_of_their_task() -> None:
    found = {task: resolve(name, task).task for task, name in RECOMMENDED.items()}
    assert found == {"caption": "caption", "tag": "tag"}


@pytest.mark.parametrize("model", ["/no/such/folder", "./a/b", "a/../b", "a/b@../../c", "", "C:\\models\\x"])
def test_what_is_neither_is_a_usage_error(model: str) -> None:
    with pytest.raises(UsageError):
        resolve(model, "tag")


def test_the_registry_loads_neither_numpy_nor_a_framework() -> None:
    heavy = ("numpy", "torch", "transformers", "onnxruntime", "tensorflow", "huggingface_hub", "PIL")
    modules = "sdprep.models.registry.registry, sdprep.models.files.hub"
    code = f"import sys, {modules}; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_about_models_lists_them_as_they_are() -> None:
    rows = {
        row[0]: row
        for row in re.findall(r"^\| `([\w.-]+)`[^|]*\| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]*)\|", PAGE, re.M)
    }
    assert sorted(rows) == names()
    for name, task, licence, repo, threshold in rows.values():
        spec = resolve(name, task)
        assert licence == (spec.licence or "see card")
        assert repo == (spec.source.repo or "in the package")
        explicit = spec.threshold or ""
        wanted = (
            ", ".join(f"{word} {value}" for word, value in explicit.items()) if isinstance(explicit, dict) else explicit
        )
        assert threshold.strip() == str(wanted)


def test_the_example_on_the_page_about_models_works(tmp_path: Path) -> None:
    (tmp_path / "my-tagger.toml").write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    assert resolve(str(tmp_path / "my-tagger.toml"), "tag").name == "my-tagger"


def test_a_description_survives_a_round_trip() -> None:
    for path in OURS:
        assert msgspec.json.decode(msgspec.json.encode(load(path)), type=ModelSpec) == load(path)


def test_kohyas_name_of_a_subfolder_finds_the_model_that_lies_there() -> None:
    assert resolve("cella110n/cl_tagger/cl_tagger_1_02", "tag").name == "cl_tagger"
