"""What lasts: a bulk edit and its undo, how far they are, and their end by key."""

import threading

import pytest

from sdprep.tasks.review.review import Review
from tests.review.browser.page import Page

NOTHING = {"run": None, "written": 0, "remaining": 2, "left": []}


@pytest.fixture
def lasting(monkeypatch):
    """Makes a method of the review last until it is stopped."""
    stopped = threading.Event()
    monkeypatch.setattr(Review, "stop", lambda _: stopped.set())

    def last(method):
        monkeypatch.setattr(Review, method, lambda *_: NOTHING if stopped.wait(60) else None)

    return last


# The first answer to a filter is held back until `release` is called.
HELD = """
const old = window.fetch;
window.fetch = async (path, ...rest) => {
  const answer = await old(path, ...rest);
  if (/view.*tag%3Ahat/.test(path) && !window.release) await new Promise((go) => (window.release = go));
  return answer;
};
"""


def focused(page):
    return page.run("return document.activeElement.id")


@pytest.mark.parametrize("key", ["Enter", "Escape", " "])
def test_a_bulk_edit_is_stopped_by_key(page, lasting, key):
    lasting("apply")
    page.keys("Control+a", "t")
    page.type("dress")
    page.keys("Enter")
    page.wait(lambda: page.text("#plan").startswith("Files that change"))
    page.keys("Enter")
    page.wait(lambda: focused(page) == "stop")
    page.keys(key)
    page.wait(lambda: page.text("#said") == "Stopped. Files left as they were: 2")
    page.wait(lambda: not page.text("#preview"))


def test_an_undo_that_lasts_is_shown_and_stopped_and_goes_on_with_the_next_one(page, imgs, lasting, monkeypatch):
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape")
    page.saved()
    with monkeypatch.context():
        undo = Review.undo
        lasting("undo")
        page.keys("z")
        page.wait(lambda: page.text("#working h1") == "add: dress")
        page.wait(lambda: focused(page) == "stop")
        page.keys("Escape")
        page.wait(lambda: page.text("#said") == "Stopped. Files left as they were: 2")
        page.wait(lambda: not page.text("#working"))
    monkeypatch.setattr(Review, "undo", undo)
    page.keys("z")
    page.wait(lambda: page.text("#said") == "Undone: add: dress")
    assert (imgs / "0.txt").read_text() == "1girl, hat, solo\n"


def test_a_filter_that_is_asked_while_texts_are_read_is_asked_again_when_they_are(driver, serve, imgs, monkeypatch):
    may_read, load = threading.Event(), Review.load
    monkeypatch.setattr(Review, "load", lambda self: may_read.wait(60) and load(self))
    with Page(driver, serve(imgs)) as page:
        # A filter that is not typed to its end yet, on a busy machine.
        page.expected = {422}
        page.run(HELD)
        page.keys("/")
        page.type("tag:hat")
        page.wait(lambda: page.run("return Boolean(window.release)"))
        may_read.set()
        page.wait(lambda: "read" not in page.text("#found"))
        page.run("window.release()")
        page.wait(lambda: page.text("#found") == "2 of 5")


def test_a_filter_that_lasts_is_shown_to_be_under_way(page, monkeypatch):
    # A filter that is not typed to its end yet, on a busy machine.
    page.expected = {422}
    may_answer, view = threading.Event(), Review.view
    monkeypatch.setattr(Review, "view", lambda self, where="": may_answer.wait(60) and view(self, where))
    page.keys("/")
    page.type("width>1")
    page.wait(lambda: page.text("#found") == "Looking…")
    page.keys("Escape", "Space")
    assert (page.text("#chosen"), page.text("#found")) == ("1 selected", "Looking…")
    may_answer.set()
    page.wait(lambda: page.text("#found") == "5 of 5")
