"""Where a model's files are, and bringing them there; the only file that imports huggingface_hub.

A download is verified and then locked: a revision keeps the commit that it had at first, and a commit its bytes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from sdprep.errors import HubError, ModelError
from sdprep.files import real_path
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.files.hub_errors import explain, keep_log_clean
from sdprep.models.files.lockfile import LockedFile, add_to_lock, lock_path, read_lock, sha256_of, weights_of
from sdprep.models.files.patterns import expanded, in_folder, is_pattern, lacking_weights, without_files
from sdprep.models.registry.infer import task_of
from sdprep.models.registry.registry import NOUNS, local_folder
from sdprep.paths import is_inside
from sdprep.report import Listener

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Seconds of silence on one connection, then seconds on all of them together until the first byte of a model: a name
# server or a host with many addresses can keep a client waiting far beyond the time that it grants to each.
READ_TIMEOUT = 10.0
FIRST_BYTE_TIMEOUT = 15.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """What the Hub says of the files of a model at a commit: `sizes` in bytes, `digests` of those that it hashes."""

    commit: str
    sizes: dict[str, int]
    digests: dict[str, str]


class NoAnswer(Exception):  # noqa: N818 - it names a state
    """The Hub let the time run out."""


def files_of_folder(spec: ModelSpec) -> ModelFiles:
    """The files of a model in a folder of this machine.

    Raises ModelError if one is missing, cannot be read, or is a link that leaves the folder.
    """
    folder = local_folder(spec.source) or Path()
    names = in_folder(spec.files, folder)
    for name in (*names, *without_files(spec.files, names), *lacking_weights(folder, names)):
        if not (folder / name).is_file():
            raise ModelError(f"{spec.name}: there is no {name} in {folder}")
        if not is_inside(folder / name, _outer_folder(folder)):
            raise ModelError(
                f"{spec.name}: {name} is a link that leaves {folder}, which sdprep does not follow\n"
                "Put the file itself there, or name the folder in which it lies"
            )
    try:
        digests = {name: sha256_of(folder / name) for name in names}
    except OSError as error:
        raise ModelError(f"{spec.name}: {error.filename}: {error.strerror}") from error
    return ModelFiles(folder, None, weights_of(digests))


def _outer_folder(folder: Path) -> Path:
    """The folder that the files may not leave; in a cache of the Hub, they are links to `blobs` next to it."""
    return folder.parents[1] if folder.parent.name == "snapshots" else folder


def find_local(spec: ModelSpec) -> ModelFiles | None:
    """The files of a model, if they are on this machine; no network. Raises ModelError if a local folder lacks one."""
    if spec.server is not None:
        # A server may change its weights without a word, so its name for them is all that tells results apart.
        return ModelFiles(Path(), None, weights_of({spec.server.model: "server"}))
    if spec.source.repo is None:
        return files_of_folder(spec)
    lock = read_lock()
    commit = lock.commit(spec.source.repo, spec.source.revision)
    if commit is None:
        return None
    locked = lock.files(spec.source.repo, commit)
    names = expanded(spec.files, locked)
    if without_files(spec.files, names):
        return None
    for name in names:
        path = _cached(spec.source.repo, name, commit)
        if path is None or name not in locked or path.stat().st_size != locked[name].size:
            return None
    if lacking_weights(snapshot(spec.source.repo, commit), names):
        return None
    return _in_cache(spec, commit, {name: locked[name] for name in names})


def ensure_downloaded(spec: ModelSpec, listener: Listener, *, check: bool = False) -> ModelFiles:
    """The files of a model, downloaded and verified unless they are here; `check` also replaces damaged ones.

    Raises HubError if they are not available, are not what they were, or do not fit on the disk.
    """
    files = find_local(spec)
    if files is not None and not (check and spec.source.repo):
        return files
    from huggingface_hub.utils import logging as theirs

    keep_log_clean(theirs.get_logger("huggingface_hub"))
    repo, revision = str(spec.source.repo), spec.source.revision
    commit = known_commit(repo, revision)
    names = _names_at(spec, commit) if commit else ()
    verified = _check_cached(repo, commit, names) if commit else {}
    if commit is None or not names or len(verified) < len(names):
        listener.stage(f"looking for {repo} on {_endpoint()}")
        try:
            remote = _patiently(lambda: _ask(spec, commit or revision, set(verified)))
            commit = remote.commit
            _announce(repo, remote, set(remote.sizes) - set(verified), listener)
            for name in remote.sizes:
                if name not in verified:
                    verified[name] = _download(repo, remote, name)
        except ModelError:
            raise
        except Exception as error:
            raise HubError(explain(error, f"{repo}@{revision}", _endpoint(), _cache())) from error
    _remember(spec, commit, verified, listener)
    return _in_cache(spec, commit, verified)


def _names_at(spec: ModelSpec, commit: str) -> tuple[str, ...]:
    """The files of a model at a commit, as far as they are known without asking the Hub; none if patterns stand for it.

    What another program has downloaded may be a part of what a pattern stands for, which only counts offline.
    """
    from huggingface_hub import constants

    repo = str(spec.source.repo)
    locked = read_lock().files(repo, commit)
    names = expanded(spec.files, locked)
    if not any(map(is_pattern, spec.files)):
        return spec.files
    if not without_files(spec.files, names) and not lacking_weights(snapshot(repo, commit), names):
        return names
    folder = snapshot(repo, commit)
    names = in_folder(spec.files, folder) if constants.HF_HUB_OFFLINE else ()
    return () if without_files(spec.files, names) or lacking_weights(folder, names) else names


def identity(spec: ModelSpec, files: ModelFiles | None) -> str:
    """The name of a model with what pins it: `name@commit` from the Hub, `name#checksum` from a folder.

    That of a server, which nothing pins, is `name@server`.
    """
    if spec.server is not None:
        return f"{spec.server.model}@server"
    if spec.source.repo is not None:
        locked = files.revision if files else read_lock().commit(spec.source.repo, spec.source.revision)
        return f"{spec.name}@{locked or spec.source.revision}"
    return f"{spec.name}#{files.weights[:12]}" if files else spec.name


def snapshot(repo: str, commit: str) -> Path:
    """The folder of the cache that holds the files of a commit, or will."""
    return _repo_folder(repo) / "snapshots" / commit


def _in_cache(spec: ModelSpec, commit: str, files: dict[str, LockedFile]) -> ModelFiles:
    digests = {name: file.sha256 for name, file in files.items()}
    return ModelFiles(snapshot(str(spec.source.repo), commit), commit, weights_of(digests))


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _endpoint() -> str:
    """The Hub's address, without a password."""
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def _repo_folder(repo: str) -> Path:
    return _cache() / f"models--{repo.replace('/', '--')}"


def _cached(repo: str, name: str, commit: str) -> Path | None:
    path = snapshot(repo, commit) / name
    return path if path.is_file() else None


def known_commit(repo: str, revision: str) -> str | None:
    """The commit that a revision means without asking the Hub; offline, a branch means what the cache has of it."""
    from huggingface_hub import constants

    locked = read_lock().commit(repo, revision)
    if locked is not None:
        return locked
    if COMMIT.fullmatch(revision):
        return revision
    reference = _repo_folder(repo) / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if constants.HF_HUB_OFFLINE and reference.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else None


def _check_cached(repo: str, commit: str, names: tuple[str, ...]) -> dict[str, LockedFile]:
    """The files that another program has downloaded, or an earlier try of ours; a damaged one is deleted."""
    locked, verified = read_lock().files(repo, commit), {}
    for name in names:
        path = _cached(repo, name, commit)
        if path is None:
            continue
        file = LockedFile.of(path)
        # The cache names the content of a large file by its SHA-256.
        blob = real_path(path).name
        expected = {locked[name].sha256} if name in locked else {blob} if SHA256.fullmatch(blob) else {file.sha256}
        if file.sha256 in expected:
            verified[name] = file
        else:
            _delete(path)
    return verified


def _delete(path: Path) -> None:
    """Delete a file of the cache together with the content that it points to."""
    content = real_path(path)
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def _patiently(work: Callable[[], T]) -> T:
    """The result of `work`, which is left to itself when it takes too long. Raises NoAnswer then."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            done.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(FIRST_BYTE_TIMEOUT)
    if not done.done():
        raise NoAnswer(f"no answer within {FIRST_BYTE_TIMEOUT:.0f} seconds")
    return done.result()


def _ask(spec: ModelSpec, revision: str, present: set[str]) -> Remote:
    """Ask the Hub for commit, sizes and checksums, and see that the largest file on the list can be had.

    huggingface_hub would retry a dead host for minutes; after this it may, because the host has answered.
    """
    from huggingface_hub import HfApi, hf_hub_url

    repo = str(spec.source.repo)
    info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=READ_TIMEOUT)
    listed = {file.rfilename: file for file in info.siblings or ()}
    missing, names = without_files(spec.files, listed), expanded(spec.files, listed)
    if info.sha is None or missing:
        other = task_of(listed)
        if other is not None and other != spec.task:
            model = repo if spec.source.revision == "main" else f"{repo}@{spec.source.revision}"
            raise HubError(
                f"{repo} has the files of a {NOUNS[other]}, not of a {NOUNS[spec.task]}\n"
                f"Use it with: sdprep {other} --model {model}"
            )
        raise HubError(f"{repo} at {revision} has no {' and no '.join(missing)}\nIt has: {', '.join(sorted(listed))}")
    sizes = {name: listed[name].size or 0 for name in names}
    digests = {name: lfs.sha256 for name in names if (lfs := listed[name].lfs) is not None}
    wanted = [name for name in names if name not in present]
    if wanted:
        _check_path(hf_hub_url(repo, max(wanted, key=lambda name: sizes[name]), revision=info.sha))
    return Remote(info.sha, sizes, digests)


def _check_path(url: str) -> None:
    """Fetch one byte of a file and greet the content store ("Xet") that huggingface_hub prefers to plain downloads.

    Raises HubError if only the store is out of reach: its client alone would go on trying for five minutes.
    """
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    session, headers = get_session(), build_hf_headers()
    one_byte = {**headers, "Range": "bytes=0-0"}
    with session.stream("GET", url, headers=one_byte, timeout=READ_TIMEOUT, follow_redirects=True) as response:
        hf_raise_for_status(response)
        answers = (*response.history, response)
    if constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
        return
    link = next((answer.links["xet-auth"]["url"] for answer in answers if "xet-auth" in answer.links), "")
    # A mirror passes on the Hub's own link. The token goes to no other host than the endpoint.
    link = urljoin(url, link.replace("https://huggingface.co", constants.ENDPOINT))
    if link == url or not link.startswith(f"{constants.ENDPOINT}/"):
        return
    store = session.get(link, headers=headers, timeout=READ_TIMEOUT).headers.get("X-Xet-Cas-Url")
    if store is None:
        return
    try:
        session.get(store, timeout=READ_TIMEOUT)
    except Exception as error:
        raise HubError(
            f"{_endpoint()} answers, but {store}, where it keeps large files, does not\n"
            "Set HF_HUB_DISABLE_XET=1 to download without it"
        ) from error


def _announce(repo: str, remote: Remote, names: set[str], listener: Listener) -> None:
    """Say how much is to be downloaded. Raises HubError if the disk has no room for it."""
    cache, size = _cache(), sum(remote.sizes[name] for name in names)
    existing = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise HubError(
            f"{repo} needs {amount(size)}, but {cache} has only {amount(free)} free\n"
            "Set HF_HOME to a folder on a larger disk"
        )
    listener.stage(f"downloading {repo} ({amount(size)}) to {cache}")


def amount(size: int) -> str:
    """A size in bytes as a person reads it."""
    return f"{size / 10**9:.2f} GB" if size >= 10**9 else f"{size / 10**6:.1f} MB"


def _download(repo: str, remote: Remote, name: str) -> LockedFile:
    """Download one file, and once more if it is not what the Hub says and the lock remembers."""
    from huggingface_hub import hf_hub_download

    locked = read_lock().files(repo, remote.commit).get(name)
    promises = {"the Hub": remote.digests.get(name), str(lock_path()): locked.sha256 if locked else None}
    for _ in range(2):
        path = Path(hf_hub_download(repo, name, revision=remote.commit))
        file = LockedFile.of(path)
        broken = [f"{who} says {sha256}" for who, sha256 in promises.items() if sha256 not in (None, file.sha256)]
        if not broken:
            return file
        _delete(path)
    raise HubError(
        f"{repo}: {name} was damaged or exchanged on its way, twice: its SHA-256 is {file.sha256}, but {broken[0]}\n"
        "It was deleted; try again, or with another HF_ENDPOINT"
    )


def _remember(spec: ModelSpec, commit: str, files: dict[str, LockedFile], listener: Listener) -> None:
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    path = lock_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path.with_name(f".{path.name}.lock")):
            add_to_lock(str(spec.source.repo), spec.source.revision, commit, files)
    except OSError as error:
        listener.note(f"{path} cannot be written ({error.strerror}): {spec.name} will be checked again next time")
