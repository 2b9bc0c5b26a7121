"""Which framework runs a tagger."""

import importlib.util

import msgspec
import pytest

from sdprep.errors import ModelError, UsageError
from sdprep.installation import installed_version
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ImageSpec
from sdprep.models.registry.registry import resolve, with_preprocess

DEMO = resolve("demo-tag", "tag")


@pytest.fixture
def installed(monkeypatch):
    """Let it look as if only these packages were installed."""

    def choose(*names):
        found = importlib.util.find_spec("sdprep")
        monkeypatch.setattr("sdprep.models.backends.find_spec", lambda name: found if name in names else None)

    return choose


def test_the_onnx_file_runs_where_both_frameworks_are_installed(installed):
    installed("onnxruntime", "tensorflow")
    assert with_backend(DEMO, "auto") == DEMO


def test_the_saved_model_runs_where_tensorflow_alone_is_installed(installed):
    installed("tensorflow")
    assert with_backend(DEMO, "auto").backend == "tensorflow"


def test_the_onnx_file_is_asked_for_where_nothing_is_installed(installed):
    installed()
    assert with_backend(DEMO, "auto").backend == "onnx"


def test_tensorflow_needs_the_saved_model_and_the_labels():
    assert with_backend(DEMO, "tensorflow").files == (*DEMO.savedmodel, "selected_tags.csv")


def test_a_model_without_a_saved_model_cannot_run_in_tensorflow():
    with pytest.raises(UsageError, match="wd-swinv2-tagger-v3 has no SavedModel"):
        with_backend(resolve("wd-swinv2-tagger-v3", "tag"), "tensorflow")


def test_a_folder_with_a_saved_model_alone_is_a_tagger_for_tensorflow(tmp_path):
    for name in ("saved_model.pb", "selected_tags.csv", "variables/variables.index"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    spec = resolve(str(tmp_path), "tag")
    assert (spec.backend, spec.files) == (
        "tensorflow",
        ("saved_model.pb", "variables/variables.index", "selected_tags.csv"),
    )


def test_a_folder_with_both_graphs_can_run_in_either(tmp_path):
    for name in ("saved_model.pb", "selected_tags.csv", "model.onnx"):
        (tmp_path / name).touch()
    spec = resolve(str(tmp_path), "tag")
    assert (spec.backend, spec.savedmodel) == ("onnx", ("saved_model.pb",))


def test_images_are_prepared_as_the_model_says_unless_something_else_is_wanted():
    assert with_preprocess(DEMO, None) == DEMO
    assert with_preprocess(DEMO, "kohya").image.preprocess == "kohya"
    assert with_preprocess(with_preprocess(DEMO, "kohya"), "sdprep") == DEMO


def test_another_preparation_makes_another_result():
    assert with_preprocess(DEMO, "kohya").result_key() != DEMO.result_key()


@pytest.mark.parametrize(
    "image", [ImageSpec(fit="squash"), ImageSpec(fit="pad", pad_color=(0, 0, 0))], ids=["squash", "black"]
)
def test_images_for_a_model_that_kohyas_tagger_could_not_feed_are_not_prepared_as_it_does(image):
    spec = msgspec.structs.replace(DEMO, image=image)
    with pytest.raises(UsageError, match=r"demo-tag: .* white square.*; leave out --preprocess kohya"):
        with_preprocess(spec, "kohya")


def test_an_unknown_preparation_is_refused():
    with pytest.raises(UsageError, match="'kohja'"):
        with_preprocess(DEMO, "kohja")


@pytest.fixture
def old_package(tmp_path, monkeypatch):
    """Lets a package be installed in an older version than it is."""

    def install(name, version):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)
        installed_version.cache_clear()

    yield install
    installed_version.cache_clear()


@pytest.mark.parametrize(
    ("model", "task", "package", "version"),
    [
        ("demo-caption", "caption", "transformers", "4.44.2"),
        ("demo-caption", "caption", "torch", "2.4.0"),
        ("demo-tag", "tag", "onnxruntime", "1.16.3"),
    ],
)
def test_a_framework_that_is_too_old_is_named_before_it_is_imported(
    model, task, package, version, old_package, plain_pip
):
    old_package(package, version)
    with pytest.raises(ModelError, match=f"^{package} {version} is too old: .* needs {package}>=") as caught:
        check_installed(resolve(model, task))
    assert "python -m pip install" in str(caught.value).split("\n")[1]


def test_a_framework_that_a_trainer_pins_is_left_alone(old_package, plain_pip, monkeypatch):
    old_package("transformers", "4.44.2")
    old_package("diffusers", "0.30.0")
    monkeypatch.setattr("sdprep.installation.TRAINERS", ("diffusers",))
    with pytest.raises(ModelError, match=r"give sdprep an environment of its own.*python -m venv") as caught:
        check_installed(resolve("demo-caption", "caption"))
    assert 'install "transformers' not in str(caught.value)


def test_frameworks_that_are_new_enough_pass():
    for model, task in (("demo-caption", "caption"), ("demo-tag", "tag")):
        check_installed(resolve(model, task))
