"""Captions are those of `BlipForConditionalGeneration.generate` called straight from transformers."""

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import sdprep.demo
from sdprep.config import CaptionSettings, RunOptions
from sdprep.images.source import ImageSource
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.tasks.caption import caption
from tests.reference.reading import read, stored_results

MODEL = Path(sdprep.demo.__file__).parent / "models" / "demo-caption"
PROMPT = "a picture of"


@cache
def reference() -> tuple[Any, Any, Any]:
    from transformers import BertTokenizer, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    model = BlipForConditionalGeneration.from_pretrained(MODEL).eval()
    return model, BertTokenizer.from_pretrained(MODEL), BlipImageProcessorPil.from_pretrained(MODEL)


def pixels_by_transformers(image: Path | BytesIO) -> Any:
    return reference()[2]([read(image)], return_tensors="pt").pixel_values


@cache
def generated(image: bytes, beams: int, prompt: str) -> tuple[str, int]:
    """The text after the prompt, and the number of its tokens, for one image at a time."""
    model, tokenizer, _ = reference()
    # Without a prompt there is still the final token, which generate() drops.
    start = tokenizer([prompt], return_tensors="pt").input_ids
    lengths = {"min_new_tokens": 5, "max_new_tokens": 75}
    pixels = pixels_by_transformers(BytesIO(image))
    ids = model.generate(pixels, input_ids=start, num_beams=beams, do_sample=False, **lengths)
    new = [token for token in ids[0, start.shape[1] - 1 :].tolist() if token not in tokenizer.all_special_ids]
    return tokenizer.decode(new), len(new)


def captioned(folder: Path, **settings: Any) -> dict[Path, tuple[str, int]]:
    batch_size = settings.pop("batch_size", 8)
    # In this process, whose threads and calls these tests have in hand.
    work = RunOptions(batch_size=batch_size, workers=0)
    report = caption(folder, CaptionSettings(model="demo-caption", device="cpu", run=work, **settings))
    assert report.failed == 0
    results = {path: json.loads(data) for path, data in stored_results(folder).items()}
    return {path: (result["text"], result["n_tokens"]) for path, result in results.items()}


DECODERS = pytest.mark.parametrize("decoder", ["fast", "reference"])


# Each number of beams in two sizes of batches by sdprep's own decoder, each size at two numbers of beams.
FAST = [("fast", beams, size) for beams, *sizes in ((1, 1, 32), (3, 8, 1), (8, 32, 8)) for size in sizes]
REFERENCE = [("reference", 1, 8), ("reference", 3, 32), ("reference", 8, 1)]


@pytest.mark.parametrize(("decoder", "beams", "batch_size"), [*FAST, *REFERENCE])
def test_every_caption_is_that_of_transformers(folder: Path, beams: int, batch_size: int, decoder: str) -> None:
    found = captioned(folder, num_beams=beams, batch_size=batch_size, decoder=decoder)
    expected = {path: generated(path.read_bytes(), beams, PROMPT) for path in found}
    assert found == expected


@DECODERS
def test_every_caption_without_a_prompt_is_that_of_transformers(folder: Path, decoder: str) -> None:
    found = captioned(folder, num_beams=1, prompt="", decoder=decoder)
    expected = {path: generated(path.read_bytes(), 1, "") for path in found}
    assert found == expected


def test_the_sidecar_holds_the_caption(folder: Path) -> None:
    found = captioned(folder, num_beams=1)
    written = {path: path.with_suffix(".caption").read_text(encoding="utf-8") for path in found}
    assert written == {path: f"{text}\n" for path, (text, _) in found.items()}


@DECODERS
def test_the_pixels_that_the_model_sees_are_those_of_the_processor_under_exact_decoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    from transformers import BlipForConditionalGeneration

    seen, watched = [], BlipNetwork.prefill if decoder == "fast" else BlipForConditionalGeneration.generate

    def spy(self: Any, pixel_values: Any, *rest: Any, **named: Any) -> Any:
        seen.append(pixel_values)
        return watched(self, pixel_values, *rest, **named)

    if decoder == "fast":
        monkeypatch.setattr(BlipNetwork, "prefill", spy)
    else:
        monkeypatch.setattr(BlipForConditionalGeneration, "generate", spy)
    captioned(folder, num_beams=1, batch_size=1, max_length=5, decoder=decoder, exact_decode=True)
    monkeypatch.undo()
    expected = [pixels_by_transformers(item.path) for item in ImageSource(folder).items()]
    # Before the run itself the fast decoder sees the first image to be compared with transformers.
    run = seen[-len(expected) :]
    worst = max(float((one - other).abs().max()) for one, other in zip(run, expected, strict=True))
    assert worst < 1e-5
