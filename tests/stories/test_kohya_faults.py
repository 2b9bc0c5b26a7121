"""Faults of kohya's tagger (sd-scripts 48d368f), each with what sdprep does instead."""

import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sdprep.demo
from sdprep.cli.main import cli
from sdprep.models.files import hub as hub_module
from tests.in_process import model_in_process
from tests.models.fake_hub import COMMITS, REPO, at_home, check_active
from tests.stories.telling import PYTHON, ROOT, hide_models, tags_of, texts, watch_model, write

DEMO = Path(sdprep.demo.__file__).parent
MODEL = DEMO / "models" / "demo-tag"
ONNX = ("model.onnx", "selected_tags.csv")
SAVED = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
REMOTE = f"""
name = "remote"
task = "tag"
backend = "onnx"
files = {list(ONNX)}
savedmodel = {list(SAVED)}
source = {{ repo = "{REPO}", revision = "{COMMITS[0]}" }}
image = {{ fit = "pad", channels = "bgr" }}
labels = {{ file = "selected_tags.csv", categories = {{ general = 0, character = 4, rating = 9 }} }}
"""
# Dies as soon as the text of the second image is there.
DYING = """
import os, sys
from pathlib import Path
from sdprep.cli.main import main
real = os.replace
def replace(source, target, **folders):
    real(source, target, **folders)
    if Path(target).name == "b.txt":
        os._exit(9)
os.replace = replace
sys.argv = ["sdprep", "tag", sys.argv[1], "--model", "demo-tag", "--batch-size", "1"]
main()
"""


def tag(folder, *words):
    """A run of the command in this process, with the demo tagger unless the words name another."""
    with model_in_process():
        return CliRunner().invoke(cli, ["tag", str(folder), "--model", "demo-tag", *map(str, words)])


def report_of(result):
    return json.loads(result.stdout)


def scores_of(folder, *words):
    """The scores of every image that a run writes as JSON Lines, by the image's name."""
    path = folder.parent / "scores.jsonl"
    assert tag(folder, "--scores", path, *words).exit_code == 0
    return {line["path"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


@pytest.fixture
def couple(tmp_path):
    """A folder with one image, of two characters of one series."""
    (tmp_path / "couple").mkdir()
    shutil.copy(DEMO / "images" / "aka-and-kuro.jpg", tmp_path / "couple" / "a.jpg")
    return tmp_path / "couple"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with the demo tagger in both formats, and a home that has none of it."""
    with at_home(tmp_path / "hub", monkeypatch), check_active(monkeypatch) as fake:
        fake.files[COMMITS[0]] = {name: (MODEL / name).read_bytes() for name in (*ONNX, *SAVED)}
        yield fake


@pytest.fixture
def remote(tmp_path):
    """The description of the tagger on that Hub."""
    return write(tmp_path / "remote.toml", REMOTE)


# 1: a replacement of tags that does nothing, or replaces every tag


def test_tag_replacement_replaces_the_tag_that_was_named_and_no_other(album):
    tag(album)
    before = tags_of(album / "a.txt")

    tag(album, "--tag_replacement", "simple_background,plain")

    assert tags_of(album / "a.txt") == [{"simple_background": "plain"}.get(each, each) for each in before]


# 2: a SavedModel downloaded to variables/variables/, where its loader does not look


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_downloaded_saved_model_is_where_tensorflow_finds_it(album, hub, remote):
    pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed here")

    result = tag(album, "--model", remote, "--backend", "tensorflow", "--json")

    assert report_of(result)["written"] == 3


# 3: one corrupt image that ends the run


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_corrupt_image_is_named_and_the_others_are_tagged(album, workers, batch_size):
    (album / "b.png").write_bytes((album / "b.png").read_bytes()[:500])

    words = ("--model", "demo-tag", "--batch_size", batch_size, "--max_data_loader_n_workers", workers, "--json")
    result = CliRunner().invoke(cli, ["tag", str(album), *map(str, words)])

    assert result.exit_code == 3
    assert [(each["path"], each["code"]) for each in report_of(result)["failures"]] == [("b.png", "truncated")]
    assert list(texts(album)) == ["a.txt", "c.txt"]


# 4: results that are written at the end of the run only


def test_a_crash_loses_nothing_that_was_done(album, monkeypatch):
    died = subprocess.run([PYTHON, "-c", DYING, str(album)], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == 9
    there = texts(album)
    assert list(there) == ["a.txt", "b.txt"]
    seen = watch_model(monkeypatch)

    result = tag(album, "--json")

    assert report_of(result)["current"] == 2
    assert sum(seen) <= 1
    assert {name: texts(album)[name] for name in there} == there


# 5: tags in the order of the label file


def test_the_most_certain_tag_comes_first(album):
    for image, scores in scores_of(album).items():
        known = {**scores["general"], **scores["character"]}
        written = [known[each] for each in tags_of((album / image).with_suffix(".txt"))]
        assert len(set(written)) > 1
        assert written == sorted(written, reverse=True)


# 6: lists that come out in reverse, and names with a space before them that match nothing


def test_always_first_tags_come_in_the_order_given_whatever_the_spaces(album):
    tag(album)
    last, second_last = tags_of(album / "a.txt")[:-3:-1]

    tag(album, "--always_first_tags", f"{last}, {second_last}")

    assert tags_of(album / "a.txt")[:2] == [last, second_last]


def test_characters_that_come_first_are_not_reversed(couple):
    scores = scores_of(couple, "--character_tags_first")["a.jpg"]["character"]
    likely = [name for name, score in scores.items() if score >= 0.35]

    assert len(likely) == 2
    assert tags_of(couple / "a.txt")[:2] == likely


# 7: long emoticons whose mouths become spaces


@pytest.mark.parametrize("emoticon", ["(o)_(o)", "<o>_<o>", "<|>_<|>", "||_||", "^_^"])
def test_an_emoticon_keeps_its_underscore_however_long_it_is(tmp_path, emoticon):
    folder, model = tmp_path / "one", tmp_path / "model"
    shutil.copytree(MODEL, model)
    labels = (model / "selected_tags.csv").read_text(encoding="utf-8")
    (model / "selected_tags.csv").write_text(labels.replace(",^_^,", f",{emoticon},"), encoding="utf-8")
    folder.mkdir()
    shutil.copy(DEMO / "images" / "happy-eyes.png", folder / "a.png")

    tag(folder, "--model", model, "--remove_underscore")

    found = tags_of(folder / "a.txt")
    assert emoticon in found
    assert "closed eyes" in found


# 8: an expanded character that is one string to all other options


def test_an_expanded_character_is_two_tags_and_a_series_is_named_once(couple):
    tag(couple, "--character_tag_expand")

    found = tags_of(couple / "a.txt")
    assert {"aka", "kuro"} <= set(found)
    assert found.count("sdprep") == 1


def test_undesired_tags_see_the_parts_of_an_expanded_character(couple):
    tag(couple, "--character_tag_expand", "--undesired_tags", "sdprep")

    found = tags_of(couple / "a.txt")
    assert {"aka", "kuro"} <= set(found)
    assert "sdprep" not in found


def test_always_first_tags_see_the_parts_of_an_expanded_character(couple):
    tag(couple, "--character_tag_expand", "--always_first_tags", "sdprep,kuro")

    assert tags_of(couple / "a.txt")[:2] == ["sdprep", "kuro"]


def test_appending_sees_the_parts_of_an_expanded_character(couple):
    write(couple / "a.txt", "my photo, sdprep\n")

    tag(couple, "--character_tag_expand", "--existing", "append")

    found = tags_of(couple / "a.txt")
    assert found[:2] == ["my photo", "sdprep"]
    assert found.count("sdprep") == 1
    assert {"aka", "kuro"} <= set(found)


def test_expanding_after_the_underscores_are_gone_leaves_no_space_behind(couple):
    tag(couple, "--character_tag_expand", "--remove_underscore", "--caption_separator", ",")

    written = (couple / "a.txt").read_text(encoding="utf-8").strip("\n").split(",")
    assert "aka" in written
    assert written == [each.strip() for each in written]


# 9: two options for the rating of which one is ignored


def test_the_rating_is_written_once_even_if_both_places_are_asked_for(album):
    tag(album, "--use_rating_tags", "--use_rating_tags_as_last_tag")

    assert tags_of(album / "a.txt").count("general") == 1


def test_a_rating_is_written_and_counted_however_low_it_is(album):
    said = tag(album, "--use_rating_tags", "--thresh", "1.5", "--frequency_tags").output.splitlines()

    assert tags_of(album / "a.txt") == ["general"]
    assert any(line.startswith("general: ") for line in said)


# 10: a separator of white space that stops the script


@pytest.mark.parametrize("separator", [" ", "\t"], ids=["space", "tab"])
def test_a_separator_may_be_white_space(album, separator):
    tag(album)
    usual = tags_of(album / "a.txt")

    result = tag(album, "--caption_separator", separator, "--undesired_tags", "nothing")

    assert result.exit_code == 0
    assert tags_of(album / "a.txt", separator) == usual


# 11: images that a model sees lying on their side, or white


def test_an_image_is_turned_upright_before_a_model_sees_it(album, tmp_path):
    tag(album)
    upright = texts(album)
    (tmp_path / "turned").mkdir()
    tags = Image.Exif()
    tags[0x0112] = 6
    for path in album.glob("*.png"):
        lying = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        lying.save(tmp_path / "turned" / path.name, exif=tags)

    tag(tmp_path / "turned")

    assert texts(tmp_path / "turned") == upright


def test_a_16_bit_image_has_the_tags_of_the_same_image_in_8_bits(album, tmp_path):
    (tmp_path / "wide").mkdir()
    for path in album.glob("*.png"):
        grey = Image.open(BytesIO(path.read_bytes())).convert("L")
        grey.save(path)
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "wide" / path.name)
    tag(album)

    tag(tmp_path / "wide")

    assert texts(tmp_path / "wide") == texts(album)
    assert len(set(texts(album).values())) > 1


# 12: two images that write one text, of which the last one wins


def test_two_images_that_would_share_a_text_are_refused_by_name(album):
    Image.open(album / "b.png").save(album / "a.jpg")

    result = tag(album, "--json")

    assert result.exit_code == 3
    refused = [(each["path"], each["code"]) for each in report_of(result)["failures"]]
    assert refused == [("a.jpg", "stem_collision"), ("a.png", "stem_collision")]
    assert list(texts(album)) == ["b.txt", "c.txt"]


# 13: a provider that is not the one that was asked for, without a word


def test_a_provider_that_is_not_there_is_refused_and_the_one_that_ran_is_in_the_report(album):
    refused = tag(album, "--provider", "tensorrt")
    ran = json.loads(tag(album, "--provider", "cpu", "--json").stdout)

    assert (refused.exception.exit_code, "pip install" in str(refused.exception)) == (5, True)
    assert ran["provider"] == "cpu"


# 14: half a download, or that of the other format, which is taken for a model


def test_half_a_download_is_completed_by_the_next_run(album, hub, remote, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(hub_module, "_patiently", lambda work: work())
    hub.broken = 1000
    assert tag(album, "--model", remote).exit_code == 1
    assert texts(album) == {}
    hub.broken = 0

    assert tag(album, "--model", remote).exit_code == 0

    assert len(texts(album)) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_other_format_of_a_model_is_downloaded_when_it_is_asked_for(album, hub, remote):
    pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed here")
    tag(album, "--model", remote, "--onnx")
    usual = texts(album)

    result = tag(album, "--model", remote, "--backend", "tensorflow", "--refresh", "--json")

    assert report_of(result)["failed"] == 0
    assert set(hub.downloads) == {Path(name).name for name in (*ONNX, *SAVED)}
    assert [set(text.split(b", ")) for text in texts(album).values()] == [
        set(text.split(b", ")) for text in usual.values()
    ]


# 15: scores that are thrown away


def test_another_threshold_needs_no_model(album, monkeypatch):
    tag(album)
    before = texts(album)
    hide_models(monkeypatch)

    result = tag(album, "--thresh", "0.02")

    assert result.exit_code == 0
    assert all(len(texts(album)[name]) > len(before[name]) for name in before)


# 16: a tagger that cannot run without torch and a training library


@pytest.mark.parametrize(("workers", "loaded"), [("0", ["onnxruntime"]), ("2", [])], ids=["inline", "worker"])
def test_tagging_loads_no_torch(album, workers, loaded):
    script = (
        "import sys\nfrom sdprep.cli.main import main\n"
        f"sys.argv = ['sdprep', 'tag', {str(album)!r}, '--model', 'demo-tag', '--workers', '{workers}']\n"
        "try:\n    main()\nexcept SystemExit as leaving:\n    assert not leaving.code\n"
        "print(sorted({'onnxruntime', 'torch', 'torchvision', 'transformers', 'diffusers'} & set(sys.modules)))"
    )

    done = subprocess.run([PYTHON, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == f"{loaded}"
    assert len(texts(album)) == 3
