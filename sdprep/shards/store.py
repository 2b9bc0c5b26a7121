"""Where shards and results lie: a folder, or a bucket through obstore. The only place that knows obstore.

Credentials come from the environment and from the machine's own role; none is ever an argument.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

from sdprep.errors import MissingExtra, NoSuchObject, StoreError, UsageError, shortened
from sdprep.files import sync_folder, write_synced
from sdprep.sanitize import printable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Where obstore is used, by the beginning of a URL, and where the credentials for it are read from.
BUCKETS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# How long a request is tried again while a store is busy or does not answer.
PATIENCE = timedelta(seconds=60)
CHUNK = 8 << 20
# What precedes a dump of obstore's own data.
DETAILS = "\n\nDebug source"
# What a store answers when the bucket is not there, and when it does not let the credentials in.
NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist")
# Without credentials, they are asked of the machine, which only a machine in a cloud answers.
REFUSED = re.compile(r"status code: 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|169\.254\.169\.254")
# What obstore says when a server cannot be reached, and its address.
SILENT = re.compile(r"https?://[^/\s]+(?=.*error sending request)", re.DOTALL)
# What obstore says besides the request and its answer.
NOISE = re.compile(
    r"Generic \S+ error: |Error performing | in [\d.]+\w*s(, after .*retry_timeout: \w+)? +- |<[^>]*>|\n"
)
CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a store by its name there, with forward slashes; `etag` changes with its content."""

    name: str
    size: int
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object that is read from its beginning to its end, as it was when it was opened."""

    found: StoredObject
    chunks: Iterator[bytes]


class Store(Protocol):
    """Objects below a URL. Every method raises StoreError; those that read raise NoSuchObject for an unknown name.

    `overwrites` says that the store was found unable to refuse a second object of the same name.
    """

    url: str
    overwrites: bool

    def list(self, prefix: str = "", after: str = "", last: str | None = None) -> Iterator[StoredObject]:
        """The objects in the folder `prefix` whose names come after `after`, up to `last`, in the order of names."""

    def find(self, name: str) -> StoredObject | None:
        """The size and the etag of an object, or None if there is none."""

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of an object from `start`, which is not its end, up to `end`, which may be after it."""

    def open(self, name: str) -> OpenObject:
        """An object to read in chunks."""

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        """Store an object, whole or not at all; False if there is one of this name, which then stays."""

    def put_file(self, name: str, path: Path) -> None:
        """Store a file, whole or not at all, in the place of any object of this name."""

    def delete(self, name: str) -> None:
        """Delete an object; it is no error if there is none."""


def open_store(url: str) -> Store:
    """The store at a URL, or in a folder. Raises UsageError, and MissingExtra without the package that it needs."""
    scheme = SCHEME.match(url)
    if scheme is None:
        return FolderStore(Path(url))
    name = scheme[1].lower()
    if name == "file":
        return FolderStore(Path(url[len("file://") :]))
    if name == "hf":
        from sdprep.shards.hub import open_hub

        return open_hub(url)
    if name not in BUCKETS:
        known = ", ".join(f"{each}://" for each in (*BUCKETS, "hf"))
        raise UsageError(f"{printable(url)}: {name}:// is not supported; use {known} or a folder")
    return BucketStore(url.rstrip("/"), _connect(url))


def split_url(url: str) -> tuple[str, str]:
    """The URL of the folder that an object lies in, and its name there."""
    folder, _, name = url.rpartition("/")
    return folder or ("/" if url.startswith("/") else "."), name


def _connect(url: str) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtra("obstore", "shards") from error
    try:
        # An address that begins with http:// is stated in the environment, as that of a server in the same network.
        options: Any = {"allow_http": True}
        return from_url(url, client_options=options, retry_config={"retry_timeout": PATIENCE, "max_retries": 8})
    except BaseError as error:
        raise UsageError(f"{printable(url)} cannot be opened: {_told(error)}") from error


class BucketStore:
    """A bucket, or a folder in it; also a store of obstore in memory."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url, self._store = url, store
        self.overwrites = False

    def list(self, prefix: str = "", after: str = "", last: str | None = None) -> Iterator[StoredObject]:
        import obstore

        with self._explained(prefix):
            offset = after or None
            for chunk in obstore.list(self._store, prefix or None, offset=offset, chunk_size=1000):
                for meta in chunk:
                    if last is not None and meta["path"] > last:
                        return
                    yield _stored(meta["path"], meta)

    def find(self, name: str) -> StoredObject | None:
        import obstore

        with suppress(NoSuchObject), self._explained(name):
            return _stored(name, obstore.head(self._store, name))
        return None

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        import obstore

        with self._explained(name):
            if end is not None:
                return bytes(obstore.get_range(self._store, name, start=start, end=end)) if end > start else b""
            options: Any = {"range": {"offset": start}} if start else None
            return bytes(obstore.get(self._store, name, options=options).bytes())

    def open(self, name: str) -> OpenObject:
        import obstore

        with self._explained(name):
            found = obstore.get(self._store, name)
            return OpenObject(_stored(name, found.meta), self._chunks(name, iter(found.stream(min_chunk_size=CHUNK))))

    def _chunks(self, name: str, stream: Iterator[Any]) -> Iterator[bytes]:
        with self._explained(name):
            for chunk in stream:
                yield bytes(chunk)

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        with self._explained(name):
            if not replace and not self.overwrites:
                try:
                    obstore.put(self._store, name, data, mode="create", use_multipart=False)
                except (AlreadyExistsError, FileExistsError):
                    return False
                except (NotSupportedError, NotImplementedError):
                    self.overwrites = True
                else:
                    return True
            if not replace and self.find(name) is not None:
                return False
            obstore.put(self._store, name, data, use_multipart=False)
        return True

    def put_file(self, name: str, path: Path) -> None:
        import obstore

        with self._explained(name):
            obstore.put(self._store, name, path)

    def delete(self, name: str) -> None:
        import obstore

        with suppress(NoSuchObject), self._explained(name):
            obstore.delete(self._store, name)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Raise StoreError, for the user, for what obstore raises inside."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, NotImplementedError) as error:
            raise self._explain(error, name) from error

    def _explain(self, error: Exception, name: str) -> StoreError:
        where = printable(f"{self.url}/{name}" if name else self.url)
        bucket, reason = "/".join(self.url.split("/")[:3]), str(error).partition(DETAILS)[0]
        if NO_BUCKET.search(reason):
            more = ", AWS_REGION and AWS_ENDPOINT_URL" if bucket.startswith("s3") else ""
            return StoreError(f"{printable(bucket)}: there is no such bucket. Check its name{more}")
        if isinstance(error, FileNotFoundError):
            return NoSuchObject(f"{where}: there is no such object")
        if isinstance(error, PermissionError) or REFUSED.search(reason):
            code = CODE.search(reason)
            names = BUCKETS.get(self.url.partition("://")[0], "the variables of the store")
            because = f" ({code[1]})" if code else ""
            return StoreError(
                f"{where}: access was refused{because}. Check the credentials in the environment: {names}"
            )
        if silent := SILENT.search(reason):
            setting = "AWS_ENDPOINT_URL and " if bucket.startswith("s3") else ""
            return StoreError(f"{where}: {silent[0]} does not answer. Check {setting}the network")
        return StoreError(f"{where}: {_told(error)}")


def _told(error: Exception) -> str:
    """What obstore says of an error, on one line."""
    return shortened(printable(" ".join(NOISE.sub(" ", str(error).partition(DETAILS)[0]).split())))


def _stored(name: str, meta: Any) -> StoredObject:
    # Before 0.12, obstore has the folder of the store in the path of a single object.
    return StoredObject(name, meta["size"], meta["e_tag"] or "", meta["last_modified"].timestamp())


class FolderStore:
    """A folder of this machine, or one that several machines share."""

    def __init__(self, folder: Path) -> None:
        self.url, self._folder = folder.as_posix(), folder
        self.overwrites = False

    def list(self, prefix: str = "", after: str = "", last: str | None = None) -> Iterator[StoredObject]:
        with self._explained(prefix):
            yield from _files_below(self._folder, prefix, after, last)

    def find(self, name: str) -> StoredObject | None:
        with suppress(NoSuchObject), self._explained(name):
            return _stored_file(name, (self._folder / name).stat())
        return None

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        with self._explained(name), (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def open(self, name: str) -> OpenObject:
        with self._explained(name):
            found = _stored_file(name, (self._folder / name).stat())
        return OpenObject(found, self._chunks(name))

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._explained(name), (self._folder / name).open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        return self._put(name, [data], replace)

    def put_file(self, name: str, path: Path) -> None:
        with self._explained(name), path.open("rb") as file:
            self._put(name, iter(lambda: file.read(CHUNK), b""), replace=True)

    def _put(self, name: str, parts: Iterable[bytes], replace: bool) -> bool:
        path = self._folder / name
        # Each writer has its own, on whichever machine; a name with a dot is never listed.
        temporary = path.with_name(f".{path.name}.{token_hex(8)}.tmp")
        with self._explained(name, is_writing=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not replace and path.exists():
                return False
            try:
                write_synced(temporary, parts)
                created = self._publish(temporary, path, replace)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(path.parent)
            # Those of writers that were killed, or that have lost.
            for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
                left.unlink(missing_ok=True)
            return created

    def _publish(self, temporary: Path, path: Path, replace: bool) -> bool:
        """Give a file its name in one step; False if another has it."""
        if not replace:
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
            except OSError:
                # The file system has no links, as exFAT; or the writer who was first has deleted the temporary file.
                if path.exists():
                    return False
                self.overwrites = True
            else:
                return True
        temporary.replace(path)
        return True

    def delete(self, name: str) -> None:
        with self._explained(name):
            (self._folder / name).unlink(missing_ok=True)

    def tidy(self, prefix: str) -> None:
        """Delete what writers that were killed have left beside objects of a folder that are stored once."""
        with self._explained(prefix):
            for left in (self._folder / prefix).glob(".*.tmp"):
                # Another writer may be at work on it, but where there is the object, it has lost.
                if left.with_name(left.name[1:].rsplit(".", 2)[0]).exists():
                    left.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, name: str, *, is_writing: bool = False) -> Iterator[None]:
        """Raise StoreError, for the user, for what the system raises inside."""
        where = printable(f"{self.url}/{name}")
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if is_writing:
                advice = "Give a folder that you can write to, or a bucket"
                raise StoreError(f"{where} cannot be written: {reason}. {advice}") from error
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                raise NoSuchObject(f"{where}: there is no such file") from error
            raise StoreError(f"{printable(str(error.filename or where))}: {reason}") from error


def _files_below(folder: Path, prefix: str, after: str, last: str | None) -> Iterator[StoredObject]:
    """The files in a folder and its subfolders, in the order of their names, without hidden ones.

    Of names up to `after`, and after `last`, no status is asked, and no subfolder is listed that has only these.
    A link to a file is followed, as in the cache of the Hub; one to a folder is not, since it may lead back.
    """
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    place = folder / prefix
    if not place.is_dir():
        return
    with os.scandir(place) as entries:
        # A folder counts with the slash that follows its name, as in a bucket.
        names = (
            prefix + entry.name + "/" * entry.is_dir(follow_symlinks=False)
            for entry in entries
            if not entry.name.startswith(".")
        )
        found = sorted(name for name in names if _is_between(name, after, last))
    for name in found:
        if name.endswith("/"):
            yield from _files_below(folder, name, after, last)
            continue
        # It may be deleted meanwhile, or be a link that leads nowhere.
        with suppress(FileNotFoundError):
            yield _stored_file(name, os.stat(f"{folder}/{name}"))  # noqa: PTH116 - a million times


def _is_between(name: str, after: str, last: str | None) -> bool:
    """Whether a file, or any file in a folder, has a name after one and up to another."""
    begins_after = name > after or (name.endswith("/") and after.startswith(name))
    return begins_after and (last is None or name <= last)


def _stored_file(name: str, status: os.stat_result) -> StoredObject:
    """What is known of a file. Raises FileNotFoundError for a pipe or a device, which may never end."""
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{name} is not a file")
    return StoredObject(name, status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_mtime)
