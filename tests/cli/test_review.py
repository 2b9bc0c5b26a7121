"""`sdprep review` as a process: its address, its end, and what is left when it is killed in a bulk edit."""

import http.client
import json
import re
import shlex
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sdprep.review import serving
from sdprep.tasks.history.undo import undo

COUNT = 300

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a test could send")


@pytest.fixture
def many(tmp_path, put_image):
    """A folder of images with tags."""
    for number in range(COUNT):
        put_image(tmp_path / "imgs" / f"{number}.png").with_suffix(".txt").write_text(f"tag {number}\n")
    return tmp_path / "imgs"


def ask(address, path, body=None):
    found = urlsplit(address)
    with closing(http.client.HTTPConnection(found.hostname, found.port, timeout=120)) as connection:
        if body is None:
            connection.request("GET", found.path + path)
        else:
            connection.request("POST", found.path + path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_the_address_is_on_stdout_and_ctrl_c_is_the_usual_end(start, imgs):
    process = start("review", ".", "--no-browser", cwd=imgs)
    address = process.stdout.readline().strip()

    status, page = ask(address, "")

    assert (status, b"sdprep review" in page) == (200, True)
    assert address.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=120)
    assert (process.returncode, rest) == (0, "")
    assert err.splitlines()[-1] == "review: ended; nothing was changed"


def test_a_terminated_server_removes_the_file_with_the_token_and_says_how_it_ended(start, imgs, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start("review", ".", "--no-browser", cwd=imgs)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)

    assert (process.returncode, err.splitlines()[-1]) == (143, "review: ended; nothing was changed")
    assert list(tmp_path.glob("sdprep-review-*")) == []


def test_what_takes_back_the_session_of_a_folder_elsewhere_is_printed_at_its_end(start, many, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    process = start("review", many, "--no-browser", cwd=elsewhere)
    address = process.stdout.readline().strip()
    body = {"numbers": [0], "kind": "tags", "operation": {"name": "add", "value": "new"}}
    plan = json.loads(ask(address, "api/plan", body)[1])["plan"]
    ask(address, "api/apply", {"plan": plan})

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)

    found = re.fullmatch(r"review: ended; sdprep (undo .*) takes back all that it wrote", err.splitlines()[-1])
    assert found is not None
    undoing = start(*shlex.split(found[1]), cwd=elsewhere)
    undoing.communicate(timeout=120)
    assert undoing.returncode == 0


def test_the_token_is_in_no_command_line_that_opens_the_browser(sdprep_command, imgs, monkeypatch):
    opened, pages = [], []

    def open_page(address):
        opened.append(address)
        pages.append(Path(urlsplit(address).path).read_text(encoding="utf-8"))

    monkeypatch.setattr("webbrowser.open", open_page)
    monkeypatch.setattr(serving, "serve", lambda _, token, __, ready: ready(f"http://127.0.0.1:1/{token}/"))

    done = sdprep_command("review", imgs)

    token = urlsplit(done.out.strip()).path.strip("/")
    assert done.code == 0
    assert token not in opened[0]
    assert token in pages[0]


def test_a_port_that_is_taken_is_named(start, imgs):
    first = start("review", ".", "--no-browser", cwd=imgs)
    port = urlsplit(first.stdout.readline().strip()).port
    second = start("review", ".", "--no-browser", "--port", str(port), cwd=imgs)

    _, err = second.communicate(timeout=120)

    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert err.startswith(f"sdprep: error: --port {port}")


def test_without_the_extra_the_exit_code_is_5_and_the_message_has_the_command(
    sdprep_command, imgs, plain_pip, monkeypatch
):
    monkeypatch.setattr(serving, "find_spec", lambda _: None)

    done = sdprep_command("review", imgs)

    assert done.code == 5
    assert "sdprep[review]" in done.err


def test_a_folder_without_images_is_exit_code_4(sdprep_command, tmp_path):
    (tmp_path / "empty").mkdir()

    assert sdprep_command("review", tmp_path / "empty").code == 4


def test_where_shows_only_the_images_that_match(sdprep_command, imgs, monkeypatch):
    shown = []
    (imgs / "a.txt").write_text("hat\n")
    monkeypatch.setattr(serving, "serve", lambda review, *_: shown.extend(item.rel for item in review.index.items))

    sdprep_command("review", imgs, "--where", "tag:hat")

    assert shown == ["a.jpg"]


@pytest.mark.parametrize("files", [1, 100, 200])
def test_a_server_that_is_killed_in_a_bulk_edit_leaves_each_file_old_or_new_and_undo_gives_the_first_bytes(
    start, many, files
):
    first = {path.name: path.read_bytes() for path in many.glob("*.txt")}
    process = start("review", ".", "--no-browser", cwd=many)
    address = process.stdout.readline().strip()
    body = {"numbers": list(range(COUNT)), "kind": "tags", "operation": {"name": "add", "value": "new"}}
    plan = json.loads(ask(address, "api/plan", body)[1])["plan"]
    apply = threading.Thread(target=swallow, args=(address, {"plan": plan}))
    apply.start()
    while changed(many, first) < files and apply.is_alive():
        pass
    process.kill()
    process.communicate()
    apply.join()

    for path in many.glob("*.txt"):
        assert path.read_bytes() in (first[path.name], first[path.name].replace(b"\n", b", new\n"))
    assert undo(many).failed == 0
    assert {path.name: path.read_bytes() for path in many.glob("*.txt")} == first
    assert list(many.glob(".sdprep-*.tmp")) == []


def swallow(address, body):
    """Ask for what the killed server never answers."""
    try:
        ask(address, "api/apply", body)
    except (OSError, http.client.HTTPException):
        return


def changed(folder, first):
    """How many files have other bytes than at first, looked at from the front."""
    return sum((folder / name).stat().st_size != len(data) for name, data in first.items())
