"""`--show-config` prints TOML that `--config` reads back to the same settings."""

import sys
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.cli.main import cli
from sdprep.cli.param_types import TEXTS as LISTS
from sdprep.cli.param_types import hyphenate
from sdprep.cli.settings_files import read_table, setting_options, typed
from sdprep.cli.show_config import as_toml
from tests.commands import COMMANDS

# Text as an option takes it: without characters that no file can hold, and without white space around it.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)
TEXTS = st.lists(TEXT, min_size=1, max_size=3).map(tuple)
# A backslash of a tag would escape the comma of its pair.
TAG = TEXT.filter(lambda text: "\\" not in text)
OWN = {
    "threshold": st.floats(0.01, 2) | st.sampled_from(["auto", "mcut"]),
    "exclude": TEXTS,
    "category_threshold": st.lists(st.tuples(TEXT.filter(lambda text: "=" not in text), st.floats(0.01, 2))).map(tuple),
    "tag_replacement": st.lists(st.tuples(TAG, TAG | st.just(""))).map(tuple),
}


def values_of(option):
    """Values that an option may have."""
    kind = option.type
    if option.name in ("model", "server") and kind is LISTS:
        # One model or server is a text, several are a list.
        return TEXT | st.lists(TEXT, min_size=2, max_size=3, unique=True).map(tuple)
    if option.name in OWN:
        return OWN[option.name]
    if option.is_flag:
        return st.booleans()
    if isinstance(kind, click.Choice):
        return st.sampled_from(kind.choices)
    if isinstance(kind, click.types.IntParamType):
        return st.integers(kind.min or 0, 2**63 - 1)
    if isinstance(kind, click.types.FloatParamType):
        return st.floats(kind.min or 0.01, kind.max or 9, exclude_min=True)
    if isinstance(kind, click.Path):
        return TEXT.map(lambda text: Path(f"x{text}"))
    return TEXTS if kind is LISTS else TEXT


@pytest.fixture
def context(tmp_path):
    def make(command):
        group = click.Context(cli, **cli.context_settings)
        return COMMANDS[command].make_context(command, [str(tmp_path)], parent=group)

    return make


@pytest.mark.parametrize("command", ["caption", "tag", "merge"])
def test_every_value_of_every_option_is_read_back(command, context, tmp_path):
    ctx, file = context(command), tmp_path / "own.toml"

    @given(
        st.fixed_dictionaries(
            {}, optional={name: values_of(each) for name, each in setting_options(ctx.command).items()}
        )
    )
    @settings(max_examples=60, suppress_health_check=[*HealthCheck])
    def check(values):
        lines = [f"{hyphenate(name)} = {as_toml(value)}\n" for name, value in values.items()]
        file.write_text(f"[{command}]\n{''.join(lines)}", encoding="utf-8")
        assert typed(ctx, read_table(ctx, file), file) == values

    check()


WORDS = [
    ["tag", "--prefix", 'my "char", \u200dx', "--exclude", r"/a,b\d/,solo,a\,b", "--tag-replacement", r"a\,b,c;d,"],
    ["tag", "--threshold", "mcut", "--category-threshold", "a b=0.5", "--max-tags", "5", "--caption-separator", r"\n"],
    ["tag", "--output-dir", "b\\c 'd", "--aliases", "~/x.csv", "--preset", "kohya", "--no-recursive"],
    ["caption", "--prompt", "", "--prefix", "a # b", "--best-of", "2", "--top-p", "0.00001", "--sample"],
    ["merge", "--fields", "tags", "-o", "青い.json", "--keys", "stem"],
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words[:2]))
def test_what_is_shown_gives_the_same_settings_as_a_config_file(words, sdprep_command, imgs, tmp_path):
    command, *options = words
    shown = sdprep_command(command, imgs, "--show-config", *options).out
    (tmp_path / "own.toml").write_text(shown, encoding="utf-8")
    again = sdprep_command(command, imgs, "--show-config", "--config", tmp_path / "own.toml").out
    assert [line.split("  # ")[0] for line in again.splitlines()] == [
        line.split("  # ")[0] for line in shown.splitlines()
    ]
    assert "# --config" in again


def test_what_is_shown_states_nothing_anew_as_a_config_file(sdprep_command, imgs, tmp_path):
    run = ("tag", imgs, "--model", "demo-tag", "--workers", "0")
    sdprep_command(*run, "--prefix", "me", "--threshold", "0.35")
    stated = [line.split("  ")[:3] for line in sdprep_command("settings", imgs).out.splitlines()]
    (tmp_path / "own.toml").write_text(sdprep_command("tag", imgs, "--show-config").out, encoding="utf-8")

    first, *_ = sdprep_command("tag", imgs, "--workers", "0", "--config", tmp_path / "own.toml").err.splitlines()

    assert first.startswith("tag: 2 images: 0 written, 2 up to date")
    assert [line.split("  ")[:3] for line in sdprep_command("settings", imgs).out.splitlines()] == stated


def test_an_option_without_a_value_is_a_comment(sdprep_command, imgs):
    assert "# max-tags is not set  # built-in\n" in sdprep_command("tag", imgs, "--show-config").out


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there")
def test_a_path_that_toml_cannot_hold_is_a_comment(sdprep_command, imgs):
    shown = sdprep_command("tag", imgs, "--show-config", "--output-dir", "a\udcff").out
    assert "# output-dir cannot be in TOML, since it is not UTF-8: " in shown
