"""Several workers share one run: each image goes to one of them, and none waits for another."""

import json
import os
import threading
from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from PIL import Image

from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.engines import base
from sdprep.engines.base import open_engine
from sdprep.engines.pool import per_device
from sdprep.engines.protocol import Answer, Decoding, Predicting
from sdprep.engines.runner import StageRunner
from sdprep.engines.worker_process import WorkerProcess
from sdprep.errors import SdprepError, WorkerError
from sdprep.images.facts import ORIENTATION
from sdprep.models.execution import usable_cpus
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, NullListener
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.types import Failure, ImageItem, Result
from tests.engines.engine import images, opened, outcomes

TWO = "cpu,cpu"
NAMES = [f"p{number:02}" for number in range(40)]
# Images that the other worker does while one is held up: all but what that one has in hand.
OTHERS = 20
PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture
def heard(monkeypatch):
    """Every message from a worker, with the worker."""
    found, real = [], WorkerProcess.receive

    def overhear(self):
        message = real(self)
        if message is not None:
            found.append((self, message))
        return message

    monkeypatch.setattr(WorkerProcess, "receive", overhear)
    return found


def config_for(task, **settings):
    spec = resolve(f"demo-{task}", task)
    chosen = {"tag": TagSettings, "caption": CaptionSettings}[task](**settings)
    return engine_config(spec, find_local(spec), chosen)


# One queue


@pytest.mark.parametrize("task", ["tag", "caption"])
def test_every_image_has_one_outcome_and_every_worker_some(tmp_path, task, heard):
    names = NAMES[:8]

    found = outcomes(images(tmp_path, *names), task, device=TWO)

    assert found == {f"{name}.png": "done" for name in names}
    begun = [(worker, message.number) for worker, message in heard if isinstance(message, Decoding)]
    assert sorted(number for _, number in begun) == list(range(len(names)))
    assert len({worker for worker, _ in begun}) == 2


def results(items, task, device, **work):
    with opened(task, device, **work) as engine:
        return {outcome.item: (outcome.digest, outcome.data) for outcome in engine.run(items, CancelToken())}


def test_two_workers_answer_with_the_bytes_of_one(tmp_path):
    items = images(tmp_path, *NAMES[:9])

    assert results(items, "tag", TWO, batch_size=1) == results(items, "tag", "cpu", batch_size=1)


def test_more_workers_than_images_are_no_harm(tmp_path):
    assert outcomes(images(tmp_path, "a"), device="cpu,cpu,cpu") == {"a.png": "done"}


def test_what_runs_a_model_is_named_for_every_device():
    with opened(device=TWO, model="demo-tag") as engine:
        assert engine.provider == "cpu,cpu"


def test_a_pool_can_run_again(tmp_path):
    items = images(tmp_path, *NAMES[:6])
    with opened(device=TWO) as engine:
        counts = [len(list(engine.run(each, CancelToken()))) for each in (items[:3], items[3:])]

    assert counts == [3, 3]


# Nobody waits for another


def let_go(gate):
    """Open the gate as soon as there is somebody behind it."""
    threading.Thread(target=lambda: gate.write_bytes(b""), daemon=True).start()


def outcomes_with_a_gate(items, gate):
    """All outcomes, the gate being opened when the others have done their part without it."""
    found = []
    with opened(device=TWO, workers=2, image_timeout=60.0) as engine:
        for outcome in engine.run(items, CancelToken()):
            found.append(outcome)
            if len(found) == OTHERS:
                let_go(gate)
    return found


@PIPES
@pytest.mark.parametrize("first", ["slow", "once"], ids=["decoding takes long", "its suspect is being tried"])
def test_the_others_go_on_while_a_worker_is_held_up(tmp_path, first):
    items, gate = images(tmp_path, first, *NAMES), tmp_path / f"{first}.gate"
    os.mkfifo(gate)

    found = outcomes_with_a_gate(items, gate)

    assert all(isinstance(outcome, Result) for outcome in found)
    assert {outcome.item for outcome in found} == set(items)
    assert items[0] not in [outcome.item for outcome in found[:OTHERS]]


@pytest.mark.parametrize("task", ["tag", "caption"])
def test_an_image_that_kills_one_worker_fails_and_all_others_are_done(tmp_path, task):
    found = outcomes(images(tmp_path, "a", "segfault", "b", "c", "d", "e"), task, device=TWO)

    assert found == {**{f"{name}.png": "done" for name in "abcde"}, "segfault.png": "crashed"}


def test_an_image_that_kills_the_model_of_one_worker_fails_and_all_others_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "DECODE", "tests.engines.fragile_model:decode")

    found = outcomes(images(tmp_path, *NAMES[:4], "poison", *NAMES[4:8]), device=TWO)

    assert found == {**{f"{name}.png": "done" for name in NAMES[:8]}, "poison.png": "crashed"}


def test_the_deaths_of_all_workers_count_together(tmp_path):
    with pytest.raises(WorkerError, match="died 6 times"):
        outcomes(images(tmp_path, *[f"exit-{number}" for number in range(12)]), device=TWO)


def test_a_device_that_is_not_there_ends_the_run_before_it_begins(started):
    with pytest.raises(SdprepError, match="cuda"):
        opened("tag", "cpu,cuda:63", "demo-tag").__enter__()

    assert [each._process.returncode is None for each in started] == [False, False]


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("dies_when_imported", "^cpu: the worker ended before its model was loaded .*: my last words"),
        ("faults", "^cpu: in the worker:"),
    ],
    ids=["a death before the first image", "a defect"],
)
def test_what_ends_one_worker_ends_the_run_and_names_the_device(tmp_path, monkeypatch, decoder, message):
    monkeypatch.setattr(base, "DECODE", f"tests.engines.{decoder}:decode")

    with pytest.raises((WorkerError, RuntimeError), match=message):
        outcomes(images(tmp_path, "a", "defect"), device=TWO)


# A wish to stop


def test_after_a_wish_to_stop_every_worker_finishes_the_batch_in_hand(tmp_path, heard):
    items, stop, found = images(tmp_path, *map(str, range(90))), CancelToken(), []
    with opened(device=TWO) as engine:
        for outcome in engine.run(items, stop):
            found.append(outcome)
            stop.exit_code = 130

    assert 1 <= len(found) < len(items)
    assert not [outcome for outcome in found if isinstance(outcome, Failure)]
    shown = {number for _, message in heard if isinstance(message, Predicting) for number in message.numbers}
    assert shown == {message.number for _, message in heard if isinstance(message, Answer)}


# What is shared out


@pytest.mark.parametrize(("threads", "parts"), [(2, [1, 1]), (5, [3, 2]), (1, [1, 1]), (8, [4, 4])])
def test_threads_that_decode_are_shared_out_and_nobody_has_none(threads, parts):
    configs = per_device(config_for("tag", device=TWO, run=RunOptions(workers=threads)))

    assert [each.execution.decode_threads for each in configs] == parts


def test_every_worker_has_one_device_and_knows_how_many_there_are():
    configs = per_device(config_for("caption", device="cuda:0,1,cpu"))

    found = [(each.execution.device, each.execution.num_processes) for each in configs]
    assert found == [("cuda:0", 3), ("cuda:1", 3), ("cpu", 3)]


@pytest.mark.parametrize(("num_processes", "ahead"), [(1, 5), (2, 2), (8, 1)])
def test_the_memory_for_decoded_images_is_that_of_the_run(tmp_path, num_processes, ahead):
    config = config_for("tag", run=RunOptions(workers=4, batch_size=1, memory=1))
    config = replace(config, execution=replace(config.execution, num_processes=num_processes))
    taken, items = [], images(tmp_path, *NAMES[:6])

    engine = StageRunner(config, NullListener().note)
    outcome = next(engine.run((taken.append(item) or item for item in items), CancelToken()))

    assert isinstance(outcome, Result)
    assert len(taken) == ahead


@pytest.mark.skipif(usable_cpus() < 2, reason="one processor cannot be shared out")
def test_the_threads_of_torch_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "DECODE", "tests.engines.tells_its_threads:decode")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    # Importing torch, which the decoder does here, takes longer than an image may on a busy machine.
    outcomes(images(tmp_path, *NAMES[:4]), "caption", device=TWO, image_timeout=60.0)

    told = {path.read_text("utf-8") for path in tmp_path.glob("*.threads")}
    assert told == {str(usable_cpus() // 2)}


def test_every_session_is_asked_for_on_its_card(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "DECODE", "tests.engines.cards_in_name_only:decode")
    with opened(device="cuda:0,2", model="demo-tag") as engine:
        list(engine.run(images(tmp_path, *NAMES[:4]), CancelToken()))

    told = {path.suffixes[0]: json.loads(path.read_text("utf-8")) for path in tmp_path.glob("*.asked")}
    assert engine.provider == "cuda:0,cuda:2"
    assert sorted(providers[0][1]["device_id"] for [providers] in told.values()) == ["0", "2"]
    assert {providers[0][0] for [providers] in told.values()} == {"CUDAExecutionProvider"}


# Timings


@pytest.mark.parametrize(("workers", "device"), [(0, "cpu"), (2, "cpu"), (2, TWO)], ids=["inline", "one", "two"])
def test_timings_count_the_images_of_each_stage_in_the_last_run(tmp_path, workers, device):
    items = images(tmp_path, *NAMES[:6])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    config = config_for("tag", device=device, run=RunOptions(workers=workers, timings=True))
    with open_engine(config, NullListener().note) as engine:
        list(engine.run(items[:2], CancelToken()))
        list(engine.run([*items, ImageItem.at(broken)], CancelToken()))

    assert {name: stage.images for name, stage in engine.timings.items()} == {"decode": 6, "predict": 6}
    assert all(stage.seconds > 0 and stage.cpu_seconds >= 0 for stage in engine.timings.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_without_timings_nothing_is_measured(tmp_path, workers):
    with open_engine(config_for("tag", run=RunOptions(workers=workers)), NullListener().note) as engine:
        list(engine.run(images(tmp_path, *NAMES[:2]), CancelToken()))

    assert engine.timings == {}


# What they say


def test_what_several_workers_say_is_said_once(tmp_path):
    spec, said = msgspec.structs.replace(resolve("demo-tag", "tag"), precision="fp16"), []

    with open_engine(engine_config(spec, find_local(spec), TagSettings(device=TWO)), said.append):
        pass

    assert [text for text in said if "fp16" in text] == said != []
    assert len(said) == 1


# Deaths


@pytest.mark.parametrize("device", ["cpu", TWO], ids=["one", "two"])
def test_after_too_many_deaths_the_other_images_can_be_run_again(tmp_path, monkeypatch, device):
    monkeypatch.setattr(base, "DECODE", "tests.engines.faults:decode")
    items, found = images(tmp_path, "segfault", "a", "segfault-2", "b"), {}

    def run_rest(engine):
        for outcome in engine.run([item for item in items if item not in found], CancelToken()):
            found[outcome.item] = isinstance(outcome, Result)

    with open_engine(config_for("tag", device=device), NullListener().note, most_deaths=0) as engine:
        with pytest.raises(WorkerError):
            run_rest(engine)
        assert len(found) < len(items)
    with open_engine(config_for("tag", device=device), NullListener().note, most_deaths=1) as engine:
        # Each run finds out about one image at least before it gives up.
        for _ in items:
            with suppress(WorkerError):
                run_rest(engine)

    assert {item.rel: done for item, done in found.items()} == {
        "a.png": True, "b.png": True, "segfault.png": False, "segfault-2.png": False,
    }  # fmt: skip


# Sizes


@pytest.mark.parametrize("workers", [0, 1])
def test_a_result_has_the_width_and_height_of_the_file_before_any_rotation(tmp_path, workers):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    with open_engine(config_for("tag", run=RunOptions(workers=workers)), NullListener().note) as engine:
        (result,) = engine.run([ImageItem.at(tmp_path / "turned.jpg")], CancelToken())

    assert result.size == (30, 20)


def test_engines_that_share_a_machine_share_its_memory_and_cpus():
    config = config_for("tag", device=TWO)
    shared = replace(config, execution=replace(config.execution, num_processes=4))

    assert [each.execution.num_processes for each in per_device(shared)] == [8, 8]
