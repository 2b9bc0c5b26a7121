"""HTTP to one server over the standard library: one kept connection, limits of time and size, no redirects."""

from __future__ import annotations

import http.client
import selectors
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from sdprep import __version__
from sdprep.models.captioners.server.address import Address
from sdprep.models.captioners.server.key import Key

CONNECT_SECONDS = 10.0
# An answer has a thousandth of this.
LONGEST_RESPONSE = 8 << 20
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def retry_after(self) -> float | None:
        """The seconds that the server asks to wait, by a number or by a date; None if it does not."""
        value = self.headers.get("retry-after", "").strip()
        try:
            return max(0.0, float(value))
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None


class NotConnected(Exception):  # noqa: N818 - what became of a request
    """The server cannot be reached; with `is_tls` it was, and its certificate or protocol is at fault."""

    def __init__(self, message: str, *, is_tls: bool = False) -> None:
        super().__init__(message)
        self.is_tls = is_tls


class NoResponse(Exception):  # noqa: N818
    """A request was sent, or part of it, and no whole response came back.

    With `was_idle`, the server may only have closed a connection that it had kept open.
    """

    def __init__(self, message: str, *, was_idle: bool = False) -> None:
        super().__init__(message)
        self.was_idle = was_idle


class Connection:
    """A connection to a server that is kept open between requests; for one thread."""

    def __init__(self, address: Address, key: Key) -> None:
        self._address, self._key = address, key
        self._http: http.client.HTTPConnection | None = None

    def get(self, path: str, seconds: float) -> Response:
        """Get a path. Raises NotConnected and NoResponse."""
        return self._request("GET", path, None, seconds)

    def post(self, path: str, body: bytes, seconds: float) -> Response:
        """Post JSON to a path. Raises NotConnected and NoResponse."""
        return self._request("POST", path, body, seconds)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _request(self, method: str, path: str, body: bytes | None, seconds: float) -> Response:
        if self._http is not None and _is_dropped(self._http):
            self.close()
        was_kept = self._http is not None
        connection = self._connected()
        headers = {"User-Agent": f"sdprep/{__version__}", "Accept": "application/json", **self._key.headers()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        is_sent = False
        try:
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            connection.request(method, path, body, headers)
            is_sent = True
            answer = connection.getresponse()
            content = _read(answer, seconds)
            if answer.will_close:
                self.close()
            return self._response(answer, content)
        except TimeoutError as error:
            self.close()
            raise NoResponse(f"no answer within {seconds:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            # What a server says before it has read the whole of a body that it does not take.
            early = self._early_response(connection) if not is_sent else None
            self.close()
            if early is not None:
                return early
            cut = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
            raise NoResponse(_words(error), was_idle=was_kept and cut) from error

    def _early_response(self, connection: http.client.HTTPConnection) -> Response | None:
        if connection.sock is None:
            return None
        try:
            answer = http.client.HTTPResponse(connection.sock)
            connection.sock.settimeout(CONNECT_SECONDS)
            answer.begin()
            content = _read(answer, CONNECT_SECONDS)
        except (OSError, http.client.HTTPException):
            return None
        return self._response(answer, content)

    def _response(self, answer: http.client.HTTPResponse, content: bytes) -> Response:
        headers = {name.lower(): value for name, value in answer.getheaders()}
        # Where the message of an error is shortened, a part of the key would be left.
        body = content if answer.status == http.client.OK else self._key.removed_from_bytes(content)
        return Response(answer.status, headers, body)

    def _connected(self) -> http.client.HTTPConnection:
        if self._http is not None:
            return self._http
        address = self._address
        made: http.client.HTTPConnection
        if address.is_tls:
            made = http.client.HTTPSConnection(address.host, address.port, timeout=CONNECT_SECONDS)
        else:
            made = http.client.HTTPConnection(address.host, address.port, timeout=CONNECT_SECONDS)
        try:
            made.connect()
        except ssl.SSLError as error:
            raise NotConnected(f"no secure connection: {_words(error)}", is_tls=True) from error
        except OSError as error:
            raise NotConnected(_words(error)) from error
        self._http = made
        return made


def _is_dropped(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed a connection that it had kept: then there is something to read, its end."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def resolved(host: str, port: int) -> list[str]:
    """The IP addresses of a host; none if it has none."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _read(answer: http.client.HTTPResponse, seconds: float) -> bytes:
    """The body of a response. Raises OSError if it is too slow or too large; both are read to no end."""
    end, chunks, size = time.monotonic() + seconds, list[bytes](), 0
    while chunk := answer.read1(CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > LONGEST_RESPONSE:
            raise http.client.HTTPException(f"the answer has more than {LONGEST_RESPONSE >> 20} MB")
        if time.monotonic() > end:
            raise TimeoutError
    if answer.length:
        raise http.client.IncompleteRead(b"")
    # Else the connection would not take another request.
    answer.close()
    return b"".join(chunks)


def _words(error: Exception) -> str:
    """What an error of a connection says, in one line."""
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return "the connection was cut"
    if isinstance(error, TimeoutError):
        return "no connection within 10 s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return said.splitlines()[0][:200]
