"""The fake models: answers that depend on the image alone, and no framework."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sdprep.models.backends import open_model
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.execution import Execution
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.report import NullListener
from sdprep.types import Batch
from tests.engines.engine import FAKES, images

ROOT = Path(__file__).parents[2]
DIGESTS = (b"a" * 32, b"b" * 32)


def answers(task: str) -> dict[Any, Any]:
    """What the fake model of a task answers for two images."""
    spec = resolve(str(FAKES / f"fake-{task}.toml"), task)
    files = find_local(spec)
    assert files is not None
    model = open_model(spec, files, Execution(), CaptionOptions(), NullListener().note)
    pixels = np.zeros((2, model.fit.size, model.fit.size, 3), np.uint8)
    return dict(model.predict([Batch(("a", "b"), DIGESTS, pixels)]))


def test_a_fake_tagger_scores_every_label_by_the_hash_of_the_image() -> None:
    first, second = answers("tag"), answers("tag")
    assert first["a"].scores.shape == (10,)
    assert ((first["a"].scores >= 0) & (first["a"].scores <= 1)).all()
    assert (first["a"].scores == second["a"].scores).all()
    assert (first["a"].scores != first["b"].scores).any()


def test_a_fake_captioner_names_the_hash_of_the_image() -> None:
    assert answers("caption") == answers("caption")
    assert {key: each.text for key, each in answers("caption").items()} == {
        "a": "fake caption 61616161",
        "b": "fake caption 62626262",
    }


BLOCKED = ("torch", "transformers", "onnxruntime", "tensorflow")
RUN = f"""
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys({BLOCKED!r}))
from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.tasks.caption import caption
from sdprep.tasks.tag import tag
folder, fakes, run = Path(sys.argv[1]), Path(sys.argv[2]), RunOptions(workers=0)
print(tag(folder, TagSettings(model=str(fakes / "fake-tag.toml"), run=run)).written)
print(caption(folder, CaptionSettings(model=str(fakes / "fake-caption.toml"), run=run)).written)
"""


def test_fake_models_need_no_framework(tmp_path: Path) -> None:
    images(tmp_path, "a", "b", "c")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), str(FAKES)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("3\n3\n", "")
    assert len({path.read_bytes() for path in tmp_path.glob("*.caption")}) == 3
