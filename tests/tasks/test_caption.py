"""Control over captions: how many, which, between what, and what a person is told of them."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sdprep.catalog.results import decode_caption, encode_caption
from sdprep.config import CaptionSettings, RunOptions
from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.models.captioners.blip import captioner as blip
from sdprep.report import RunReport
from sdprep.rules.captions import CaptionRules
from sdprep.tasks.caption import CaptionReader, caption
from sdprep.tasks.settings import stating
from sdprep.types import Caption, ImageWarning


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("aka.jpg", "kuro.png"):
        shutil.copy(IMAGES / name, tmp_path)
    return tmp_path


def run(folder: Path, **settings: Any) -> RunReport:
    """A run with the demo captioner, greedy unless said otherwise, for which only these settings are stated."""
    explicit = frozenset(settings)
    rules = {name: settings.pop(name) for name in list(settings) if name in CaptionRules.__dataclass_fields__}
    work = RunOptions(workers=0)
    values = {"model": "demo-caption", "num_beams": 1, "rules": CaptionRules(**rules), "run": work, **settings}
    made = CaptionSettings(**values)
    return caption(folder, made, layers=replace(stating(made, explicit), remembered=False))


def text(folder: Path, **settings: Any) -> str:
    run(folder, **settings)
    return (folder / "aka.caption").read_text(encoding="utf-8").rstrip("\n")


def lines(folder: Path, **settings: Any) -> list[str]:
    return text(folder, **settings).split("\n")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads a captioner from now on fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a captioner was loaded")

    monkeypatch.setattr("sdprep.tasks.annotation.run.open_engine", refuse)


# Several captions


def test_several_beams_are_several_lines_of_which_the_first_is_the_best(folder: Path) -> None:
    found = lines(folder, captions=3, num_beams=3)
    assert (len(set(found)), found[0]) == (3, text(folder, captions=1, num_beams=3))


def test_several_samples_are_several_lines(folder: Path) -> None:
    assert len(set(lines(folder, captions=3, sample=True, top_p=1.0, prompt="", repetition_penalty=0.3))) > 1


def test_an_image_is_encoded_once_for_all_its_captions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = blip.BlipNetwork.prefill
    monkeypatch.setattr(
        blip.BlipNetwork, "prefill", lambda self, pixels, prompt: seen.append(len(pixels)) or real(self, pixels, prompt)
    )
    run(folder, captions=3, sample=True)
    compared = 1
    assert sum(seen) == 2 + compared


def test_of_several_captions_the_likeliest_is_written(folder: Path) -> None:
    best = text(folder, best_of=4, sample=True, top_p=1.0, repetition_penalty=0.3)
    with closing(sqlite3.connect(folder / ".sdprep" / "catalog.sqlite")) as catalog:
        stored = [json.loads(data) for (data,) in catalog.execute("SELECT data FROM results")]
    groups = [[one, *one["others"]] for one in stored]
    mine = next(group for group in groups if best in [each["text"] for each in group])
    assert (len(mine), best) == (4, max(mine, key=lambda each: each["score"])["text"])


@pytest.mark.parametrize("settings", [{"captions": 4}, {"best_of": 4}])
def test_beams_cannot_give_more_captions_than_there_are(folder: Path, settings: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="3 beams cannot give 4 captions; use --num-beams 4 or --sample"):
        run(folder, num_beams=3, **settings)


def test_more_captions_than_are_made_are_refused() -> None:
    with pytest.raises(UsageError, match="3 captions cannot be the best of 2; use --best-of 3 or more"):
        CaptionSettings(sample=True, best_of=2, rules=CaptionRules(captions=3))


# Text around captions, for which no model is needed


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"prefix": "sks,"}, "sks, {}"),
        ({"suffix": ", drawn"}, "{}, drawn"),
        ({"drop_words": ("girl", "hair")}, None),
    ],
)
def test_text_rules_shape_what_is_stored_without_the_model(
    folder: Path, settings: dict[str, Any], expected: str | None, request: pytest.FixtureRequest
) -> None:
    plain = text(folder)
    request.getfixturevalue("no_model")
    changed = text(folder, **settings)
    wanted = expected.format(plain) if expected else plain.replace("girl ", "").replace("hair ", "")
    assert changed == wanted != plain


def test_fewer_lines_of_the_best_need_no_model(folder: Path, request: pytest.FixtureRequest) -> None:
    both = lines(folder, best_of=3, num_beams=3, captions=2)
    request.getfixturevalue("no_model")
    assert lines(folder, best_of=3, num_beams=3, captions=1) == both[:1]


# What the model may say


def test_a_bad_word_is_not_used(folder: Path) -> None:
    assert ("girl" in text(folder), "girl" in text(folder, bad_words=("girl",))) == (True, False)


def test_a_bad_word_that_the_model_does_not_know_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="--bad-words 猫: the model does not know this word"):
        run(folder, bad_words=("猫",))


def test_a_mark_of_the_model_is_no_bad_word(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--bad-words \[SEP\]: this is a special token of the model, not a word"):
        run(folder, bad_words=("[SEP]",))


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"sample": True, "top_k": 1, "repetition_penalty": 0.3},
        {"sample": True, "top_p": 1e-6, "repetition_penalty": 0.3},
        {"count_prompt": True, "max_length": 8},
        {"preprocess": "kohya", "prompt": ""},
    ],
    ids=["repetition penalty", "n-grams", "top-k", "top-p", "count prompt", "preprocess"],
)
def test_a_setting_of_the_search_is_obeyed(folder: Path, settings: dict[str, Any]) -> None:
    last = list(settings)[0 if "sample" not in settings else 1]
    without = {name: value for name, value in settings.items() if name != last}
    shutil.copy(IMAGES / "pink-hair-sticker.png", folder)
    run(folder, **without)
    before = {path.name: path.read_text() for path in folder.glob("*.caption")}
    run(folder, **settings)
    assert {path.name: path.read_text() for path in folder.glob("*.caption")} != before


def test_lengths_can_count_the_prompt(folder: Path) -> None:
    assert text(folder, count_prompt=True, max_length=10) == text(folder, max_length=6, min_length=1)


@pytest.mark.parametrize("variable", ["{tags}", "{trigger|}"])
def test_a_variable_in_the_prompt_of_a_model_that_takes_none_is_refused(
    folder: Path, no_model: None, variable: str
) -> None:
    with pytest.raises(UsageError, match=f"the prompt has {re.escape(variable)}, but demo-caption takes no variables"):
        run(folder, prompt=f"a picture of {variable} and {{more}}")
    assert not list(folder.glob("*.caption"))


def test_a_length_that_the_prompt_alone_takes_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="--max-length 4: the prompt alone has 4 tokens"):
        run(folder, count_prompt=True, max_length=4, min_length=1)


# What a person is told


def test_a_caption_that_was_cut_is_named(folder: Path) -> None:
    report = run(folder, max_length=5)
    assert sorted(report.flagged, key=lambda flag: flag["path"]) == [
        {"path": name, "code": "cut", "message": "cut at the maximum number of tokens"}
        for name in ("aka.jpg", "kuro.png")
    ]


def test_a_caption_that_found_its_end_is_not_named(folder: Path) -> None:
    assert run(folder).flagged == []


def stored(*captions: tuple[str, str, float]) -> bytes:
    """A result as the catalog holds it: text, finish reason and score of each caption."""
    first, *others = (Caption(text, 5, reason, score) for text, reason, score in captions)
    return encode_caption(replace(first, others=tuple(others)))


WHOLE, CUT, LOOP = ("a girl", "stop", -2.0), ("a girl and", "length", -1.0), ("hat hat hat", "stop", -3.0)


@pytest.mark.parametrize(
    ("captions", "settings", "warning"),
    [
        ([WHOLE, CUT], {}, None),
        ([WHOLE, CUT], {"best_of": 2}, ImageWarning.CUT),
        ([WHOLE, CUT], {"captions": 2}, ImageWarning.CUT),
        ([CUT, ("a boy", "stop", -0.5)], {"best_of": 2}, None),
        ([WHOLE, LOOP], {"best_of": 2}, None),
        ([WHOLE, LOOP], {"captions": 2}, ImageWarning.REPETITIVE),
        ([CUT, LOOP], {"captions": 2}, ImageWarning.REPETITIVE),
        ([WHOLE, WHOLE, CUT], {"captions": 2}, ImageWarning.CUT),
        ([LOOP, WHOLE], {"drop_words": ("hat",)}, None),
        ([("", "stop", -1.0)], {}, ImageWarning.BLANK),
        ([(" . [SEP]", "stop", -1.0)], {"prefix": "mychar,"}, ImageWarning.BLANK),
        ([WHOLE], {"drop_words": ("a", "girl")}, ImageWarning.BLANK),
    ],
)
def test_a_warning_is_about_the_captions_that_are_written(
    captions: list[Any], settings: dict[str, Any], warning: ImageWarning | None
) -> None:
    best_of, rules = settings.pop("best_of", None), CaptionRules(**settings)
    assert CaptionReader(rules, best_of).warning(stored(*captions)) is warning


LOOPING = {"repetition_penalty": 0.2, "min_length": 30, "max_length": 40}


def test_a_caption_that_repeats_itself_is_named(folder: Path) -> None:
    assert "repetitive" in {flag["code"] for flag in run(folder, decode_again=False, **LOOPING).flagged}


def test_a_blank_caption_is_flagged_in_the_report(folder: Path) -> None:
    flagged = run(folder, drop_words=tuple(set(text(folder).split()))).flagged
    assert [flag["message"] for flag in flagged if flag["path"] == "aka.jpg"] == ["blank caption: no words in it"]


# The demo captioner says one thing again and again of the first image, and ends well when it may not.
LOST = {"repetition_penalty": 0.3, "max_length": 40}


def words_in_pairs(text: str) -> list[tuple[str, str]]:
    return list(pairwise(text.split()))


def test_a_caption_that_repeats_itself_gets_a_second_try_without_any_two_words_twice(folder: Path) -> None:
    first = text(folder, decode_again=False, **LOST)
    second = text(folder, decode_again=True, **LOST)
    again = [len(pairs) - len(set(pairs)) for pairs in map(words_in_pairs, (first, second))]
    assert (again[0] > 0, again[1]) == (True, 0)


def test_a_caption_from_a_second_try_is_stored_as_such(folder: Path) -> None:
    second = text(folder, **LOST)
    with closing(sqlite3.connect(folder / ".sdprep" / "catalog.sqlite")) as catalog:
        stored = [decode_caption(data) for (data,) in catalog.execute("SELECT data FROM results")]
    assert second in [each.text for each in stored if each.again]


def test_whoever_bounds_repetition_gets_no_second_try(folder: Path) -> None:
    assert text(folder, no_repeat_ngram_size=9, **LOST) == text(
        folder, decode_again=False, no_repeat_ngram_size=9, **LOST
    )
