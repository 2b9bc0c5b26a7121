"""The demo chat model captions drawings as the program runs it, with the tags in its prompt and without."""

import json
import random
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

import sdprep.demo
from scripts.demo_training.draw import draw
from scripts.demo_training.figures import Figure, caption_of, random_figure, tags_of
from sdprep.config import CaptionSettings, PathOptions, RunOptions
from sdprep.tasks.caption import caption

DEMO = Path(sdprep.demo.__file__).parent
TAGS = "{preset:with-tags}"


@cache
def unseen(count: int = 60) -> list[tuple[Figure, Image.Image]]:
    rng = random.Random("drawings that only the tests make")
    figures = [random_figure(rng) for _ in range(count)]
    return [(figure, draw(figure, rng, (rng.randint(200, 300), rng.randint(200, 300)))) for figure in figures]


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    for number, (figure, image) in enumerate(unseen()):
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(", ".join(sorted(tags_of(figure))), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("prompt", "extension"), [(None, ".plain"), (TAGS, ".tagged")])
def test_captions_of_unseen_drawings_are_right(drawings: Path, prompt: str | None, extension: str) -> None:
    work = RunOptions(workers=0, batch_size=20)
    caption(drawings, CaptionSettings(model="demo-chat", prompt=prompt, caption_extension=extension, run=work))
    right = sum(
        (drawings / f"{number}{extension}").read_text(encoding="utf-8").strip() == caption_of(figure)
        for number, (figure, _) in enumerate(unseen())
    )
    assert right >= 54


def test_the_caption_of_every_bundled_image_is_true(tmp_path: Path) -> None:
    truth = json.loads((DEMO / "images.json").read_text(encoding="utf-8"))
    work = RunOptions(workers=0, batch_size=16)
    caption(DEMO / "images", CaptionSettings(model="demo-chat", run=work, paths=PathOptions(output_dir=tmp_path)))
    found = {name: (tmp_path / name).with_suffix(".caption").read_text(encoding="utf-8").strip() for name in truth}
    wrong = [name for name, true in truth.items() if found[name] != true["caption"]]
    assert len(wrong) <= len(truth) // 10, wrong


def test_the_model_is_small() -> None:
    folder = DEMO / "models" / "demo-chat"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6_000_000
