"""Serving the page: the port, the signals that end it; the one place that knows uvicorn."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sdprep.errors import MissingExtra, UsageError
from sdprep.review.app import build
from sdprep.tasks.review.review import Review

if TYPE_CHECKING:
    from types import FrameType


def check_installed() -> None:
    """Raise MissingExtra if what the server needs is not installed."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtra(package, "review")


def serve(review: Review, token: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer until Ctrl-C; `ready` gets the address. Raises UsageError for a port that cannot be used."""
    try:
        # A browser that comes before the first answer is ready waits for it.
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(f"--port {port} cannot be used: another program has it, or it needs other rights") from error
    # uvicorn sends head and body apart, and the system would keep the body until the browser has confirmed the head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ready(f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/")
    import uvicorn

    class Server(uvicorn.Server):
        """A server whose end is also that of the action at work, after the files in hand."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # It is ending already; a second Ctrl-C would have answers cut off that the files in hand are written for.
            if self.should_exit:
                return
            review.end()
            # A request that is not answered by then is no error.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        build(review, token),
        log_config=None,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    Server(config).run(sockets=[listening])
