"""A run that cannot start leaves nothing behind."""

import pytest

from sdprep.config import RunOptions, TagSettings
from sdprep.errors import SdprepError
from sdprep.tasks.tag import tag

MODEL = TagSettings(model="wd-vit-tagger-v3", run=RunOptions(refresh=True))


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_model_that_cannot_be_downloaded_leaves_no_catalog(album, no_hub):
    before = sorted(album.rglob("*"))
    with pytest.raises(SdprepError):
        tag(album, MODEL)
    assert sorted(album.rglob("*")) == before


def test_a_failed_start_leaves_an_older_catalog_where_it_is(album, no_hub):
    tag(album, TagSettings(model="demo-tag"))
    before = sorted((album / ".sdprep").iterdir())
    with pytest.raises(SdprepError):
        tag(album, MODEL)
    assert sorted((album / ".sdprep").iterdir()) == before


def test_the_catalog_of_a_run_that_fails_after_it_has_begun_stays(album, monkeypatch):
    def fail(*_):
        raise SdprepError("no more")

    monkeypatch.setattr("sdprep.tasks.annotation.run.NonfiniteCheck.check", fail)
    with pytest.raises(SdprepError, match="no more"):
        tag(album, TagSettings(model="demo-tag"))
    assert (album / ".sdprep" / "catalog.sqlite").exists()
