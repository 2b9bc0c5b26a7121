"""Approving: captions and tags become the user's as they are."""

import pytest

from sdprep.demo import IMAGES
from sdprep.tasks.history.undo import undo
from tests.stories.telling import counts, tag


@pytest.fixture
def tagged(tmp_path):
    """A folder with an image that the demo tagger has tagged."""
    folder = tmp_path / "tagged"
    folder.mkdir()
    (folder / "a.png").write_bytes((IMAGES / "kuro.png").read_bytes())
    tag(folder)
    return folder


def test_approved_tags_are_the_users_and_a_later_run_keeps_them(tagged, open_page):
    page = open_page(tagged)
    before = (tagged / "a.txt").read_bytes()
    assert page.row(0)["tags"]["source"] == "machine"

    done = page.post("api/approve", numbers=[0], kind="tags").json()

    row = page.row(0)["tags"]
    assert (done["written"], row["source"], row["is_approved"]) == (1, "user", True)
    assert page.view("source:machine") == []
    assert counts(tag(tagged, max_tags=2)) == {"kept": 1}
    assert (tagged / "a.txt").read_bytes() == before


def test_an_approval_outlives_a_run_that_would_write_the_same(tagged, open_page):
    page = open_page(tagged)
    page.post("api/approve", numbers=[0], kind="tags")

    assert counts(tag(tagged)) == {"current": 1}
    assert page.row(0)["tags"]["is_approved"] is True


def test_an_approval_is_undone_like_any_run(tagged, open_page):
    page = open_page(tagged)
    done = page.post("api/approve", numbers=[0], kind="tags").json()

    page.post("api/undo", run=done["run"])

    assert page.row(0)["tags"]["source"] == "machine"
    assert counts(tag(tagged, max_tags=2)) == {"written": 1}


def test_an_approval_lapses_with_the_next_edit(tagged, open_page):
    page = open_page(tagged)
    page.post("api/approve", numbers=[0], kind="tags")

    page.put(0, "tags", "1girl")

    assert page.row(0)["tags"]["is_approved"] is False


def test_a_second_approval_makes_no_run(tagged, open_page):
    page = open_page(tagged)
    page.post("api/approve", numbers=[0], kind="tags")

    assert page.post("api/approve", numbers=[0], kind="tags").json() == {
        "run": None,
        "written": 0,
        "remaining": 0,
        "left": [],
    }


def test_a_tag_that_was_removed_on_the_page_is_not_added_by_a_later_append(tagged, open_page):
    page = open_page(tagged)
    first, *rest = page.row(0)["tags"]["list"]
    page.put(0, "tags", ", ".join(rest))
    page.post("api/approve", numbers=[0], kind="tags")

    tag(tagged, existing="append")

    assert first not in page.row(0)["tags"]["list"]


def test_a_removed_tag_stays_removed_without_an_approval_too(tagged, open_page):
    page = open_page(tagged)
    first, *rest = page.row(0)["tags"]["list"]
    page.put(0, "tags", ", ".join(rest))

    tag(tagged, existing="append")

    assert first not in page.row(0)["tags"]["list"]


def test_undo_of_the_session_takes_an_approval_back_too(tagged, open_page):
    page = open_page(tagged)
    before = (tagged / "a.txt").read_bytes()
    page.put(0, "tags", "1girl")
    page.post("api/approve", numbers=[0], kind="tags")

    undo(tagged, page.review.session)

    assert (tagged / "a.txt").read_bytes() == before
    assert page.row(0)["tags"]["source"] == "machine"
