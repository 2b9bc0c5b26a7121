"""A chat model captions a folder: tags in the prompt, and the same captions however the work is divided."""

import shutil
from functools import partial

import pytest

from sdprep.demo import IMAGES
from sdprep.errors import MissingExtra
from sdprep.models import backends
from sdprep.tasks.history import undo
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
    done = run_cli("caption", drawn, "--model", "demo-chat", "--prompt-preset", "tags", "--device", "cpu")
    assert (done.returncode, done.stdout) == (0, "")
    assert "5 written" in done.stderr
    assert texts(drawn, ".caption")["kuro.caption"] == (
        b"a boy with short black hair and red eyes wearing glasses on a grey background\n"
    )


@pytest.mark.parametrize("search", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_captions_are_the_same_in_any_batch_and_by_any_number_of_workers(drawn, search):
    one, four, process = copies(drawn, "one", "four", "process")
    chat(one, batch_size=1, **search)
    chat(four, batch_size=4, **search)
    chat(process, batch_size=2, workers=2, **search)
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
    assert counts(chat(drawn, prompt="{preset:tags}")) == {"written": len(CHOSEN)}
    written = texts(drawn, ".caption")
    undo(drawn)
    assert texts(drawn, ".caption") == {}
    hide_models(monkeypatch)
    assert counts(chat(drawn, prompt="{preset:tags}")) == {"written": len(CHOSEN)}
    assert texts(drawn, ".caption") == written


def test_without_the_extra_nothing_is_written_and_its_command_is_named(drawn, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "transformers" else object())
    with pytest.raises(MissingExtra, match=r"\[vlm\]"):
        chat(drawn)
    assert texts(drawn, ".caption") == {}
