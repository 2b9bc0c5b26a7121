"""How many requests may run, and what they may cost: pure bookkeeping."""

import math

from sdprep.models.base import Price
from sdprep.models.captioners.server.limits import Budget, Limiter
from sdprep.models.captioners.server.reply import Usage


def test_a_limiter_lets_so_many_start_and_no_more():
    limiter = Limiter(4)
    assert [limiter.wait(0.0, active) for active in range(6)] == [0.0, 0.0, 0.0, 0.0, math.inf, math.inf]


def test_an_overload_halves_what_may_start_and_answers_raise_it_again():
    limiter = Limiter(8)
    limiter.overload(began=0.0, now=1.0)
    assert limiter.allowed == 4
    # Each round of answers adds one.
    for _ in range(5):
        limiter.succeed()
    assert limiter.allowed == 5
    for _ in range(100):
        limiter.succeed()
    assert limiter.allowed == 8


def test_requests_that_were_in_flight_together_are_one_overload():
    limiter = Limiter(32)
    for _ in range(32):
        limiter.overload(began=0.0, now=1.0)
    assert limiter.allowed == 16
    limiter.overload(began=1.5, now=2.0)
    assert limiter.allowed == 8


def test_one_request_may_always_start():
    limiter = Limiter(2)
    for number in range(10):
        limiter.overload(began=number + 0.5, now=float(number + 1))
    assert limiter.allowed == 1


def test_a_pause_holds_for_all_and_a_shorter_one_does_not_end_it():
    limiter = Limiter(4)
    limiter.pause(0.0, 30.0)
    limiter.pause(1.0, 2.0)
    assert limiter.wait(10.0, 0) == 20.0
    assert limiter.wait(30.0, 0) == 0.0


def test_requests_per_minute_are_spread():
    limiter, now, starts = Limiter(4, per_minute=30), 0.0, []
    for _ in range(4):
        now += limiter.wait(now, 0)
        limiter.start(now)
        starts.append(now)
    assert starts == [0.0, 2.0, 4.0, 6.0]


def starts(limiter, usages):
    """When each request starts, if the answer to each comes at once, with this usage."""
    now, found = 0.0, []
    for usage in usages:
        now += limiter.wait(now, 0)
        found.append(now)
        limiter.succeed(usage, limiter.start(now))
    return found


def test_tokens_per_minute_are_spread_by_what_the_server_counts():
    # 600 a minute are 10 a second; each answer takes 100, whatever was expected.
    limiter = Limiter(4, tokens_per_minute=600, tokens=1000)
    assert starts(limiter, [Usage(90, 10)] * 4) == [0.0, 10.0, 20.0, 30.0]


def test_a_request_takes_the_tokens_that_are_expected_until_its_answer_is_there():
    limiter = Limiter(4, tokens_per_minute=600, tokens=1000)
    expected = limiter.start(0.0)
    assert limiter.wait(0.0, 1) == 100.0
    limiter.succeed(Usage(90, 10), expected)
    assert limiter.wait(0.0, 0) == 10.0
    limiter.start(10.0)
    assert limiter.wait(10.0, 1) == 10.0


def test_a_server_that_counts_no_tokens_is_asked_by_what_is_expected():
    assert starts(Limiter(4, tokens_per_minute=600, tokens=1000), [None] * 3) == [0.0, 100.0, 200.0]


def test_the_slower_of_both_rates_counts():
    limiter = Limiter(4, per_minute=2, tokens_per_minute=600, tokens=100)
    assert starts(limiter, [Usage(90, 10), Usage(490, 10), Usage(90, 10), Usage(90, 10)]) == [0.0, 30.0, 80.0, 110.0]


def test_a_limit_of_requests_counts_every_request():
    budget = Budget(max_requests=2)
    budget.start()
    assert budget.fault(1) is None
    budget.start()
    assert budget.fault(2) == "stopped after 2 requests, as --max-requests says"


def test_a_cost_is_never_exceeded_by_what_is_in_flight():
    budget = Budget(max_cost=10e-6, price=Price(input=1, output=1), longest=2)
    # What an image takes is not known before the first answer.
    assert budget.has_room(0)
    assert not budget.has_room(1)
    budget.count(Usage(1, 1))
    # 2 are spent, and each may take 3.
    assert [budget.has_room(active) for active in range(4)] == [True, True, False, False]
    assert budget.fault(2) is None
    budget.count(Usage(1, 1))
    budget.count(Usage(1, 1))
    budget.count(Usage(1, 1))
    assert budget.fault(0) == "stopped at a cost of 0.0000, before it exceeds --max-cost 1e-05"


def test_a_request_without_an_answer_may_be_paid_for():
    budget = Budget(max_cost=1.0, price=Price(input=1, output=1), longest=2)
    budget.count(Usage(1, 1))
    before = budget.cost
    budget.lose()
    assert budget.cost == before + 3e-6
