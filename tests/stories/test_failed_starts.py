"""A run that cannot start leaves nothing behind."""

import pytest

from sdprep.config import TagSettings
from sdprep.errors import SdprepError
from sdprep.tasks.tag import tag

MODEL = TagSettings(model="wd-vit-tagger-v3")


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_model_that_cannot_be_had_leaves_no_catalog(album, no_hub):
    before = sorted(album.rglob("*"))
    with pytest.raises(SdprepError):
        tag(album, MODEL)
    assert sorted(album.rglob("*")) == before


def test_a_failed_start_leaves_an_older_catalog_as_it_was(album, no_hub):
    tag(album, TagSettings(model="demo-tag"))
    before = {
        path: path.read_bytes() for path in sorted(album.rglob("*")) if path.is_file() and ".sdprep" in path.parts
    }
    with pytest.raises(SdprepError):
        tag(album, MODEL)
    after = {path for path in album.rglob("*") if path.is_file() and ".sdprep" in path.parts}
    assert after == set(before)


def test_the_catalog_of_a_run_that_fails_after_it_has_begun_stays(album, monkeypatch):
    def fail(*_, **__):
        raise SdprepError("no more")

    monkeypatch.setattr("sdprep.tasks.tag.ScoreReader.finish", fail)
    with pytest.raises(SdprepError, match="no more"):
        tag(album, TagSettings(model="demo-tag"))
    assert (album / ".sdprep" / "catalog.sqlite").exists()
