"""Florence-2: the captions of transformers, whatever the batch, the order and the task tokens beside each other."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdprep.errors import ModelError, UsageError
from sdprep.models.base import ImageSpec, ModelFiles, ModelSpec, Source
from sdprep.models.captioners.blip.search import BeamSearch
from sdprep.models.captioners.florence import captioner
from sdprep.models.captioners.florence.captioner import QUESTIONS, FlorenceCaptioner, image_tokens
from sdprep.models.captioners.florence.network import FlorenceNetwork
from sdprep.models.captioners.generation import CaptionOptions, GenerationConfig
from sdprep.models.execution import Execution
from sdprep.models.registry.registry import names, resolve
from sdprep.types import Batch, Caption

SIZE, COUNT = 64, 7
IMAGE = ImageSpec(fit="squash", size=SIZE, scale="0..1", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
# Large areas of one colour, so that images differ in more than noise.
PIXELS[:, : SIZE // 2] = np.arange(COUNT, dtype=np.uint8)[:, None, None, None] * 40
TASKS = tuple(QUESTIONS)
WAYS = {
    "beams": {"num_beams": 3, "no_repeat_ngram_size": 3},
    "several": {"num_beams": 4, "num_return_sequences": 2},
    "greedy": {},
    "long enough": {"num_beams": 3, "min_new_tokens": 6},
    "penalised": {"num_beams": 2, "repetition_penalty": 1.3},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slowed down by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(
    folder: Path,
    batch_size: int = 3,
    reference: bool = False,
    note: Callable[[str], None] = lambda _: None,
    **generation: Any,
) -> FlorenceCaptioner:
    spec = ModelSpec(name="florence", task="caption", backend="task", source=Source(path=str(folder)), image=IMAGE)
    options = CaptionOptions(generation=GenerationConfig(**{"max_new_tokens": 12, **generation}), reference=reference)
    execution = Execution(device="cpu", batch_size=batch_size)
    return FlorenceCaptioner(spec, ModelFiles(folder, None, "weights"), execution, options, note)


def show(
    model: FlorenceCaptioner, order: Sequence[int] = range(COUNT), size: int = 3, tasks: int = 1
) -> dict[Any, Caption]:
    """The captions by image; images get the first `tasks` task tokens in turn."""
    parts = [tuple(order[start : start + size]) for start in range(0, len(order), size)]
    batches = [
        Batch(
            part,
            tuple(bytes([each]) * 32 for each in part),
            PIXELS[list(part)],
            tuple(TASKS[each % tasks] for each in part),
        )
        for part in parts
    ]
    return dict(model.predict(batches))


def texts(found: dict[Any, Caption]) -> dict[Any, list[str]]:
    return {key: [each.text for each in (caption, *caption.others)] for key, caption in found.items()}


@pytest.mark.parametrize("way", WAYS)
def test_captions_are_those_of_transformers(florence: Path, way: str) -> None:
    mine, theirs = (show(load(florence, reference=each, **WAYS[way])) for each in (False, True))
    assert texts(mine) == texts(theirs)
    for key, caption in mine.items():
        assert (caption.n_tokens, caption.finish_reason) == (theirs[key].n_tokens, theirs[key].finish_reason)
        assert caption.score == pytest.approx(theirs[key].score, abs=1e-4)


def test_the_images_of_these_tests_tell_captions_apart_and_some_end(florence: Path) -> None:
    found = show(load(florence, **WAYS["beams"]))
    assert len({caption.text for caption in found.values()}) > 2
    assert {caption.finish_reason for caption in found.values()} == {"stop", "length"}


@pytest.mark.parametrize("way", [WAYS["beams"], {"sample": True, "top_p": 0.9}], ids=["beams", "sampled"])
def test_a_caption_depends_on_its_image_alone(florence: Path, way: dict[str, Any]) -> None:
    together = texts(show(load(florence, **way), tasks=2))
    alone = texts(show(load(florence, batch_size=1, **way), range(COUNT - 1, -1, -1), size=1, tasks=2))
    assert together == alone


def test_each_task_token_asks_another_question(florence: Path) -> None:
    model = load(florence, num_beams=3)
    images = tuple(range(COUNT))
    digests = (b"a" * 32,) * COUNT
    first, second = (dict(model.predict([Batch(images, digests, PIXELS, (task,) * COUNT)])) for task in TASKS[:2])
    assert texts(first) != texts(second)


def test_a_prompt_that_is_no_task_token_is_refused_with_those_that_are(florence: Path) -> None:
    with pytest.raises(UsageError, match=r"--prompt Describe it: this model takes one of <CAPTION>"):
        list(load(florence).predict([Batch((0,), (b"a" * 32,), PIXELS[:1], ("Describe it",))]))


def shift_positions(model: FlorenceCaptioner, _: pytest.MonkeyPatch) -> None:
    model._decoder._positions = model._decoder._positions.roll(1, 0)


def swap_layers(model: FlorenceCaptioner, _: pytest.MonkeyPatch) -> None:
    model._decoder._layers.reverse()


def mix_keys_and_values(model: FlorenceCaptioner, _: pytest.MonkeyPatch) -> None:
    """As if transformers held them in another order."""
    for layer in model._model.model.language_model.decoder.layers:
        layer.encoder_attn.k_proj, layer.encoder_attn.v_proj = layer.encoder_attn.v_proj, layer.encoder_attn.k_proj


def see_other_beams(_: FlorenceCaptioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong from the second token on alone."""
    whole = BeamSearch.attention_mask
    monkeypatch.setattr(BeamSearch, "attention_mask", lambda *args: torch.ones_like(whole(*args)))


def lose_the_image(_: FlorenceCaptioner, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FlorenceNetwork.encode
    monkeypatch.setattr(FlorenceNetwork, "encode", lambda self, pixels: whole(self, pixels * 0))


BREAKS = (shift_positions, swap_layers, mix_keys_and_values, see_other_beams, lose_the_image)


@pytest.mark.parametrize("damage", BREAKS)
def test_a_decoder_that_differs_from_transformers_ends_the_run_before_its_first_caption(
    florence: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[FlorenceCaptioner, pytest.MonkeyPatch], None]
) -> None:
    model = load(florence, num_beams=3)
    damage(model, monkeypatch)
    with pytest.raises(ModelError, match=r"(?s)disagree on the first caption: .* has the score .*--decoder reference"):
        next(model.predict([Batch((0, 1), (b"a" * 32, b"b" * 32), PIXELS[:2], TASKS[:1] * 2)]))


@pytest.mark.parametrize("way", [{"sample": True, "top_p": 0.9}, {"num_beams": 3}], ids=["sampled", "beams"])
def test_a_run_is_checked_once_and_with_the_reference_not_at_all(florence: Path, way: dict[str, Any]) -> None:
    said: list[str] = []
    show(load(florence, note=said.append, **way), tasks=2)
    assert said == ["checking sdprep's decoder against transformers on the first caption"]
    show(load(florence, note=said.append, reference=True, **way))
    assert len(said) == 1


@pytest.mark.parametrize("side", [64, 96, 100])
def test_the_tokens_of_an_image_are_as_many_as_the_model_gives(florence: Path, side: int) -> None:
    model = load(florence)._model
    seen = model.model.get_image_features(torch.zeros(1, 3, side, side)).pooler_output
    assert image_tokens(model.config.vision_config, side) == seen.shape[1]


def copied(florence: Path, folder: Path, **changes: Any) -> Path:
    """The model with other values in its config.json."""
    shutil.copytree(florence, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    return folder


def test_a_repository_that_brings_code_is_refused(florence: Path, tmp_path: Path) -> None:
    folder = copied(florence, tmp_path / "code", auto_map={"AutoModel": "modeling.Florence"})
    with pytest.raises(ModelError, match="asks for code of its own"):
        load(folder)


def test_another_kind_of_model_is_refused_with_the_weights_that_serve(florence: Path, tmp_path: Path) -> None:
    folder = copied(florence, tmp_path / "other", model_type="florence2_old")
    with pytest.raises(ModelError, match="Use the converted weights of florence-community"):
        load(folder)


def test_weights_that_are_missing_are_named(florence: Path, tmp_path: Path) -> None:
    folder = copied(florence, tmp_path / "more")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["decoder_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=r"lacks weights of a Florence-2: model\.language_model\.decoder\.layers\.2"):
        load(folder)


def test_a_closed_captioner_has_let_its_weights_go(florence: Path) -> None:
    model = load(florence)
    model.close()
    assert (model._model, model._decoder) == (None, None)


def test_the_questions_are_those_of_transformers_own_processor() -> None:
    from transformers.models.florence2 import processing_florence2

    source = Path(str(processing_florence2.__file__)).read_text("utf-8")
    assert all(f'"{task}": "{question}"' in source for task, question in captioner.QUESTIONS.items())


@pytest.mark.parametrize("name", [name for name in names("caption") if name.startswith("florence2")])
def test_every_preset_of_our_models_is_a_task_token(name: str) -> None:
    spec = resolve(name, "caption")
    assert {spec.prompt.user, *spec.prompt.presets.values()} <= set(QUESTIONS)
