"""An engine gives every image one outcome, in a worker and in this process alike."""

import numpy as np
import pytest
from PIL import Image

from sdprep.catalog.results import decode_caption, decode_scores
from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.engines.base import open_engine
from sdprep.errors import ModelError, UsageError
from sdprep.models.base import ModelFiles
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, NullListener
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.types import ImageItem, Result
from tests.engines.engine import images, opened, outcomes

PLACES = pytest.mark.parametrize("workers", [0, 2], ids=["in this process", "in a worker"])


@PLACES
@pytest.mark.parametrize("task", ["tag", "caption"])
def test_every_image_has_one_outcome(tmp_path, task, workers):
    items = images(tmp_path, "a", "b", "c", "d", "e")
    (tmp_path / "d.png").write_bytes(b"no image")

    found = outcomes(items, task, workers=workers)

    assert found == {"a.png": "done", "b.png": "done", "c.png": "done", "d.png": "not_an_image", "e.png": "done"}


def results(items, task, workers):
    # The captioner takes longer to load: the limit is for decoding alone.
    with opened(task, workers=workers, model=f"demo-{task}", image_timeout=2.0) as engine:
        return {outcome.item: (outcome.digest, outcome.data) for outcome in engine.run(items, CancelToken())}


@pytest.mark.parametrize("task", ["tag", "caption"])
def test_a_worker_answers_with_the_same_scores_or_caption_as_this_process(tmp_path, task):
    items = images(tmp_path, "a", "b", "c")

    found = results(items, task, 0)

    assert results(items, task, 2) == found
    for _, data in found.values():
        assert decode_caption(data).text if task == "caption" else are_probabilities(decode_scores(data))


def are_probabilities(scores):
    return all(0 <= value <= 1 for _, value in scores)


@PLACES
def test_an_image_that_takes_too_much_memory_fails_alone(tmp_path, workers):
    found = outcomes(images(tmp_path, "a", "memory", "c"), workers=workers)

    assert found == {"a.png": "done", "memory.png": "out_of_memory", "c.png": "done"}


@PLACES
def test_a_name_that_is_not_unicode_is_found(tmp_path, workers):
    path = tmp_path / "\udcff.png"
    try:
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system knows no such name")

    assert list(outcomes([ImageItem.at(path)], workers=workers).values()) == ["done"]


@PLACES
def test_any_exception_of_a_decoder_fails_its_image_alone(tmp_path, workers):
    found = outcomes(images(tmp_path, "a", "raises", "b", "recursion", "panic", "c"), workers=workers)

    assert found == {
        **dict.fromkeys(("a.png", "b.png", "c.png"), "done"),
        **dict.fromkeys(("raises.png", "recursion.png", "panic.png"), "corrupt"),
    }


def test_a_defect_that_is_about_no_image_reaches_the_caller_from_this_process(tmp_path):
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'digest'"):
        outcomes(images(tmp_path, "a", "defect"), workers=0)


def test_a_defect_that_is_about_no_image_reaches_the_caller_from_a_worker_with_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)stages\.py.*AttributeError: 'NoneType'"):
        outcomes(images(tmp_path, "a", "defect"), workers=2)


@PLACES
def test_files_that_are_no_model_are_refused_as_such(tmp_path, workers):
    spec, files = resolve("demo-tag", "tag"), ModelFiles(tmp_path, None, "weights")

    settings = TagSettings(run=RunOptions(workers=workers))
    with pytest.raises(ModelError, match=r"model\.onnx: No such file"):
        open_engine(engine_config(spec, files, settings), NullListener().note).__enter__()


@PLACES
def test_a_device_that_is_not_there_is_a_matter_of_usage(workers):
    spec = resolve("demo-caption", "caption")

    settings = CaptionSettings(device="cuda:63", run=RunOptions(workers=workers))
    with pytest.raises(UsageError, match=r"^--device cuda:63: "):
        open_engine(engine_config(spec, find_local(spec), settings), NullListener().note).__enter__()


@PLACES
def test_after_a_wish_to_stop_the_batch_in_hand_is_the_last(tmp_path, workers):
    items, stop, found = images(tmp_path, *map(str, range(60))), CancelToken(), []
    with opened(workers=workers) as engine:
        for outcome in engine.run(items, stop):
            found.append(outcome)
            stop.exit_code = 130

    assert 1 <= len(found) < len(items)
    assert all(isinstance(outcome, Result) for outcome in found)


@PLACES
def test_a_run_that_is_left_early_can_be_closed(tmp_path, workers):
    items = images(tmp_path, *map(str, range(10)))

    with opened(workers=workers) as engine:
        assert isinstance(next(engine.run(items, CancelToken())), Result)
