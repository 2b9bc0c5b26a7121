"""What a captioner is asked about each image, and captions whose prompt has changed since."""

import pytest

from sdprep.errors import UsageError
from sdprep.tasks.history.undo import undo
from tests.stories.telling import FAKE_CAPTION, caption, counts, hide_models, tag, texts

TAGS = "Tags: {tags}"


def ask(folder, prompt=TAGS, **more):
    """A run of the captioner that repeats its prompt."""
    return caption(folder, model=FAKE_CAPTION, num_beams=None, prompt=prompt, **more)


def asked(folder, extension=".caption"):
    """What the captioner was asked about each image."""
    return {name: text.decode().split(" ", 3)[3].rstrip("\n") for name, text in texts(folder, extension).items()}


@pytest.fixture
def pair(tmp_path, drawings):
    folder = tmp_path / "10_hana girl"
    folder.mkdir()
    for name, data in zip(("a.png", "b.png"), drawings, strict=False):
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def tagged(pair):
    (pair / "a.txt").write_text("1girl, red hair\n")
    (pair / "b.txt").write_text("1boy\n")
    return pair


@pytest.mark.parametrize("workers", [0, 1])
def test_the_tags_of_each_image_are_in_its_prompt(tagged, workers):
    ask(tagged, workers=workers)
    assert asked(tagged) == {"a.caption": "Tags: 1girl, red hair", "b.caption": "Tags: 1boy"}


def test_name_folder_and_trigger_are_in_the_prompt(pair):
    ask(pair, "{trigger}: {name} in {folder}", trigger="hana")
    assert asked(pair)["a.caption"] == "hana: a in 10_hana girl"


def test_the_caption_of_another_file_is_in_the_prompt(pair):
    (pair / "a.caption").write_text("a girl\n")
    ask(pair, "Longer: {caption|a picture}", caption_extension=".long")
    assert asked(pair, ".long") == {"a.long": "Longer: a girl", "b.long": "Longer: a picture"}


def test_a_prompt_with_the_text_that_the_run_writes_is_refused(pair):
    with pytest.raises(UsageError, match=r"--caption-extension \.long"):
        ask(pair, "Longer: {caption}")


def test_an_image_without_tags_is_named_with_what_helps(tagged):
    (tagged / "b.txt").unlink()
    with pytest.raises(
        UsageError, match=r"b\.png: the prompt asks for \{tags\}.*\n.*`sdprep tag` first; or write \{tags\|none\}"
    ):
        ask(tagged)
    ask(tagged, "Tags: {tags|none}")
    assert asked(tagged)["b.caption"] == "Tags: none"


def test_characters_and_other_tags_are_told_apart_by_the_labels_of_the_tagger(pair):
    tag(pair, ratings="first", threshold=0.02)
    ask(pair, "{characters|nobody} | {general} | {rating}")
    characters, general, rating = asked(pair)["a.caption"].split(" | ")
    written = texts(pair)["a.txt"].decode().rstrip("\n").split(", ")
    assert rating == written[0]
    assert {*(characters.split(", ") if characters != "nobody" else []), *general.split(", ")} == {*written[1:]}


def test_a_caption_whose_tags_have_changed_is_stale_and_says_so(tagged):
    ask(tagged)
    (tagged / "a.txt").write_text("1girl, blue hair\n")

    report = ask(tagged)

    assert (counts(report), report.stale) == ({"current": 2}, ["a.png"])
    assert asked(tagged)["a.caption"] == "Tags: 1girl, red hair"


def test_update_renews_a_stale_caption_and_no_other(tagged):
    ask(tagged)
    (tagged / "a.txt").write_text("1girl, blue hair\n")

    report = ask(tagged, update=True)

    assert counts(report) == {"written": 1, "current": 1}
    assert asked(tagged)["a.caption"] == "Tags: 1girl, blue hair"
    assert ask(tagged).stale == []


def test_tags_as_before_need_no_captioner(tagged, monkeypatch):
    ask(tagged)
    (tagged / "a.txt").write_text("1girl, blue hair\n")
    ask(tagged, update=True)
    (tagged / "a.txt").write_text("1girl, red hair\n")
    hide_models(monkeypatch)

    ask(tagged, update=True)

    assert asked(tagged)["a.caption"] == "Tags: 1girl, red hair"


def test_identical_images_with_other_tags_get_captions_of_their_own(tagged):
    (tagged / "b.png").write_bytes((tagged / "a.png").read_bytes())
    ask(tagged)
    assert asked(tagged) == {"a.caption": "Tags: 1girl, red hair", "b.caption": "Tags: 1boy"}


def test_an_edited_caption_is_kept_however_stale_it_is(tagged):
    ask(tagged)
    (tagged / "a.caption").write_text("mine\n")
    (tagged / "a.txt").write_text("1girl, blue hair\n")
    assert counts(ask(tagged, update=True)) == {"kept": 1, "current": 1}


def test_undo_brings_a_renewed_caption_back(tagged):
    ask(tagged)
    before = texts(tagged, ".caption")
    (tagged / "a.txt").write_text("1girl, blue hair\n")
    ask(tagged, update=True)
    undo(directory=tagged)
    assert texts(tagged, ".caption") == before
    assert ask(tagged).stale == ["a.png"]


def test_tags_beside_the_caption_in_one_file_are_in_the_prompt(pair):
    tag(pair)
    tags = {name: text.decode().rstrip("\n") for name, text in texts(pair).items()}
    ask(pair, caption_extension=".txt", existing="append")
    for name, text in texts(pair).items():
        assert f"Tags: {tags[name]}" in text.decode()
    assert ask(pair, caption_extension=".txt", existing="append").stale == []
