"""Where a setting comes from: flag over environment over sdprep.toml over what is built in."""

import pytest

from sdprep.cli.settings_files import read_config
from sdprep.files import configs_folder


@pytest.fixture
def shown(sdprep_command, imgs):
    """What `--show-config` says of one setting of tag: its value and its source."""

    def show(name, *words):
        lines = sdprep_command("tag", imgs, "--show-config", *words).out.splitlines()
        return next(line.split(" = ")[1] for line in lines if line.removeprefix("# ").startswith(f"{name} = "))

    return show


def test_a_default_is_built_in(shown):
    assert shown("threshold") == "0.35  # built-in"


def test_the_settings_file_beats_the_default(shown, imgs):
    (imgs / "sdprep.toml").write_text("[tag]\nthreshold = 0.5\n")
    assert shown("threshold") == f"0.5  # {imgs / 'sdprep.toml'}"


def test_the_environment_beats_the_settings_file(shown, imgs, monkeypatch):
    (imgs / "sdprep.toml").write_text("[tag]\nthreshold = 0.5\n")
    monkeypatch.setenv("SDPREP_TAG_THRESHOLD", "0.6")
    assert shown("threshold") == "0.6  # environment"


def test_a_flag_beats_the_environment(shown, monkeypatch):
    monkeypatch.setenv("SDPREP_TAG_THRESHOLD", "0.6")
    assert shown("threshold", "--threshold", "0.7") == "0.7  # flag"


def test_a_settings_file_may_use_underscores(shown, imgs):
    (imgs / "sdprep.toml").write_text("[tag]\nremove_underscore = true\n")
    assert shown("remove-underscore") == f"true  # {imgs / 'sdprep.toml'}"


def test_a_settings_file_that_is_named_beats_the_one_in_the_folder(shown, imgs, tmp_path):
    (imgs / "sdprep.toml").write_text("[tag]\nthreshold = 0.5\norder = 'csv'\n")
    (tmp_path / "other.toml").write_text("[tag]\nthreshold = 0.6\n")
    assert shown("threshold", "--config", tmp_path / "other.toml") == "0.6  # --config"
    assert shown("order", "--config", tmp_path / "other.toml") == f'"csv"  # {imgs / "sdprep.toml"}'


def test_tags_may_be_a_list_in_the_settings_file(shown, imgs):
    (imgs / "sdprep.toml").write_text('[tag]\nexclude = ["1girl", "solo"]\n')
    assert shown("exclude") == f'["1girl", "solo"]  # {imgs / "sdprep.toml"}'


def test_merge_finds_the_settings_of_the_current_folder(sdprep_command, tmp_path):
    (tmp_path / "sdprep.toml").write_text('[merge]\nkeys = "stem"\n')
    assert f'keys = "stem"  # {tmp_path / "sdprep.toml"}' in sdprep_command("merge", "--show-config").out


@pytest.mark.parametrize("value", ['"caption,tags"', '["caption", "tags"]'])
def test_fields_of_merge_may_be_text_or_a_list(sdprep_command, tmp_path, value):
    (tmp_path / "sdprep.toml").write_text(f"[merge]\nfields = {value}\n")
    assert 'fields = ["caption", "tags"]  # /' in sdprep_command("merge", "--show-config").out


# Presets


def test_a_preset_beats_the_default(shown):
    assert shown("order", "--preset", "kohya") == '"csv"  # preset kohya'


@pytest.mark.parametrize("words", [("--config", "other.toml"), ()])
def test_the_settings_file_beats_a_preset_wherever_it_is_named(shown, imgs, tmp_path, words):
    for path in (imgs / "sdprep.toml", tmp_path / "other.toml"):
        path.write_text("[tag]\norder = 'alphabetical'\n")
    origin = "--config" if words else imgs / "sdprep.toml"
    for both in (("--preset", "kohya", *words), (*words, "--preset", "kohya")):
        assert shown("order", *both) == f'"alphabetical"  # {origin}'


def test_what_the_settings_file_leaves_open_comes_from_the_preset(shown, imgs):
    (imgs / "sdprep.toml").write_text("[tag]\norder = 'alphabetical'\n")
    assert shown("preprocess", "--preset", "kohya") == '"kohya"  # preset kohya'


def test_a_flag_beats_a_preset(shown):
    assert shown("order", "--preset", "kohya", "--order", "confidence") == '"confidence"  # flag'


def test_an_unknown_preset_is_refused_with_those_that_there_are(sdprep_command, imgs):
    outcome = sdprep_command("tag", imgs, "--preset", "khoya")
    assert (outcome.code, "unknown preset 'khoya'; available: anima, illustrious, kohya" in outcome.err) == (2, True)


@pytest.mark.parametrize("preset", sorted(configs_folder("presets").glob("*.toml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["caption", "tag", "merge"])
def test_every_setting_of_a_preset_is_one_of_its_command(sdprep_command, imgs, preset, command):
    said = sdprep_command(command, imgs, "--preset", preset.stem, "--show-config").out.splitlines()
    table = read_config(preset).get(command, {})
    assert {line.split(" = ")[0] for line in said if line.endswith(f"# preset {preset.stem}")} == {
        n.replace("_", "-") for n in table
    }


def test_kohyas_beam_search_is_asked_for_as_in_its_captioner(sdprep_command, imgs):
    said = sdprep_command("caption", imgs, "--preset", "kohya", "--beam_search", "--show-config").out
    assert "sample = false  # flag" in said


def test_show_config_writes_nothing(sdprep_command, imgs):
    before = sorted(imgs.iterdir())
    sdprep_command("tag", imgs, "--model", "demo-tag", "--show-config")
    assert sorted(imgs.iterdir()) == before


def test_values_of_every_right_kind_are_taken(shown, imgs):
    lines = ["threshold = 'mcut'", "general-threshold = 1", "max-tags = 2", "recursive = false", "order = 'csv'"]
    lines += ["category-threshold = ['year=0.5']", "prefix = 'a, b'"]
    (imgs / "sdprep.toml").write_text("\n".join(["[tag]", *lines]))
    names = ["threshold", "general-threshold", "max-tags", "recursive", "order", "category-threshold", "prefix"]
    found = [shown(name).partition("  # /")[0] for name in names]
    assert found == ['"mcut"', "1.0", "2", "false", '"csv"', '["year=0.5"]', '["a", "b"]']


REFUSED = {
    "an unknown setting": ("[tag]\nthreshhold = 0.5\n", "did you mean 'threshold'"),
    "an unknown command": ("[tga]\nthreshold = 0.5\n", "tga"),
    "a setting outside a table": ("threshold = 0.5\n", "is outside a table"),
    "a value of a wrong type": ('[tag]\nthreshold = "high"\n', "threshold"),
    "a number for a list": ("[tag]\nexclude = 5\n", "exclude"),
    "a list of numbers for a list of tags": ("[tag]\nexclude = [5]\n", "exclude"),
    "a list for a text": ('[tag]\nprovider = ["cuda", "cpu"]\n', '[tag] provider takes text, not ["cuda", "cpu"]'),
    "a number for a text": ("[tag]\nprovider = 5\n", "[tag] provider takes text, not 5"),
    "a number for a path": ("[tag]\naliases = 5\n", "[tag] aliases takes text, not 5"),
    "a number for a word": ("[tag]\norder = 1\n", "[tag] order takes text, not 1"),
    "pairs for a text": (
        '[tag]\ntag-replacement = [["1girl", "woman"]]\n',
        "[tag] tag-replacement takes text or a list of texts, not",
    ),
    "a fraction for a whole number": ("[tag]\nmax-tags = 2.5\n", "[tag] max-tags takes a whole number, not 2.5"),
    "a text for a number": ('[tag]\nmax_tags = "2"\n', 'sdprep.toml: [tag] max-tags takes a whole number, not "2"'),
    "true for a whole number": ("[tag]\nbatch-size = true\n", "[tag] batch-size takes a whole number, not true"),
    "true for a number": ("[tag]\ngeneral-threshold = true\n", "[tag] general-threshold takes a number, not true"),
    "true for a threshold": ("[tag]\nthreshold = true\n", "[tag] threshold takes a number,"),
    "a text for a flag": ('[tag]\nrecursive = "no"\n', '[tag] recursive takes true or false, not "no"'),
    "a number for a flag": ("[tag]\nupdate = 1\n", "[tag] update takes true or false, not 1"),
    "a text for several": ('[tag]\ncategory-threshold = "a=1"\n', "[tag] category-threshold takes a list of texts"),
    "a date for a text": ("[tag]\nprovider = 2020-01-01\n", '[tag] provider takes text, not "2020-01-01"'),
    "a number beyond all bounds": ("[tag]\nlimit = 99999999999999999999999\n", "is too large"),
    "a threshold beyond all bounds": (f"[tag]\nthreshold = 1{'0' * 400}\n", "is not a probability"),
    "a category's threshold beyond all bounds": (
        f"[tag]\ngeneral-threshold = 1{'0' * 400}\n",
        "is not a finite number",
    ),
    "a time beyond all bounds": (f"[tag]\nimage-timeout = 1{'0' * 400}\n", "is not a finite number"),
    "more digits than are read": (f"[tag]\nlimit = 1{'0' * 5000}\n", "sdprep.toml"),
    "a table for a text": ("[tag.provider]\nname = 'x'\n", "[tag] provider takes text, not {"),
    "a table that is nested beyond all bounds": (
        f"[tag]\n{'.'.join(['provider'] * 400)} = 1\n",
        "takes text, not {...}",
    ),
    "a key of more parts than can be read in time": (f"[tag]\n{'.'.join(['model'] * 2000)} = 1\n", "500 dots"),
    "a text beyond all bounds": (f"[tag]\nlimit = '{'x' * 9000}'\n", "xxx..."),
    "a file that is not TOML": ("[tag\n", "sdprep.toml"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_settings_file_is_refused_by_name(text, said, sdprep_command, imgs):
    (imgs / "sdprep.toml").write_text(text)
    outcome = sdprep_command("tag", imgs)
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err


WHOLE = ["batch-size", "workers", "limit", "max-pixels", "max-tags"]
LARGEST = ["limit", "max-pixels", "max-tags", "batch-size"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_beyond_all_bounds_is_refused(sdprep_command, imgs, name):
    outcome = sdprep_command("tag", imgs, f"--{name}", 2**63)
    assert (outcome.code, "is too large" in outcome.err) == (2, True), outcome.err


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_whole_number_does_no_harm(sdprep_command, imgs, name, workers):
    words = ["--workers", workers, "--model", "demo-tag", f"--{name}", 2**63 - 1]
    assert sdprep_command("tag", imgs, *words).code == 0


def test_a_settings_file_that_is_not_there_is_refused(sdprep_command, imgs):
    assert sdprep_command("tag", imgs, "--config", "nowhere.toml").code == 2
