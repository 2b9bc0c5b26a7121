"""Datasets on the Hub as sources of shards: hf:// URLs, which are only read. The only place that knows fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdprep.errors import NoSuchObject, StoreError, UsageError, shortened
from sdprep.sanitize import printable
from sdprep.shards.store import CHUNK, OpenObject, StoredObject

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SCHEME = "hf://"


def open_hub(url: str) -> HubStore:
    """The folder of a dataset at a URL such as hf://datasets/owner/name/data. A token is taken from HF_TOKEN."""
    import fsspec

    return HubStore(url.rstrip("/"), fsspec.filesystem("hf"))


class HubStore:
    """A folder that fsspec reads, as `Store`."""

    overwrites = False

    def __init__(self, url: str, files: AbstractFileSystem) -> None:
        self.url, self._files = url, files
        self._folder = url.removeprefix(SCHEME)

    def list(self, prefix: str = "", after: str = "", last: str | None = None) -> Iterator[StoredObject]:
        with self._explained(prefix):
            found = self._files.find(self._path(prefix), detail=True)
        for path in sorted(found):
            stored = self._stored(path, found[path])
            if stored.name > after and (last is None or stored.name <= last):
                yield stored

    def find(self, name: str) -> StoredObject | None:
        with suppress(NoSuchObject), self._explained(name):
            info = self._files.info(self._path(name))
            return self._stored(self._path(name), info) if info["type"] == "file" else None
        return None

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        with self._explained(name):
            data: bytes = self._files.cat_file(self._path(name), start=start, end=end)
            return data

    def open(self, name: str) -> OpenObject:
        found = self.find(name)
        if found is None:
            raise NoSuchObject(f"{printable(f'{self.url}/{name}')}: there is no such file")
        return OpenObject(found, self._chunks(name))

    def _chunks(self, name: str) -> Iterator[bytes]:
        # Without blocks it is one request, and nothing is read again.
        with self._explained(name), self._files.open(self._path(name), "rb", block_size=0) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:  # noqa: ARG002
        raise self._only_read()

    def put_file(self, name: str, path: Path) -> None:  # noqa: ARG002
        raise self._only_read()

    def delete(self, name: str) -> None:  # noqa: ARG002
        raise self._only_read()

    def _only_read(self) -> UsageError:
        return UsageError(f"{printable(self.url)} is only read; write to a folder or a bucket")

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}".rstrip("/")

    def _stored(self, path: str, info: dict[str, Any]) -> StoredObject:
        # The times of commits would take another request for each file.
        name = path.removeprefix("/").removeprefix(self._folder.removeprefix("/") + "/")
        return StoredObject(name, info["size"], str(info.get("blob_id", "")), 0.0)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Raise StoreError, for the user, for what fsspec and the client of the Hub raise inside."""
        where = printable(f"{self.url}/{name}" if name else self.url)
        try:
            yield
        except FileNotFoundError as error:
            raise NoSuchObject(f"{where}: there is no such file, or it needs a token in HF_TOKEN") from error
        except (OSError, ValueError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise StoreError(f"{where}: {shortened(printable(reason))}") from error
