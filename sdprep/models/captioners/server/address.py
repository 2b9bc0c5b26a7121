"""The address of a server: where its API is, and whether images that go there leave this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

from sdprep.errors import UsageError

VERSION = re.compile(r"v\d+[a-z]*\d*")
# A name, or an IP address of either kind.
HOST = re.compile(r"([\w-]{1,63}\.)*[\w-]{1,63}\.?|[0-9a-fA-F]*:[0-9a-fA-F:.]+(%\w+)?", re.ASCII)
CHAT = "/chat/completions"
EXAMPLES = "http://127.0.0.1:11434 or https://example.com/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server answers: `base` is the path of the API with its version, without a final slash."""

    host: str
    port: int
    base: str
    is_tls: bool

    @property
    def name(self) -> str:
        """The host and the port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"{'https' if self.is_tls else 'http'}://{self.name}{self.base}"

    @property
    def chat(self) -> str:
        """The path of chat completions."""
        return self.base + CHAT

    @property
    def models(self) -> str:
        """The path of the list of models."""
        return f"{self.base}/models"

    @property
    def is_local(self) -> bool:
        """Whether images that are sent there stay on this machine."""
        address = _ip(self.host)
        if address is None:
            return self.host == "localhost" or self.host.endswith(".localhost")
        return address.is_loopback or address.is_unspecified


def parse_address(url: str) -> Address:
    """Read the address of a server: a base, a base with a version, or all of `.../chat/completions`.

    `/v1` is added where there is no version. Raises UsageError for what is no such address.
    """
    parts = _split(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    path = re.sub("/+", "/", parts.path).rstrip("/")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the address of a server may not hold a password; name its variable with key_env in a TOML file"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port in (-1, 0) or parts.query or parts.fragment:
        raise UsageError(f"'{url}' is not the address of a server; write {EXAMPLES}")
    if not HOST.fullmatch(parts.hostname) or re.search(r"[\x00-\x20\x7f-\U0010ffff]", path):
        raise UsageError(f"'{url}' is not the address of a server: it has characters that no address has")
    is_tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if is_tls else 80), _with_version(path), is_tls)


def fault_of_address(url: str) -> str | None:
    """Why this is not the address of a server; None if it is."""
    try:
        parse_address(url)
    except UsageError as error:
        return str(error)
    return None


def is_public(addresses: list[str]) -> bool:
    """Whether one of these IP addresses can be reached from everywhere."""
    return any(found.is_global for found in map(_ip, addresses) if found is not None)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise UsageError(f"'{url}' is not the address of a server: {error}") from error


def _with_version(path: str) -> str:
    if path.endswith(CHAT):
        return path.removesuffix(CHAT)
    return path if any(VERSION.fullmatch(segment) for segment in path.split("/")) else f"{path}/v1"


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None
