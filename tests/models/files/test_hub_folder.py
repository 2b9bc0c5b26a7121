"""The files of a model in a folder."""

import sys

import msgspec
import pytest

from sdprep.errors import ModelError
from sdprep.models.base import Source
from sdprep.models.files.hub import files_of_folder
from tests.models.fake_hub import LABELS, MODEL, a_spec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def a_model(folder):
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(b"model")
    (folder / LABELS).write_bytes(b"labels")
    return folder


def spec_of(folder):
    return msgspec.structs.replace(a_spec(), source=Source(path=str(folder)))


def test_a_link_within_the_folder_is_followed(tmp_path):
    folder = a_model(tmp_path / "model")
    (folder / MODEL).rename(folder / "v1.onnx")
    (folder / MODEL).symlink_to("v1.onnx")
    assert files_of_folder(spec_of(folder)).folder == folder


@pytest.mark.parametrize("name", [MODEL, LABELS])
def test_a_link_that_leaves_the_folder_is_refused_and_named(tmp_path, name):
    folder = a_model(tmp_path / "model")
    (folder / name).rename(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=rf"{name} is a link that leaves .*model, which sdprep does not follow\nPut"):
        files_of_folder(spec_of(folder))


def test_a_folder_that_is_a_link_itself_is_fine(tmp_path):
    a_model(tmp_path / "model")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    assert files_of_folder(spec_of(tmp_path / "link")).folder == tmp_path / "link"


def test_a_snapshot_in_a_cache_of_the_hub_may_link_to_the_blobs_beside_it(tmp_path):
    folder = a_model(tmp_path / "models--a--b" / "snapshots" / ("1" * 40))
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (folder / MODEL).rename(tmp_path / "models--a--b" / "blobs" / "x")
    (folder / MODEL).symlink_to("../../blobs/x")
    assert files_of_folder(spec_of(folder)).folder == folder
    (tmp_path / "models--a--b" / "blobs" / "x").rename(tmp_path / "x")
    (folder / MODEL).unlink()
    (folder / MODEL).symlink_to("../../../x")
    with pytest.raises(ModelError, match="leaves"):
        files_of_folder(spec_of(folder))
