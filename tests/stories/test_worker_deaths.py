"""Images that kill or stall the process that decodes them, from the first run to the one that tries them again."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from PIL import Image

import sdprep.cli.main
from sdprep.engines import base
from sdprep.engines.protocol import Answer, Predicting
from sdprep.engines.worker_process import WorkerProcess
from sdprep.errors import CatalogError, ModelError, WorkerError
from sdprep.tasks.history.retry import retry
from tests.engines.faults import DECODER
from tests.stories.telling import ALBUM, CATALOG, caption, codes, counts, hide_models, renew_times, tag, texts, write

# A worker decodes as many images at once as there are threads here.
SOME = {"workers": 2, "batch_size": 2, "image_timeout": 3.0}


@pytest.fixture(autouse=True)
def decoder_that_does_harm(monkeypatch):
    monkeypatch.setattr(base, "DECODE", DECODER)


def add_deadly_images(album):
    """Add an image that kills and one that stalls the process."""
    for place, name in enumerate(("segfault", "hang")):
        Image.new("RGB", (9, 9), (place, 0, 0)).save(album / f"{name}.png")


@pytest.fixture
def deadly(album):
    """The album with an image that kills and one that stalls the process."""
    add_deadly_images(album)
    return album


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, drawings):
    """The same album after a run of tag, made once, with the report."""
    folder = tmp_path_factory.mktemp("survived")
    for name, data in zip(ALBUM, drawings, strict=False):
        (folder / name).write_bytes(data)
    add_deadly_images(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "DECODE", DECODER)
        return folder, tag(folder, **SOME)


@pytest.fixture
def survived(first_run, tmp_path):
    """A copy of the album after its run."""
    return Path(shutil.copytree(first_run[0], tmp_path / "survived"))


def names(found):
    return [each.path.name for each in found]


# The first run


def test_the_run_names_them_and_does_the_rest(first_run):
    folder, report = first_run

    assert codes(report) == {"segfault.png": "crashed", "hang.png": "timed_out"}
    assert counts(report) == {"written": 3, "failed": 2}
    assert list(texts(folder)) == ["a.txt", "b.txt", "c.txt"]
    assert report.exit_code == 3


def test_a_run_that_dies_too_often_keeps_what_it_wrote_and_the_next_one_goes_on(album):
    for number in range(6):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(album / f"exit-{number}.png")

    # One thread, so that no two die at once.
    alone = {**SOME, "workers": 1}
    with pytest.raises(WorkerError, match="died 6 times"):
        tag(album, **alone)
    kept = texts(album)
    report = tag(album, **alone)

    assert (report.current, report.written, report.failed) == (len(kept), 3 - len(kept), 6)
    assert kept.items() <= texts(album).items()


@pytest.mark.long
def test_a_worker_with_a_real_captioner_that_is_killed_is_replaced(album):
    Image.new("RGB", (9, 9)).save(album / "killed.png")

    report = caption(album, workers=1, batch_size=2)

    assert codes(report) == {"killed.png": "crashed"}
    assert counts(report) == {"written": 3, "failed": 1}


# Quarantine


def test_the_next_run_passes_over_them_before_a_model_is_loaded(survived, monkeypatch):
    hide_models(monkeypatch)

    report = tag(survived, **SOME)

    assert codes(report) == {"segfault.png": "crashed", "hang.png": "timed_out"}
    assert counts(report) == {"current": 3, "failed": 2}


def test_they_are_skipped_with_the_same_words(first_run, survived):
    first, second = first_run[1], tag(survived, **SOME)

    def by_path(report):
        return sorted(map(json.dumps, report.failures))

    assert by_path(first) == by_path(second)


def test_they_are_skipped_after_a_copy_without_times(survived, monkeypatch):
    renew_times(survived)
    hide_models(monkeypatch)

    assert counts(tag(survived, **SOME)) == {"current": 3, "failed": 2}


def test_a_fixed_image_is_tried_again(survived, drawings):
    (survived / "segfault.png").rename(survived / "mended.png")
    (survived / "mended.png").write_bytes(drawings[3])

    report = tag(survived, **SOME)

    assert codes(report) == {"hang.png": "timed_out"}
    assert counts(report) == {"written": 1, "current": 3, "failed": 1}


def test_a_newer_decoder_tries_them_again(survived, monkeypatch):
    monkeypatch.setattr("sdprep.tasks.tag.DECODER", "a newer one")
    monkeypatch.setattr(base, "DECODE", "sdprep.images.decode:decode")

    assert counts(tag(survived, **SOME)) == {"written": 2, "current": 3}


def test_an_image_that_wants_too_much_memory_is_tried_again_by_the_next_run(album, drawings, monkeypatch):
    (album / "memory.png").write_bytes(drawings[3])
    assert codes(tag(album, **SOME)) == {"memory.png": "out_of_memory"}
    monkeypatch.setattr(base, "DECODE", "sdprep.images.decode:decode")

    assert counts(tag(album, **SOME)) == {"written": 1, "current": 3}


# Answers that are no numbers


@pytest.mark.parametrize("workers", [0, 2])
def test_a_tagger_that_answers_nan_for_one_image_fails_it_alone(album, drawings, tmp_path, workers):
    Image.new("RGB", (9, 9), "black").save(album / "dark.png")

    report = tag(album, model=nan_for_black(tmp_path), workers=workers, batch_size=4, prefix=("x",))

    assert codes(report) == {"dark.png": "nonfinite"}
    assert counts(report) == {"written": 3, "failed": 1}
    assert "dark.txt" not in texts(album)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_tagger_that_answers_nan_for_every_image_ends_the_run(tmp_path, workers):
    folder = all_black(tmp_path, 20)

    with pytest.raises(ModelError, match=r"each of its first 8 images.*--device cpu"):
        tag(folder, model=nan_for_black(tmp_path), workers=workers, batch_size=2)
    assert texts(folder) == {}


@pytest.mark.parametrize(("many", "batch_size"), [(7, 2), (15, 8)], ids=["seven", "less than two batches"])
def test_a_few_images_for_which_a_tagger_answers_nan_fail_one_by_one(tmp_path, many, batch_size):
    folder = all_black(tmp_path, many)

    report = tag(folder, model=nan_for_black(tmp_path), batch_size=batch_size)

    assert counts(report) == {"failed": many}


def test_one_answer_that_is_a_number_lets_a_run_go_on(tmp_path, drawings):
    folder = all_black(tmp_path, 20)
    (folder / "00.png").write_bytes(drawings[0])

    report = tag(folder, model=nan_for_black(tmp_path), batch_size=2, prefix=("x",))

    assert counts(report) == {"written": 1, "failed": 20}


def all_black(tmp_path, many):
    """A folder of black images, no two of the same bytes."""
    folder = tmp_path / "black"
    folder.mkdir()
    for side in range(many):
        Image.new("RGB", (9 + side, 9 + side), "black").save(folder / f"{side + 10}.png")
    return folder


def nan_for_black(tmp_path):
    """A tagger that divides the mean of each colour by the largest of them: 0 / 0 for a black image."""
    folder = tmp_path / "nan-tagger"
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("ReduceMax", ["means", "last"], ["largest"], keepdims=1),
        helper.make_node("Div", ["means", "largest"], ["scores"]),
    ]
    return save_tagger(folder, nodes, {"axes": np.array([1, 2]), "last": np.array([1])})


# Trying again


def test_retry_lists_what_is_tried_again_and_the_next_run_tries_it(survived, monkeypatch):
    assert names(retry(survived, quarantined=True)) == ["hang.png", "segfault.png"]
    monkeypatch.setattr(base, "DECODE", "sdprep.images.decode:decode")

    assert counts(tag(survived, **SOME)) == {"written": 2, "current": 3}


def test_retry_of_the_quarantined_leaves_broken_images_alone(deadly, monkeypatch):
    write(deadly / "broken.png", "no image")
    tag(deadly, **SOME)

    assert names(retry(deadly, quarantined=True)) == ["hang.png", "segfault.png"]
    assert names(retry(deadly)) == ["broken.png"]
    assert retry(deadly) == []


def test_retry_of_a_subfolder_leaves_the_rest_alone(deadly):
    (deadly / "sub").mkdir()
    shutil.move(deadly / "hang.png", deadly / "sub" / "hang.png")
    tag(deadly, **SOME)

    assert names(retry(deadly / "sub", quarantined=True)) == ["hang.png"]
    assert names(retry(deadly, quarantined=True)) == ["segfault.png"]


def test_retry_without_a_catalog_is_reported(tmp_path):
    with pytest.raises(CatalogError, match="no catalog"):
        retry(tmp_path)


def test_the_command_prints_what_is_tried_again(survived):
    found = CliRunner().invoke(sdprep.cli.main.cli, ["retry", "--quarantined", str(survived)])

    assert f"{survived / 'segfault.png'}: crashed: decoding it ended the process twice" in found.stdout
    assert found.stderr == "retry: 2 images will be tried again by the next run\n"


def test_the_command_prints_it_as_json(survived):
    found = CliRunner().invoke(sdprep.cli.main.cli, ["retry", str(survived), "--json"])

    assert [(row["path"], row["code"]) for row in json.loads(found.stdout)["images"]] == [
        (str(survived / "hang.png"), "timed_out"),
        (str(survived / "segfault.png"), "crashed"),
    ]


# Many images


@pytest.fixture
def fast_model(tmp_path):
    """A tagger of two operations, for runs that are about something else than its answers."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "white"], ["scores"]),
    ]
    constants = {"axes": np.array([1, 2]), "white": np.array(255, dtype=np.float32)}
    return save_tagger(tmp_path / "fast-tagger", nodes, constants)


def save_tagger(folder, nodes, constants):
    """A tagger of three colours; these are its nodes and constants."""
    folder.mkdir()
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 4, 4, 3])
    made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])
    values = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "colours", [given], [made], values)
    onnx.save(
        helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx"
    )
    rows = ["tag_id,name,category,count", "1,bluish,0,1", "2,greenish,0,1", "3,reddish,0,1"]
    (folder / "selected_tags.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder)


def test_of_many_images_some_are_bad_three_kill_and_two_hang(tmp_path, fast_model, monkeypatch, request):
    """The run ends by itself, names exactly these, writes all others, and predicts at most a batch twice a death."""
    folder, size, batch = tmp_path / "many", request.config.getoption("--many-images"), 8
    good = tmp_path / "good.png"
    Image.new("RGB", (16, 16), (250, 180, 120)).save(good)
    # In ten folders, so that those that do harm lie far apart; in each, they come before the others.
    parts = {0: "segfault-1", 40: "segfault-2", 95: "segfault-3", 20: "hang-1", 70: "hang-2"}
    wrong = {size * percent // 100: name for percent, name in parts.items()}
    broken = {number: f"broken-{number}" for number in range(50, size, 100)}
    names = {number: f"{number * 10 // size}/{wrong.get(number) or broken.get(number) or f'z{number}'}.png"
             for number in range(size)}  # fmt: skip
    for number, name in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if number in broken:
            write(folder / name, "no image")
        elif number in wrong:
            Image.new("RGB", (9, 9), (number % 251, 0, 0)).save(folder / name)
        else:
            (folder / name).hardlink_to(good)
    shown, answered, workers = [], [], []
    receive, start = WorkerProcess.receive, WorkerProcess.__init__

    def overhear(self):
        message = receive(self)
        if isinstance(message, Predicting):
            shown.extend(message.numbers)
        elif isinstance(message, Answer):
            answered.append(message.number)
        return message

    monkeypatch.setattr(WorkerProcess, "receive", overhear)
    monkeypatch.setattr(
        WorkerProcess, "__init__", lambda self, order, wakeup: workers.append(order) or start(self, order, wakeup)
    )

    report = tag(folder, model=fast_model, workers=2, batch_size=batch, image_timeout=3.0)

    expected = {names[number]: "crashed" if "segfault" in name else "timed_out" for number, name in wrong.items()}
    assert codes(report) == expected | {names[number]: "not_an_image" for number in broken}
    assert counts(report) == {"written": size - len(expected) - len(broken), "failed": len(expected) + len(broken)}
    assert report.exit_code == 3
    assert len(texts(folder)) == report.written
    assert sorted(answered) == sorted(set(answered))
    deaths = sum(not order.limit_memory for order in workers) - 1
    assert deaths == 5
    assert len(shown) - len(answered) <= deaths * batch
    with closing(sqlite3.connect(folder / CATALOG)) as database:
        assert database.execute("SELECT count(*) FROM failures WHERE code = 'crashed'").fetchone() == (3,)
