"""Descriptions of models, settings and the lock with any content at all: understood, or refused by an error of ours."""

import contextlib
import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.cli.settings_files import read_config
from sdprep.errors import ModelError, UsageError
from sdprep.models.files import lockfile
from sdprep.models.parse import read_json
from sdprep.models.registry.registry import load, local_folder
from tests.test_paths import LEAVING

PLAIN = {
    "name": "toy",
    "task": "tag",
    "backend": "onnx",
    "files": ["model.onnx", "selected_tags.csv"],
    "source": {"path": "weights"},
    "image": {"fit": "pad"},
    "labels": {"file": "selected_tags.csv", "categories": {"general": 0}},
}
WORDS = st.sampled_from(["tag", "caption", "onnx", "blip", "model.onnx", "../x", "~nobody/x", "a\0b", "nan", "kohya"])
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = [*PLAIN, "threshold", "output", "answers", "savedmodel", "megabytes", "precision"]
INNER = {
    "source": ["path", "repo", "revision", "bundled"],
    "image": ["fit", "size", "mean", "std", "recipe", "pad_color"],
}
INNER["labels"] = ["file", "categories", "within", "thresholds"]


def as_toml(table):
    """A table as TOML, tables in it in one line."""
    return "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in table.items()).encode()


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf").replace("\x7f", "\\u007f")


@st.composite
def descriptions(draw):
    """A good description in which some fields are anything."""
    made = json.loads(json.dumps(PLAIN))
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        if field in INNER and draw(st.booleans()) and isinstance(made[field], dict):
            made[field][draw(st.sampled_from(INNER[field]))] = draw(VALUES)
        else:
            made[field] = draw(VALUES)
    return as_toml(made)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"server": {"url": "ftp://a", "model": "m"}}, r"server\.url: 'ftp://a' is not the address of a server"),
        (
            {"server": {"url": "http://a", "model": "m", "extra": {"stream": True}}},
            r"server\.extra: stream cannot be set",
        ),
        ({"server": {"url": [], "model": "m"}}, r"server\.url is empty"),
        ({"server": {"url": ["http://a", "ftp://a"], "model": "m"}}, r"server\.url: 'ftp://a' is not the address"),
        ({"server": {"url": "http://a", "model": "m", "schema": {"type": "array"}}}, r'needs type = "object"'),
        (
            {"server": {"url": "http://a", "model": "m", "schema": {"type": "object", "required": "tags"}}},
            "required must be a list",
        ),
        ({"generate": {"top_k": 3}}, r"generate\.top_k does not belong to the API"),
        ({"image": {"fit": "pad", "size": 64}}, r'needs fit = "inside"'),
        ({"files": ["model.onnx"]}, "has neither files nor"),
        ({"server": {"url": "http://a", "model": "m", "api_key": "sk-1"}}, r"server.*unknown field .api_key"),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused(tmp_path, part, said):
    plain = {"name": "s", "task": "caption", "backend": "server", "image": {"fit": "inside", "size": 64}}
    made = {**plain, "server": {"url": "http://127.0.0.1", "model": "m"}, **part}
    (tmp_path / "toy.toml").write_bytes(as_toml(made))
    with pytest.raises(ModelError, match=said):
        load(tmp_path / "toy.toml")


@given(data=st.one_of(st.binary(max_size=60), descriptions()))
def test_any_description_is_understood_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "toy.toml"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        spec = load(path)
        assert spec.files
        assert local_folder(spec.source) is not None or spec.source.repo


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize("field", ["files", "savedmodel"])
def test_a_file_that_may_leave_the_folder_of_the_model_is_refused(tmp_path, field, name):
    made = {**PLAIN, field: [*PLAIN["files"], name]}
    (tmp_path / "toy.toml").write_bytes(as_toml(made))
    with pytest.raises(ModelError, match="files must name files inside the model's folder"):
        load(tmp_path / "toy.toml")


@pytest.mark.parametrize("name", ["..", "../../secret", "/etc", "demo-tag/../x"])
def test_a_bundled_model_is_one_of_the_package(tmp_path, name):
    (tmp_path / "toy.toml").write_bytes(as_toml({**PLAIN, "source": {"bundled": name}}))
    with pytest.raises(ModelError, match=r"source\.bundled must be the name of a model in the package"):
        load(tmp_path / "toy.toml")


@pytest.mark.parametrize("path", ["", "a\0b", "//host/share", "\\\\host\\share"])
def test_a_folder_on_no_disk_of_this_machine_is_refused(tmp_path, path):
    (tmp_path / "toy.toml").write_bytes(as_toml({**PLAIN, "source": {"path": path}}))
    with pytest.raises(ModelError, match=r"source\.path must be a folder of this machine"):
        load(tmp_path / "toy.toml")


@given(data=st.one_of(st.binary(max_size=60), VALUES.map(msgspec.json.encode)))
def test_any_lock_is_understood_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "models.lock.json"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(ModelError):
        patch.setattr(lockfile, "lock_path", lambda: path)
        assert lockfile.read_lock().files("a/b", "c") is not None


@pytest.mark.parametrize("kind", ["lock", "json", "toml", "settings"])
def test_a_file_that_is_nested_too_deep_is_refused(tmp_path, monkeypatch, kind):
    path = tmp_path / "deep"
    path.write_text('{"repos":' * 50_000 if kind in ("lock", "json") else "a = " + "[" * 50_000)
    monkeypatch.setattr(lockfile, "lock_path", lambda: path)
    read = {"lock": lockfile.read_lock, "json": lambda: read_json(path, dict), "toml": lambda: load(path)}
    read["settings"] = lambda: read_config(path)
    with pytest.raises((ModelError, UsageError), match=r"deep|recursion"):
        read[kind]()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"size = {'1' * 5000}", "4300 digits"),
        (f"{'a.' * 1000}b = 1", "a line has more than 500 dots"),
        (f"a = 1 # {'x' * 65_536}", "larger than 65,536 bytes"),
    ],
    ids=["digits", "dots", "size"],
)
def test_a_description_that_would_take_long_to_read_is_refused(tmp_path, text, said):
    (tmp_path / "toy.toml").write_text(text)
    with pytest.raises(ModelError, match=rf"toy\.toml: .*{said}"):
        load(tmp_path / "toy.toml")


def test_a_description_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "toy.toml")
    with pytest.raises(ModelError, match=r"toy\.toml: it is not a regular file"):
        load(tmp_path / "toy.toml")


@given(data=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: as_toml({"tag": value}))))
def test_any_settings_file_is_tables_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "sdprep.toml"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        assert all(isinstance(table, dict) for table in read_config(path).values())
