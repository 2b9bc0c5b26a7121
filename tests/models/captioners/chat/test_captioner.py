"""Captions of chat models: the same alone and in any batch, in any order, for each family."""

import pytest
import torch
import transformers
from PIL import Image

from sdprep.models.base import AnswerSpec
from sdprep.models.captioners.answers import clean_answer
from sdprep.models.captioners.chat.loading import load_processor
from tests.models.captioners.chat.chat_models import FAMILIES, batch, load

LENGTHS = {"max_new_tokens": 12, "min_new_tokens": 6}
SAMPLE = {"sample": True, "top_k": 20, "top_p": 0.95, "temperature": 1.5, **LENGTHS}


def captions(captioner, batches):
    return dict(captioner.predict(batches))


def texts(found):
    return {key: [(each.text, each.finish_reason) for each in (one, *one.others)] for key, one in found.items()}


def generated(folder, family, asked):
    """What transformers' own `generate` answers to a batch of one."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = load_processor(transformers, folder, family)
    content = [{"type": "image"}, {"type": "text", "text": asked.prompts[0]}]
    conversation = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[[Image.fromarray(asked.pixels[0])]], return_tensors="pt")
    with torch.inference_mode():
        found = model.generate(**inputs, do_sample=False, num_beams=1, **LENGTHS)
    new = found[0, inputs["input_ids"].shape[1] :]
    return clean_answer(processor.tokenizer.decode(new, skip_special_tokens=True), AnswerSpec())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_mixed_sizes_and_prompts_gives_what_generate_answers_to_each_alone(model_folder, family):
    folder = model_folder(family)
    found = captions(load(folder, **LENGTHS), [batch(0, 1, 2, 3, 4)])
    assert {key: each.text for key, each in found.items()} == {
        number: generated(folder, family, batch(number)) for number in range(5)
    }
    assert len({each.text for each in found.values()}) > 1


@pytest.mark.parametrize("family", FAMILIES)
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


def test_the_score_of_a_greedy_answer_is_that_of_its_beam(model_folder):
    greedy = captions(load(model_folder("llava"), **LENGTHS), [batch(0, 1, 2)])
    folder = model_folder("llava")
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = load_processor(transformers, folder, "llava")
    asked = batch(1)
    content = [{"type": "image"}, {"type": "text", "text": asked.prompts[0]}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=[text], images=[[Image.fromarray(asked.pixels[0])]], return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**inputs, do_sample=False, output_logits=True, return_dict_in_generate=True, **LENGTHS)
        scores = model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
    assert greedy[1].score == pytest.approx(float(scores.mean()), abs=1e-5)
