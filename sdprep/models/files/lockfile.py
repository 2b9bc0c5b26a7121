"""What was downloaded once, so that it stays the same: the commit behind a revision, and each file's SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import msgspec
from platformdirs import user_data_path

from sdprep.errors import ModelError
from sdprep.files import read_limited

LARGEST_LOCK = 8 << 20


class LockedFile(msgspec.Struct, frozen=True):
    """One file of a commit; `size` in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> LockedFile:
        """The checksum and size of a file as it is now."""
        return cls(sha256_of(path), path.stat().st_size)


class LockedRepo(msgspec.Struct, frozen=True):
    """A Hub repository: `revisions` maps what was asked for to a commit, `commits` a commit to its files."""

    revisions: dict[str, str] = {}
    commits: dict[str, dict[str, LockedFile]] = {}


class Lock(msgspec.Struct, frozen=True):
    """The content of `models.lock.json`."""

    schema: int = 1
    repos: dict[str, LockedRepo] = {}

    def commit(self, repo: str, revision: str) -> str | None:
        """The commit that a revision stood for when it was first downloaded."""
        return self.repos.get(repo, LockedRepo()).revisions.get(revision)

    def files(self, repo: str, commit: str) -> dict[str, LockedFile]:
        """The files of a commit that were downloaded."""
        return self.repos.get(repo, LockedRepo()).commits.get(commit, {})


def lock_path() -> Path:
    """The file that remembers commits and checksums of what was downloaded."""
    return user_data_path("sdprep") / "models.lock.json"


def read_lock() -> Lock:
    """The lock, empty if there is none. Raises ModelError naming the file if it cannot be read."""
    path = lock_path()
    try:
        return msgspec.json.decode(read_limited(path, LARGEST_LOCK), type=Lock)
    except FileNotFoundError:
        return Lock()
    except (OSError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path}: {error}\nIf you delete it, models are checked again at their next use") from error


def add_to_lock(repo: str, revision: str, commit: str, files: Mapping[str, LockedFile]) -> None:
    """Remember the commit of a revision and its files beside what the lock holds. Raises OSError, ModelError."""
    path, lock = lock_path(), read_lock()
    locked = lock.repos.setdefault(repo, LockedRepo())
    # The commit stands for itself too: a later request for it finds what a tag or branch has brought.
    locked.revisions.update({revision: commit, commit: commit})
    locked.commits.setdefault(commit, {}).update(files)
    # A name of its own, unlike in `files.replace_file`: downloads of several processes may end at the same time.
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(lock, order="sorted"), indent=2) + b"\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_of(digests: Mapping[str, str]) -> str:
    """One SHA-256 over the names and SHA-256 of a model's files, whatever their order."""
    lines = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
