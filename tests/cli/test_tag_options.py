"""What `sdprep tag` says and takes besides tags: counts, talk, downloads of kohya's tagger, thresholds in words."""

import json
import shutil
from pathlib import Path

import pytest

from sdprep.demo import IMAGES
from tests.models.fake_hub import at_home, check_active

DEMO = IMAGES.parent / "models" / "demo-tag"
GRAPH, LABELS = "model.onnx", "selected_tags.csv"


@pytest.fixture
def tag(sdprep_command, imgs):
    """Runs `sdprep tag` on the folder of two images."""

    def run(*words, model="demo-tag"):
        return sdprep_command("tag", imgs, *(("--model", model) if model else ()), *words)

    return run


@pytest.fixture
def texts(imgs):
    def read():
        return [path.read_text(encoding="utf-8").strip().split(", ") for path in sorted(imgs.glob("*.txt"))]

    return read


def test_tags_are_counted_over_all_images_on_stdout(tag, texts):
    counted = dict(line.rsplit(": ", 1) for line in tag("--frequency_tags").out.splitlines())
    written = [name for tags in texts() for name in tags]
    assert counted == {name: str(written.count(name)) for name in written}


def test_the_most_frequent_tag_is_named_first(tag):
    counts = [int(line.rsplit(": ", 1)[1]) for line in tag("--frequency-tags").out.splitlines()]
    assert counts == sorted(counts, reverse=True)


def test_counts_are_in_the_report_instead_where_that_is_asked_for(tag):
    outcome = tag("--frequency-tags", "--json")
    assert json.loads(outcome.out)["tag_counts"]["solo"] == 2


def test_tags_are_counted_although_nothing_is_left_to_write(tag):
    first = tag("--frequency-tags").out
    assert tag("--frequency-tags").out == first != ""


def test_nothing_is_counted_unless_it_is_asked_for(tag):
    assert tag().out == ""


def test_every_text_is_said_as_it_is_written(tag, imgs):
    said = tag("--debug").err
    assert f"a.jpg: {(imgs / 'a.txt').read_text().strip()}\n" in said
    assert f"b.png: {(imgs / 'b.txt').read_text().strip()}\n" in said


def test_nothing_is_said_of_a_text_that_is_not_written(tag):
    tag()
    assert "a.jpg" not in tag("--debug").err


def test_timings_end_a_run_with_a_table_of_its_stages(tag):
    rows = [line.split()[:2] for line in tag("--timings").err.splitlines()[-5:]]
    assert rows == [["stage", "images"], ["plan", "2"], ["decode", "2"], ["predict", "2"], ["write", "2"]]


def test_timings_of_a_run_without_a_model_have_no_stage_of_it(tag):
    tag()
    stages = json.loads(tag("--timings", "--json").out)["timings"]
    assert {name: stage["images"] for name, stage in stages.items()} == {"plan": 2, "write": 0}
    assert stages["plan"].keys() == {"images", "seconds", "cpu_seconds"}


def test_without_timings_there_are_none(tag):
    done = tag("--json")
    assert json.loads(done.out)["timings"] is None
    assert "CPU seconds" not in done.err


def test_merge_says_the_entry_of_every_image(tag, sdprep_command, imgs):
    tag()
    said = sdprep_command("merge", imgs, "--debug").err
    assert "a.jpg: {'tags': '1girl" in said


def test_a_model_that_kohyas_tagger_downloaded_is_used_where_it_lies(tag, texts, tmp_path):
    folder = tmp_path / "wd14_tagger_model" / "SmilingWolf_wd-v1-4-vit-tagger-v2"
    folder.mkdir(parents=True)
    for name in (GRAPH, LABELS):
        shutil.copy(DEMO / name, folder)
    outcome = tag("--repo_id", "SmilingWolf/wd-v1-4-vit-tagger-v2", "--model_dir", folder.parent, "--onnx", model=None)
    assert (outcome.code, [tags[0] for tags in texts()]) == (0, ["1girl", "1boy"])


def test_a_model_dir_without_the_model_is_said(tag, tmp_path, monkeypatch):
    with at_home(tmp_path, monkeypatch), check_active(monkeypatch):
        outcome = tag("--repo_id", "someone/tagger", "--model_dir", tmp_path, model=None)
    assert f"{tmp_path / 'someone_tagger'} has no {GRAPH} and no {LABELS}" in outcome.err


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """The demo tagger in the cache, as from the Hub, of which one byte has changed since."""
    with at_home(tmp_path, monkeypatch), check_active(monkeypatch) as hub:
        commit = hub.revisions["main"]
        hub.files[commit] = {name: (DEMO / name).read_bytes() for name in (GRAPH, LABELS)}
        yield


def change_one_byte(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_damaged_download_is_replaced_by_force(tag, damaged, sdprep_command):
    tag("--limit", "1", model="someone/tagger")
    shown = json.loads(sdprep_command("models", "show", "someone/tagger", "--json").out)
    labels = next(file for file in shown["files"] if file["name"] == LABELS)
    change_one_byte(Path(labels["path"]).resolve())
    outcome = tag("--force_download", "--refresh", model="someone/tagger")
    assert outcome.code == 0
    assert sdprep_command("models", "verify", "someone/tagger").code == 0


def test_a_provider_that_does_not_exist_is_refused_although_nothing_is_to_be_done(tag):
    tag()
    assert tag("--provider", "nonsense").code == 2


def test_kohyas_output_path_is_told_where_to_go(tag):
    outcome = tag("--output_path", "out.json")
    assert (outcome.code, "sdprep merge writes them into the JSON that its -o names" in outcome.err) == (2, True)


def test_a_tag_with_a_comma_can_be_named(tag, texts):
    tag("--prefix", r"a\,b,c", "--caption-separator", ";")
    assert texts()[0][0].startswith("a,b;c;")


@pytest.mark.parametrize("word", ["high", "0,5", ""])
def test_a_threshold_that_is_neither_number_nor_rule_is_refused(tag, word):
    outcome = tag("--threshold", word)
    assert (outcome.code, "not a probability such as 0.35, auto or mcut" in outcome.err) == (2, True)


def test_a_category_threshold_without_a_number_is_refused(tag):
    outcome = tag("--category-threshold", "general")
    assert (outcome.code, "does not have the form NAME=0.35" in outcome.err) == (2, True)


def test_a_category_threshold_can_stand_in_a_settings_file(tag, texts, imgs):
    (imgs / "sdprep.toml").write_text('[tag]\ncategory-threshold = ["general=1.5"]\n')
    tag()
    assert "1girl" not in texts()[0]


def test_wildcards_and_regular_expressions_leave_tags_out(tag, texts):
    tag()
    before = {name for tags in texts() for name in tags}
    tag("--exclude", "*_hair,/^1/")
    after = {name for tags in texts() for name in tags}
    assert before - after == {name for name in before if name.endswith("_hair") or name.startswith("1")} != set()


def test_a_broken_regular_expression_is_refused(tag, imgs):
    outcome = tag("--exclude", "/(/")
    assert (outcome.code, list(imgs.glob("*.txt"))) == (2, [])


def test_appending_twice_adds_nothing_twice(tag, texts, imgs):
    (imgs / "a.txt").write_text("1girl, mine\n")
    tag("--append_tags")
    tag("--append_tags")
    assert (texts()[0].count("1girl"), texts()[0][:2]) == (1, ["1girl", "mine"])
