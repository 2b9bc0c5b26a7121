"""A captioner at a server: what it sends, what it makes of every answer, and when it tries again."""

import json
import math
import random
import threading
import time
from collections import Counter
from email.utils import formatdate

import numpy as np
import pytest

from sdprep.errors import ServerError
from sdprep.models.captioners.generation import GenerationConfig
from sdprep.models.captioners.server import client
from sdprep.models.captioners.server.images import data_url, encode_jpeg
from sdprep.models.captioners.server.scheduler import Scheduler
from sdprep.types import Caption, FailureCode, NoAnswer, Served
from tests.models.captioners.server.conftest import images
from tests.stub_server import (
    caption_of,
    cut,
    fails,
    gives,
    half,
    html,
    jpeg_of,
    message,
    right,
    says,
    slow,
    stream,
    waits,
)


def test_every_image_gets_its_own_answer(ask, stub):
    found = ask(in_flight=4)(20)
    assert {key: answer.text for key, answer in found.items()} == {
        f"{number}.png": f"an image of 32 x 24, mostly {stub_color(number)}" for number in range(20)
    }
    assert stub.requests == 20


def stub_color(number):
    pixels = np.full((24, 32, 3), (number * 7 % 256, number % 256, 200), np.uint8)
    url = data_url(encode_jpeg(pixels, 10**6))
    return caption_of({"messages": [{"content": [{"image_url": {"url": url}}]}]}).split()[-1]


@pytest.mark.parametrize("script", [(right,), (fails(500), right), (cut, right), (half, right), (html, right)])
def test_a_passing_fault_is_tried_again(ask, stub, script):
    assert isinstance(ask(*script).one(), Caption)
    assert stub.requests == len(script)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (stream("a ", "cat"), "a cat"),
        (says([{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]), "a cat"),
        (says("<think>hm</think>a cat"), "a cat"),
        (says("a\ncat\x1b[31m"), "a cat"),
        (says("a cat", reasoning="a dog?", reasoning_content="no"), "a cat"),
        (gives({**message("a cat"), "logprobs": math.nan}), "a cat"),
        (says("a \ud83dcat"), "a cat"),
        (lambda handler, _: handler.send(200, b"\xef\xbb\xbf" + json.dumps(message("a cat")).encode()), "a cat"),
    ],
)
def test_an_answer_in_any_form_is_read(ask, action, text):
    assert ask(action).one() == Caption(text, 10, "stop")


@pytest.mark.parametrize("form", ["whole", "stream"])
def test_what_the_server_says_it_ran_is_kept_with_the_caption(ask, form):
    table = {**message("a cat"), "model": "other\x1b", "system_fingerprint": "fp_1"}
    asked = ask(*[gives(table) if form == "whole" else events(table)] * 3)
    assert [answer.served for answer in asked(3).values()] == [Served("other", "fp_1", 100)] * 3
    [note] = [note for note in asked.notes if "other" in note]
    assert note.endswith("was asked for stub and answers with other")


def events(table):
    table["choices"][0]["delta"] = {"content": "a cat"}
    data = f"data: {json.dumps(table)}\n\ndata: [DONE]\n\n".encode()
    return lambda handler, _: handler.send(200, data, {"Content-Type": "text/event-stream"})


@pytest.mark.parametrize("model", ["stub", "stub:latest", "folder/stub", None, 7])
def test_a_model_that_is_the_one_asked_for_or_has_no_name_needs_no_note(ask, model):
    asked = ask(gives({**message("a cat"), "model": model}))
    asked.one()
    assert not [note for note in asked.notes if "answers with" in note]


def test_a_cut_answer_is_asked_for_with_twice_the_tokens_once(ask, stub):
    answer = ask(says("a lo", "length"), says("a longer cat", "length")).one()
    assert answer == Caption("a longer cat", 10, "length")
    assert [body["max_tokens"] for body in stub.bodies] == [50, 100]


@pytest.mark.parametrize(
    ("script", "code", "requests"),
    [
        ((says(""), says(" ")), FailureCode.EMPTY_ANSWER, 2),
        ((says(None, "content_filter"),), FailureCode.REFUSED, 1),
        ((says(None, refusal="I cannot"),), FailureCode.REFUSED, 1),
        ((fails(400, "bad image"),), FailureCode.REQUEST_FAILED, 1),
        ((fails(400, "filtered", code="content_filter"),), FailureCode.REFUSED, 1),
        ((fails(403, "flagged", metadata={"flagged_input": "a"}),), FailureCode.REFUSED, 1),
        ((fails(413), fails(413)), FailureCode.REQUEST_FAILED, 2),
        ((fails(500),) * 6, FailureCode.REQUEST_FAILED, 6),
    ],
)
def test_an_image_without_an_answer_has_a_named_failure(ask, stub, script, code, requests):
    answer = ask(*script).one()
    assert isinstance(answer, NoAnswer)
    assert answer.code is code
    assert stub.requests == requests


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_of_all_ends_the_run(ask, stub, status):
    with pytest.raises(ServerError, match=f"answered {status}: go away"):
        ask(fails(status, "go away"))(5)
    assert stub.requests == 1


def test_requests_run_side_by_side_and_no_more_than_asked_for(ask, stub):
    together = threading.Barrier(3)

    def waits_for_others(handler, body):
        together.wait(10)
        right(handler, body)

    stub.usual = waits_for_others
    assert len(ask(in_flight=3)(9)) == 9
    assert stub.most_active == 3


def test_an_image_that_waits_for_another_try_holds_up_no_other(ask, stub, monkeypatch):
    is_there, add = threading.Event(), Scheduler.add

    def noted_add(self, job):
        add(self, job)
        if job.key == "1.png":
            is_there.set()

    def fails_beside_the_next_one(handler, body):
        is_there.wait(20)
        fails(500)(handler, body)

    monkeypatch.setattr(Scheduler, "add", noted_add)
    asked = ask(fails_beside_the_next_one, in_flight=1)
    assert next(iter(asked(4))) == "1.png"


def test_tries_come_later_and_later(ask):
    asked = ask(*[fails(500)] * 5)
    assert isinstance(asked.one(), Caption)
    assert asked.clock.waits == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    "header", [lambda: "50", lambda: formatdate(time.time() + 50, usegmt=True)], ids=["seconds", "date"]
)
def test_a_server_that_asks_to_wait_gets_no_request_before(ask, stub, header):
    asked = ask(fails(429, headers={"Retry-After": header()}), in_flight=1)
    assert len(asked(3)) == 3
    assert asked.clock.time == pytest.approx(50, abs=20)
    assert stub.requests == 4


def test_a_server_gets_no_more_tokens_in_a_minute_than_its_description_says(ask):
    # An answer of the stub takes 110.
    asked = ask(in_flight=4, tokens_per_minute=660)
    assert len(asked(7)) == 7
    assert asked.clock.time >= 60


SCHEMA = {"type": "object", "required": ["tags"], "properties": {"tags": {"type": "array"}}}


@pytest.mark.parametrize(
    "content",
    [
        '{"tags": ["a cat"],\n "note": "a\\nb"}',
        '```json\n{"tags": ["a cat"], "note": "a\\nb"}\n```',
        'Here it is:\n{"tags": ["a cat"], "note": "a\\nb\\u202e"}\nEnjoy!',
        '<think>{"no": 1}</think>{"tags": ["a cat"], "note": "a\\nb"}',
    ],
)
def test_an_answer_by_a_schema_is_its_json_object_on_one_line(ask, stub, content):
    assert ask(says(content), schema=SCHEMA).one().text == '{"tags":["a cat"],"note":"a\\nb"}'
    form = {"type": "json_schema", "json_schema": {"name": "caption", "schema": SCHEMA}}
    assert stub.bodies[0]["response_format"] == form


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a cat", "no JSON object"),
        ('{"tags": [', "no JSON object"),
        ("{a}", "not a JSON object"),
        ("{}", "without tags"),
    ],
)
def test_an_answer_that_does_not_fit_its_schema_is_asked_for_again_once_and_then_malformed(ask, stub, content, fault):
    assert ask(says(content), says('{"tags": 1}'), schema=SCHEMA).one().text == '{"tags":1}'
    assert f"Your last answer was {fault}" in stub.bodies[1]["messages"][0]["content"][1]["text"]
    answer = ask(says(content), says(content), schema=SCHEMA).one()
    assert answer.code is FailureCode.MALFORMED
    assert answer.message.startswith(f"the answer is {fault}")
    assert stub.requests == 4


def test_half_of_a_json_object_is_no_caption(ask, stub):
    assert ask(*[says('{"tags": [', "length")] * 3, schema=SCHEMA).one().code is FailureCode.MALFORMED
    assert [body["max_tokens"] for body in stub.bodies] == [50, 100, 100]


def test_a_server_that_takes_no_schema_is_asked_for_it_in_the_prompt(ask, stub):
    def picky(handler, body):
        if "response_format" in body:
            fails(400, "response_format is not supported")(handler, body)
        else:
            says('{"tags": 1}')(handler, body)

    stub.usual = picky
    asked = ask(schema=SCHEMA)
    assert [answer.text for answer in asked(3).values()] == ['{"tags":1}'] * 3
    assert stub.requests == 4
    prompt = stub.bodies[-1]["messages"][0]["content"][1]["text"]
    assert prompt.startswith("Describe it.\n\nAnswer with a JSON object alone")
    assert '"required":["tags"]' in prompt
    assert [note for note in asked.notes if "take" in note] == [
        "the server does not take response_format: it is left out"
    ]


def test_a_long_wait_is_announced_and_one_without_end_is_not_made(ask):
    asked = ask(fails(503, headers={"Retry-After": "60"}))
    asked.one()
    assert asked.notes[0] == "waiting for 60 s, as the server asks"
    with pytest.raises(ServerError, match="wait for 86,400 s"):
        ask(fails(429, headers={"Retry-After": "86400"})).one()


def test_a_quota_that_is_used_up_ends_the_run(ask, stub):
    with pytest.raises(ServerError, match="no credit left"):
        ask(fails(429, "You exceeded it", code="insufficient_quota", type="insufficient_quota")).one()
    assert stub.requests == 1


@pytest.mark.parametrize("status", [400, 500])
def test_ten_images_that_fail_alike_in_a_row_end_the_run(ask, stub, status):
    stub.usual = fails(status, "no vision here")
    asked = ask()
    found = []
    with pytest.raises(ServerError, match=r"no vision here(.|\n)*10 images in a row"):
        found.extend(asked.captioner.predict(images(30)))
    tries = 1 if status == 400 else 6
    # The next image may have been tried already while the tenth waited for its last try.
    assert 10 * tries <= stub.requests < 11 * tries


def test_images_that_fail_in_different_ways_do_not_end_the_run(ask, stub):
    actions = [fails(400, f"bad image {'abcdefghijkl'[number]}") for number in range(12)]
    found = ask(*actions)(13)
    assert sum(isinstance(answer, NoAnswer) for answer in found.values()) == 12


@pytest.fixture
def ended(monkeypatch):
    """Set once no further request may begin."""
    ended, end = threading.Event(), Scheduler._end

    def noted_end(self, error=None):
        end(self, error)
        ended.set()

    monkeypatch.setattr(Scheduler, "_end", noted_end)
    return ended


def test_what_is_in_flight_is_answered_before_an_error_is_raised(ask, stub, ended):
    begun = threading.Event()

    def last(handler, body):
        begun.wait(10)
        fails(401, "no")(handler, body)

    def first(handler, body):
        begun.set()
        ended.wait(10)
        right(handler, body)

    found = []
    with pytest.raises(ServerError, match="401"):
        found.extend(ask(last, first, in_flight=2).captioner.predict(images(9)))
    assert [type(answer) for _, answer in found] == [Caption]
    assert stub.requests == 2


def test_once_cancelled_only_what_is_in_flight_is_waited_for(ask, stub, ended):
    asked = ask(in_flight=2)

    def cancels(handler, body):
        asked.captioner.stop.exit_code = 130
        ended.wait(10)
        right(handler, body)

    stub.usual = cancels
    assert 1 <= len(asked(20)) <= 2
    assert stub.requests <= 2


def test_an_error_of_the_images_is_raised_and_ends_the_requests(ask, stub):
    def broken():
        yield from images(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(ask().captioner.predict(broken()))


def test_among_many_faults_every_image_is_answered_once(ask, stub):
    rng, faults = random.Random(5), [cut, half, html, fails(429), fails(500), fails(503, headers={"Retry-After": "1"})]
    answered = Counter()

    def unreliable(handler, body):
        with stub.lock:
            action = rng.choice(faults) if rng.random() < 0.2 else None
        if action is None:
            answered[jpeg_of(body)] += 1
            action = right
        action(handler, body)

    stub.usual = unreliable
    found = ask(in_flight=16)(200)
    assert all(isinstance(answer, Caption) for answer in found.values())
    assert len(found) == len(answered) == 200
    assert set(answered.values()) == {1}
    assert stub.most_active <= 16


@pytest.mark.parametrize(
    "place", ["client.outcome_of", "scheduler.Scheduler._settle_reply", "captioner.encode_jpeg", "client.clean_answer"]
)
def test_a_bug_in_a_thread_is_raised_and_does_not_hang(ask, stub, monkeypatch, place):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(f"sdprep.models.captioners.server.{place}", broken)
    with pytest.raises(ZeroDivisionError):
        ask(in_flight=3)(9)


def test_several_captions_are_several_requests_with_seeds_of_their_own(ask, stub):
    generation = GenerationConfig(max_new_tokens=9, sample=True, temperature=0.7, seed=3, num_return_sequences=3)
    asked = ask(says("one"), says("two"), says("three"), generation=generation, stated={"temperature"})
    answer = asked.one()
    assert [answer.text, *(other.text for other in answer.others)] == ["one", "two", "three"]
    seeds = [body["seed"] for body in stub.bodies]
    assert len(set(seeds)) == 3
    asked.one()
    assert [body["seed"] for body in stub.bodies[3:]] == seeds
    assert {body["temperature"] for body in stub.bodies} == {0.7}


def test_a_server_that_wants_other_words_gets_them_from_then_on_and_it_is_said_once(ask, stub):
    def picky(handler, body):
        if "max_tokens" in body:
            fails(400, "max_tokens is not supported, use max_completion_tokens")(handler, body)
        elif body["messages"][0]["role"] == "system":
            fails(400, "System role not supported")(handler, body)
        else:
            right(handler, body)

    stub.usual = picky
    asked = ask(system="Be brief.")
    assert all(isinstance(answer, Caption) for answer in asked(4).values())
    assert stub.requests == 3 + 3
    assert [note for note in asked.notes if "takes" in note] == [
        "the server takes max_completion_tokens instead of max_tokens",
        "the server takes no system prompt: it goes before the prompt",
    ]


def test_a_limit_that_is_too_high_is_the_fault_of_the_request_and_not_of_the_name(ask, stub):
    stub.usual = fails(400, "max_tokens is larger than the context")
    asked = ask()
    assert isinstance(asked.one(), NoAnswer)
    assert stub.requests == 2
    stub.usual = right
    asked.one()
    assert "max_tokens" in stub.bodies[-1]


def test_an_image_that_is_too_large_is_sent_once_more_at_half_the_size(ask, stub):
    assert ask(fails(413)).one().text.startswith("an image of 16 x 12")


def test_no_part_of_a_key_is_left_where_a_message_is_shortened(ask, monkeypatch):
    monkeypatch.setenv("STUB_KEY", "canary" * 5)
    answer = ask(fails(400, f"{'x' * 285} {'canary' * 5}"), key_env="STUB_KEY").one()
    assert answer.message.endswith("x ***")


def test_a_word_that_stands_for_a_key_may_be_in_a_caption(ask, stub, monkeypatch):
    monkeypatch.setenv("STUB_KEY", "none")
    assert ask(says("none of them is red"), key_env="STUB_KEY").one().text == "none of them is red"
    assert stub.headers[0]["Authorization"] == "Bearer none"


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_that_the_server_broke_off_is_no_caption(ask, stub, reason):
    assert ask(says("half a c", reason), says("a cat")).one().text == "a cat"
    assert stub.requests == 2


def test_images_that_are_filtered_out_do_not_end_the_run(ask, stub):
    found = ask(*[fails(400, "filtered", code="content_filter")] * 12)(13)
    assert Counter(type(answer) for answer in found.values()) == {NoAnswer: 12, Caption: 1}


def test_what_a_refusal_says_is_one_line_without_control_characters(ask):
    answer = ask(says(None, refusal="I can\x1b[31mnot\ndo \ud83dthat")).one()
    assert answer.message == "the model refuses: I can[31mnot do that"


def test_an_idle_connection_that_was_closed_costs_no_wait(ask, stub):
    def closes_after(handler, body):
        right(handler, body)
        handler.close_connection = True

    asked = ask(closes_after, closes_after)
    assert len(asked(3)) == 3
    assert asked.clock.waits in ([], [0.0], [0.0, 0.0])


def test_a_cut_answer_is_used_if_no_longer_one_may_be_asked_for(ask, stub):
    asked = ask(says("a lo", "length"), max_requests=1)
    assert asked.one() == Caption("a lo", 10, "length")
    assert stub.requests == 1


def test_the_first_answer_may_take_longer_than_the_later_ones(ask, stub, monkeypatch):
    def stalls(handler, body):
        # The next try may take its time.
        monkeypatch.setattr(client, "LATER_SECONDS", 60.0)
        waits(handler, body)

    monkeypatch.setattr(client, "LATER_SECONDS", 0.05)
    asked = ask(slow(0.15), stalls)
    assert isinstance(asked.one(), Caption)
    assert stub.requests == 1
    assert isinstance(asked.one(), Caption)
    assert stub.requests == 3


@pytest.mark.parametrize(
    "table",
    [
        *({}, {"choices": []}, {"choices": "x"}, {"choices": [None]}, [], "text", 1, {"error": "it is broken"}),
        *({"choices": {}}, {"error": {"code": 7}}, {"error": ["\ud83d", math.nan, 10**30]}),
    ],
)
def test_an_answer_that_is_none_is_asked_for_again(ask, stub, table):
    assert isinstance(ask(gives(table)).one(), Caption)
    assert stub.requests == 2


HUGE = {"prompt_tokens": 10**400, "completion_tokens": 10**400}


@pytest.mark.parametrize("usage", [None, {}, [], {"prompt_tokens": "x", "completion_tokens": -1}, HUGE])
def test_a_server_that_counts_no_tokens_is_used_unless_the_cost_is_limited(ask, stub, usage):
    without = {**message("a cat"), "usage": usage}
    assert ask(gives(without)).one() == Caption("a cat", 0, "stop")
    with pytest.raises(ServerError, match="does not count tokens"):
        ask(gives(without), max_cost=1.0, price={"input": 1.0, "output": 1.0})(3)
    assert stub.requests == 2


def test_an_event_stream_that_ends_too_soon_is_asked_for_again(ask, stub):
    assert ask(stream("half a c", done=False), stream("a cat")).one().text == "a cat"


def test_an_answer_without_end_is_not_read_to_its_end(ask, monkeypatch):
    monkeypatch.setattr("sdprep.models.captioners.server.connection.LONGEST_RESPONSE", 100_000)
    assert "more than" in ask(*[says("word " * 100_000)] * 6).one().message


def test_extra_fields_are_sent_as_they_are(ask, stub):
    ask(extra={"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}).one()
    assert stub.bodies[0]["top_k"] == 20
    assert stub.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
