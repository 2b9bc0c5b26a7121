"""From what `--model` says to a `ModelSpec`.

A model is data: one TOML file each, ours in `configs/models`, the user's in the configuration folder, or anywhere.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

import msgspec
from platformdirs import user_config_path

from sdprep.errors import ModelError, UsageError
from sdprep.files import configs_folder, read_toml_bytes, real_path
from sdprep.models.base import ImageSpec, ModelSpec, ServerSpec, Source, Task
from sdprep.models.captioners.server.address import fault_of_address
from sdprep.models.parse import read_toml
from sdprep.models.registry.infer import BLIP_FILES, BLIP_IMAGE, UNDECIDED, blip, fault_of_file, from_folder, wd
from sdprep.models.registry.validate import REPO, fault_of_preprocess, first_error

# `path = "..."` wherever it stands; reading the result tells whether it was the one of [source].
PATH_VALUE = re.compile(r"""\bpath\b["']?\s*=\s*("(?:[^"\\\n]|\\.)*"|'[^'\n]*')""")
# The longest side of an image that a server gets unless a TOML file says another: they make it smaller anyway.
SERVED_SIDE = 1024
NOUNS: dict[Task, str] = {"caption": "captioner", "tag": "tagger"}
# What messages and lists advise for illustrations and most datasets.
RECOMMENDED: dict[Task, str] = {"caption": "blip-large", "tag": "wd-swinv2-tagger-v3"}


def user_folder() -> Path:
    """The folder where a user's own TOML files are found by name; it need not exist."""
    return user_config_path("sdprep") / "models"


def registered() -> dict[str, Path]:
    """Where each name is described; a user's file wins over ours of the same name."""
    folders = (configs_folder("models"), user_folder())
    return {path.stem: path for folder in folders for path in _listed(folder)[0]}


def unlisted() -> str | None:
    """Why the models of the user's own folder are not known; None if they are, or the folder does not exist."""
    error = _listed(user_folder())[1]
    return None if error is None else f"models in {user_folder()} are not used: {error.strerror or error}"


def _listed(folder: Path) -> tuple[list[Path], OSError | None]:
    """The TOML files of a folder, sorted, or what keeps it from being listed."""
    try:
        return sorted(path for path in folder.iterdir() if path.match("*.toml")), None
    except (FileNotFoundError, NotADirectoryError):
        return [], None
    except OSError as error:
        return [], error


def named(name: str, path: Path) -> ModelSpec:
    """The model of a name of `registered`. Raises ModelError if the file is wrong or has another name inside."""
    spec = load(path)
    if spec.name != name:
        raise ModelError(f'{path}: name is "{spec.name}", but the file is called {path.name}')
    return spec


def names(task: Task | None = None) -> list[str]:
    """The names of all models, or of those of one task. Raises ModelError naming a TOML file that is wrong."""
    return sorted(name for name, path in registered().items() if task in (None, named(name, path).task))


def resolve(model: str, task: Task) -> ModelSpec:
    """The description of what `--model` says: a name, a TOML file, a folder, or `owner/name[@revision]`.

    Raises UsageError for an unknown name or a model of the other task, ModelError for files that are wrong.
    """
    spec = find(model, task)
    if spec.task != task:
        raise UsageError(
            f"{model} is a {NOUNS[spec.task]}, but `sdprep {task}` needs a {NOUNS[task]}\n"
            f"Choose one of: {', '.join(_real(task))}"
        )
    return spec


def at_server(url: str | tuple[str, ...], model: str) -> ModelSpec:
    """The captioner that a server, or each of several, has under a name, or that a TOML file describes and it has.

    Raises UsageError or ModelError as `resolve`.
    """
    server = ServerSpec(url=url, model=model)
    for fault in filter(None, map(fault_of_address, server.urls)):
        raise UsageError(f"--server: {fault}")
    # vLLM and llama.cpp call a model by the path of its files, which may be there too.
    if model in registered() or model.endswith(".toml"):
        spec = resolve(model, "caption")
        if spec.server is None:
            raise UsageError(
                f"{model} runs on this machine, not at the {server}\n"
                "Give --model the name that the server has, or leave out --server; --no-remembered ignores one of an "
                "earlier run"
            )
        return msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, url=url))
    return ModelSpec(
        name=model,
        task="caption",
        backend="server",
        image=ImageSpec(fit="inside", size=SERVED_SIDE),
        server=server,
    )


def load(path: Path) -> ModelSpec:
    """The model that a TOML file describes, a relative `source.path` taken from the file's folder.

    Raises ModelError naming the file and the field that is wrong.
    """
    spec = read_toml(path, ModelSpec)
    if (fault := first_error(spec)) is not None:
        raise ModelError(f"{path}: {fault}")
    if spec.source.path is None:
        return spec
    folder = real_path(path.parent / _expanded(spec.source.path))
    return msgspec.structs.replace(spec, source=Source(path=str(folder)))


def with_absolute_path(path: Path) -> bytes:
    """The bytes of a TOML file so that they mean the same in any folder; comments stay. Raises ModelError as `load`."""
    folder, data = load(path).source.path, read_toml_bytes(path)
    explicit = msgspec.toml.decode(data, type=ModelSpec).source.path
    if explicit is None or _expanded(explicit).is_absolute():
        return data
    text = data.decode("utf-8")
    for match in PATH_VALUE.finditer(text):
        changed = f"{text[: match.start(1)]}{json.dumps(folder, ensure_ascii=False)}{text[match.end(1) :]}"
        try:
            if msgspec.toml.decode(changed, type=ModelSpec).source.path == folder:
                return changed.encode("utf-8")
        except (UnicodeEncodeError, msgspec.MsgspecError):
            continue
    raise ModelError(f"{path}: source.path is relative to this file; write it in one line as {folder}")


def with_preprocess(spec: ModelSpec, wanted: str | None) -> ModelSpec:
    """The description of a model for images prepared in another way; None leaves it as it is.

    Raises UsageError if its images cannot be prepared so.
    """
    if wanted is None:
        return spec
    try:
        image = msgspec.convert({**msgspec.structs.asdict(spec.image), "preprocess": wanted}, ImageSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"{spec.name}: {error}; leave out --preprocess {wanted}") from error
    prepared = msgspec.structs.replace(spec, image=image)
    if (fault := fault_of_preprocess(prepared)) is not None:
        raise UsageError(f"{spec.name}: {fault}; leave out --preprocess {wanted}")
    return prepared


def local_folder(source: Source) -> Path | None:
    """The folder of a model that is no Hub repository; in the package if it is bundled."""
    if source.bundled is not None:
        return Path(__file__).parents[2] / "demo" / "models" / source.bundled
    return None if source.path is None else Path(source.path)


def find(model: str, task: Task | None = None) -> ModelSpec:
    """The description of what `resolve` takes, of either task; `task` decides where the files alone do not.

    Raises UsageError for an unknown name or an undecided task, ModelError for files that are wrong.
    """
    if (known := registered().get(model)) is not None:
        return named(model, known)
    if (path := model_path(model)) is not None:
        return from_folder(real_path(path), task) if path.is_dir() else load(path)
    if model and _expanded(model).is_file():
        raise UsageError(fault_of_file(_expanded(model)))
    if (inside := _by_subfolder(model)) is not None:
        return inside
    if (match := REPO.fullmatch(model)) is not None:
        return _from_repo(match["repo"], match["revision"], task)
    raise UsageError(_unknown(model, task))


def _expanded(name: str) -> Path:
    """A path in which `~` is a home folder, where there is one of that name."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def model_path(model: str) -> Path | None:
    """The TOML file or the folder that `find` reads for a model; None for a name or a Hub repository."""
    path = _expanded(model)
    if model in registered():
        return None
    return path if (path.suffix.lower() == ".toml" and not path.is_dir()) or (model and path.is_dir()) else None


def _by_subfolder(model: str) -> ModelSpec | None:
    """The model of the registry that kohya's tagger calls `owner/name/subfolder`."""
    repo, _, subfolder = model.rpartition("/")
    if repo.count("/") != 1:
        return None
    specs = (named(name, path) for name, path in registered().items())
    of_repo = (spec for spec in specs if spec.source.repo is not None and spec.source.repo == repo)
    return next((spec for spec in of_repo if spec.files[0].startswith(f"{subfolder}/")), None)


def is_toy(spec: ModelSpec) -> bool:
    """Whether a model is for demonstrations and tests only, so that no message may advise it."""
    return spec.source.bundled is not None or spec.backend.startswith("fake-")


def _real(task: Task | None) -> list[str]:
    """The names of the models of a task that are no toys; a TOML file that is wrong hides no other."""
    found = []
    for name, path in registered().items():
        try:
            spec = named(name, path)
        except ModelError:
            continue
        if task in (None, spec.task) and not is_toy(spec):
            found.append(name)
    return sorted(found)


def _unknown(model: str, task: Task | None) -> str:
    known = _real(task)
    asked = model.rpartition("/")[2].casefold()
    close = [name for name in known if asked and asked in name.casefold()] or difflib.get_close_matches(asked, known)
    advised = [RECOMMENDED[task]] if task else list(RECOMMENDED.values())
    what = NOUNS[task] if task else "model"
    guess = f"Did you mean {' or '.join(close[:3])}?" if close else f"Recommended: {', '.join(advised)}."
    guess += f"\n{reason}" if (reason := unlisted()) is not None else ""
    every = f"sdprep models list{f' --task {task}' if task else ''}"
    return (
        f"no {what} is called '{model}', and there is no such folder. {guess} All of them: {every}\n"
        "A model is given as a name, a .toml file, a folder with the model's files, or a Hub repository as owner/name"
        + ("\nFor several taggers, repeat --model" if task == "tag" and "," in model else "")
    )


def _from_repo(repo: str, revision: str | None, task: Task | None) -> ModelSpec:
    for name, path in registered().items():
        spec = named(name, path)
        if spec.source.repo is not None and spec.source.repo.casefold() == repo.casefold():
            source = Source(repo=spec.source.repo, revision=revision or spec.source.revision)
            return msgspec.structs.replace(spec, source=source)
    if task is None:
        raise UsageError(UNDECIDED.format(repo))
    source = Source(repo=repo, revision=revision or "main")
    return wd(repo, source) if task == "tag" else blip(repo, source, BLIP_FILES, BLIP_IMAGE)
