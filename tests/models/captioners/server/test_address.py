"""The address of a server: what is accepted, where its API is, and who can see what goes there."""

import pytest

from sdprep.errors import UsageError
from sdprep.models.captioners.server import captioner
from sdprep.models.captioners.server.address import is_public, parse_address
from sdprep.models.captioners.server.captioner import check_privacy


@pytest.mark.parametrize(
    ("url", "chat"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("127.0.0.1:11434", "http://127.0.0.1:11434/v1/chat/completions"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://example.com/v1", "https://example.com:443/v1/chat/completions"),
        ("https://example.com/api/v4/", "https://example.com:443/api/v4/chat/completions"),
        ("https://example.com/v1beta/openai", "https://example.com:443/v1beta/openai/chat/completions"),
        ("https://example.com/my//proxy", "https://example.com:443/my/proxy/v1/chat/completions"),
        ("http://localhost:1234/odd/chat/completions", "http://localhost:1234/odd/chat/completions"),
        ("http://[::1]:8080", "http://[::1]:8080/v1/chat/completions"),
    ],
)
def test_the_version_is_added_where_there_is_none(url, chat):
    address = parse_address(url)
    assert address.url + "/chat/completions" == chat
    assert chat.endswith(address.chat)


@pytest.mark.parametrize(
    "url",
    [
        *("", "ftp://example.com", "http://", "http://example.com:99999", "http://example.com:0", "http://[::1"),
        *(
            "http://example.com/v1?key=1",
            "http://example.com/#a",
            "http://exa mple.com",
            "ht!tp:",
            "http://a,b",
            "http://a..b",
            f"http://{'a' * 64}.com",
            "http://example.com/\r\nX: y",
        ),
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="is not the address of a server"):
        parse_address(url)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="key_env") as raised:
        parse_address("https://me:secret@example.com")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        *((f"http://{host}:1", True) for host in ("127.0.0.1", "localhost", "[::1]", "127.9.9.9", "0.0.0.0")),
        *((f"http://{host}:1", False) for host in ("192.168.1.5", "example.com", "localhost.example.com", "8.8.8.8")),
    ],
)
def test_an_address_of_this_machine_is_known(url, local):
    assert parse_address(url).is_local is local


def test_a_public_address_needs_tls(monkeypatch):
    known = {"example.com": ["8.8.8.8"]}
    monkeypatch.setattr(captioner, "resolved", lambda host, _: known.get(host, ["10.0.0.1"]))
    for url in ("http://8.8.8.8", "http://example.com", "http://[2001:4860:4860::8888]:80"):
        with pytest.raises(UsageError, match="is a public address"):
            check_privacy(parse_address(url), insecure=False)
        check_privacy(parse_address(url), insecure=True)
        check_privacy(parse_address(url.replace("http:", "https:")), insecure=False)
    for url in ("http://192.168.1.5", "http://my-server.lan:8000", "http://127.0.0.1", "http://100.64.0.9"):
        check_privacy(parse_address(url), insecure=False)


def test_no_address_at_all_is_not_public():
    assert not is_public(["not an address"])
    assert not is_public([])
