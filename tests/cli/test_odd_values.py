"""Every option with values that nobody means: an error in plain words, or a run."""

import itertools
import random

import click
import pytest

from tests.commands import COMMANDS

VALUES = ["", " ", "nan", "inf", "-inf", "-1", "0", "1e999", "9" * 30, "9" * 5000, "-" + "9" * 30, "0x10", "1.5", "٣"]
VALUES += [
    "\0",
    "a\0b",
    "\udcff",
    "é\n",
    "x" * 300,
    "x" * 5000,
    "../..",
    "/",
    "~",
    "~nobody/x",
    "*",
    "/(/",
    "a=b",
    ",",
    "=nan",
]
VALUES += ["/dev/null", "imgs", "imgs/a.jpg", "cpu,cpu", "cuda:99", "auto"]
# What is needed besides the option, for a run of a moment.
WORDS = {
    "tag": ["imgs", "--model", "demo-tag", "--workers", "0"],
    "caption": ["imgs", "--model", "no-such-model"],
    "merge": ["imgs"],
    "bench": ["imgs", "--model", "demo-tag", "--workers", "0", "--limit", "1"],
    "log": ["imgs"],
    "undo": ["--dir", "imgs"],
    "restore": ["imgs/a.txt"],
    "retry": ["imgs"],
    "models list": [],
    "models show": ["demo-tag"],
    "models verify": [],
    "models quantize": ["demo-tag", "--images", "imgs", "--sample", "2"],
}
CASES = [
    (name, option.opts[0], value)
    for name in WORDS
    for option in COMMANDS[name].params
    if isinstance(option, click.Option) and not option.is_flag
    for value in VALUES
]
CASES += [(name, "", value) for name, value in itertools.product(WORDS, VALUES)]


@pytest.fixture
def settled(sdprep_command, imgs):
    """Two images with tags."""
    sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", "0")
    return imgs


def test_no_value_of_an_option_gives_a_traceback(sdprep_command, settled, request):
    many = request.config.getoption("--odd-values")
    for name, option, value in random.Random(many).sample(CASES, min(many, len(CASES))):
        explicit = [f"{option}={value}"] if option.startswith("--") else [option, value] if option else [value]
        ended = sdprep_command(*name.split(), *WORDS[name], *explicit)
        assert ended.code in (0, 1, 2, 3, 4, 5), (name, option, value)
        assert "bug in sdprep" not in ended.err, (name, option, value, ended.err)
        assert "Traceback" not in ended.err, (name, option, value)


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [("tag", "--prefix", "a\udcff"), ("caption", "--prompt", "/\udcff"), ("tag", "--caption-separator", "\udcff")],
)
def test_text_that_no_file_can_hold_is_refused(command, option, value, sdprep_command, imgs):
    ended = sdprep_command(command, imgs, option, value)
    assert (ended.code, "is not valid UTF-8 text" in ended.err) == (2, True)


@pytest.mark.parametrize("name", ["aliases", "tag-thresholds", "catalog", "model"])
def test_a_settings_file_with_nul_in_a_path_is_refused(name, sdprep_command, imgs, tmp_path):
    (tmp_path / "own.toml").write_text(f'[tag]\n{name} = "a\\u0000b"\n')
    assert sdprep_command("tag", imgs, "--config", "own.toml").code == 2
