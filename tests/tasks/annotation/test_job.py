"""What the catalog holds to tell whether a text and a result are what the settings of today would give."""

import json
from pathlib import Path

import pytest

from sdprep.catalog.schema import dump
from sdprep.config import CaptionSettings, TagSettings
from sdprep.models.base import ModelFiles
from sdprep.models.registry.registry import resolve
from sdprep.report import NullListener
from sdprep.rules.captions import CaptionRules
from sdprep.rules.labels import TagRules
from sdprep.tasks.annotation.planner import Job
from sdprep.tasks.caption import Captioning
from sdprep.tasks.tag import Tagging

# As version 0.1 stored them in catalogs: with any other bytes, every result would be predicted again.
STORED = json.loads((Path(__file__).parents[2] / "golden" / "stored_keys.json").read_text("utf-8"))
FILES = ModelFiles(Path("models"), "commit", "5" * 64)
SETTINGS = {
    "tag": TagSettings(),
    "tag with other settings": TagSettings(
        preprocess="kohya",
        rules=TagRules(threshold="auto", category_threshold=(("general", 0.2),), tag_replacement=(("a", "b"),)),
    ),
    "caption": CaptionSettings(),
    "caption with other settings": CaptionSettings(
        sample=True,
        best_of=4,
        dtype="bfloat16",
        exact_decode=True,
        bad_words=("x",),
        rules=CaptionRules(2, "a", "b", ("c", "d")),
    ),
}


def job(settings: TagSettings | CaptionSettings) -> Job:
    if isinstance(settings, TagSettings):
        return Tagging(resolve(settings.model, "tag"), settings, frozenset(), NullListener()).make_job(FILES)
    return Captioning(resolve(settings.model, "caption"), settings, frozenset()).make_job(FILES)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_stored_keys_are_those_of_earlier_versions(name: str) -> None:
    made = job(SETTINGS[name])
    assert {"settings": dump(made.wish.settings), "result_key": dump(made.result_key)} == STORED[name]
