"""Who may ask the server: only a browser on this machine, with the address that the command printed.

Any page in the browser can send requests to this machine, under any name that leads here. So the Host must be this
machine's own, the secret token must be in the path (not in a cookie, which every port of this machine would get), and
whatever changes something must be JSON, which no other page can send, from the page's own origin.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from secrets import compare_digest
from typing import Any

import msgspec

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Any port: a tunnel may lead here from another one.
HOST = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
# Bytes; the numbers of a million images take 8 MB.
LARGEST_BODY = 16_000_000
CHANGES = ("POST", "PUT")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Lets in only requests for `/TOKEN/...` that pass the checks, without the token, and adds headers to answers."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(with_headers, *refusal)
            return
        path = str(scope["path"]).removeprefix(f"/{self._token}")
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        if scope["method"] in CHANGES:
            await self._app(inner, receive, with_headers)
        else:
            await _while_wanted(self._app(inner, receive, with_headers), receive)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Why a request is refused."""
        headers = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
            return 421, "this server is for this machine alone"
        _, token, *_ = [*str(scope["path"]).split("/", 2), ""]
        if not compare_digest(token.encode(), self._token.encode()):
            return 403, "open the address that sdprep printed"
        if scope["method"] not in CHANGES:
            return None
        origins = [value for name, value in headers if name == b"origin"]
        # Behind a tunnel with TLS, the page's own origin is https.
        if any(origin not in (b"http://" + hosts[0], b"https://" + hosts[0]) for origin in origins):
            return 403, "another page has sent this"
        kinds = [value.partition(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
        if kinds != [b"application/json"]:
            return 415, "send JSON"
        lengths = [value for name, value in headers if name == b"content-length"]
        if len(lengths) != 1 or not re.fullmatch(rb"\d{1,12}", lengths[0]) or int(lengths[0]) > LARGEST_BODY:
            return 413, f"send at most {LARGEST_BODY:,} bytes, with their number"
        return None


async def _while_wanted(answer: Awaitable[None], receive: Receive) -> None:
    """Answer a question that has no body; drop it when the browser does, as for what has left the view."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        answering.cancel()

    answering = asyncio.ensure_future(answer)
    watching = asyncio.create_task(gone())
    try:
        await answering
    except asyncio.CancelledError:
        if not watching.done():
            raise
    finally:
        watching.cancel()


async def _refuse(send: Send, status: int, message: str) -> None:
    body = msgspec.json.encode({"message": message})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
