"""A chat model captions a folder: tags in the prompt, and the same captions however the work is divided."""

import shutil
from functools import partial
from importlib.util import find_spec

import pytest

from sdprep.demo import IMAGES
from sdprep.errors import MissingExtra
from sdprep.models import backends
from sdprep.tasks.history.undo import undo
from tests.stories.telling import caption, counts, hide_models, run_cli, tag, texts

# Of several shapes, so that no two rows of a batch are alike.
CHOSEN = ("aka.jpg", "kuro.png", "two-girls.jpg", "tall-poster.jpg", "wide-banner.jpg")
chat = partial(caption, model="demo-chat", num_beams=None, device="cpu")
SAMPLED = {"sample": True, "temperature": 1.5, "seed": 7}


@pytest.fixture
def drawn(tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    for name in CHOSEN:
        shutil.copy(IMAGES / name, folder)
    return folder


def copies(folder, *names):
    return [shutil.copytree(folder, folder.with_name(name)) for name in names]


def test_the_program_captions_a_folder_with_a_chat_model_and_its_tags(drawn):
    tag(drawn)
    one, four = copies(drawn, "one", "four")
    done = run_cli("caption", drawn, "--model", "demo-chat", "--prompt-preset", "with-tags", "--device", "cpu")
    assert (done.returncode, done.stdout) == (0, "")
    assert "5 written" in done.stderr
    written = texts(drawn, ".caption")
    assert written["kuro.caption"] == (
        b"a boy with short black hair and red eyes wearing glasses on a grey background\n"
    )
    # Its worker wrote what this process does, in any batch.
    for folder, size in ((one, 1), (four, 4)):
        chat(folder, prompt="{preset:with-tags}", batch_size=size)
        assert texts(folder, ".caption") == written


def test_sampled_captions_are_the_same_in_any_batch_and_in_a_worker(drawn):
    one, four, process = copies(drawn, "one", "four", "process")
    chat(one, batch_size=1, **SAMPLED)
    chat(four, batch_size=4, **SAMPLED)
    chat(process, batch_size=2, workers=2, **SAMPLED)
    assert texts(one, ".caption") == texts(four, ".caption") == texts(process, ".caption")
    assert len(set(texts(one, ".caption").values())) == len(CHOSEN)


@pytest.mark.long
def test_two_devices_write_the_captions_of_one(drawn):
    one, two = copies(drawn, "one", "two")
    chat(one, workers=1)
    chat(two, workers=1, device="cpu,cpu")
    assert texts(one, ".caption") == texts(two, ".caption")


def test_a_caption_is_stored_and_undone_as_any_other(drawn, monkeypatch):
    tag(drawn)
    assert counts(chat(drawn, prompt="{preset:with-tags}")) == {"written": len(CHOSEN)}
    written = texts(drawn, ".caption")
    undo(drawn)
    assert texts(drawn, ".caption") == {}
    hide_models(monkeypatch)
    assert counts(chat(drawn, prompt="{preset:with-tags}")) == {"written": len(CHOSEN)}
    assert texts(drawn, ".caption") == written


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="sdprep[vlm-4bit] is not installed")
def test_captions_of_4_bit_weights_are_not_taken_for_those_of_whole_ones(drawn, monkeypatch):
    short = {"max_length": 3, "batch_size": 5}
    assert counts(chat(drawn, quantize="4bit", **short)) == {"written": len(CHOSEN)}
    small = texts(drawn, ".caption")
    undo(drawn)
    with monkeypatch.context() as nothing_runs:
        hide_models(nothing_runs)
        with pytest.raises(AssertionError, match="a model was loaded"):
            chat(drawn, quantize="none", **short)
        # The settings of the run, and its results, are those of the 4-bit weights.
        assert counts(chat(drawn, quantize="4bit", **short)) == {"written": len(CHOSEN)}
    assert texts(drawn, ".caption") == small


def test_a_model_without_4_bit_weights_says_so(drawn):
    done = run_cli("caption", drawn, "--model", "demo-caption", "--quantize", "4bit", "--dry-run")
    assert "--quantize has no effect with this model\n" in done.stderr


def test_without_the_extra_nothing_is_written_and_its_command_is_named(drawn, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "transformers" else object())
    with pytest.raises(MissingExtra, match=r"\[vlm\]"):
        chat(drawn)
    assert texts(drawn, ".caption") == {}
