"""Messages and progress: what a person reads while a run works and when it ends."""

import io
import re
import shlex
import sys

import pytest

from sdprep.__main__ import main as start_sdprep
from sdprep.cli.output import Printer
from sdprep.cli.progress import INTERVAL, Terminal
from sdprep.cli.talk import RED, Level, current, talking
from sdprep.errors import MissingExtra
from sdprep.tasks.tag import tag as tag_task

TAG = ("tag", "imgs", "--model", "demo-tag", "--workers", "0")


class OnATerminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    """Makes stderr a terminal of 80 columns, and returns what is written to it."""
    with talking():

        def put() -> io.StringIO:
            stream = OnATerminal()
            monkeypatch.setattr(sys, "stderr", Printer(stream, is_talk=True))
            return stream

        yield put


@pytest.fixture(autouse=True)
def a_usual_terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def fail_for_captions(spec):
    if spec.task == "caption":
        raise MissingExtra("torch", "caption")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def screen(text):
    """The lines that a terminal shows after this text."""
    lines, column = [""], 0
    for each in re.findall(r"\x1b\[\d*m|.|\n", text, re.DOTALL):
        if each == "\n":
            lines.append("")
            column = 0
        elif each == "\r":
            column = 0
        elif not each.startswith("\x1b"):
            lines[-1] = lines[-1][:column].ljust(column) + each + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


# Bars


def test_a_bar_has_a_name_a_rate_and_the_time_that_is_left(open_terminal):
    terminal = open_terminal()
    shown = Terminal()
    shown.stage("tagging", 4)
    shown.advance()
    shown.advance()
    shown.note("a message, after which the bar is drawn again")
    assert re.search(r"\rtagging:  50%\|.*\| 2/4, .*images/s, .* left", terminal.getvalue())


def test_a_message_is_never_glued_to_a_bar(open_terminal):
    terminal = open_terminal()
    shown = Terminal()
    shown.stage("tagging", 4)
    shown.note("a message")
    shown.advance()
    current().say("another", level=Level.NOTE)
    lines = screen(terminal.getvalue())
    assert lines[:2] == ["a message", "another"]
    assert lines[2].startswith("tagging:")


def test_a_bar_is_gone_when_its_stage_ends_early(open_terminal):
    terminal = open_terminal()
    shown = Terminal()
    shown.stage("tagging", 4)
    shown.advance()
    shown.close()
    shown.note("the end")
    assert screen(terminal.getvalue()) == ["the end", ""]


def test_the_next_stage_takes_the_place_of_the_last(open_terminal):
    terminal = open_terminal()
    shown = Terminal()
    shown.stage("planning", 4)
    shown.stage("loading demo-tag")
    assert screen(terminal.getvalue()) == ["loading demo-tag"]
    shown.stage("tagging", 4)
    assert screen(terminal.getvalue())[0].startswith("tagging:   0%")


def test_an_error_is_not_glued_to_a_bar(sdprep_command, imgs, monkeypatch):
    def stage_and_fail(*_, listener, **__):
        listener.stage("merging", 4)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("sdprep.tasks.merge.merge", stage_and_fail)
    stream = OnATerminal()
    monkeypatch.setattr(sys, "stderr", stream)
    assert sdprep_command("merge", imgs).code == 1
    assert screen(stream.getvalue()) == ["sdprep: error: [Errno 5] Input/output error", ""]


# Ctrl-C


@pytest.fixture
def ctrl_c(monkeypatch):
    """Lets loading a model end with Ctrl-C, whose ^C a terminal shows behind the bar."""

    def press(*_):
        sys.stderr.write("^C")
        raise KeyboardInterrupt

    monkeypatch.setattr("sdprep.tasks.annotation.run.open_engine", press)


def test_ctrl_c_while_the_modules_of_sdprep_are_imported_is_no_traceback(monkeypatch, capsys):
    class Press:
        def find_spec(self, name, *_):
            if name == "sdprep.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "sdprep.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Press(), *sys.meta_path])
    with pytest.raises(SystemExit, match="130"):
        start_sdprep()
    assert capsys.readouterr().err == "sdprep: interrupted\n"


def test_ctrl_c_while_a_model_loads_leaves_no_traces_of_the_bar(sdprep_command, imgs, ctrl_c, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := OnATerminal())
    assert sdprep_command(*TAG).code == 130
    assert screen(stream.getvalue()) == [
        "sdprep: interrupted; 0 of 2 images written; run the same command to go on",
        "",
    ]


def test_ctrl_c_while_a_model_loads_tells_what_was_written_and_what_was_up_to_date(
    sdprep_command, imgs, put_image, monkeypatch, request
):
    sdprep_command(*TAG)
    (imgs / "a.txt").unlink()
    put_image(imgs / "c.png", "happy-eyes.png")
    request.getfixturevalue("ctrl_c")
    shown = sdprep_command(*TAG).err
    assert "sdprep: interrupted; 1 of 3 images written, 1 up to date; run the same command to go on\n" in shown
    assert (imgs / "a.txt").exists()


def test_ctrl_c_during_a_merge_tells_what_became_of_the_json(sdprep_command, imgs, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdprep.tasks.merge._open_output", press)
    shown = sdprep_command("merge", imgs)
    assert shown.code == 130
    assert shown.err == (
        "sdprep: interrupted; the metadata JSON is as it was, or complete; run the same command to go on\n"
    )


def test_ctrl_c_in_the_demo_tells_what_was_written(sdprep_command, imgs, ctrl_c):
    shown = sdprep_command("demo", "here")
    assert re.search(r"^\^?C?sdprep: interrupted; 0 of \d+ images written; run the same", shown.err, re.MULTILINE)


def test_a_demo_that_is_stopped_ends_with_its_counts_and_not_with_what_it_would_have_made(
    sdprep_command, imgs, monkeypatch
):
    def stop_first(*given, **named):
        named["stop"].exit_code = 130
        return tag_task(*given, **named)

    monkeypatch.setattr("sdprep.tasks.demo.check_installed", fail_for_captions)
    monkeypatch.setattr("sdprep.tasks.demo.tag", stop_first)
    shown = sdprep_command("demo", "here")
    assert (shown.code, shown.out) == (130, "")
    assert shown.err.endswith(" s)\ninterrupted; run the same command to go on\n")


# Where there is no terminal


def test_without_a_terminal_there_is_a_line_every_30_seconds(capsys):
    clock = Clock()
    shown = Terminal(clock)
    shown.stage("tagging", 1000)
    for _ in range(100):
        clock.now += INTERVAL / 50
        shown.advance()
    assert capsys.readouterr().err.splitlines() == [
        "tagging: 50 of 1,000 images, 1.7 images per second, 9:30 left",
        "tagging: 100 of 1,000 images, 1.7 images per second, 9:00 left",
    ]


def test_loading_is_said_while_it_happens(sdprep_command, imgs):
    assert sdprep_command(*TAG).err.splitlines()[0] == "loading demo-tag"


def test_the_last_line_names_the_model_and_what_ran_it(sdprep_command, imgs):
    *_, counts, last = sdprep_command(*TAG).err.splitlines()
    assert last == "model demo-tag on cpu"
    assert re.search(r"\(\d+\.\d s\)$", counts)


def test_the_last_line_of_a_run_from_stored_results_names_their_model(sdprep_command, imgs):
    sdprep_command(*TAG)
    *_, counts, last = sdprep_command(*TAG, "--prefix", "x").err.splitlines()
    assert last == "model demo-tag, stored results only"
    assert re.search(r"2 written.*\(\d+\.\d s\)$", counts)


# How much


def test_quiet_prints_nothing_of_a_run_without_failures(sdprep_command, imgs):
    assert sdprep_command(*TAG, "-q").err == ""


def test_quiet_prints_failures(sdprep_command, imgs):
    (imgs / "empty.png").touch()
    shown = sdprep_command(*TAG, "-q")
    assert (shown.code, shown.err) == (3, "failed: empty.png: empty_file: the file is empty\n")


def test_verbose_prints_the_stages_and_all_names(sdprep_command, imgs):
    for number in range(9):
        (imgs / f"e{number}.png").touch()
    shown = sdprep_command(*TAG, "-v").err
    assert {"planning: 11 images", "loading demo-tag", "tagging: 11 images"} <= set(shown.splitlines())
    assert "e8.png" in shown
    assert "..." not in shown


def test_quiet_and_verbose_contradict_each_other(sdprep_command, imgs):
    assert sdprep_command(*TAG, "-q", "-v").code == 2


def test_the_level_of_one_command_is_not_that_of_the_next(sdprep_command, imgs):
    sdprep_command(*TAG, "-q")
    assert "no model was loaded" in sdprep_command(*TAG).err


# The log file


def test_a_log_file_has_everything_with_its_time_also_when_quiet(sdprep_command, imgs, tmp_path):
    sdprep_command(*TAG, "-q", "--log-file", "run.log")
    sdprep_command("tag", "nowhere", "--log-file", "run.log")
    lines = (tmp_path / "run.log").read_text("utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d |    ", line) for line in lines)
    assert [line[20:32] for line in lines] == [
        "sdprep tag i", "planning: 2 ", "loading demo", "tagging: 2 i", "tag: 2 image", "model demo-t",
        "sdprep tag n", "sdprep: erro",
    ]  # fmt: skip


def test_a_log_file_shows_no_token_and_no_control_character(sdprep_command, imgs, tmp_path):
    sdprep_command(*TAG, "--prefix", "hf_abcdefgh,\x1b[2J", "--log-file", "run.log")
    text = (tmp_path / "run.log").read_text("utf-8")
    assert "hf_" not in text
    assert "\x1b" not in text


def test_a_log_file_that_cannot_be_written_is_a_usage_error(sdprep_command, imgs):
    shown = sdprep_command(*TAG, "--log-file", "imgs")
    assert (shown.code, "'imgs' is a directory" in shown.err) == (2, True)


def test_a_log_file_in_a_folder_that_does_not_exist_is_named_with_it(sdprep_command, imgs):
    shown = sdprep_command(*TAG, "--log-file", "no/such/run.log")
    assert (shown.code, "'--log-file': there is no folder no/such\n" in shown.err) == (2, True)


# Failures and kept sidecars


def test_failures_of_one_reason_are_one_line(sdprep_command, imgs):
    for number in range(9):
        (imgs / f"e{number}.png").touch()
    shown = sdprep_command(*TAG).err
    assert "failed: 9 images (e0.png, e1.png, e2.png, e3.png, e4.png, ...): empty_file: the file is empty\n" in shown


def test_what_failed_before_and_was_not_tried_again_is_counted(sdprep_command, imgs):
    for number in range(2):
        (imgs / f"e{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(number + 1))
    sdprep_command(*TAG)
    shown = sdprep_command(*TAG).err
    what = re.search(r"^failed: 2 as before \(2 \w+\); they are tried again after: (.*)$", shown, re.MULTILINE)
    assert what is not None
    assert what[1] == f"sdprep retry {imgs}"


def test_the_command_that_lets_failures_be_tried_again_works_as_printed(sdprep_command, imgs, tmp_path):
    (imgs / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    places = ("--output-dir", tmp_path / "out", "--catalog", tmp_path / "it's one.sqlite")
    sdprep_command(*TAG, *places)
    command = sdprep_command(*TAG, *places).err.partition("tried again after: ")[2].splitlines()[0]
    assert sdprep_command(*shlex.split(command)[1:]).err == "retry: 1 image will be tried again by the next run\n"


def test_each_folder_with_a_catalog_has_its_own_command_to_try_again(sdprep_command, imgs, put_image, tmp_path):
    put_image(tmp_path / "more" / "c.png")
    (tmp_path / "more" / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    sdprep_command(*TAG, "more")
    shown = sdprep_command(*TAG, "more").err
    assert f"after: sdprep retry {imgs}; sdprep retry {tmp_path / 'more'}\n" in shown
    assert "e0.png" not in shown


def test_the_reason_for_a_kept_sidecar_is_the_true_one(sdprep_command, imgs, put_image):
    put_image(imgs / "c.png", "happy-eyes.png")
    put_image(imgs / "d.png", "aka.jpg")
    (imgs / "c.txt").write_text("mine\n")
    sdprep_command(*TAG)
    (imgs / "a.txt").write_text("edited\n")
    shown = sdprep_command(*TAG, "--threshold", "0.9").err
    assert "kept the sidecar of a.jpg: edited since sdprep wrote it (--existing append" in shown
    assert "kept the sidecar of c.png: yours: not written by sdprep, or approved (--existing append" in shown
    shown = sdprep_command("caption", "imgs", "--model", "demo-caption", "--caption-extension", ".txt").err
    assert "kept the sidecar of 2 images (b.png, d.png): written by sdprep tag (--existing append" in shown


def test_a_text_that_has_all_tags_already_is_not_called_foreign(sdprep_command, imgs):
    sdprep_command(*TAG)
    edited = (imgs / "a.txt").read_text().replace("solo, ", "")
    (imgs / "a.txt").write_text(edited)
    shown = sdprep_command(*TAG, "--exclude", "solo", "--existing", "append").err
    assert "kept the sidecar of a.jpg: it has all that would be added\n" in shown
    assert (imgs / "a.txt").read_text() == edited


def test_one_moved_sidecar_is_at_one_new_path(sdprep_command, imgs):
    sdprep_command(*TAG)
    for name in ("a.jpg", "a.txt"):
        (imgs / name).rename((imgs / name).with_stem("z"))
    assert "1 sidecar recognised at a new path\n" in sdprep_command(*TAG).err


# Color


def test_a_terminal_shows_the_head_of_a_message_in_color(open_terminal):
    terminal = open_terminal()
    current().say(" a.png: empty_file", head="failed:", style=RED)
    assert terminal.getvalue() == "\x1b[31mfailed:\x1b[0m a.png: empty_file\n"


def test_color_comes_from_sdprep_only(open_terminal):
    terminal = open_terminal()
    current().say(" \x1b[32mgreen", head="\x1b[2Jfailed:", style=RED)
    assert terminal.getvalue() == "\x1b[31m\\x1b[2Jfailed:\x1b[0m \\x1b[32mgreen\n"


@pytest.mark.parametrize(
    ("name", "value", "on_terminal", "colored"),
    [("NO_COLOR", "1", True, False), ("NO_COLOR", "", True, True), ("FORCE_COLOR", "1", False, True),
     ("TERM", "dumb", True, False), ("FORCE_COLOR", "", False, False)],
)  # fmt: skip
def test_no_color_and_force_color_are_obeyed(name, value, on_terminal, colored, monkeypatch):
    monkeypatch.setenv(name, value)
    stream = OnATerminal() if on_terminal else io.StringIO()
    Printer(stream, is_talk=True).write_line(" x", head="failed:", style=RED)
    assert ("\x1b" in stream.getvalue()) == colored
