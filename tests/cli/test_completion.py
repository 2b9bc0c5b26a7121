"""`sdprep completion` and `sdprep help`."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT


@pytest.fixture
def completed():
    """What a shell gets for the words of a command line."""

    def ask(shell, words):
        environment = {"PYTHONPATH": str(ROOT), "_SDPREP_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
        program = 'import sys; sys.argv = ["sdprep"]; from sdprep.cli.main import main; main()'
        environment |= {"COMP_CWORD": "2"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    return ask


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_has_a_script(shell, sdprep_command):
    shown = sdprep_command("completion", shell)
    assert (shown.code, f"{shell}_complete" in shown.out, "\\x" in shown.out) == (0, True, False)


def test_another_shell_is_a_usage_error(sdprep_command):
    assert sdprep_command("completion", "cmd").code == 2


def test_options_are_completed_in_bash(completed):
    assert "plain,--exclude" in completed("bash", "sdprep tag --ex")


def test_options_are_completed_in_powershell_with_their_help(completed):
    assert "plain|--refresh|Run the model again even if its result is stored." in completed(
        "powershell", "sdprep\ntag\n--re"
    )


def test_commands_are_completed_in_powershell(completed):
    assert [line.split("|")[1] for line in completed("powershell", "sdprep\nm")] == ["merge", "models"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_the_script_for_bash_completes(sdprep_command, tmp_path):
    script = sdprep_command("completion", "bash").out
    (tmp_path / "sdprep").write_text(
        f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -c \"import sys; sys.argv = ['sdprep'];"
        ' from sdprep.cli.main import main; main()"\n'
    )
    (tmp_path / "sdprep").chmod(0o755)
    asked = f"{script}\nCOMP_WORDS=(sdprep ta); COMP_CWORD=1; _sdprep_completion sdprep; echo ${{COMPREPLY[@]}}"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "tag\n", done.stderr


@pytest.mark.parametrize("words", [["tag"], ["models", "list"], []], ids=str)
def test_help_of_a_command_is_what_its_help_option_shows(words, sdprep_command):
    shown = sdprep_command("help", *words)
    assert (shown.code, shown.out) == (0, sdprep_command(*words, "--help").out)


def test_help_of_an_unknown_command_is_a_usage_error(sdprep_command):
    shown = sdprep_command("help", "tagg")
    assert (shown.code, "tag" in shown.err) == (2, True)


def test_the_version_has_a_short_option(sdprep_command):
    assert sdprep_command("-V").out == sdprep_command("--version").out


@pytest.mark.parametrize("words", [["demo", "tag"], ["models", "list", "tag"], ["tag", "tag"]], ids=str)
def test_a_word_too_many_for_help_is_not_ignored(words, sdprep_command):
    shown = sdprep_command("help", *words)
    expected = f"there is no command 'tag' below {' '.join(words[:-1])}\n"
    assert (shown.code, shown.out, expected in shown.err) == (2, "", True)


@pytest.mark.parametrize("words", [[], ["models"]], ids=str)
def test_help_for_want_of_a_command_is_no_error_message(words, sdprep_command):
    shown = sdprep_command(*words)
    text = shown.out + shown.err
    assert (text.startswith("Usage: "), "error" in text, "Try '" in text) == (True, False, False)


def test_choices_of_a_missing_argument_are_listed_without_escapes(sdprep_command):
    shown = sdprep_command("completion").err
    assert ("\n  bash,\n" in shown, "\\t" in shown) == (True, False)
