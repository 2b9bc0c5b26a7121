"""The process itself: what it hears, what it does not, and when it ends by itself."""

import io
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.engines import supervisor
from sdprep.engines.protocol import (
    Answer,
    Decoding,
    Failed,
    Flush,
    GroupDone,
    Image,
    Start,
    ToWorker,
    encode,
    read,
    write,
)  # fmt: skip
from sdprep.engines.worker_process import WorkerExit, WorkerProcess
from sdprep.errors import WorkerError
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken
from sdprep.tasks.annotation.engine_config import engine_config
from tests.engines.engine import images, opened
from tests.signals import said

ROOT = Path(__file__).parents[2]
PATIENCE = 120
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a test could send")
LINUX = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux can wait for a process of others")
# A program without a guard around its main part. It says the number of its worker when that begins the first image.
PROGRAM = """
import sys
from pathlib import Path
from sdprep.config import RunOptions, TagSettings
from sdprep.engines import base
from sdprep.engines import worker_process as process
from sdprep.engines.protocol import Decoding
from sdprep.tasks.tag import tag
base.DECODE = "tests.engines.faults:decode"
hear = process.WorkerProcess.receive
def overhear(self):
    message = hear(self)
    if message == Decoding(0):
        print(self._process.pid, flush=True)
    return message
process.WorkerProcess.receive = overhear
"""
LIBRARY = (
    "print(tag(Path(sys.argv[1]), TagSettings(model='demo-tag', run=RunOptions(workers=1, batch_size=1))).written)"
)
# One that does not close its engine, nor takes all outcomes.
FORGETFUL = """
from sdprep.engines.base import open_engine
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.types import ImageItem
from sdprep.report import CancelToken
spec = resolve("demo-tag", "tag")
settings = TagSettings(model="demo-tag", run=RunOptions(workers=1, batch_size=1))
held = open_engine(engine_config(spec, find_local(spec), settings), print)
engine = held.__enter__()
outcomes = engine.run([ImageItem.at(path) for path in sorted(Path(sys.argv[1]).glob("*.png"))], CancelToken())
next(outcomes)
"""
COMMAND = """
from sdprep.cli.main import main
sys.argv = ["sdprep", "tag", sys.argv[1], "--model", "demo-tag"]
main()
"""


@pytest.fixture
def program(tmp_path):
    """Starts a program that tags a folder; the program, and the number of its worker."""
    running = []

    def start(folder, rest=LIBRARY):
        script = tmp_path / "program.py"
        script.write_text(PROGRAM + rest, "utf-8")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder)], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ends(pid):
    """Whether a process of somebody else's comes to its end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(handle):
        return bool(select.select([handle], [], [], PATIENCE)[0])


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def stalled(tmp_path):
    """A folder whose first image is never decoded."""
    folder = tmp_path / "stalled"
    folder.mkdir()
    images(folder, "hang")
    return folder


def test_a_program_without_a_guard_around_its_main_part_runs_once(tmp_path, program):
    folder = tmp_path / "imgs"
    folder.mkdir()
    images(folder, "a", "b")

    process, _ = program(folder)

    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == ("2\n", "", 0)


def test_a_program_that_does_not_close_its_engine_ends_quietly(tmp_path, program):
    folder = tmp_path / "imgs"
    folder.mkdir()
    images(folder, "a", "b", "c")

    process, pid = program(folder, FORGETFUL)

    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == ("", "", 0)
    assert sys.platform == "win32" or not is_there(pid)


def test_threads_that_the_system_does_not_start_end_the_run_with_a_plain_error(monkeypatch, started):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(WorkerError, match=r"^can.t start new thread: .*ulimit -u"):
        opened().__enter__()

    assert [each._process.returncode is None for each in started] == [False]


def test_threads_that_a_worker_cannot_start_end_the_run_with_a_plain_error(tmp_path, monkeypatch):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.starts_no_threads:decode")

    with opened() as engine, pytest.raises(WorkerError, match=r"^can.t start new thread: the system allows no more"):
        list(engine.run(images(tmp_path, "a"), CancelToken()))


@LINUX
def test_memory_that_runs_out_beside_decoding_ends_the_worker_and_not_the_run(tmp_path, monkeypatch, started):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.runs_out_of_memory:decode")

    with opened() as engine:
        found = list(engine.run(images(tmp_path, "a", "b", "c"), CancelToken()))

    assert len(found) == 3
    assert started[0]._reason() == "memory that ran out"


@LINUX
def test_a_worker_ends_when_its_parent_is_killed(program, stalled):
    process, pid = program(stalled)

    process.kill()

    assert ends(pid)


@POSIX
def test_an_interruption_ends_the_worker_too(program, stalled):
    process, pid = program(stalled)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)

    assert not is_there(pid)


@POSIX
def test_a_second_interruption_ends_the_command_and_the_worker_at_once(program, stalled):
    process, pid = program(stalled, COMMAND)

    process.send_signal(signal.SIGINT)
    assert said(process.stderr, "finishing the current batch")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 130
    assert not is_there(pid)


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_for_the_parent_alone(tmp_path, number):
    items = images(tmp_path, *map(str, range(8)))
    with opened() as engine:
        os.kill(engine._workers[0]._worker._process.pid, number)
        found = list(engine.run(items, CancelToken()))

    assert len(found) == 8


def test_the_folder_of_the_user_hides_no_package(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('this numpy is not meant')", "utf-8")
    (tmp_path / "json.py").write_text("raise SystemExit('this json is not meant')", "utf-8")
    monkeypatch.chdir(tmp_path)

    with opened() as engine:
        assert len(list(engine.run(images(tmp_path, "a"), CancelToken()))) == 1


def test_what_a_library_prints_is_no_message(tmp_path, monkeypatch):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.talks_when_imported:decode")

    with opened() as engine:
        assert len(list(engine.run(images(tmp_path, "a"), CancelToken()))) == 1


def test_an_image_is_announced_before_it_is_decoded(tmp_path, monkeypatch):
    heard, real = [], supervisor.WorkerProcess.receive
    monkeypatch.setattr(supervisor.WorkerProcess, "receive", lambda self: heard.append(real(self)) or heard[-1])
    with opened() as engine:
        list(engine.run(images(tmp_path, "a", "b", "c"), CancelToken()))

    for number in range(3):
        of_one = [type(each).__name__ for each in heard if getattr(each, "number", None) == number]
        assert of_one == ["Decoding", "DecodingDone", "Answer"]


# Messages


def test_a_message_is_read_as_it_was_written():
    stream = io.BytesIO()
    message = Image(7, Path("/d"), Path(os.fsdecode(b"\xff.png")))
    write(stream, message)
    stream.seek(0)

    assert read(stream, ToWorker) == message


@pytest.mark.parametrize("cut", [0, 2, 4, 6])
def test_a_message_that_death_cut_short_is_none(cut):
    stream = io.BytesIO()
    write(stream, Decoding(1))

    assert read(io.BytesIO(stream.getvalue()[:cut]), Decoding) is None


def test_a_message_that_claims_to_be_enormous_is_not_read():
    stream = io.BytesIO((2**32 - 1).to_bytes(4, "little") + bytes(9))

    assert read(stream, Decoding) is None
    assert stream.tell() == 4


def test_a_message_has_no_place_for_pixels():
    size = len(encode(Answer(1, b"d" * 32, b"r" * 100)))

    assert size < 200


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the addresses of a process")
@pytest.mark.parametrize(("limit_memory", "expected"), [(True, "out_of_memory"), (False, "done")])
def test_a_worker_limits_the_memory_of_decoding_if_it_is_told_to(tmp_path, limit_memory, expected):
    spec = resolve("demo-tag", "tag")
    settings = TagSettings(model="demo-tag", run=RunOptions(batch_size=1, workers=0))
    config = engine_config(spec, find_local(spec), settings)
    [item] = images(tmp_path, "hungry")
    wakeup = threading.Event()
    worker = WorkerProcess(Start(config, limit_memory=limit_memory), wakeup)
    try:
        for message in (Image(0, item.folder, Path(item.rel)), Flush()):
            worker.send(message)
        heard = list(iter(lambda: receive(worker, wakeup), GroupDone()))
    finally:
        worker.end()

    [outcome] = [message for message in heard if isinstance(message, (Answer, Failed))]
    assert (outcome.code.value if isinstance(outcome, Failed) else "done") == expected


def receive(worker, wakeup):
    """The next that a worker says."""
    while (message := worker.receive()) is None:
        assert wakeup.wait(PATIENCE)
        wakeup.clear()
    assert not isinstance(message, WorkerExit), message
    return message


@pytest.mark.parametrize("task", ["tag", "caption"])
def test_a_configuration_arrives_as_it_was_sent(task):
    settings = {"tag": TagSettings(device="cpu"), "caption": CaptionSettings(prompt="a photo of", bad_words=("a", "b"))}
    spec = resolve(f"demo-{task}", task)
    start = Start(engine_config(spec, find_local(spec), settings[task]), limit_memory=True)
    stream = io.BytesIO()
    write(stream, start)
    stream.seek(0)

    assert read(stream, Start) == start
