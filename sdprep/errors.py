"""The exceptions of sdprep; each class knows its exit code.

    SdprepError            1  cannot go on
    +-- UsageError         2  wrong or contradictory settings
    +-- ModelError         1  a model's files are not what its description says
    |   +-- HubError       1  the model cannot be downloaded
    +-- ServerError        1  a server refuses all requests, or cannot be reached
    +-- CatalogError       1  the catalog cannot be used
    |   +-- FolderInUse    1  another run uses it
    |   +-- DamagedCatalog 1  its file is not a catalog, or is damaged
    |   +-- NewerCatalog   1  a newer sdprep wrote it
    |   +-- CatalogFailed  1  it cannot be read or written
    +-- WorkerError        1  the worker process crashes repeatedly, or cannot be started
    +-- WriteError         1  a file cannot be written: a full disk, a folder without permission
    +-- ReadOnlyFolder     1  nothing can be written there, found before the run begins
    +-- MetadataError      1  a metadata JSON cannot be read
    +-- StoreError         1  a bucket, or a folder of shards, cannot be read or written
    |   +-- NoSuchObject   1  it has no object of this name
    +-- MissingSidecars    1  `merge --missing error` found images without a sidecar
    +-- NoImages           4  no image was found
    +-- NoSidecars         4  `merge` found no sidecar at all
    +-- MissingExtra       5  an optional package is not installed
    +-- MissingProvider    5  the installed onnxruntime lacks a provider

A failed image is not an exception: it is a `Failure`, counted and named in the report. Inside `images/`,
`ImageError` carries its code as far as the decode stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdprep.installation import here
from sdprep.types import FailureCode

# How systems and libraries report that memory, or the address space of the process, is exhausted.
NO_MEMORY = re.compile(
    r"failed to map segment|cannot allocate memory|blas_thread_init: pthread_create failed|out of memory"
    r"|not enough memory|\bMemoryError\b|bad_alloc|\[Errno 12\]",
    re.IGNORECASE,
)
# Characters of the reason why an image failed.
LONGEST_MESSAGE = 500
# How Python shows an object that has no text of its own: it tells a user nothing, and differs in each run.
OBJECT = re.compile(r"\s?<[^<>]* at 0x[0-9a-fA-F]+>")


class SdprepError(Exception):
    """The base of all errors of sdprep; the message is for the user who typed the command."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_addresses(each) if isinstance(each, str) else each for each in args))

    def __reduce__(self) -> tuple[Any, ...]:
        # Some classes make their message themselves: a copy in another process has it already.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class UsageError(SdprepError):
    """Wrong or contradictory settings."""

    exit_code = 2


class ModelError(SdprepError):
    """A model's files are missing, broken, or not what its description says."""


class HubError(ModelError):
    """A model cannot be downloaded."""


class ServerError(SdprepError):
    """A server cannot be reached, or refuses what would be the same for every image."""


class CatalogError(SdprepError):
    """A catalog cannot be opened or written."""


class FolderInUse(CatalogError):  # noqa: N818 - it names a state, as NoImages does
    """Another run is at work with a catalog; `owner` says which, or is empty if that is not known."""

    def __init__(self, catalog: Path, owner: str) -> None:
        self.owner, run = owner, f"{catalog}{owner and ': '}{owner}"
        super().__init__(f"another run is at work with {run}\nWait until it ends, or end it with Ctrl-C there")


class DamagedCatalog(CatalogError):  # noqa: N818
    """A file is not a catalog, or is damaged."""


class NewerCatalog(CatalogError):  # noqa: N818
    """A catalog was written by a newer sdprep."""


class CatalogFailed(CatalogError):  # noqa: N818
    """A catalog cannot be read or written, as on a full disk; what was written before stays."""


class WorkerError(SdprepError):
    """The process that decodes and predicts cannot be started, or crashed more often than images explain."""


class WriteError(SdprepError):
    """A file cannot be written; what was written before, `made` files of a group, stays and is recorded."""

    def __init__(self, error: OSError, made: int = 0) -> None:
        super().__init__(
            f"{error.filename2 or error.filename or 'a file'} cannot be written: {error.strerror or error}. "
            "What was written so far is kept; run the command again to go on"
        )
        self.made = made


class ReadOnlyFolder(SdprepError):  # noqa: N818
    """Nothing can be written in a folder."""

    def __init__(self, folder: Path, error: OSError, advice: str) -> None:
        super().__init__(f"{folder} cannot be written ({error.strerror or error}). {advice}")


class MetadataError(SdprepError):
    """A metadata JSON cannot be read or has an unknown shape."""


class StoreError(SdprepError):
    """A bucket, or a folder of shards or results, cannot be read or written, or holds what sdprep never wrote."""


class NoSuchObject(StoreError):  # noqa: N818
    """A bucket or folder has no object of a name."""


class MissingSidecars(SdprepError):  # noqa: N818 - it names a state, as NoImages does
    """`merge --missing error` found images without a sidecar."""


class NoImages(SdprepError):  # noqa: N818
    """A folder holds no image that sdprep reads."""

    exit_code = 4


class NoSidecars(SdprepError):  # noqa: N818
    """No image of a folder has a caption or tag file to merge."""

    exit_code = 4


class MissingExtra(SdprepError):  # noqa: N818
    """An optional package that this job needs is not installed."""

    exit_code = 5

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: {here().install_extra(extra)}")


class MissingProvider(SdprepError):  # noqa: N818
    """The installed onnxruntime lacks the requested provider."""

    exit_code = 5

    def __init__(self, name: str, has: Sequence[str], packages: str, system: str) -> None:
        wanted = packages.replace('"', "").split()
        extras = [word.removeprefix("sdprep[").rstrip("]") for word in wanted if word.startswith("sdprep[")]
        others = [word for word in wanted if not word.startswith("sdprep[")]
        steps = [here().uninstall("onnxruntime"), *map(here().install_extra, extras)]
        steps += [here().install(*others)] if others else []
        super().__init__(
            f"the installed onnxruntime has no provider {name}, only: {', '.join(has)}. "
            f"Install it ({system}) with: {' && '.join(steps)}"
        )


class ImageError(Exception):
    """One image cannot be decoded; `code` says why."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(shortened(message))
        self.code = code


@contextmanager
def starting_threads() -> Iterator[None]:
    """Inside, failing to start a thread raises WorkerError; Python has no exception class of its own for it."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerError(f"{error}: the system allows no more of them (ulimit -u), or memory is short") from error


def lacks_memory(error: BaseException | str) -> bool:
    """Whether an error, or a line that a process printed, reports a lack of memory."""
    return isinstance(error, MemoryError) or NO_MEMORY.search(str(error)) is not None


def without_addresses(message: str) -> str:
    """Return a message without the objects that a library quotes by their address in memory."""
    return OBJECT.sub("", message)


def shortened(message: str) -> str:
    """Return the beginning of a message, since decoders quote file contents, without addresses."""
    message = without_addresses(message)
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."
