"""Settings stay: what is not stated in a run remains as it was, for each folder, image and task."""

import json
import shutil
from contextlib import closing
from sqlite3 import connect

import pytest
from click.testing import CliRunner

from sdprep.catalog.stated import _read_key
from sdprep.cli.main import cli
from sdprep.config import TagSettings
from sdprep.errors import UsageError
from sdprep.files import configs_folder
from sdprep.rules.labels import KAOMOJI
from sdprep.tasks.history.runs import log
from sdprep.tasks.remembered import remembered
from sdprep.tasks.settings import Layers, stating
from sdprep.tasks.tag import tag as tag_task
from tests.stories.telling import CATALOG, FAKE_CAPTION, STRICT, hide_models, tag_settings, tags_of, texts, watch_model


def sdprep(*words):
    """Run a command; every result must be a success."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def sdprep_tag(folder, *words):
    return sdprep("tag", folder, "--workers", 0, *words)


@pytest.fixture
def styled(album):
    """An album with a trigger word, spaces for underscores, and a tag that is never written."""
    stated = ("--prefix", "mychar", "--exclude", "simple_background", "--remove-underscore")
    sdprep_tag(album, "--model", "demo-tag", *stated)
    assert_styled(album)
    return album


def assert_styled(album, names=("a.txt", "b.txt", "c.txt")):
    for name in names:
        tags = tags_of(album / name)
        assert tags[0] == "mychar"
        assert "simple background" not in tags
        assert not any("_" in tag for tag in tags if tag not in KAOMOJI)


# One option of a later run


def test_a_threshold_that_is_stated_later_keeps_the_trigger_word_the_exclusions_and_the_spaces(styled):
    before = texts(styled)

    sdprep_tag(styled, "--threshold", STRICT)

    assert_styled(styled)
    assert all(len(after) < len(before[name]) for name, after in texts(styled).items())


@pytest.mark.parametrize("words", [["--refresh"], ["--update"], ["--existing", "overwrite"]])
def test_actions_keep_all_settings(styled, words):
    before = texts(styled)

    sdprep_tag(styled, *words)

    assert texts(styled) == before


def test_a_replaced_image_keeps_its_settings(styled, drawings):
    before = texts(styled)
    (styled / "b.png").write_bytes(drawings[3])

    sdprep_tag(styled)

    assert_styled(styled)
    assert texts(styled)["b.txt"] != before["b.txt"]


def test_a_deleted_tag_file_comes_back_as_it_was(styled):
    before = texts(styled)
    (styled / "b.txt").unlink()

    sdprep_tag(styled)

    assert texts(styled) == before


def test_a_new_image_gets_the_settings_of_its_folder(styled):
    shutil.copy(styled / "b.png", styled / "d.png")

    sdprep_tag(styled)

    assert (styled / "d.txt").read_bytes() == (styled / "b.txt").read_bytes()


def test_the_model_is_remembered(styled):
    result = sdprep_tag(styled, "--refresh", "--json")

    assert '"model": "demo-tag"' in result.stdout


def test_the_run_says_in_one_line_what_it_took_from_memory(styled):
    stderr = sdprep_tag(styled).stderr.splitlines()

    assert stderr[0] == (
        "using settings of earlier runs: --exclude simple_background --model demo-tag --prefix mychar "
        f"--remove-underscore (sdprep settings {styled})"
    )
    assert sum("earlier runs" in line for line in stderr) == 1


def test_actions_and_what_is_the_machines_are_not_remembered(album):
    sdprep_tag(
        album, "--model", "demo-tag", "--existing", "overwrite", "--refresh", "--limit", 1, "--batch-size", 1,
        "--device", "cpu", "--max-pixels", 10**8, "--timings",
    )  # fmt: skip

    stderr = sdprep_tag(album).stderr

    assert f"using settings of earlier runs: --model demo-tag (sdprep settings {album})" in stderr


def test_a_caption_keeps_its_settings(album):
    sdprep("caption", album, "--model", FAKE_CAPTION, "--workers", 0, "--prefix", "mychar: ", "--max-length", 20)
    before = texts(album, ".caption")
    (album / "b.caption").unlink()

    sdprep("caption", album, "--workers", 0, "--suffix", " (end)")

    assert texts(album, ".caption") == {name: data.replace(b"\n", b" (end)\n") for name, data in before.items()}
    assert all(data.startswith(b"mychar: ") for data in before.values())


def test_tags_and_captions_have_settings_of_their_own(styled):
    sdprep("caption", styled, "--model", FAKE_CAPTION, "--workers", 0)

    assert not any(data.startswith(b"mychar") for data in texts(styled, ".caption").values())


# Folders


@pytest.fixture
def folders(album):
    """A dataset of two characters, each in a folder with its own trigger word."""
    for name in ("kuro", "aka"):
        (album / name).mkdir()
        shutil.copy(album / "a.png", album / name / "a.png")
    sdprep_tag(album, "--model", "demo-tag")
    sdprep_tag(album / "kuro", "--prefix", "kuro_")
    sdprep_tag(album / "aka", "--prefix", "aka_")
    return album


def first_tags(folder):
    return [tags_of(folder / name)[0] for name in ("kuro/a.txt", "aka/a.txt")]


def test_trigger_words_of_folders_survive_a_run_over_the_parent(folders):
    sdprep_tag(folders, "--threshold", STRICT)

    assert first_tags(folders) == ["kuro_", "aka_"]
    assert len(tags_of(folders / "kuro" / "a.txt")) == len(tags_of(folders / "a.txt")) + 1


def test_a_new_image_in_a_folder_gets_the_trigger_word_of_that_folder(folders):
    shutil.copy(folders / "b.png", folders / "kuro" / "b.png")

    sdprep_tag(folders)

    assert tags_of(folders / "kuro" / "b.txt")[0] == "kuro_"
    assert tags_of(folders / "kuro" / "b.txt")[1:] == tags_of(folders / "b.txt")


def test_stating_an_option_for_the_parent_replaces_it_below(folders):
    sdprep_tag(folders, "--prefix", "all")
    sdprep_tag(folders)

    assert first_tags(folders) == ["all", "all"]
    assert tags_of(folders / "a.txt")[0] == "all"


def test_a_run_below_takes_what_was_stated_above(folders):
    sdprep_tag(folders, "--threshold", STRICT)
    (folders / "kuro" / "a.txt").unlink()

    sdprep_tag(folders / "kuro")

    assert tags_of(folders / "kuro" / "a.txt") == ["kuro_", *tags_of(folders / "a.txt")]


def test_the_line_names_the_folders_whose_settings_differ(folders):
    stderr = sdprep_tag(folders).stderr

    assert (
        "using settings of earlier runs: --model demo-tag; in aka: --prefix aka_; in kuro: --prefix kuro_ "
        f"(sdprep settings {folders})"
    ) in stderr


def test_the_line_names_each_input_whose_settings_are_used_and_no_other(folders, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folders / "a.png", other / "a.png")

    stderr = sdprep("tag", folders / "kuro", folders / "aka", other, "--model", "demo-tag", "--workers", 0).stderr

    assert f"(sdprep settings {folders / 'kuro'}; sdprep settings {folders / 'aka'})\n" in stderr


def test_what_is_stated_without_recursion_leaves_the_settings_of_subfolders(folders):
    sdprep_tag(folders, "--no-recursive", "--prefix", "top")
    sdprep_tag(folders)

    assert first_tags(folders) == ["kuro_", "aka_"]
    assert tags_of(folders / "a.txt")[0] == "top"


def test_what_is_stated_without_recursion_replaces_what_was_stated_for_images_of_the_folder(folders):
    sdprep_tag(folders / "a.png", "--prefix", "own")
    sdprep_tag(folders, "--no-recursive", "--prefix", "top")

    assert tags_of(folders / "a.txt")[0] == "top"


def test_a_run_without_recursion_leaves_nested_catalogs_alone(album, tmp_path):
    inner = album / "inner"
    inner.mkdir()
    shutil.copy(album / "a.png", inner / "a.png")
    sdprep_tag(inner, "--model", "demo-tag", "--prefix", "inner")
    before = {path: path.read_bytes() for path in inner.rglob("*") if path.is_file()}

    sdprep_tag(album, "--model", "demo-tag", "--no-recursive", "--prefix", "outer")

    assert {path: path.read_bytes() for path in inner.rglob("*") if path.is_file()} == before


def test_only_sidecars_whose_settings_changed_are_rewritten(folders):
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("*.txt")}

    sdprep_tag(folders / "kuro", "--prefix", "other")
    sdprep_tag(folders)

    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == [folders / "kuro" / "a.txt"]


def test_models_of_folders_work_in_one_run_that_loads_each_once(folders, monkeypatch, tmp_path):
    described = (configs_folder("models") / "demo-tag.toml").read_text("utf-8")
    other = tmp_path / "other.toml"
    other.write_text(described.replace('name = "demo-tag"', 'name = "other"'), "utf-8")
    sdprep_tag(folders / "aka", "--model", other)
    for path in folders.rglob("*.txt"):
        path.unlink()
    seen = watch_model(monkeypatch)

    result = sdprep_tag(folders, "--refresh", "--json")

    assert seen == [4, 1]
    assert '"model": "demo-tag, other"' in result.stdout
    assert first_tags(folders) == ["kuro_", "aka_"]


# What may not happen


def test_a_run_that_fails_to_start_states_nothing(styled):
    failed = CliRunner().invoke(cli, ["tag", str(styled), "--model", "no-such-model", "--prefix", "wrong"])

    assert isinstance(failed.exception, UsageError)
    assert "--prefix mychar" in sdprep_tag(styled).stderr


def test_a_dry_run_states_nothing(styled):
    sdprep_tag(styled, "--prefix", "other", "--dry-run")

    assert "--prefix mychar" in sdprep_tag(styled).stderr


def test_a_run_without_memory_reads_and_writes_none(styled):
    settings = tag_settings({"prefix": ("x",), "max_tags": 1})
    tag_task(styled, tag_settings({}), layers=Layers(now=stating(settings, {"prefix"}).now, remembered=False))

    assert [tags_of(path)[0] for path in styled.glob("*.txt")] == ["x"] * 3
    assert any("_" in tag for path in styled.glob("*.txt") for tag in tags_of(path))
    assert "--prefix mychar" in sdprep_tag(styled).stderr


def test_a_text_is_rewritten_when_what_shaped_it_is_forgotten(styled, monkeypatch):
    with closing(connect(styled / CATALOG)) as catalog, catalog:
        catalog.execute("DELETE FROM stated WHERE option = 'prefix'")
    hide_models(monkeypatch)

    sdprep_tag(styled)

    assert not any(data.startswith(b"mychar") for data in texts(styled).values())


def test_an_option_of_another_sdprep_is_named_and_ignored(styled):
    with closing(connect(styled / CATALOG)) as catalog, catalog:
        catalog.execute("UPDATE stated SET option = 'sparkle' WHERE option = 'prefix'")

    assert "--sparkle of an earlier run is ignored: this sdprep has no such setting" in sdprep_tag(styled).stderr


def test_a_setting_that_came_with_the_folder_may_not_set_what_a_settings_file_may_not(styled, a_home_of_its_own):
    # Another user's key.
    for path in a_home_of_its_own.rglob("key"):
        path.unlink()
    _read_key.cache_clear()
    with closing(connect(styled / CATALOG)) as catalog, catalog:
        catalog.execute("UPDATE stated SET value = '[\"/(a+)+$/\"]' WHERE option = 'exclude'")

    with pytest.raises(UsageError, match=r"remembers --exclude .*, which has a regular .*\nState --exclude yourself"):
        tag_task(styled, TagSettings())


# undo


def remembered_flags(folder):
    return [row.flags for row in remembered(folder)]


def test_undo_takes_back_what_the_run_stated(styled):
    before = remembered_flags(styled)
    sdprep_tag(styled, "--prefix", "yours", "--threshold", STRICT)

    result = sdprep("undo", "--dir", styled)

    assert f"what the run stated: --prefix yours --threshold {STRICT}" in result.stderr
    assert remembered_flags(styled) == before
    assert "2 up to date" in sdprep_tag(styled).stderr or "3 up to date" in sdprep_tag(styled).stderr
    assert_styled(styled)


def test_an_undone_undo_states_it_again(styled):
    sdprep_tag(styled, "--prefix", "yours")
    stated = remembered_flags(styled)
    sdprep("undo", "--dir", styled)

    sdprep("undo", "--dir", styled)

    assert remembered_flags(styled) == stated


def test_undo_leaves_what_a_later_run_stated(styled):
    sdprep_tag(styled, "--prefix", "yours")
    run = log(styled)[-1].uid
    sdprep_tag(styled, "--prefix", "theirs")

    CliRunner().invoke(cli, ["undo", run, "--dir", str(styled)])

    assert "--prefix theirs" in remembered_flags(styled)


def prefixes(folder):
    return {(row.place.name, row.value) for row in remembered(folder) if row.option == "prefix"}


def runs_of(folder, *commands):
    """The runs of tag with these words, by their ids."""
    for words in commands:
        sdprep_tag(*words)
    return [entry.uid for entry in log(folder)[-len(commands) :]]


def undo_run(folder, run):
    CliRunner().invoke(cli, ["undo", run, "--dir", str(folder)])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["the older first", "the newer first"])
def test_two_undone_runs_leave_what_was_stated_before_both(styled, order):
    runs = runs_of(styled, (styled, "--prefix", "yours"), (styled, "--prefix", "theirs"))
    for place in order:
        undo_run(styled, runs[place])
    assert prefixes(styled) == {(styled.name, ("mychar",))}


def test_undo_brings_nothing_back_below_a_folder_for_which_a_later_run_stated_it(folders):
    first, _ = runs_of(folders, (folders, "--prefix", "yours"), (folders, "--prefix", "theirs"))
    undo_run(folders, first)
    assert prefixes(folders) == {(folders.name, ("theirs",))}


def test_undo_brings_settings_back_where_their_folder_is_now(folders):
    sdprep_tag(folders / "aka", "--prefix", "yours")
    (folders / "aka").rename(folders / "5_aka")
    sdprep_tag(folders)
    sdprep("undo", "--dir", folders)
    assert ("5_aka", ("aka_",)) in prefixes(folders)


def test_a_dry_undo_says_what_it_would_take_back_and_does_not(styled):
    sdprep_tag(styled, "--prefix", "yours")
    stated = remembered_flags(styled)
    assert "would take back what the run stated: --prefix yours" in sdprep("undo", "--dir", styled, "--dry-run").stderr
    assert remembered_flags(styled) == stated


def test_undo_below_a_folder_takes_back_only_what_was_stated_there(folders):
    sdprep_tag(folders, "--prefix", "yours")
    sdprep("undo", "--dir", folders / "aka")
    found = {(row.place.name, row.flags) for row in remembered(folders) if row.option == "prefix"}
    assert found == {(folders.name, "--prefix yours"), ("aka", "--prefix aka_")}


def test_what_came_with_the_folder_stays_untrusted_through_an_undo(styled, a_home_of_its_own):
    for path in a_home_of_its_own.rglob("key"):
        path.unlink()
    _read_key.cache_clear()
    sdprep_tag(styled, "--prefix", "yours")

    sdprep("undo", "--dir", styled)

    [prefix] = [row for row in remembered(styled) if row.option == "prefix"]
    assert (prefix.value, prefix.is_signed) == (("mychar",), False)


# merge


def test_merge_reads_the_sidecars_of_each_folder_under_the_extension_that_was_stated_there(folders, tmp_path):
    for path in (folders / "aka").glob("*.txt"):
        path.rename(path.with_suffix(".tags"))
    output = tmp_path / "metadata.json"
    sdprep("merge", folders / "aka", "--tag-extension", ".tags", "--fields", "tags", "-o", tmp_path / "aka.json")

    result = sdprep("merge", folders, "--keys", "relative", "-o", output)
    merged = json.loads(output.read_text("utf-8"))

    assert "in aka: --fields tags --tag-extension .tags" in result.stderr
    assert merged["aka/a.png"] == {"tags": (folders / "aka" / "a.tags").read_text("utf-8").strip()}
    assert merged["kuro/a.png"]["tags"] == (folders / "kuro" / "a.txt").read_text("utf-8").strip()
    assert "image_size" in merged["kuro/a.png"]


def test_merge_remembers_the_kind_of_keys_and_not_the_output(folders, tmp_path):
    sdprep("merge", folders, "--keys", "relative", "-o", tmp_path / "one.json")

    sdprep("merge", folders)

    assert (folders / "metadata.json").read_text("utf-8") == (tmp_path / "one.json").read_text("utf-8")
