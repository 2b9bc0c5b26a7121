"""A captioner at a server: what it sends, what it makes of every answer, and when it tries again."""

import numpy as np
import pytest

from sdprep.errors import ServerError
from sdprep.models.captioners.server.images import data_url, encode_jpeg
from sdprep.types import Caption, FailureCode, NoAnswer
from tests.stub_server import caption_of, cut, fails, half, html, right, says, stream


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
        (says("a\ncat\x1b[31m"), "a cat[31m"),
        (says("a cat", reasoning="a dog?", reasoning_content="no"), "a cat"),
    ],
)
def test_an_answer_in_any_form_is_read(ask, action, text):
    assert ask(action).one() == Caption(text, 10, "stop")


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
