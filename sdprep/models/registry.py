"""From what `--model` says to a `ModelSpec`.

A model is data: one TOML file each, ours in `configs/models`, the user's in the configuration folder, or anywhere.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path, PurePosixPath

import msgspec
from platformdirs import user_config_path

from sdprep.errors import ModelError, UsageError
from sdprep.models.base import ImageSpec, LabelSpec, ModelSpec, Source, Task

# No ".." anywhere: both parts become folders of the cache.
REPO = re.compile(r"(?!.*\.\.)(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
# `path = "..."` wherever it stands; reading the result tells whether it was the one of [source].
PATH_VALUE = re.compile(r"""\bpath\b["']?\s*=\s*("(?:[^"\\\n]|\\.)*"|'[^'\n]*')""")
NOUNS: dict[Task, str] = {"caption": "captioner", "tag": "tagger"}
UNDECIDED = "{} may be a tagger or a captioner\nSay which with --task tag or --task caption"

# What is assumed of a folder or a repository that no TOML file describes.
WD_FILES = ("model.onnx", "selected_tags.csv")
SAVED_MODEL = "saved_model.pb"
WD_IMAGE = ImageSpec(fit="pad", channels="bgr")
WD_LABELS = LabelSpec(file="selected_tags.csv", categories={"general": 0, "character": 4, "rating": 9})
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BLIP_IMAGE = ImageSpec(fit="squash", size=384, mean=CLIP_MEAN, std=CLIP_STD)
BLIP_FILES = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
BLIP_NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


class BlipConfig(msgspec.Struct):
    """What a `config.json` says of the family of its weights."""

    model_type: str | None = None


class Preprocessor(msgspec.Struct):
    """What a `preprocessor_config.json` says of the pictures that the weights expect."""

    size: int | dict[str, int] = 384
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD


def configs_folder() -> Path:
    """The folder of the models that come with sdprep: in a wheel inside the package, in a checkout beside it.

    Raises ModelError if there is neither.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "configs" / "models", package.parent / "configs" / "models"):
        if folder.is_dir():
            return folder
    raise ModelError(f"the model list is missing beside {package}\nThe installation is broken: install sdprep again")


def user_folder() -> Path:
    """The folder where a user's own TOML files are found by name; it need not exist."""
    return user_config_path("sdprep") / "models"


def registered() -> dict[str, Path]:
    """Where each name is described; a user's file wins over ours of the same name."""
    folders = (configs_folder(), user_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


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
            f"Choose one of: {', '.join(names(task))}"
        )
    return spec


def load(path: Path) -> ModelSpec:
    """The model that a TOML file describes, a relative `source.path` taken from the file's folder.

    Raises ModelError naming the file and the field that is wrong.
    """
    try:
        spec = msgspec.toml.decode(path.read_bytes(), type=ModelSpec)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path}: {_reason(error)}") from error
    if (fault := _fault(spec)) is not None:
        raise ModelError(f"{path}: {fault}")
    if spec.source.path is None:
        return spec
    folder = (path.parent / Path(spec.source.path).expanduser()).resolve()
    return msgspec.structs.replace(spec, source=Source(path=str(folder)))


def with_absolute_path(path: Path) -> bytes:
    """The bytes of a TOML file so that they mean the same in any folder; comments stay. Raises ModelError as `load`."""
    folder, data = load(path).source.path, path.read_bytes()
    stated = msgspec.toml.decode(data, type=ModelSpec).source.path
    if stated is None or Path(stated).expanduser().is_absolute():
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


def local_folder(source: Source) -> Path | None:
    """The folder of a model that is no Hub repository; in the package if it is bundled."""
    if source.bundled is not None:
        return Path(__file__).parents[1] / "demo" / "models" / source.bundled
    return None if source.path is None else Path(source.path)


def find(model: str, task: Task | None = None) -> ModelSpec:
    """The description of what `resolve` takes, of either task; `task` decides where the files alone do not.

    Raises UsageError for an unknown name or an undecided task, ModelError for files that are wrong.
    """
    path = Path(model).expanduser()
    if (known := registered().get(model)) is not None:
        return named(model, known)
    if path.suffix.lower() == ".toml" and not path.is_dir():
        return load(path)
    if model and path.is_dir():
        return _from_folder(path.resolve(), task)
    if (match := REPO.fullmatch(model)) is not None:
        return _from_repo(match["repo"], match["revision"], task)
    raise UsageError(_unknown(model, task))


def _unknown(model: str, task: Task | None) -> str:
    # From the file names alone: a broken TOML file of the user must not hide what is wrong here.
    known = sorted(registered())
    close = difflib.get_close_matches(model.rpartition("/")[2], known, n=3)
    guess = f"Did you mean {' or '.join(close)}?" if close else f"Known names: {', '.join(known)}."
    return (
        f"no {NOUNS[task] if task else 'model'} is called '{model}', and there is no such folder. {guess}\n"
        "A model is given as a name, a .toml file, a folder with the model's files, or a Hub repository as owner/name"
    )


def _fault(spec: ModelSpec) -> str | None:
    """What the types alone cannot say of a description, naming the field."""
    source, task = spec.source, {"onnx": "tag", "tensorflow": "tag", "blip": "caption"}[spec.backend]
    unsafe = [name for name in (*spec.files, *spec.savedmodel) if not _is_inside(name)]
    if spec.task != task:
        return f"backend `{spec.backend}` is for task `{task}`, but task is `{spec.task}`"
    if sum(value is not None for value in (source.repo, source.path, source.bundled)) != 1:
        return "[source] needs exactly one of repo, path and bundled"
    if source.repo is not None and ("@" in source.repo or not REPO.fullmatch(f"{source.repo}@{source.revision}")):
        return "source.repo must be owner/name, and source.revision a branch, tag or commit"
    if not spec.files or unsafe:
        return f"files must name files inside the model's folder, not {unsafe or 'nothing'}"
    if spec.task == "tag" and (spec.labels is None or spec.labels.file not in spec.files):
        return "a tagger needs [labels], and labels.file must be one of files"
    if spec.backend == "tensorflow" and SAVED_MODEL not in spec.files:
        return f"a tagger for tensorflow needs {SAVED_MODEL} in files"
    if spec.backend == "onnx" and not spec.files[0].endswith(".onnx"):
        return f'the first of files must be the .onnx file, not "{spec.files[0]}"'
    if spec.task == "caption" and spec.image.size is None:
        return "a captioner needs image.size"
    return None


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not re.search(r"[\\:\0]", name) and not name.startswith("/")


def _from_repo(repo: str, revision: str | None, task: Task | None) -> ModelSpec:
    for name, path in registered().items():
        spec = named(name, path)
        if spec.source.repo is not None and spec.source.repo.casefold() == repo.casefold():
            source = Source(repo=spec.source.repo, revision=revision or spec.source.revision)
            return msgspec.structs.replace(spec, source=source)
    if task is None:
        raise UsageError(UNDECIDED.format(repo))
    source = Source(repo=repo, revision=revision or "main")
    return _wd(repo, source) if task == "tag" else _blip(repo, source, BLIP_FILES, BLIP_IMAGE)


def _from_folder(folder: Path, task: Task | None) -> ModelSpec:
    """Tell a folder's family by its files, the family of `task` where it holds both."""
    source = Source(path=str(folder))
    is_blip = _model_type(folder / "config.json") == "blip"
    has_graph = any((folder / name).is_file() for name in (WD_FILES[0], SAVED_MODEL))
    is_wd = has_graph and (folder / WD_FILES[1]).is_file()
    if is_wd and is_blip and task is None:
        raise UsageError(UNDECIDED.format(folder))
    if is_wd and not (is_blip and task == "caption"):
        return _wd_of_folder(folder, source)
    if not is_blip:
        raise ModelError(
            f"{folder} holds no model that sdprep knows: a tagger has {' and '.join(WD_FILES)}, "
            "a captioner a config.json with model_type blip\nDescribe anything else in a .toml file"
        )
    if (folder / "pytorch_model.bin").is_file() and not (folder / "model.safetensors").is_file():
        raise ModelError(
            f"{folder} has pytorch_model.bin but no model.safetensors; sdprep reads no pickles, which can run code\n"
            "Convert it once with safetensors, or use a repository that offers model.safetensors"
        )
    files = tuple(name for name in BLIP_FILES if name in BLIP_NEEDED or (folder / name).is_file())
    return _blip(folder.name, source, files, _read_preprocessor(folder / "preprocessor_config.json"))


def _wd_of_folder(folder: Path, source: Source) -> ModelSpec:
    """A tagger with the graphs that its folder holds."""
    found = [path for path in (folder / SAVED_MODEL, *sorted((folder / "variables").glob("*"))) if path.is_file()]
    saved = tuple(path.relative_to(folder).as_posix() for path in found) if (folder / SAVED_MODEL).is_file() else ()
    spec = msgspec.structs.replace(_wd(folder.name, source), savedmodel=saved)
    if (folder / WD_FILES[0]).is_file():
        return spec
    return msgspec.structs.replace(spec, backend="tensorflow", files=(*saved, WD_FILES[1]), savedmodel=())


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _wd(name: str, source: Source) -> ModelSpec:
    return ModelSpec(
        name=name, task="tag", backend="onnx", source=source, files=WD_FILES, image=WD_IMAGE, labels=WD_LABELS
    )


def _blip(name: str, source: Source, files: tuple[str, ...], image: ImageSpec) -> ModelSpec:
    return ModelSpec(name=name, task="caption", backend="blip", source=source, files=files, image=image)


def _model_type(path: Path) -> str | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=BlipConfig).model_type
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path}: {_reason(error)}") from error


def _read_preprocessor(path: Path) -> ImageSpec:
    """The square, mean and standard deviation that a folder's own preprocessor states, BLIP's where it has none."""
    try:
        values = msgspec.json.decode(path.read_bytes(), type=Preprocessor)
    except FileNotFoundError:
        return BLIP_IMAGE
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path}: {_reason(error)}") from error
    sides = {values.size} if isinstance(values.size, int) else set(values.size.values())
    if len(sides) != 1:
        raise ModelError(f"{path}: size is {values.size}, but a BLIP takes squares")
    return ImageSpec(fit="squash", size=sides.pop(), mean=values.image_mean, std=values.image_std)
