"""Actions that are stopped half-way, undone in steps, and counted while they last."""

import logging
import signal

import pytest

from sdprep.review.serving import serve
from sdprep.tasks.texts.plan import GROUP


@pytest.fixture
def many(folder, open_page, put_image):
    """The page on two groups of files more."""
    for number in range(2 * GROUP):
        put_image(folder / f"n{number:03}.png").with_suffix(".txt").write_text("cat\n")
    return open_page()


def stop_after_a_group(page, monkeypatch):
    """Have the next action stopped as soon as it has done one group."""
    advance = page.review.progress.advance

    def stop_then_advance(count=1):
        page.post("api/stop")
        advance(count)

    monkeypatch.setattr(page.review.progress, "advance", stop_then_advance)


def undone(page):
    return {each["what"]: each["is_undone"] for each in page.get("api/session").json()["runs"]}


def test_a_stopped_undo_is_resumed_by_the_same_request(many, monkeypatch):
    done = many.edit("add", "new", numbers=many.view("tag:cat"))
    with monkeypatch.context() as patched:
        stop_after_a_group(many, patched)
        first = many.post("api/undo", run=done["run"]).json()

    assert 0 < first["written"] < 2 * GROUP == first["written"] + first["remaining"]
    assert many.get("api/progress").json() == {"done": first["written"], "of": 2 * GROUP}
    assert undone(many)["--add new"] is False
    second = many.post("api/undo", run=done["run"]).json()
    assert (second["written"], second["remaining"]) == (first["remaining"], 0)
    assert undone(many)["--add new"] is True
    assert many.view("tag:new") == []


def test_the_session_says_which_runs_are_in_force(page):
    run = page.edit("add", "new")["run"]
    for _ in range(3):
        run = page.post("api/undo", run=run).json()["run"]

    runs = page.get("api/session").json()["runs"]
    assert [(each["what"], each["is_undone"]) for each in runs] == [
        ("--add new", True),
        ("undo --add new", False),
        ("redo --add new", True),
        ("undo --add new", False),
    ]


def test_an_action_ends_with_the_review(many):
    plan = many.plan("add", "new", numbers=many.view("tag:cat"))["plan"]
    many.review.end()

    done = many.post("api/apply", plan=plan).json()

    assert (done["run"], done["written"], done["remaining"]) == (None, 0, 2 * GROUP)


def test_a_second_ctrl_c_cuts_off_no_answer(page, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn")
    ended = []

    def press_twice(self, sockets):
        for _ in range(2):
            self.handle_exit(signal.SIGINT, None)
        ended.append((self.should_exit, self.force_exit))
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", press_twice)
    serve(page.review, "token", 0, ended.append)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)

    assert ended[1:] == [(True, False)]
