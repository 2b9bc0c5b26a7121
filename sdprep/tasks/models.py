"""`sdprep models`: the known models, their descriptions, and their files on this machine; needs no framework."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

from sdprep.config import CaptionSettings, TagSettings
from sdprep.errors import ModelError, SdprepError, UsageError, WriteError
from sdprep.files import replace_file
from sdprep.models.base import ModelSpec, Task
from sdprep.models.files.described import described, described_here
from sdprep.models.files.hub import amount, ensure_downloaded, known_commit, snapshot
from sdprep.models.files.lockfile import Lock, LockedFile, read_lock, sha256_of
from sdprep.models.files.patterns import expanded, in_folder, without_files
from sdprep.models.registry import infer, registry, validate
from sdprep.models.tokens import CLIP_TOKENIZER
from sdprep.report import Listener, NullListener

FILE_NAME = re.compile(r"\w[\w .+-]*")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """A model that could not be processed, and why."""

    model: str
    message: str


@dataclass(frozen=True)
class ModelResults(Generic[T]):
    """The result for each model, and the models that could not be processed."""

    models: tuple[T, ...]
    failures: tuple[ModelFailure, ...]


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A registered model; `download` in bytes (None: not known yet, 0: nothing), `megabytes` from its description.

    `note` says whether it is the default of its command, recommended, or a toy of the demo.
    """

    name: str
    task: Task
    backend: str
    download: int | None
    megabytes: int | None
    licence: str | None
    cached: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: `size` in bytes, `sha256` if it is locked, `path` if it is on this machine at full size."""

    name: str
    size: int | None
    sha256: str | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """All that is known about a model. `folder` is where its files are or will be; None while `commit` is unknown."""

    spec: ModelSpec
    commit: str | None
    folder: Path | None
    files: tuple[ModelFile, ...]


@dataclass(frozen=True, slots=True)
class DownloadedModel:
    """A model whose files are on this machine and intact; `commit` is None if it is not from a repository."""

    model: str
    commit: str | None
    folder: Path


class FileState(str, Enum):
    """The state of a file, compared with its first download."""

    OK = "ok"
    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A downloaded file; `download MODEL` repairs it, `path` is where it is or should be."""

    model: str
    commit: str
    name: str
    state: FileState
    path: Path


@dataclass(frozen=True, slots=True)
class Verification:
    """The state of each downloaded file, and the models that could not be checked."""

    files: tuple[CheckedFile, ...]
    failures: tuple[ModelFailure, ...]

    def models(self, state: FileState) -> tuple[str, ...]:
        """Return the models that have a file in this state."""
        return tuple(dict.fromkeys(file.model for file in self.files if file.state is state))


@dataclass(frozen=True, slots=True)
class AddedModel:
    """A TOML file in the user's folder; `replaced` described this name before, `missing` are not in `folder` yet."""

    name: str
    path: Path
    replaced: Path | None
    folder: Path | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Download:
    """The files of a commit as first downloaded; None for one that never was."""

    model: str
    repo: str
    commit: str
    files: dict[str, LockedFile | None]


def list_models(task: Task | None = None) -> ModelResults[ModelSummary]:
    """Return the registered models, sorted by name; an invalid TOML file does not hide the others.

    Raises ModelError if the lock cannot be read.
    """
    described = list(_load_all())
    models = (_summarize(spec) for _, spec in described if isinstance(spec, ModelSpec) and task in (None, spec.task))
    failures = (ModelFailure(name, str(error)) for name, error in described if isinstance(error, ModelError))
    return ModelResults(tuple(models), tuple(failures))


def show(model: str, task: Task | None = None) -> ModelDetails:
    """Return the description of a model and where its files are; `model` is anything that `--model` takes.

    `task` is needed for a repository without a description. Raises UsageError, ModelError.
    """
    return _describe(_find(model, task))


def download(
    models: Iterable[str], task: Task | None = None, *, listener: Listener | None = None
) -> ModelResults[DownloadedModel]:
    """Download the files of models, and replace damaged ones; one failure does not stop the others."""
    done, failures = [], []
    for model in dict.fromkeys(models):
        try:
            spec = described(_find_files(model, task))
            files = ensure_downloaded(spec, listener or NullListener(), check=True)
        except (SdprepError, OSError) as error:
            failures.append(ModelFailure(model, str(error)))
        else:
            done.append(DownloadedModel(model, files.revision, files.folder))
    return ModelResults(tuple(done), tuple(failures))


def verify(models: Iterable[str] = (), *, listener: Listener | None = None) -> Verification:
    """Compare files with their SHA-256 at the first download; without `models`, those of all downloads.

    Raises ModelError if the lock cannot be read.
    """
    lock, wanted, files, failures = read_lock(), tuple(dict.fromkeys(models)), [], []
    downloads = [] if wanted else list(_downloads(lock))
    for model in wanted:
        try:
            downloads.append(_download_of(model, lock))
        except SdprepError as error:
            failures.append(ModelFailure(model, str(error)))
    for each in downloads:
        size = sum(file.size for file in each.files.values() if file)
        (listener or NullListener()).note(f"checking {each.model} ({amount(size)})")
        for name, locked in each.files.items():
            try:
                files.append(_check_file(each, name, locked))
            except OSError as error:
                failures.append(ModelFailure(each.model, f"{name} cannot be read: {error.strerror}"))
    return Verification(tuple(files), tuple(failures))


def add(path: Path, *, replace: bool = False) -> AddedModel:
    """Register a model: copy its TOML file into the user's folder; a relative `source.path` becomes absolute.

    Raises ModelError if the file is invalid, UsageError if the name is taken, WriteError if it cannot be written.
    """
    spec = registry.load(path)
    if not FILE_NAME.fullmatch(spec.name):
        raise ModelError(f'{path}: name is "{spec.name}", which cannot be a file name')
    target = registry.user_folder() / f"{spec.name}.toml"
    before = target if target.exists() else registry.registered().get(spec.name)
    if before is not None and not replace:
        raise UsageError(
            f"there is already a model called {spec.name}, described in {before}\n"
            "Change the name in your file, or use --replace to replace that model"
        )
    data = registry.with_absolute_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, [data])
    except OSError as error:
        raise WriteError(error) from error
    folder = registry.local_folder(spec.source)
    names = () if folder is None else in_folder(spec.files, folder)
    missing = tuple(name for name in names if folder is not None and not (folder / name).is_file())
    missing += tuple(without_files(spec.files, names)) if folder is not None else ()
    return AddedModel(spec.name, target, before, folder, missing)


def _find(model: str, task: Task | None, otherwise: Task | None = None) -> ModelSpec:
    if task is None and (match := validate.REPO.fullmatch(model)) is not None:
        task = _downloaded_as(match["repo"]) or otherwise
    return described_here(registry.find(model, task))


def _downloaded_as(repo: str) -> Task | None:
    """Return the task that a repository was downloaded for, if only one."""
    repos = read_lock().repos
    known = {name for files in repos[repo].commits.values() for name in files} if repo in repos else set()
    return infer.task_of(known)


def _load_all() -> Iterator[tuple[str, ModelSpec | ModelError]]:
    for name, path in sorted(registry.registered().items()):
        try:
            yield name, registry.named(name, path)
        except ModelError as error:
            yield name, error


def _summarize(spec: ModelSpec) -> ModelSummary:
    files = _describe(spec).files
    sizes = [file.size for file in files if file.size is not None]
    size = 0 if spec.source.repo is None else sum(sizes) if len(sizes) == len(files) else None
    cached = all(file.path is not None for file in files)
    return ModelSummary(spec.name, spec.task, spec.backend, size, spec.megabytes, spec.licence, cached, _note(spec))


def _note(spec: ModelSpec) -> str:
    default = CaptionSettings().model if spec.task == "caption" else TagSettings().model
    words = ["default"] if spec.name == default else []
    words += ["recommended"] if spec.name == registry.RECOMMENDED[spec.task] else []
    return ", ".join(words) or ("toy for the demo" if registry.is_toy(spec) else "")


def _describe(spec: ModelSpec) -> ModelDetails:
    folder, repo, commit = registry.local_folder(spec.source), spec.source.repo, None
    locked: dict[str, LockedFile] = {}
    if repo is not None and (commit := known_commit(repo, spec.source.revision)) is not None:
        folder, locked = snapshot(repo, commit), read_lock().files(repo, commit)
    names = expanded(spec.files, locked) if repo is not None else in_folder(spec.files, folder or Path())
    names = (*names, *without_files(spec.files, names))
    files = tuple(_file(name, folder, locked.get(name)) for name in names)
    return ModelDetails(spec, commit, folder, files)


def _file(name: str, folder: Path | None, locked: LockedFile | None) -> ModelFile:
    path = folder / name if folder is not None and (folder / name).is_file() else None
    size = path.stat().st_size if path else None
    if locked is None:
        return ModelFile(name, size, None, path)
    return ModelFile(name, locked.size, locked.sha256, path if size == locked.size else None)


def _downloads(lock: Lock) -> Iterator[_Download]:
    """Yield all that was ever downloaded, under its registered name if it has one."""
    sources = {name: spec.source for name, spec in _load_all() if isinstance(spec, ModelSpec)}
    sources[CLIP_TOKENIZER.name] = CLIP_TOKENIZER.source
    known = {(each.repo, lock.commit(each.repo, each.revision)): name for name, each in sources.items() if each.repo}
    for repo, locked in sorted(lock.repos.items()):
        for commit, files in locked.commits.items():
            yield _Download(known.get((repo, commit), f"{repo}@{commit}"), repo, commit, {**files})


def _find_files(model: str, task: Task | None, otherwise: Task | None = None) -> ModelSpec:
    """Return what has files to download: a model, or CLIP's tokenizer. Raises ModelError for a model at a server."""
    spec = CLIP_TOKENIZER if model == CLIP_TOKENIZER.name else _find(model, task, otherwise)
    if spec.server is not None:
        raise ModelError(f"{spec.name} is at the {spec.server}: it has no files on this machine")
    return spec


def _download_of(model: str, lock: Lock) -> _Download:
    # A repository without a description may get any task: if it was never downloaded, it is an error.
    spec = _find_files(model, None, otherwise="tag")
    repo = spec.source.repo
    if repo is None:
        raise ModelError(f"{model} was not downloaded: its files are in {registry.local_folder(spec.source)}")
    commit = lock.commit(repo, spec.source.revision)
    if commit is None:
        raise ModelError(f"no checksum of {model} is known yet\nDownload it with: sdprep models download {model}")
    locked = lock.files(repo, commit)
    return _Download(model, repo, commit, {name: locked.get(name) for name in expanded(spec.files, locked)})


def _check_file(source: _Download, name: str, locked: LockedFile | None) -> CheckedFile:
    path = snapshot(source.repo, source.commit) / name
    if locked is None or not path.is_file():
        state = FileState.MISSING
    elif path.stat().st_size != locked.size or sha256_of(path) != locked.sha256:
        state = FileState.DAMAGED
    else:
        state = FileState.OK
    return CheckedFile(source.model, source.commit, name, state, path)
