"""A real browser on the real page: the server of `sdprep review`, and Chromium without a window.

Without Chromium the tests are skipped; with SDPREP_BROWSER=required that is an error.
"""

import os
import threading
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn
from PIL import Image

from scripts.browser import NoBrowser, open_browser
from sdprep.review.app import build
from sdprep.tasks.review.review import open_review
from tests.review.browser.page import Page

TOKEN = "token-of-the-tests"
REQUIRED = os.environ.get("SDPREP_BROWSER") == "required"
TEXTS = ["1girl, hat, solo", "1girl,black_hair,solo", "hat, smile", None, "sky, simple background"]
COLOURS = ["#c03", "#222", "#2a6", "#36c", "#dc8"]


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    try:
        browser = open_browser(tmp_path_factory.mktemp("profile"))
    except NoBrowser as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))
    yield browser
    browser.quit()


@pytest.fixture
def imgs(tmp_path):
    """Five images, one of which has no tag file."""
    folder = tmp_path / "imgs"
    folder.mkdir()
    for number, (text, colour) in enumerate(zip(TEXTS, COLOURS, strict=True)):
        Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
        if text is not None:
            (folder / f"{number}.txt").write_text(text + "\n")
    return folder


@contextmanager
def running(folder):
    """The server on a folder, in a thread of this process, which takes a tenth of the time of a new one."""
    review = open_review(folder)
    review.close()
    config = uvicorn.Config(build(review, TOKEN), port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
    server, socket = uvicorn.Server(config), config.bind_socket()
    socket.listen()
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join()
        socket.close()


@pytest.fixture
def serve():
    """A function that starts the server on a folder and returns the address; it ends with the test."""
    with ExitStack() as servers:
        yield lambda folder: servers.enter_context(running(folder))


@pytest.fixture
def page(driver, serve, imgs):
    """The page on five images that are read; no script may fail, nothing be refused that the test does not expect."""
    with Page(driver, serve(imgs)) as opened:
        opened.wait(lambda: "read" not in opened.text("#found"))
        yield opened
