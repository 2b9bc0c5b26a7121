"""Settings that came with the pictures."""

import os
import sys

import pytest


@pytest.fixture
def says(sdprep_command, imgs):
    """Runs a command over pictures among which this `sdprep.toml` lies."""

    def run(text, command="tag", *words):
        (imgs / "sdprep.toml").write_text(text, encoding="utf-8")
        return sdprep_command(command, imgs, "--show-config", *words)

    return run


LEAVING = [
    "/etc/passwd",
    "../x.jsonl",
    "a/../../x",
    "C:x",
    "C:/x",
    "//host/x",
    "\\\\host\\x",
    "a\\\\b",
    "nul",
    "a/CON.txt",
    "",
]
PATHS = [("tag", "scores"), ("tag", "output-dir"), ("tag", "catalog"), ("tag", "aliases"), ("merge", "output")]
PATHS += [("tag", "tag-thresholds"), ("merge", "in-json"), ("caption", "output-dir")]


@pytest.mark.parametrize("value", LEAVING)
@pytest.mark.parametrize(("command", "name"), PATHS)
def test_a_path_that_leaves_the_folder_is_refused(says, command, name, value):
    ended = says(f"[{command}]\n{name} = '{value}'\n", command)
    assert ended.code == 2
    assert f"{name.replace('-', '_')} leaves the folder of the file" in ended.err


def test_a_path_starts_at_the_folder_of_the_pictures(says, imgs):
    assert f'scores = "{imgs / "deep" / "scores.jsonl"}"' in says('[tag]\nscores = "deep/scores.jsonl"\n').out


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no place in folders there")
@pytest.mark.parametrize(("command", "name"), PATHS)
def test_a_path_of_a_pipe_is_refused(says, imgs, command, name):
    os.mkfifo(imgs / "x.json")
    ended = says(f"[{command}]\n{name} = 'x.json'\n", command)
    assert ended.code == 2
    assert f"{name.replace('-', '_')} is no ordinary file" in ended.err


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_path_through_a_link_that_leaves_is_refused(says, imgs, tmp_path):
    (imgs / "out").symlink_to(tmp_path)
    assert "output_dir leaves the folder" in says('[tag]\noutput-dir = "out"\n').err


@pytest.mark.parametrize("value", ["x.toml", "sub/X.TOML", "~/model", "."])
def test_a_model_of_the_folder_is_refused(says, value):
    ended = says(f'[tag]\nmodel = "{value}"\n')
    assert (ended.code, "model is no name of one" in ended.err) == (2, True)


@pytest.mark.parametrize("value", ["demo-tag", "SmilingWolf/wd-vit-tagger-v3", "model"])
def test_a_name_of_a_model_is_fine(says, value):
    assert f'model = "{value}"  # sdprep.toml' in says(f'[tag]\nmodel = "{value}"\n').out


def test_the_word_model_for_thresholds_is_no_path(says):
    assert 'tag-thresholds = "model"' in says('[tag]\ntag-thresholds = "model"\n').out


def test_pictures_cannot_allow_pickles(says):
    ended = says("[caption]\nallow-pickle = true\n", "caption")
    assert (ended.code, "cannot allow pickles" in ended.err) == (2, True)
    assert says("[caption]\nallow-pickle = false\n", "caption").code == 0


@pytest.mark.parametrize("value", [r"['1girl', '/((\w+)+)+!/']", r"'1girl, /((\w+)+)+!/'"])
def test_pictures_cannot_bring_regular_expressions(says, imgs, value):
    text = f"[tag]\nexclude = {value}\n"
    ended = says(text)
    assert (ended.code, "cannot bring regular expressions" in ended.err) == (2, True)
    assert says(text, "tag", "--config", imgs / "sdprep.toml").code == 0


@pytest.mark.parametrize("value", ["['1girl', '*_hair', 'a/b']", "'1girl, *_hair'"])
def test_pictures_may_exclude_tags(says, value):
    assert says(f"[tag]\nexclude = {value}\n").code == 0


def test_a_file_that_a_person_names_may_say_everything(says, imgs, tmp_path):
    text = f'[caption]\nallow-pickle = true\nmodel = "{tmp_path}"\noutput-dir = "{tmp_path}"\n'
    ended = says(text, "caption", "--config", imgs / "sdprep.toml")
    assert "allow-pickle = true  # sdprep.toml" in ended.out
