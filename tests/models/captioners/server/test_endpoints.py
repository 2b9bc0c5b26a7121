"""Several servers that share the images: each has its own bound, and one that fails is left alone for a while."""

import threading

import pytest

from sdprep.errors import ServerError
from sdprep.models.captioners.server.scheduler import Clock
from sdprep.types import Caption
from tests.models.captioners.server.conftest import FastClock
from tests.stub_server import StubServer, cut, fails, right, slow


@pytest.fixture
def other():
    with StubServer() as server:
        yield server


@pytest.fixture
def ask_both(ask, stub, other):
    """Open a captioner at two stubs; time passes as it does, since a fast clock would end every absence at once."""
    return lambda **more: ask(**{"url": (stub.url, other.url), "clock": Clock(), **more})


def test_servers_share_the_images_and_each_keeps_to_its_own_bound(ask_both, stub, other):
    stub.usual = other.usual = slow(0.02)
    assert len(ask_both(in_flight=2)(24)) == 24
    assert stub.requests + other.requests == 24
    assert min(stub.requests, other.requests) >= 6
    assert (stub.most_active, other.most_active) == (2, 2)


def test_a_slow_server_gets_fewer_images(ask_both, stub, other):
    is_ahead = threading.Event()

    def quick(handler, body):
        if other.requests >= 7:
            is_ahead.set()
        right(handler, body)

    def late(handler, body):
        is_ahead.wait(20)
        right(handler, body)

    stub.usual, other.usual = late, quick
    assert len(ask_both()(12)) == 12
    assert stub.requests < other.requests


@pytest.mark.parametrize("fault", [fails(500), fails(502), cut])
def test_a_server_that_fails_is_left_alone_and_another_answers(ask_both, stub, other, fault):
    stub.usual = fault
    asked = ask_both()
    answers = asked(8).values()
    assert all(isinstance(answer, Caption) for answer in answers)
    assert (stub.requests, other.requests) == (1, 8)
    [note] = [note for note in asked.notes if "no request" in note]
    assert note.startswith(f"127.0.0.1:{stub.port} gets no request for 60 s: ")


def test_a_server_that_failed_is_asked_again_after_a_minute(ask_both, stub, other):
    stub.script.append(fails(500))
    clock = FastClock()
    asked = ask_both(clock=clock)
    stub.usual = other.usual = slow(0.02)
    assert len(asked(12)) == 12
    assert 60.0 in clock.waits
    assert stub.requests > 1


def test_servers_that_all_fail_are_tried_as_one_would_be(ask_both, stub, other):
    stub.usual = other.usual = fails(500)
    answer = ask_both(clock=FastClock()).one()
    assert answer.message.endswith("(6 tries)")


def test_an_overload_slows_only_the_server_that_has_it(ask_both, stub, other):
    stub.script.append(fails(429, headers={"Retry-After": "30"}))
    assert len(ask_both()(6)) == 6
    assert (stub.requests, other.requests) == (1, 6)


def test_each_server_learns_its_own_words(ask_both, stub, other):
    def picky(handler, body):
        (fails(400, "max_tokens is not supported") if "max_tokens" in body else right)(handler, body)

    stub.usual = picky
    assert all(isinstance(answer, Caption) for answer in ask_both()(8).values())
    assert "max_tokens" in other.bodies[-1]


def test_a_wrong_server_ends_the_run_at_its_start(ask, stub, other):
    other.models = ["another"]
    with pytest.raises(ServerError, match=f"{other.port} has no model stub"):
        ask(url=(stub.url, other.url))
    assert stub.requests == other.requests == 0


def test_the_same_address_twice_is_one_server(ask, stub):
    asked = ask(url=(stub.url, stub.url))
    asked(3)
    assert stub.most_active == 1
    assert asked.captioner.provider == f"server 127.0.0.1:{stub.port}"
