"""What the Hub is asked, and which secrets are not shown."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sdprep.doctor.gather import run_probe


class Hub(BaseHTTPRequestHandler):
    """Answers with the status of the server, and records the requests."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:password@127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [200, 404, 503])
def test_the_status_of_the_answer_is_reported(hub, status):
    hub.status = status
    assert run_probe("hub").about["status"] == status


def test_the_endpoint_is_the_one_of_the_environment(hub):
    assert run_probe("hub").value("endpoint") == f"http://127.0.0.1:{hub.server_port}"


def test_no_token_is_sent(hub):
    run_probe("hub")
    assert not any("verysecret" in (authorization or "") for _, authorization in hub.asked)


def test_neither_token_nor_password_is_reported(hub):
    assert not any(secret in repr(run_probe("hub")) for secret in ("verysecret", "password"))
