"""Servers that are not what they should be: each with one clear message, and no image sent where it should not go."""

import socket
import ssl
import subprocess

import pytest

from sdprep.errors import ServerError, UsageError
from sdprep.models.base import ImageSpec
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.captioners.server import captioner
from tests.models.captioners.server.conftest import Asked
from tests.stub_server import StubServer, fails, html


def opened(url, **server):
    with StubServer() as stub:
        return Asked(stub, CaptionOptions(), 1, ImageSpec(fit="inside", size=64), {}, **{"url": url, **server})


def test_a_port_without_a_server_names_the_commands_that_start_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ServerError, match=rf"127.0.0.1:{port} cannot be reached: .*\n.*`ollama serve`"):
            opened(f"http://127.0.0.1:{port}")


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(ServerError, match=r"no-such-host\.invalid:80 cannot be reached"):
        opened("http://no-such-host.invalid")


def test_a_model_that_is_not_there_is_named_with_those_that_are(stub, ask):
    stub.models = [f"model-{number}" for number in range(12)]
    with pytest.raises(ServerError, match=r"has no model stub\nIt has: model-0, .*, model-9, and 2 more"):
        ask()
    assert stub.requests == 0


@pytest.mark.parametrize(("asked", "listed"), [("llava", "llava:latest"), ("gemini", "models/gemini"), ("a", "a")])
def test_a_model_may_be_listed_with_a_tag_or_a_folder(stub, ask, asked, listed):
    stub.models = ["other", listed]
    assert ask(model=asked).notes == []


@pytest.mark.parametrize("models", [fails(404), fails(405), fails(501), html, [], fails(503)])
def test_a_server_without_a_list_is_used_with_a_warning(stub, ask, models):
    stub.models = models
    asked = ask()
    assert "does not list its models" in asked.notes[0]
    assert asked.one().text.startswith("an image of")


@pytest.mark.parametrize("status", [401, 403])
def test_a_list_that_needs_a_key_ends_the_run_before_any_image_is_sent(stub, ask, status):
    stub.models = fails(status, "who are you?")
    with pytest.raises(ServerError, match="who are you"):
        ask()
    assert stub.requests == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(stub, ask, status):
    with StubServer() as other:
        with pytest.raises(ServerError, match=f"redirects to {other.url}"):
            ask(fails(status, headers={"Location": f"{other.url}/v1/chat/completions"})).one()
        stub.models = fails(status, headers={"Location": other.url})
        with pytest.raises(ServerError, match="redirects to"):
            ask()
        assert (other.requests, other.gets) == (0, [])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody has signed."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*command, "-keyout", path, "-out", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not here")
    return path


def test_a_certificate_that_nobody_signed_ends_the_run(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with StubServer(wrap=lambda raw: context.wrap_socket(raw, server_side=True)) as stub:
        with pytest.raises(ServerError, match="no secure connection: self-signed certificate") as raised:
            opened(stub.url.replace("http:", "https:"))
        assert "ollama" not in str(raised.value)


def test_tls_at_a_server_without_it_ends_the_run(stub):
    with pytest.raises(ServerError, match="no secure connection"):
        opened(stub.url.replace("http:", "https:"))


def test_a_server_elsewhere_is_named_before_an_image_leaves(stub, ask, monkeypatch):
    assert ask().notes == []
    monkeypatch.setattr(captioner.Address, "is_local", False)
    assert ask().notes == ["the images are sent to 127.0.0.1"]
    assert stub.requests == 0
    # A file from elsewhere may name any variable.
    monkeypatch.setenv("STUB_KEY", "abc")
    assert ask(key_env="STUB_KEY").notes == ["the images and the key in STUB_KEY are sent to 127.0.0.1"]


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "k\u00e9y", "a\nb"])
def test_a_key_that_is_missing_or_none_is_said_before_anything_is_sent(stub, ask, monkeypatch, value):
    monkeypatch.delenv("STUB_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("STUB_KEY", value)
    with pytest.raises(UsageError, match="environment variable STUB_KEY"):
        ask(key_env="STUB_KEY")
    assert stub.gets == []
