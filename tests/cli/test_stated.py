"""Which files, variables and flags count for a run, and the notes about those that do not."""

import pytest
from platformdirs import user_config_path


@pytest.fixture
def shown(sdprep_command, imgs):
    """What `--show-config` says of one setting of tag, for a folder: its value and its origin."""

    def show(name, *words, folder=imgs):
        lines = sdprep_command("tag", folder, "--show-config", *words).out.splitlines()
        return next(line.split(" = ")[1] for line in lines if line.removeprefix("# ").startswith(f"{name} = "))

    return show


@pytest.fixture
def user_file():
    path = user_config_path("sdprep") / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# The settings file of the user


def test_the_user_wide_file_beats_a_preset_and_yields_to_that_of_the_folder(shown, imgs, user_file):
    user_file.write_text("[tag]\norder = 'alphabetical'\nbatch-size = 99\n[caption]\nprompt = 'x'\n")
    assert shown("order", "--preset", "kohya") == f'"alphabetical"  # {user_file}'
    assert shown("batch-size") == f"99  # {user_file}"
    (imgs / "sdprep.toml").write_text("[tag]\norder = 'csv'\nbatch-size = 2\n")
    assert shown("order") == f'"csv"  # {imgs / "sdprep.toml"}'
    assert shown("batch-size") == f"2  # {imgs / 'sdprep.toml'}"


def test_relative_paths_in_the_user_wide_file_start_at_its_folder(shown, user_file):
    user_file.write_text("[tag]\naliases = 'lists/aliases.csv'\n")
    assert shown("aliases") == f'"{user_file.parent / "lists" / "aliases.csv"}"  # {user_file}'


def test_a_wrong_user_wide_file_is_named(sdprep_command, imgs, user_file):
    user_file.write_text("[tag]\nthreshhold = 0.5\n")
    ended = sdprep_command("tag", imgs)
    assert (ended.code, f"{user_file}: [tag] has no setting 'threshhold'; did you mean" in ended.err) == (2, True)
    user_file.write_text("[tag]\nthreshold = 0.0\n")
    assert f"{user_file} sets threshold" in sdprep_command("tag", imgs).err


# Settings files above and below


def test_a_settings_file_beside_the_catalog_counts_when_the_run_starts_below(shown, imgs, put_image, sdprep_command):
    put_image(imgs / "sub" / "c.png")
    (imgs / "sdprep.toml").write_text("[tag]\norder = 'csv'\nbatch-size = 2\n")
    assert shown("order", folder=imgs / "sub") == '"confidence"  # built-in'
    assert sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", "0").code == 0
    for name, value in (("order", '"csv"'), ("batch-size", "2")):
        assert shown(name, folder=imgs / "sub") == f"{value}  # {imgs / 'sdprep.toml'}"
    (imgs / "sub" / "sdprep.toml").write_text("[tag]\norder = 'alphabetical'\n")
    assert shown("order", folder=imgs / "sub") == f'"alphabetical"  # {imgs / "sub" / "sdprep.toml"}'


def test_a_file_that_is_named_with_config_may_be_that_of_the_folder(shown, imgs):
    (imgs / "sdprep.toml").write_text("[tag]\nworkers = 0\n")
    assert shown("workers", "--config", imgs / "sdprep.toml") == "0  # --config"


# What has no effect is named


def test_a_config_file_without_a_table_for_the_command_is_named(sdprep_command, imgs, tmp_path):
    (tmp_path / "own.toml").write_text("[caption]\nprompt = 'x'\n")
    said = sdprep_command("tag", imgs, "--config", tmp_path / "own.toml", "--show-config").err
    assert f"{tmp_path / 'own.toml'} has no table [tag], so --config has no effect in this run\n" in said


def test_a_misspelt_variable_is_named_with_the_one_that_is_meant(sdprep_command, imgs, monkeypatch):
    monkeypatch.setenv("SDPREP_TAG_TRESHOLD", "0.5")
    monkeypatch.setenv("SDPREP_CAPTION_PROMT", "x")
    said = sdprep_command("tag", imgs, "--show-config").err
    assert (
        "the variable SDPREP_TAG_TRESHOLD is set, but tag has no such option; did you mean SDPREP_TAG_THRESHOLD?\n"
        in said
    )
    assert "CAPTION" not in said
