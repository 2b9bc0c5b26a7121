"""What the tests of the engines share: harmful images, and an engine with a fake model that loads in no time."""

from pathlib import Path

from PIL import Image

from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.engines.base import open_engine
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, NullListener
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.types import Failure, ImageItem

FAKES = Path(__file__).parents[1] / "fake_models"
SETTINGS = {"tag": TagSettings, "caption": CaptionSettings}
# Seconds that an image may take here. Others are decoded in a thousandth of it, even on a busy machine.
LIMIT = 5.0


def images(folder, *names):
    """Small images of these names, no two alike."""
    items = []
    for number, name in enumerate(names):
        path = folder / f"{name}.png"
        Image.new("RGB", (8, 8), (number % 256, number // 256, 90)).save(path)
        items.append(ImageItem.at(path))
    return items


def opened(task="tag", device="auto", model=None, **work):
    """An engine with a model of a task, the fake one by default."""
    spec = resolve(model or str(FAKES / f"fake-{task}.toml"), task)
    settings = SETTINGS[task](device=device, run=RunOptions(**{"batch_size": 2, "image_timeout": LIMIT, **work}))
    return open_engine(engine_config(spec, find_local(spec), settings), NullListener().note)


def outcomes(items, task="tag", **work):
    """What an engine makes of images, by name: a code, or "done"."""
    with opened(task, **work) as engine:
        found = list(engine.run(items, CancelToken()))
    assert len({outcome.item for outcome in found}) == len(found)
    return {outcome.item.rel: outcome.code.value if isinstance(outcome, Failure) else "done" for outcome in found}
