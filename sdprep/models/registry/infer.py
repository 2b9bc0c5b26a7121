"""What is assumed of a folder or a repository that no TOML file describes."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

import msgspec

from sdprep.errors import ModelError, UsageError
from sdprep.models.backends import SAVED_MODEL
from sdprep.models.base import ImageSpec, LabelSpec, ModelSpec, Source, Task
from sdprep.models.captioners.chat.families import PROCESSORS
from sdprep.models.captioners.trust import PICKLES
from sdprep.models.files.contents import MAKES_IMAGES, PICKLE_SUFFIXES, WEIGHTS, kind_of, weight_names
from sdprep.models.parse import as_type, read_json

WD_FILES = ("model.onnx", "selected_tags.csv")
DESCRIBE, PIPELINE = "Describe anything else in a .toml file", "model_index.json"
# Where the model lies if a folder above it was given, as in the cache of the Hub.
BELOW = ("*", "snapshots/*", "models--*/snapshots/*")
UNDECIDED = "{} may be a tagger or a captioner\nSay which with --task tag or --task caption"
# All of them take channels last; a graph that does not is another family, and would answer nonsense.
WD_IMAGE = ImageSpec(fit="pad", channels="bgr", layout="nhwc")
WD_LABELS = LabelSpec(file="selected_tags.csv", categories={"general": 0, "character": 4, "rating": 9})
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BLIP_IMAGE = ImageSpec(fit="squash", size=384, scale="0..1", mean=CLIP_MEAN, std=CLIP_STD)
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
BLIP_FILES = (
    "config.json",
    SAFETENSORS,
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
# In a chat model, whose weights are in as many files as its makers chose; and its longest side if no file states one.
CHAT_FILES = ("config.json", "*.json", "*.jinja", "*.safetensors")
LONGEST_SIDE = 1024
FLORENCE = "florence2"
FLORENCE_FILES = ("config.json", SAFETENSORS, "tokenizer.json", "tokenizer_config.json")
FLORENCE_IMAGE = ImageSpec(fit="squash", size=768, scale="0..1", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# The `model_type` of every captioner that is loaded.
CAPTIONERS = ("blip", FLORENCE, *PROCESSORS)
BLIP_NEEDED = ("config.json", SAFETENSORS, "tokenizer.json")


class BlipConfig(msgspec.Struct):
    """What a `config.json` says of the family of its weights."""

    model_type: str | None = None


class Preprocessor(msgspec.Struct):
    """What a `preprocessor_config.json` says of the images that the weights expect."""

    size: int | dict[str, int] = 384
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD


def from_folder(folder: Path, task: Task | None) -> ModelSpec:
    """Tell a folder's family by its files, the family of `task` where it holds both.

    Raises UsageError if it holds both and there is no `task`, ModelError if it holds neither.
    """
    source = Source(path=str(folder))
    family = _model_type(folder / "config.json")
    is_captioner = family in CAPTIONERS
    graphs = [name for name in (WD_FILES[0], SAVED_MODEL) if (folder / name).is_file()]
    has_labels = (folder / WD_FILES[1]).is_file()
    is_wd = bool(graphs) and has_labels
    if is_wd and is_captioner and task is None:
        raise UsageError(UNDECIDED.format(folder))
    if is_wd and not (is_captioner and task == "caption"):
        return _wd_of_folder(folder, source)
    if not is_captioner:
        raise ModelError(_lack(folder, graphs, has_labels))
    if family != "blip":
        return captioner(folder.name, source, str(family))
    weights = _weights_of_folder(folder)
    found = (name for name in BLIP_FILES if name in BLIP_NEEDED or (folder / name).is_file())
    files = tuple(weights if name == SAFETENSORS else name for name in found)
    return blip(folder.name, source, files, _read_preprocessor(folder / "preprocessor_config.json"))


def task_of(names: Collection[str]) -> Task | None:
    """The task of a repository with files of these names; None if they do not tell, or tell of both."""
    is_wd = all(name in names for name in WD_FILES)
    has_weights = any(name.endswith(".safetensors") or name == PICKLED for name in names)
    is_captioner = has_weights and all(name in names for name in ("config.json", "tokenizer.json"))
    return None if is_wd == is_captioner else "tag" if is_wd else "caption"


def _weights_of_folder(folder: Path) -> str:
    """The weights of a captioner; a pickle only where there are no others. It is not said here that it may be read."""
    if (folder / SAFETENSORS).is_file() or (folder / PICKLED).is_file():
        return SAFETENSORS if (folder / SAFETENSORS).is_file() else PICKLED
    pickles = [path.name for path in folder.glob("*") if path.suffix.lower() in PICKLES and path.is_file()]
    return pickles[0] if len(pickles) == 1 else SAFETENSORS


def _lack(folder: Path, graphs: list[str], has_labels: bool) -> str:
    """What a folder lacks to be a model."""
    if graphs:
        return f"{folder} has {graphs[0]} but no {WD_FILES[1]}, the tagger's label file\n{DESCRIBE}"
    if has_labels:
        return f"{folder} has {WD_FILES[1]} but neither {WD_FILES[0]} nor {SAVED_MODEL}, the tagger itself\n{DESCRIBE}"
    if (folder / PIPELINE).is_file():
        return f"{folder} is a Stable Diffusion pipeline ({PIPELINE})\n{MAKES_IMAGES}"
    below = (each for pattern in BELOW for each in sorted(folder.glob(pattern)))
    if (inside := next((each for each in below if _may_be_model(each)), None)) is not None:
        return f"{folder} holds no model itself, but {inside} does\nUse: --model {shlex.quote(str(inside))}"
    lacking = (
        f"{folder} holds no model that sdprep knows: a tagger has {' and '.join(WD_FILES)}, "
        "a captioner a config.json with a model_type that sdprep knows, such as blip or qwen3_vl"
    )
    for path in sorted(folder.glob("*.safetensors")):
        if (kind := kind_of(weight_names(path))) is not None:
            return f"{lacking}\n{path.name} is {kind}. {MAKES_IMAGES}"
    return f"{lacking}\n{DESCRIBE}"


def _may_be_model(folder: Path) -> bool:
    """Whether a folder has the files of a family."""
    has_graph = any((folder / name).is_file() for name in (WD_FILES[0], SAVED_MODEL))
    return (has_graph and (folder / WD_FILES[1]).is_file()) or _is_captioner(folder)


def _is_captioner(folder: Path) -> bool:
    try:
        return _model_type(folder / "config.json") in CAPTIONERS
    except ModelError:  # a file of this name that is something else
        return False


def fault_of_file(path: Path) -> str:
    """Why a file alone is no model, and what to give instead."""
    suffix = path.suffix.lower()
    if suffix == ".safetensors" and (kind := kind_of(weight_names(path))) is not None:
        return f"{path} is {kind}\n{MAKES_IMAGES}"
    if suffix == ".onnx":
        folder = path.parent if (path.parent / WD_FILES[1]).is_file() else None
        what = f"its folder: --model {shlex.quote(str(folder))}" if folder else f"a folder with it and {WD_FILES[1]}"
        return f"{path} is a graph alone, without the names of its tags\nGive {what}, or a .toml file"
    if suffix in WEIGHTS:
        kind = "a pickle of weights" if suffix in PICKLE_SUFFIXES else "weights"
        return (
            f"{path} is {kind} alone, which tells neither the kind of model nor its words\n"
            "Give the folder that has its config.json and tokenizer.json too (a captioner), or its ONNX file with "
            "selected_tags.csv (a tagger)"
        )
    return f"{path} is a file, and it does not describe a model\nGive a name, a .toml file or the folder of a model"


def _wd_of_folder(folder: Path, source: Source) -> ModelSpec:
    """A tagger with the graphs that its folder holds."""
    found = [path for path in (folder / SAVED_MODEL, *sorted((folder / "variables").glob("*"))) if path.is_file()]
    saved = tuple(path.relative_to(folder).as_posix() for path in found) if (folder / SAVED_MODEL).is_file() else ()
    spec = msgspec.structs.replace(wd(folder.name, source), savedmodel=saved)
    if (folder / WD_FILES[0]).is_file():
        return spec
    return msgspec.structs.replace(spec, backend="tensorflow", files=(*saved, WD_FILES[1]), savedmodel=())


def wd(name: str, source: Source) -> ModelSpec:
    """A tagger of the Waifu Diffusion family."""
    return ModelSpec(
        name=name, task="tag", backend="onnx", source=source, files=WD_FILES, image=WD_IMAGE, labels=WD_LABELS
    )


def blip(name: str, source: Source, files: tuple[str, ...], image: ImageSpec) -> ModelSpec:
    """A captioner of the BLIP family."""
    return ModelSpec(name=name, task="caption", backend="blip", source=source, files=files, image=image)


def captioner(name: str, source: Source, family: str) -> ModelSpec:
    """A captioner of one of `CAPTIONERS`, with the prompt of its backend and without presets."""
    if family == "blip":
        return blip(name, source, BLIP_FILES, BLIP_IMAGE)
    if family == FLORENCE:
        return ModelSpec(name, "caption", "task", source, FLORENCE_FILES, FLORENCE_IMAGE, model_type=family)
    image = ImageSpec(fit="inside", size=LONGEST_SIDE)
    return ModelSpec(name, "caption", "chat", source, CHAT_FILES, image, model_type=family)


def _model_type(path: Path) -> str | None:
    return read_json(path, BlipConfig).model_type if path.exists() else None


def _read_preprocessor(path: Path) -> ImageSpec:
    """The square, mean and standard deviation that a folder's own preprocessor states, BLIP's where it has none."""
    if not path.exists():
        return BLIP_IMAGE
    values = read_json(path, Preprocessor)
    sides = {values.size} if isinstance(values.size, int) else set(values.size.values())
    if len(sides) != 1:
        raise ModelError(f"{path}: size is {values.size}, but a BLIP takes squares")
    explicit = {"size": sides.pop(), "mean": values.image_mean, "std": values.image_std}
    image = as_type({**msgspec.structs.asdict(BLIP_IMAGE), **explicit}, ImageSpec, path)
    if (fault := image.fault_of_numbers()) is not None:
        raise ModelError(f"{path}: {fault}")
    return image
