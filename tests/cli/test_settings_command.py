"""`sdprep settings` lists what runs remember, and forgets it."""

import json

import pytest


@pytest.fixture
def tag(sdprep_command, imgs, put_image):
    """Tags a folder, and the one below it, with these words."""
    put_image(imgs / "sub" / "c.png")

    def run(*words, folder=imgs):
        return sdprep_command("tag", folder, "--model", "demo-tag", "--workers", "0", *words)

    return run


@pytest.fixture
def listed(sdprep_command):
    """The settings that are listed for a folder: place, option and value of each."""

    def find(folder, *words):
        rows = json.loads(sdprep_command("settings", folder, "--json", *words).out)["settings"]
        return {(row["place"], row["option"]): row["value"] for row in rows}

    return find


def tags(path):
    return path.read_text().strip().split(", ")


def test_stated_settings_are_listed_with_place_origin_and_run(tag, sdprep_command, imgs, monkeypatch):
    tag("--prefix", "mychar")
    monkeypatch.setenv("SDPREP_TAG_EXCLUDE", "solo")
    tag("--prefix", "other", folder=imgs / "sub")
    rows = json.loads(sdprep_command("settings", imgs, "--json").out)["settings"]
    found = {(row["place"], row["option"]): (row["value"], row["origin"], row["trusted"]) for row in rows}
    assert found[(str(imgs), "prefix")] == (["mychar"], "flag", True)
    assert found[(str(imgs / "sub"), "prefix")] == (["other"], "flag", True)
    assert found[(str(imgs / "sub"), "exclude")] == (["solo"], "environment", True)
    assert {row["run"] for row in rows} <= {
        entry["run"] for entry in json.loads(sdprep_command("log", imgs, "--json").out)["runs"]
    }
    assert {row["command"] for row in rows} == {"tag"}
    assert f"{imgs / 'sub'}  tag  --prefix other" in sdprep_command("settings", imgs).out


def test_an_emptied_list_is_shown_as_it_is_written(tag, sdprep_command, imgs):
    tag("--category-threshold", "")
    assert "tag  --category-threshold ''  flag" in sdprep_command("settings", imgs).out


def test_settings_of_folders_above_are_listed_too(tag, listed, imgs):
    tag("--prefix", "mychar")
    assert listed(imgs / "sub")[(str(imgs), "prefix")] == ["mychar"]


def test_named_settings_are_forgotten_there_and_below(tag, listed, sdprep_command, imgs):
    tag("--prefix", "mychar", "--exclude", "solo")
    tag("--prefix", "other", folder=imgs / "sub")
    ended = sdprep_command("settings", imgs, "--forget", "--prefix")
    assert (ended.code, "2 settings forgotten" in ended.err) == (0, True), ended.err
    assert {option for _, option in listed(imgs)} == {"exclude", "model"}
    tag()
    assert tags(imgs / "a.txt")[0] == "1girl"
    assert "solo" not in tags(imgs / "a.txt")


def test_all_settings_are_forgotten_without_names(tag, listed, sdprep_command, imgs):
    tag("--prefix", "mychar")
    sdprep_command("settings", imgs, "--forget")
    assert listed(imgs) == {}
    assert "0 settings remembered" in sdprep_command("settings", imgs).err


def test_a_name_that_is_not_remembered_is_refused_with_what_is_meant(tag, listed, sdprep_command, imgs):
    tag("--prefix", "mychar")
    ended = sdprep_command("settings", imgs, "--forget", "prefiks")
    assert (ended.code, "no setting prefiks is remembered here; did you mean prefix?" in ended.err) == (2, True)
    ended = sdprep_command("settings", imgs, "--forget", "nothing")
    assert "no setting nothing is remembered here, only model, prefix" in ended.err
    ended = sdprep_command("settings", imgs / "sub", "--forget", "prefix")
    assert (ended.code, f"prefix is remembered for {imgs}; forget it there" in ended.err) == (2, True)
    assert len(listed(imgs)) == 2


def test_options_without_forget_are_refused(tag, sdprep_command, imgs):
    tag()
    assert sdprep_command("settings", imgs, "prefix").code == 2


# What a run does with them


def test_a_run_uses_and_names_what_is_remembered_unless_it_is_told_not_to(tag, imgs):
    tag("--prefix", "mychar", "--exclude", "solo")
    said = tag("--threshold", "0.5").err
    assert "using settings of earlier runs: --exclude solo --prefix mychar" in said
    assert tags(imgs / "a.txt")[0] == "mychar"
    (imgs / "a.txt").unlink()
    tag("--no-remembered", "--order", "csv")
    assert "mychar" not in tags(imgs / "a.txt")
    assert "order" not in tag().err


def test_a_folder_with_settings_of_its_own_is_named_and_the_others_by_what_they_have_in_common(tag, imgs, put_image):
    put_image(imgs / "0" / "d.png")
    tag("--suffix", "most", folder=imgs)
    tag("--suffix", "", folder=imgs / "sub")
    assert "earlier runs: in .: --suffix most; in sub: --suffix ''" in tag().err


@pytest.mark.parametrize("words", [["--threshold", "auto"], ["--exclude", "/[/"]], ids=str)
def test_an_error_has_the_line_about_earlier_runs_once(words, tag):
    tag("--prefix", "mychar")
    ended = tag(*words)
    assert (ended.code, ended.err.count("using settings of earlier runs")) == (2, 1), ended.err


def test_a_separator_with_a_line_break_is_shown_as_it_is_typed(tag, sdprep_command, imgs):
    tag("--caption-separator", r"\n")
    assert r"--caption-separator '\n' " in tag().err
    assert r"--caption-separator '\n' " in sdprep_command("settings", imgs).out


def test_files_that_failed_before_are_named_with_verbose(tag, imgs):
    (imgs / "empty.png").touch()
    tag()
    assert ("failed: 1 as before" in tag().err, "failed: empty.png: empty_file: " in tag("-v").err) == (True, True)


def test_the_command_named_by_a_run_over_an_image_lists_and_forgets_its_settings(tag, listed, sdprep_command, imgs):
    image = imgs / "a.jpg"
    tag("--prefix", "mychar", folder=image)
    assert f"(sdprep settings {image})" in tag(folder=image).err
    assert listed(image)[(str(image), "prefix")] == ["mychar"]
    ended = sdprep_command("settings", image, "--forget", "prefix")
    assert (ended.code, "1 setting forgotten" in ended.err) == (0, True), ended.err
    assert (str(image), "prefix") not in listed(imgs)


def test_options_of_the_machine_and_actions_are_not_remembered(tag, listed, imgs):
    tag("--batch-size", "2", "--existing", "append", "--refresh", "--limit", "1")
    assert {option for _, option in listed(imgs)} == {"model"}


def test_a_settings_file_in_a_subfolder_counts_for_its_images(tag, imgs):
    (imgs / "sub" / "sdprep.toml").write_text("[tag]\nprefix = 'theirs'\nbatch-size = 2\n")
    said = tag("--prefix", "mine").err
    assert "batch-size counts only for runs over that folder itself" in said
    assert tags(imgs / "sub" / "c.txt")[0] == "mine"
    (imgs / "sub" / "c.txt").unlink()


def test_a_settings_file_in_a_subfolder_is_not_ignored(tag, imgs):
    (imgs / "sub" / "sdprep.toml").write_text("[tag]\nprefix = 'theirs'\n")
    tag()
    assert tags(imgs / "sub" / "c.txt")[0] == "theirs"
    assert tags(imgs / "a.txt")[0] != "theirs"


def test_show_config_names_the_run_that_stated_a_setting(tag, sdprep_command, imgs):
    tag("--prefix", "mychar")
    run = json.loads(sdprep_command("log", imgs, "--json").out)["runs"][0]["run"]
    shown = sdprep_command("tag", imgs / "sub", "--show-config").out
    assert f'prefix = ["mychar"]  # run {run}\n' in shown
    assert (
        f'prefix = ["mychar"]  # run {run}\n'
        not in sdprep_command("tag", imgs / "sub", "--show-config", "--no-remembered").out
    )


def test_the_log_shows_what_each_run_stated(tag, sdprep_command, imgs):
    tag("--prefix", "mychar")
    tag("--threshold", "0.5")
    runs = json.loads(sdprep_command("log", imgs, "--json").out)["runs"]
    assert [run["stated"] for run in runs] == [
        {"model": "demo-tag", "prefix": ["mychar"]},
        {"model": "demo-tag", "threshold": 0.5},
    ]
    assert "--model demo-tag --prefix mychar" in sdprep_command("log", imgs).out


# What came with the folder


def test_a_setting_that_came_with_the_folder_may_set_no_more_than_its_toml(
    tag, sdprep_command, imgs, monkeypatch, tmp_path
):
    tag("--exclude", "/solo/", "--prefix", "mychar")
    # On another machine there is another key.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    ended = tag()
    assert ended.code == 2
    assert "--exclude /solo/, which has a regular expression" in ended.err
    assert "came with the folder" in sdprep_command("settings", imgs).out
    sdprep_command("settings", imgs, "--forget", "exclude")
    assert tag().code == 0
    assert tags(imgs / "a.txt")[0] == "mychar"


def test_the_settings_of_a_catalog_in_an_output_folder_are_listed(sdprep_command, imgs, tmp_path):
    out = tmp_path / "out"
    sdprep_command("tag", imgs, "--model", "demo-tag", "--prefix", "hana", "--output-dir", out)
    shown = sdprep_command("settings", imgs, "--catalog", out / ".sdprep" / "catalog.sqlite").out
    assert "--prefix hana" in shown


def test_log_shows_the_settings_of_a_run_that_are_not_built_in(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag", "--threshold", "0.5")
    sdprep_command("tag", imgs, "--remove-underscore")
    shown = sdprep_command("log", imgs, "--settings").out
    assert shown.count("    --threshold 0.5\n") == 2
    assert shown.endswith("    --model demo-tag\n    --remove-underscore\n    --threshold 0.5\n")
    [_, last] = json.loads(sdprep_command("log", imgs, "--settings", "--json").out)["runs"]
    assert last["settings"] == {"model": "demo-tag", "remove_underscore": True, "threshold": 0.5}
