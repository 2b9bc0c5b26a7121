"""What is printed: nothing of a stranger moves a cursor, and nothing that cannot be printed ends a run."""

import errno
import io
import json
import os
import pwd
import re
import subprocess
import sys
import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.cli import output
from sdprep.cli.main import main
from sdprep.cli.output import Printer, print_json
from sdprep.cli.progress import Terminal
from sdprep.cli.report import summarize
from sdprep.errors import SdprepError
from sdprep.report import RunReport
from tests.cli.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such names and streams there")

# A title, a cleared screen, an 8-bit escape, a change of direction, a hidden tag, a byte that is not UTF-8, a line end.
EVIL = "a\x1b]0;t\x07\x1b[2J\x9b31m\u202e\u200b\U000e0041\x7f\udcff\r\nb"
LETTERS = "ab\n\r\t\x00\x1b[A2J\x7f\x85\x9b\u00ad\u200b\u200d\u202e\u2028\u3164\ufeff\ud800\udcff\U000e0041é青👩\u3000"
TEXT = st.text(st.sampled_from(LETTERS)) | st.text(st.characters())


def pending(text):
    """The characters of a text that a terminal does not show, but for line ends, spaces and joined emoji."""
    return [
        each
        for each in text
        if not (each in "\n\u200c\u200d" or each.isprintable() or unicodedata.category(each) == "Zs")
        or "\U000e0000" <= each <= "\U000e0fff"
    ]


@given(TEXT)
@pytest.mark.parametrize("is_talk", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "utf-16"])
def test_any_text_is_printed_without_anything_that_a_terminal_obeys(is_talk, encoding, text):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    printer = Printer(stream, is_talk=is_talk)
    printer.write(text)
    printer.flush()
    assert pending(stream.buffer.getvalue().decode(encoding)) == []


@given(st.text(st.sampled_from("ab é青👩❤️\n\u3000")))
def test_what_can_be_seen_is_printed_as_it_is(text):
    stream = io.StringIO()
    Printer(stream, is_talk=False).write(text)
    assert stream.getvalue() == text


@given(st.text(st.sampled_from(LETTERS.replace("\ud800", ""))) | st.text(st.characters(exclude_categories=["Cs"])))
def test_json_is_printed_in_visible_ascii_and_means_the_same(text):
    stream = io.StringIO()
    printer = Printer(stream, is_talk=False)
    before, sys.stdout = sys.stdout, printer
    try:
        print_json({"text": text})
    finally:
        sys.stdout = before
    assert pending(stream.getvalue()) == []
    assert json.loads(stream.getvalue())["text"] == text


class OnATerminal(io.StringIO):
    def isatty(self):
        return True


def test_a_note_above_a_bar_is_as_harmless_as_one_without(monkeypatch):
    stream = OnATerminal()
    monkeypatch.setattr(sys, "stderr", Printer(stream, is_talk=True))
    terminal = Terminal()
    terminal.stage("tagging", 3)
    terminal.note("\r" + EVIL)
    terminal.note("\x1b[A")
    terminal.close()
    assert r"\x0da\x1b]0;t\x07\x1b[2J" in stream.getvalue().replace(r"\r", r"\x0d")
    assert set(pending(stream.getvalue())) == {"\r"}


def test_a_bar_may_go_back_to_the_begin_of_its_line_on_a_terminal_only():
    for stream, shown in ((OnATerminal(), "\r50%"), (io.StringIO(), "\\r50%")):
        Printer(stream, is_talk=True).write("\r50%")
        assert stream.getvalue() == shown


# Every way to print


@pytest.fixture
def evil(tmp_path, put_image, sdprep_command):
    """A folder in which every name and text has what a terminal obeys, and its command."""
    folder = tmp_path / EVIL
    put_image(folder / f"{EVIL}.png")
    (folder / f"empty{EVIL}.png").touch()
    (folder / f"kept{EVIL}.png").write_bytes((folder / f"{EVIL}.png").read_bytes())
    (folder / f"kept{EVIL}.txt").write_bytes(b"a \x1b[2J\xc2\x9b31m \xe2\x80\xae text\n")
    sdprep_command("tag", folder, "--model", "demo-tag", "--workers", 0)
    return folder


WAYS = {
    "a run": ["tag", "{}", "--model", "demo-tag", "--workers", "0", "--debug", "--update", "--threshold", "0.9"],
    "a run with JSON": ["tag", "{}", "--model", "demo-tag", "--json"],
    "frequencies": ["tag", "{}", "--model", "demo-tag", "--prefix", "\x1b[2Jx", "--update", "--frequency-tags"],
    "a merge": ["merge", "{}", "--debug"],
    "runs": ["log", "{}"],
    "the texts of a file": ["log", "{}/kept" + EVIL + ".txt"],
    "texts with JSON": ["log", "{}/kept" + EVIL + ".txt", "--json"],
    "an undo": ["undo", "--dir", "{}"],
    "a restore": ["restore", "{}/" + EVIL + ".txt"],
    "a retry": ["retry", "{}"],
    "where settings come from": ["tag", "{}", "--prefix", EVIL, "--show-config"],
    "an unknown option": ["tag", "{}", "--" + EVIL],
    "an unknown command": [EVIL],
    "a wrong value": ["tag", "{}", "--threshold", EVIL],
    "a wrong number": ["tag", "{}", "--workers", EVIL],
    "a folder that is not there": ["tag", "{}" + EVIL],
    "a model that is not there": ["tag", "{}", "--model", EVIL],
    "a model to show": ["models", "show", EVIL],
    "a model to download": ["models", "download", EVIL, "--task", "tag"],
    "a model to add": ["models", "add", EVIL],
    "a settings file": ["tag", "{}", "--config", EVIL],
    "a catalog": ["log", "{}", "--catalog", EVIL],
    "a preset": ["tag", "{}", "--preset", EVIL],
    "a list": ["tag", "{}", "--aliases", EVIL],
    "a measurement": ["bench", "{}", "--model", "demo-tag", "--limit", "2"],
}


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_no_command_prints_what_a_terminal_obeys(words, evil, sdprep_command):
    ended = sdprep_command(*(word.replace("{}", str(evil), 1) for word in words))
    assert ended.out + ended.err
    assert (pending(ended.out), pending(ended.err)) == ([], [])
    assert "bug in sdprep" not in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ["tag", "{}", "--model", "demo-tag"],
        ["merge", "{}", "--debug"],
        ["tag", "{}", "--threshold", "e\x1b[2Jqz"],
        ["tag", "{}", "--model", "e\x1b[2Jqz"],
        ["tag", "{}", "--prefix", "e\x1b[2Jqz", "--show-config"],
        ["tag", "{}/e\x1b[2Jqz"],
        ["e\x1b[2Jqz"],
    ],
    ids=["a run", "a merge", "a value", "a model", "settings", "a folder", "a command"],
)
def test_an_odd_name_is_never_shown_as_another(words, imgs, sdprep_command):
    (imgs / "e\x1b[2Jqz.jpg").touch()
    (imgs / "e\x1b[2Jqz.txt").write_text("x")
    ended = sdprep_command(*(word.replace("{}", str(imgs)) for word in words))
    shown = (ended.out + ended.err).replace(r"\u001b", r"\x1b")
    assert r"e\x1b[2Jqz" in shown
    assert "eqz" not in shown


def test_a_settings_file_of_a_stranger_prints_nothing_that_a_terminal_obeys(evil, sdprep_command):
    (evil / "sdprep.toml").write_text('[tag]\n"\\u001b[2J\\u009b" = 1\n')
    ended = sdprep_command("tag", evil)
    assert (ended.code, pending(ended.err)) == (2, [])


def test_a_message_is_bounded_whatever_it_quotes(sdprep_command, imgs):
    ended = sdprep_command("tag", imgs, "--model", "x" * 1_000_000)
    assert ended.code in (1, 2)
    assert len(ended.err) < 20_000


# Streams that are closed, full or gone


class UnexpectedError(io.StringIO):
    """A stream to which nothing can be written."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, _):
        raise self.error


FULL = OSError(errno.ENOSPC, "No space left on device")


def ended(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["sdprep", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code


@pytest.mark.parametrize(
    "stream",
    [None, UnexpectedError(FULL), UnexpectedError(BrokenPipeError()), UnexpectedError(ValueError("closed file"))],
)
def test_a_run_goes_on_when_nobody_can_read_its_messages(stream, monkeypatch, imgs):
    monkeypatch.setattr(sys, "stderr", stream)
    assert ended(monkeypatch, "tag", imgs, "--model", "demo-tag", "--workers", "0") == 0
    assert (imgs / "a.txt").exists()


def test_data_that_cannot_be_printed_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", UnexpectedError(FULL))
    assert ended(monkeypatch, "models", "list") == 1
    assert "stdout cannot be written" in capsys.readouterr().err


def test_data_that_nobody_reads_any_more_ends_the_command_without_a_word(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", UnexpectedError(BrokenPipeError()))
    assert ended(monkeypatch, "models", "list") == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_run_with_closed_streams_writes_into_no_other_file(closed, imgs):
    program = f"import os, sys; [os.close(each) for each in {closed}]; os.execv(sys.executable, sys.argv[1:])"
    words = [sys.executable, "-m", "sdprep", "tag", str(imgs), "--model", "demo-tag", "--json"]
    process = subprocess.run(
        [sys.executable, "-c", program, *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert (process.returncode, b"Traceback" in process.stderr) == (0, False)
    assert sorted(path.name for path in imgs.iterdir() if path.is_file()) == ["a.jpg", "a.txt", "b.png", "b.txt"]
    assert (imgs / "a.txt").read_text().startswith("1girl")


# Errors that are not sdprep's own


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (ImportError("x\nlibfar.so: failed to map segment from shared object"), "(ulimit -v): libfar.so"),
        (RuntimeError("in the worker:\nMemoryError"), "not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (RuntimeError("can't start new thread"), "start more threads"),
        (KeyError("x"), "this is a bug in sdprep: KeyError: 'x'"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "this is a bug in sdprep"),
        (SdprepError("x" * 100_000), "xxx..."),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (click.UsageError("a\x07"), r"a\x07"),
    ],
)
def test_no_error_is_shown_as_a_traceback(error, said, monkeypatch, sdprep_command, imgs):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("sdprep.tasks.merge.merge", fail)
    shown = sdprep_command("merge", imgs)
    assert shown.code in (1, 2)
    assert said in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("home", [None, "", "relative"])
@pytest.mark.parametrize("words", [["log"], ["merge"], ["undo", "--dir"], ["retry"], ["tag", "--model", "demo-tag"]])
def test_a_user_without_a_home_folder_is_served(words, home, monkeypatch, sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", "0")

    def unknown(_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    ended = sdprep_command(*words, imgs)
    assert (ended.code, "fault" in ended.err) == (0, False), ended.err


@pytest.mark.parametrize("words", [["log"], ["merge"], ["undo"], ["tag", "."], ["demo"]], ids=str)
def test_a_current_folder_that_is_gone_is_said(words, sdprep_command, tmp_path, monkeypatch, capsys):
    sdprep_command("log")
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "argv", ["sdprep", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    shown = capsys.readouterr().err
    assert leaving.value.code in (1, 2, 4)
    assert "the current folder was deleted" in shown or "No such file or directory" in shown
    assert "bug in sdprep" not in shown


def test_streams_are_as_before_when_a_command_has_ended(sdprep_command):
    before = sys.stdout, sys.stderr
    sdprep_command("models", "list")
    assert (sys.stdout, sys.stderr) == before
    assert not isinstance(sys.stdout, output.Printer)


def test_what_a_summary_says_begins_after_a_space(capsys):
    summarize(RunReport("caption", asked_again=1, stale=["a.png"], failed=1))
    assert re.findall("^.*?:(.)", capsys.readouterr().err, re.MULTILINE) == [" "] * 3
