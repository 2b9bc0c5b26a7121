"""A run that fails before it has done anything leaves no folder of its own; one that has stored something keeps it."""

import pytest

from sdprep.errors import HubError, ModelError, SdprepError, WorkerError
from tests.stories.telling import CATALOG, SIDECARS, tag, texts


@pytest.fixture
def web_page(tmp_path):
    """A folder whose graph is a saved web page."""
    folder = tmp_path / "web-page"
    folder.mkdir()
    (folder / "model.onnx").write_text("<html>")
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n1,a,0,1\n")
    return str(folder)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_model_that_cannot_be_loaded_leaves_no_folder(album, web_page, workers):
    before = sorted(path.name for path in album.iterdir())
    with pytest.raises(ModelError, match="is a web page"):
        tag(album, model=web_page, workers=workers)
    assert sorted(path.name for path in album.iterdir()) == before


def test_a_model_that_cannot_be_downloaded_leaves_no_folder(album, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError):
        tag(album, model="wd-vit-tagger-v3")
    assert not (album / ".sdprep").exists()


def test_a_worker_that_cannot_start_leaves_no_folder(album, monkeypatch):
    def refuse(*_):
        raise WorkerError("no")

    monkeypatch.setattr("sdprep.tasks.annotation.run.open_engine", refuse)
    with pytest.raises(WorkerError):
        tag(album)
    assert not (album / ".sdprep").exists()


def test_an_output_folder_that_was_made_for_nothing_is_removed(album, tmp_path, web_page):
    with pytest.raises(ModelError):
        tag(album, model=web_page, output_dir=tmp_path / "out" / "deep")
    assert not (tmp_path / "out").exists()


def test_a_catalog_of_an_earlier_run_stays(tagged, web_page):
    for name in SIDECARS:
        (tagged / name).unlink()
    with pytest.raises(ModelError):
        tag(tagged, model=web_page)
    assert (tagged / CATALOG).exists()
    tag(tagged)
    assert len(texts(tagged)) == len(SIDECARS)


def test_files_of_others_in_the_folder_stay(album, web_page):
    (album / ".sdprep").mkdir()
    (album / ".sdprep" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError):
        tag(album, model=web_page)
    assert (album / ".sdprep" / "notes.txt").read_text() == "mine"


def test_a_run_that_fails_after_it_has_stored_results_keeps_them(album, monkeypatch):
    monkeypatch.setattr("sdprep.tasks.annotation.run.NonfiniteCheck.check", lambda *_: _fail())
    with pytest.raises(SdprepError):
        tag(album)
    assert (album / CATALOG).exists()


def _fail():
    raise ModelError("the model is at fault")
