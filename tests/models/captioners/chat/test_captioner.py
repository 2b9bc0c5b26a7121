"""Captions of chat models: the same alone and in any batch, in any order, for each family."""

from unittest import mock

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from sdprep.errors import ModelError, UsageError
from sdprep.models.base import PromptSpec
from sdprep.models.captioners.chat.loading import load_processor
from sdprep.models.captioners.chat.search import AnswerSearch
from sdprep.models.captioners.generation import CaptionOptions, GenerationConfig
from sdprep.types import Batch, Caption, FailureCode, NoAnswer
from tests.models.captioners.chat.chat_models import RUNNABLE, batch, load

LENGTHS = {"max_new_tokens": 12, "min_new_tokens": 6}
SAMPLE = {"sample": True, "top_k": 20, "top_p": 0.95, "temperature": 1.5, **LENGTHS}


def captions(captioner, batches):
    return dict(captioner.predict(batches))


def texts(found):
    return {key: [(each.text, each.finish_reason) for each in (one, *one.others)] for key, one in found.items()}


def generated(folder, family, numbers):
    """What transformers' own `generate` answers to each image alone: the ids, and their mean log-probability."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = load_processor(transformers, folder, family)
    template = {"chat_template": processor.chat_template, "tokenize": False, "add_generation_prompt": True}
    search = {"do_sample": False, "num_beams": 1, "output_logits": True, "return_dict_in_generate": True}
    for number in numbers:
        asked = batch(number)
        content = [{"type": "image"}, {"type": "text", "text": asked.prompts[0]}]
        text = processor.tokenizer.apply_chat_template([{"role": "user", "content": content}], **template)
        inputs = processor(text=[text], images=[[Image.fromarray(asked.pixels[0])]], return_tensors="pt")
        with torch.inference_mode():
            found = model.generate(**inputs, **search, **LENGTHS)
            scores = model.compute_transition_scores(found.sequences, found.logits, normalize_logits=True)
        yield found.sequences[0, inputs["input_ids"].shape[1] :].tolist(), float(scores.mean())


@pytest.fixture
def searched(monkeypatch):
    """What each search for answers was given and has found: masks, and captions as token ids."""
    whole, seen = AnswerSearch.answers, []

    def answers(self, inputs, seeds, first):
        found = whole(self, inputs, seeds, first)
        seen.append((inputs["attention_mask"], [row for (row,) in found]))
        return found

    monkeypatch.setattr(AnswerSearch, "answers", answers)
    return seen


@pytest.mark.parametrize("family", RUNNABLE)
def test_a_padded_batch_of_mixed_sizes_and_prompts_gives_the_ids_of_generate_for_each_alone(
    model_folder, family, searched
):
    folder, numbers = model_folder(family), range(8)
    captioner = load(folder, **LENGTHS)
    captions(captioner, [batch(*numbers)])
    [(mask, found)] = searched
    assert (mask[:, 0] == 0).any()
    ends, expected = captioner._search.ends, list(generated(folder, family, numbers))
    assert [list(each.tokens) for each in found] == [ids[:-1] if ids[-1] in ends else ids for ids, _ in expected]
    assert [each.score for each in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    assert len({each.tokens for each in found}) > 1


@pytest.mark.parametrize("family", RUNNABLE)
def test_a_sample_depends_on_its_image_and_seed_and_not_on_its_batch(model_folder, family):
    captioner = load(model_folder(family), seed=5, num_return_sequences=2, **SAMPLE)
    together = texts(captions(captioner, [batch(0, 1, 2), batch(3, 4)]))
    assert together == texts(captions(captioner, [batch(4), batch(3, 1), batch(2, 0)]))
    other = load(model_folder(family), seed=6, num_return_sequences=2, **SAMPLE)
    assert together != texts(captions(other, [batch(0, 1, 2), batch(3, 4)]))
    assert all(first != second for first, second in together.values())


def test_beams_come_by_their_rank_with_scores(model_folder):
    found = captions(load(model_folder("llava"), num_beams=3, num_return_sequences=3, **LENGTHS), [batch(0, 1)])
    for each in found.values():
        scores = [each.score, *(other.score for other in each.others)]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == 3


# What goes wrong


def test_out_of_memory_halves_the_batch_for_good_and_loses_no_caption(model_folder, monkeypatch):
    notes = []
    captioner = load(model_folder("llava"), note=notes.append, **LENGTHS)
    expected = texts(captions(captioner, [batch(0, 1, 2, 3, 4)]))
    whole, sizes = AnswerSearch.answers, []

    def answers(self, inputs, seeds, first):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, inputs, seeds, first)

    monkeypatch.setattr(AnswerSearch, "answers", answers)
    assert texts(captions(captioner, [batch(0, 1, 2, 3, 4), batch(0, 1, 2)])) == expected
    assert sizes == [5, 2, 1, 2, 2, 1]
    assert notes == ["out of memory on cpu: continuing with --batch-size 2"]


def test_out_of_memory_for_one_image_ends_the_run_with_advice(model_folder, monkeypatch):
    captioner = load(model_folder("llava"), **LENGTHS)
    monkeypatch.setattr(AnswerSearch, "answers", mock.Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(ModelError, match=r"not have enough memory for 0 alone, at batch size 1\nUse --dtype bfloat16"):
        captions(captioner, [batch(0)])


def test_what_is_no_lack_of_memory_is_not_taken_for_one(model_folder, monkeypatch):
    captioner = load(model_folder("llava"), **LENGTHS)
    monkeypatch.setattr(AnswerSearch, "answers", mock.Mock(side_effect=RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        captions(captioner, [batch(0)])


def test_an_image_that_the_model_cannot_take_fails_alone(model_folder):
    # A shape that Qwen's image processor rejects.
    wide = np.zeros((1, 300, 3), dtype=np.uint8)
    good = batch(0, 1)
    mixed = Batch((0, 9, 1), (*good.digests, b"9" * 32), (good.pixels[0], wide, good.pixels[1]), ("a", "b", "c"))
    found = captions(load(model_folder("qwen3_vl"), **LENGTHS), [mixed])
    assert isinstance(found[0], Caption)
    assert isinstance(found[1], Caption)
    assert found[9].code is FailureCode.REQUEST_FAILED
    assert "the model cannot take it: absolute aspect ratio must be smaller than 200" in found[9].message


def test_an_answer_of_nothing_but_thoughts_is_no_caption(model_folder):
    spec = PromptSpec(prefill="<think>")
    found = captions(load(model_folder("llava"), prompt=spec, **LENGTHS), [batch(0)])[0]
    assert found == NoAnswer(FailureCode.EMPTY_ANSWER, "the answer was cut before a caption began; raise --max-length")


def test_a_prefill_begins_the_caption(model_folder):
    found = captions(load(model_folder("llava"), prompt=PromptSpec(prefill="In this image"), **LENGTHS), [batch(0)])
    assert found[0].text.startswith("In this image")


def test_a_model_whose_answer_depends_on_the_batch_is_found_out(model_folder, monkeypatch):
    answers = AnswerSearch.answers

    def padding_is_words(self, inputs, seeds, first):
        inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        return answers(self, inputs, seeds, first)

    monkeypatch.setattr(AnswerSearch, "answers", padding_is_words)
    for search in ({}, {"num_beams": 2}):
        captioner = load(model_folder("llava"), **LENGTHS, **search)
        with pytest.raises(ModelError, match=r"differently if another image is in the batch: .*\nUse --batch-size 1"):
            captions(captioner, [batch(0), batch(0, 1)])
    assert isinstance(captions(load(model_folder("llava"), batch_size=1, **LENGTHS), [batch(0)])[0], Caption)


def test_bad_words_are_not_written_and_unknown_ones_are_rejected(model_folder):
    folder = model_folder("llava")
    before = captions(load(folder, **LENGTHS), [batch(0)])[0].text
    options = CaptionOptions(generation=GenerationConfig(**LENGTHS), bad_words=(before[0],))
    assert before[0] not in captions(load(folder, options=options), [batch(0)])[0].text
    with pytest.raises(UsageError, match="--bad-words 日本: the model does not know this word"):
        load(folder, options=CaptionOptions(bad_words=("日本",)))


def test_several_tokens_end_an_answer_and_the_files_of_a_model_ask_for_no_sampling(model_folder):
    # The tiny models' own generation_config.json asks for samples, and ends with either of two tokens.
    captioner = load(model_folder("llava"), **LENGTHS)
    assert len(captioner._search.ends) == 2
    assert texts(captions(captioner, [batch(0, 1)])) == texts(captions(captioner, [batch(0, 1)]))


def test_a_closed_captioner_says_so(model_folder):
    captioner = load(model_folder("llava"), batch_size=1, **LENGTHS)
    captioner.close()
    with pytest.raises(ValueError, match="closed"):
        captions(captioner, [batch(0)])
