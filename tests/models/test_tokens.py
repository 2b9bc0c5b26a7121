"""Counting tokens: exactly with a tokenizer of CLIP's kind, and by an estimate that says so without one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from sdprep.errors import ModelError
from sdprep.models import tokens
from sdprep.models.base import Source
from sdprep.models.files.hub import ensure_downloaded
from sdprep.models.files.lockfile import lock_path
from sdprep.models.tokens import CLIP_TOKENIZER, TokenCounter, estimate_word, load_counter, read_counter
from sdprep.report import NullListener
from sdprep.tasks import models as api
from tests.models.fake_hub import COMMITS, REPO, FakeHub, at_home, check_active

CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
SOME_TEXT = st.text(alphabet=st.sampled_from("abcAB19,.'_s é日😀\n\t\x1c"), max_size=40)


def a_tokenizer() -> Tokenizer:
    """CLIP's own pipeline with a vocabulary of bytes and three merges, so that ab and abc are one token each."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c</w>"), ("a", "b</w>")]
    words = [*alphabet, *(f"{each}</w>" for each in alphabet), *map("".join, merges), "<|endoftext|>"]
    tokenizer = Tokenizer(
        models.BPE({word: place for place, word in enumerate(words)}, merges, end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(CLIP_PIECES), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.enable_truncation(4)
    return tokenizer


TOKENIZER = a_tokenizer()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that has the tiny tokenizer at the place of CLIP's."""
    with check_active(monkeypatch) as fake:
        fake.files[COMMITS[0]] = {"tokenizer.json": TOKENIZER.to_str().encode()}
        spec = msgspec.structs.replace(CLIP_TOKENIZER, source=Source(repo=REPO, revision=COMMITS[0]))
        monkeypatch.setattr(tokens, "CLIP_TOKENIZER", spec)
        monkeypatch.setattr(api, "CLIP_TOKENIZER", spec)
        yield fake


@pytest.fixture
def counter(tmp_path: Path) -> TokenCounter:
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    return read_counter(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("ab", 1), ("abc", 1), ("AB Abc", 2), ("ab,abc", 3), ("12", 2), ("ab  ab\nab\tab", 4), ("cab's", 4)],
)
def test_a_text_has_as_many_tokens_as_its_tokenizer_makes(counter: TokenCounter, text: str, count: int) -> None:
    assert counter.count(text) == count


def test_a_text_beyond_the_window_of_the_encoder_is_counted_to_its_end(counter: TokenCounter) -> None:
    assert counter.count("ab " * 300) == 300


@given(text=SOME_TEXT)
def test_counting_word_by_word_is_counting_the_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.json"
    if not path.exists():
        TOKENIZER.save(str(path))
    whole = Tokenizer.from_file(str(path))
    whole.no_truncation()
    assert read_counter(path).count(text) == len(whole.encode(text, add_special_tokens=False))


def test_after_its_download_counts_are_exact(hub: FakeHub) -> None:
    assert load_counter().is_estimate
    done = api.download(["clip-tokenizer"])
    assert [each.model for each in done.models] == ["clip-tokenizer"]
    counter = load_counter()
    assert (counter.name, counter.is_estimate, counter.note) == ("clip", False, "")
    assert counter.count("abc, 12") == 4


def test_no_counter_asks_the_hub(hub: FakeHub) -> None:
    load_counter().count("abc")
    assert hub.requests == []


def test_an_estimate_says_so_and_how_to_count_exactly() -> None:
    counter = load_counter()
    assert (counter.name, counter.is_estimate) == ("estimate", True)
    assert counter.note == ("token counts are estimates; for exact ones: sdprep models download clip-tokenizer")


def test_an_estimate_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tokens, "find_spec", lambda name: None if name == "tokenizers" else importlib.util.find_spec(name)
    )
    assert "tokens]" in load_counter().note
    assert load_counter().note.endswith("&& sdprep models download clip-tokenizer")


def test_a_damaged_tokenizer_is_an_error_that_names_the_file_and_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", "utf-8")
    with pytest.raises(
        ModelError, match=r"tokenizer\.json is not a tokenizer .*\n.*sdprep models download clip-tokenizer"
    ):
        read_counter(path)


def test_a_lock_that_cannot_be_read_is_not_taken_for_a_missing_tokenizer() -> None:
    lock_path().parent.mkdir(parents=True)
    lock_path().write_text("no JSON", "utf-8")
    with pytest.raises(ModelError, match=r"models\.lock\.json"):
        load_counter()


def test_its_download_is_verified_under_its_name(hub: FakeHub) -> None:
    ensure_downloaded(tokens.CLIP_TOKENIZER, NullListener())
    assert api.verify().models(api.FileState.OK) == ("clip-tokenizer",)


# With CLIP's own vocabulary, `count` is what these texts have.
@pytest.mark.parametrize(
    ("text", "estimate", "count"),
    [
        ("a girl with long brown hair, standing", 9, 8),
        ("1girl, solo, long hair, >_<, twintails", 12, 13),
        ("it's 2024, isn't it?", 11, 11),
        ("長い髪", 6, 7),
        ("", 0, 0),
    ],
)
def test_an_estimate_is_near_the_count(text: str, estimate: int, count: int) -> None:
    assert sum(map(estimate_word, text.split(" "))) == estimate
    assert abs(estimate - count) <= 1


def test_an_estimate_splits_digits_and_runs_of_marks_as_clip_does() -> None:
    assert [estimate_word(word) for word in ("1234", "...", "don't", "a-b", "a_b")] == [4, 2, 2, 3, 3]
