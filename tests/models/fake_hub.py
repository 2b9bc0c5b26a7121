"""A Hub on 127.0.0.1 with the four addresses that huggingface_hub's client asks, and faults on demand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

from sdprep.errors import HubError
from sdprep.models.base import ImageSpec, LabelSpec, ModelFiles, ModelSpec, Source
from sdprep.models.files import lockfile
from sdprep.models.files.hub import ensure_downloaded
from sdprep.report import NullListener

REPO = "someone/tagger"
COMMITS = ("1" * 40, "2" * 40)
MODEL, LABELS = "model.onnx", "selected_tags.csv"
OLD = {MODEL: b"weights " * 1000, LABELS: b"tag_id,name,category,count\n"}
NEW = {MODEL: b"better weights " * 1000, LABELS: OLD[LABELS]}
CANARY = "hf_canaryThatMustNotSing"


@dataclass
class FakeHub:
    """One repository. `status` and `error_code` fail every request, `file_status` those for files.

    With `echo` an error tells the Authorization that it was given.
    `broken` downloads stop half-way; `tampered` bytes are sent in place of a file's own; large files are said to be
    kept at the address `store`, which `store_link` tells.
    """

    files: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    status: int = 200
    error_code: str = ""
    file_status: int = 200
    hashes: bool = True
    echo: bool = False
    broken: int = 0
    store: str | None = None
    store_link: str = "https://huggingface.co/api/store"
    tampered: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Bound(Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def downloads(self) -> list[str]:
        """The files that were asked for in full, once for each time."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET /" + REPO)]

    def info(self, commit: str) -> dict[str, Any]:
        """What the Hub says of a commit when asked with blobs=true."""
        siblings = []
        for name, data in self.files[commit].items():
            sha256 = hashlib.sha256(data).hexdigest()
            lfs = {"lfs": {"size": len(data), "sha256": sha256, "pointerSize": 134}} if self.hashes else {}
            siblings.append({"rfilename": name, "size": len(data), "blobId": git_sha(data), **lfs})
        return {"id": REPO, "modelId": REPO, "sha": commit, "siblings": siblings, "tags": [], "private": False}


def git_sha(data: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers for a `FakeHub`."""

    fake: FakeHub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Choose by the address, as the Hub does."""
        path = unquote(urlsplit(self.path).path)
        if self.headers["Range"] != "bytes=0-0":
            self.fake.requests.append(f"{self.command} {path}")
        self.fake.tokens.append(self.headers["Authorization"])
        if self.fake.status != 200:
            self.refuse(self.fake.status, self.fake.error_code)
        elif path.startswith(f"/api/models/{REPO}/revision/"):
            commit = self.fake.revisions.get(path.rpartition("/")[2])
            if commit is None:
                self.refuse(404, "RevisionNotFound")
            else:
                self.send(json.dumps(self.fake.info(commit)).encode(), {"Content-Type": "application/json"})
        elif path.startswith(f"/{REPO}/resolve/"):
            self.file(*path.split("/", 5)[4:])
        elif path == "/api/store" and self.fake.store:
            self.send(
                b"{}", {"X-Xet-Cas-Url": self.fake.store, "X-Xet-Access-Token": "x", "X-Xet-Token-Expiration": "1"}
            )
        else:
            self.refuse(404, "RepoNotFound")

    def file(self, revision: str, name: str) -> None:
        """One file of a commit, from where the client wants it."""
        if self.fake.file_status != 200:
            self.refuse(self.fake.file_status, "")
            return
        commit = self.fake.revisions[revision]
        data = self.fake.files[commit][name]
        etag = hashlib.sha256(data).hexdigest() if self.fake.hashes else git_sha(data)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if self.fake.store:
            headers |= {"X-Xet-Hash": "a" * 64, "Link": f'<{self.fake.store_link}>; rel="xet-auth"'}
        data = self.fake.tampered.get(name, data)
        start, _, end = (self.headers["Range"] or "").removeprefix("bytes=").partition("-")
        if start:
            headers["Content-Range"] = f"bytes {start}-{end or len(data) - 1}/{len(data)}"
            data = data[int(start) : int(end) + 1 if end else None]
        self.send(data, headers, 206 if start else 200)

    def send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        """Send all of it, or only half if a download is to break."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fake.broken and "ETag" in headers and len(data) > 1:
            self.fake.broken -= 1
            data = data[: len(data) // 2]
        self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        """An error as the Hub words it."""
        said = str(self.headers["Authorization"]) if self.fake.echo else "no"
        headers = {"X-Error-Code": code, "X-Error-Message": said} if code or self.fake.echo else {}
        self.send(json.dumps({"error": said}).encode(), headers, status)


@contextmanager
def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own; huggingface_hub has read its environment long before a test runs."""
    monkeypatch.setattr(lockfile, "user_data_path", lambda app: folder / "data" / app)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(folder / "harnesses.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    yield folder
    close_session()


@contextmanager
def check_active(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with an old and a new commit, that the client takes for the real one."""
    revisions = {"main": COMMITS[0], **{commit: commit for commit in COMMITS}}
    with FakeHub({COMMITS[0]: dict(OLD), COMMITS[1]: dict(NEW)}, revisions) as fake:
        use_endpoint(monkeypatch, fake.url)
        yield fake


class Notes(NullListener):
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, message: str) -> None:
        self.heard.append(message)

    def stage(self, name: str, *_: object) -> None:
        self.heard.append(f"stage: {name}")


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def a_spec(revision: str = "main", source: Source | None = None) -> ModelSpec:
    labels = LabelSpec(file=LABELS, categories={"general": 0})
    return ModelSpec(
        name="tagger",
        task="tag",
        backend="onnx",
        source=source or Source(repo=REPO, revision=revision),
        files=(MODEL, LABELS),
        image=ImageSpec(fit="pad"),
        labels=labels,
    )


def content(files: ModelFiles) -> dict[str, bytes]:
    return {name: (files.folder / name).read_bytes() for name in (MODEL, LABELS)}


def failure(spec: ModelSpec) -> str:
    """The message of a fetch that fails; no message has more than two lines or a secret."""
    with pytest.raises(HubError) as caught:
        ensure_downloaded(spec, NullListener())
    message = str(caught.value)
    assert message.count("\n") <= 1
    assert CANARY not in message
    return message
