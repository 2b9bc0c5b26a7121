"""Several devices share a run: the folder is afterwards as if one had done it all."""

import shutil
from functools import partial

import pytest
from PIL import Image

from sdprep.engines import base
from sdprep.report import CancelToken
from tests.engines.faults import DECODER
from tests.signals import Impatient
from tests.stories.conftest import misty
from tests.stories.telling import (
    FAKE_CAPTION,
    caption,
    codes,
    counts,
    leftovers,
    tag,
    tag_settings,
    tag_task,
    texts,
)

COUNT = 10
ONE = {"device": "cpu", "workers": 2, "batch_size": 2}
TWO = {**ONE, "device": "cpu,cpu"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawings in two folders, no two alike, of which one is broken."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "sub").mkdir()
    for seed in range(COUNT):
        (folder / ("sub" if seed % 3 else "") / f"p{seed}.png").write_bytes(misty(seed))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def twins(drawn, tmp_path):
    """The same folder twice."""
    return [shutil.copytree(drawn, tmp_path / name) for name in ("one", "two")]


@pytest.mark.parametrize("extension", [".txt", ".caption"], ids=["tags", "captions"])
def test_two_devices_write_the_texts_of_one(twins, extension):
    run = tag if extension == ".txt" else partial(caption, model=FAKE_CAPTION)
    one, two = twins

    reports = [run(one, **ONE), run(two, **TWO)]

    assert [counts(report) for report in reports] == [{"written": COUNT, "failed": 1}] * 2
    assert texts(one, extension) == texts(two, extension)
    assert len(texts(two, extension)) == COUNT


@pytest.mark.long
def test_two_devices_draw_the_samples_of_one(twins):
    one, two = twins
    caption(one, **ONE, sample=True, seed=3)
    caption(two, **TWO, sample=True, seed=3)

    assert texts(one, ".caption") == texts(two, ".caption")


def test_what_one_device_did_another_number_of_them_need_not_do_again(twins, monkeypatch):
    folder = twins[0]
    tag(folder, **ONE)

    report = tag(folder, **TWO)

    assert (report.current, report.predicted) == (COUNT, 0)


def test_the_report_names_every_device(twins):
    assert tag(twins[0], **TWO).provider == "cpu,cpu"


def test_an_image_that_kills_one_worker_is_named_and_everything_else_is_written(twins, monkeypatch):
    monkeypatch.setattr(base, "DECODE", DECODER)
    folder = twins[0]
    Image.new("RGB", (9, 9)).save(folder / "segfault.png")

    report = tag(folder, **TWO)

    assert codes(report) == {"broken.png": "not_an_image", "segfault.png": "crashed"}
    assert counts(report) == {"written": COUNT, "failed": 2}
    assert len(texts(folder)) == COUNT


def test_a_run_that_was_stopped_is_continued_by_the_next(twins):
    one, two = twins
    for number in range(60):
        Image.new("RGB", (16, 16), (number, 90, 200 - number)).save(two / f"z{number}.png")
    shutil.copytree(two, one, dirs_exist_ok=True)
    stop = CancelToken()

    stopped = tag_task(two, tag_settings({**TWO, "batch_size": 1}), listener=Impatient(stop), stop=stop)
    written = len(texts(two))
    tag(two, **TWO)
    tag(one, **ONE)

    assert (stopped.exit_code, stopped.written) == (130, written)
    assert stopped.remaining > 0
    assert texts(two) == texts(one)
    assert not leftovers(two)
