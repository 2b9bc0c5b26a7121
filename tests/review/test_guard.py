"""Who is refused, and what is sent with every answer."""

import asyncio
import json

import pytest

from sdprep.review.guard import Guard
from tests.review.conftest import TOKEN


def test_an_answer_lets_the_page_load_nothing_from_elsewhere(page):
    headers = page.get("").headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "127.0.0.1:80:80", "", "localhost.", "[::2]"])
def test_another_name_that_leads_here_is_refused(page, host):
    answer = page.client.get(f"{page.base}/api/folder", headers={"Host": host})

    assert answer.status_code == 421
    assert "imgs" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "localhost:8188", "LOCALHOST", "[::1]:80"])
def test_this_machine_under_any_port_is_answered(page, host):
    assert page.client.get(f"{page.base}/api/folder", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/api/folder", f"/{'x' * 43}/api/folder", f"/{TOKEN}x/api/folder", f"/x/{TOKEN}/"]
)
def test_a_request_without_the_token_is_refused(page, path):
    answer = page.client.get(path)

    assert answer.status_code == 403
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("origin", ["http://example.com", "null", "http://127.0.0.1:9999", "file://"])
def test_a_change_that_another_page_sends_is_refused(page, folder, origin):
    answer = page.client.put(
        f"{page.base}/api/text/0/tags",
        json={"text": "x"},
        headers={"Origin": origin, "If-Match": page.row(0)["tags"]["hash"]},
    )

    assert answer.status_code == 403
    assert (folder / "a.txt").read_bytes() == b"1girl, hat\n"


def test_a_change_from_the_page_itself_is_made(page):
    answer = page.client.put(
        f"{page.base}/api/text/0/tags",
        json={"text": "x"},
        headers={"Origin": "http://127.0.0.1:8000", "If-Match": page.row(0)["tags"]["hash"]},
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_change_that_any_page_could_send_as_a_form_is_refused(page, kind):
    answer = page.client.post(
        f"{page.base}/api/stop", content=json.dumps({}), headers={"Content-Type": kind} if kind else {}
    )

    assert answer.status_code == 415


def test_a_body_without_its_length_or_with_an_enormous_one_is_refused(page):
    headers = {"Content-Type": "application/json"}
    path = f"{page.base}/api/rows"

    assert page.client.post(path, content=iter([b"{}"]), headers=headers).status_code == 413
    enormous = {**headers, "Content-Length": "99999999999"}
    assert page.client.post(path, content=b"{}", headers=enormous).status_code == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"numbers": "all"}', b'{"numbers": [1.5]}', b"\xff"])
def test_a_body_that_makes_no_sense_is_refused(page, body):
    answer = page.client.post(f"{page.base}/api/rows", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path", ["static/../app.py", "static/%2e%2e/app.py", "static/..%2f..%2fapp.py", "static/%2fetc%2fpasswd", "static/"]
)
def test_a_path_that_leads_out_of_the_page_is_not_followed(page, path):
    answer = page.client.get(f"{page.base}/{path}")

    assert answer.status_code in (403, 404)
    assert "import" not in answer.text


def test_images_have_numbers_and_no_path_is_taken(page, folder):
    assert page.get("thumb/a.png").status_code == 404
    assert page.post("api/rows", numbers=[-1]).status_code == 404
    assert page.post("api/rows", numbers=[10**30]).status_code in (400, 404)


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(page, method):
    assert page.client.request(method, f"{page.base}/api/folder").status_code == 405


def test_a_change_needs_its_method(page):
    assert page.get("api/apply").status_code == 405
    assert page.get("api/text/0/tags").status_code == 405


@pytest.mark.parametrize(("method", "is_dropped"), [("GET", True), ("PUT", False)])
def test_a_question_is_dropped_when_the_browser_leaves_but_a_change_is_made(method, is_dropped):
    outcome = []
    sent = {"content-type": "application/json", "content-length": "2", "host": "localhost"}
    headers = [(name.encode(), value.encode()) for name, value in sent.items()]

    async def app(*_):
        try:
            for _ in range(10):
                await asyncio.sleep(0)
            outcome.append("answered")
        except asyncio.CancelledError:
            outcome.append("dropped")
            raise

    async def receive():
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": method, "path": f"/{TOKEN}/", "headers": headers}
    asyncio.run(Guard(app, TOKEN)(scope, receive, None))

    assert outcome == ["dropped" if is_dropped else "answered"]
