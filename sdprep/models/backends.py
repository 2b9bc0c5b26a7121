"""One row for each way to run a model: the framework, the extra that installs it, and the class that loads a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import msgspec

from sdprep.errors import MissingExtra, ModelError, SdprepError, UsageError, lacks_memory
from sdprep.installation import too_old, upgrade
from sdprep.models.base import GenerateSpec, LabelledModel, Model, ModelFiles, ModelSpec, Task, import_named
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.captioners.server.address import fault_of_address
from sdprep.models.execution import Execution, usable_cpus
from sdprep.models.files.contents import check_contents
from sdprep.models.parse import cause

SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to run models.

    `loader` names a class as "module:name". It is called with a ModelSpec, its ModelFiles and an Execution, a captioner
    also with CaptionOptions and a function that takes notes for the user. `check` gives what is wrong with a
    description. `graph` is what a tagger runs, in words. `providers` are the values of `--provider` if they are not
    those of ONNX Runtime. `generate` and `prompt` are for captioners whose description states none, and `search` names
    the options of `sdprep caption` that have an effect on their result. A captioner that `is_asked` gets a prompt with
    each image, so that it may hold variables.
    """

    title: str
    task: Task
    extra: str
    packages: tuple[str, ...]
    loader: str
    check: Callable[[ModelSpec], Iterator[str]]
    graph: str = ""
    providers: tuple[str, ...] = ()
    generate: GenerateSpec = GenerateSpec()
    prompt: str = ""
    search: frozenset[str] = frozenset()
    is_asked: bool = False


# The options of beam search and of sampling with sdprep's own decoder.
BLIP_SEARCH = frozenset(
    {
        *("num_beams", "sample", "top_p", "top_k", "repetition_penalty", "no_repeat_ngram_size", "bad_words"),
        *("decode_again", "count_prompt", "min_length", "max_length", "seed", "decoder"),
    }
)
TASK_SEARCH = BLIP_SEARCH - {"bad_words", "decode_again", "count_prompt"}
CHAT_SEARCH = frozenset(
    {
        *("num_beams", "sample", "temperature", "top_p", "top_k", "repetition_penalty", "no_repeat_ngram_size"),
        *("bad_words", "decode_again", "min_length", "max_length", "seed", "quantize"),
    }
)
SERVER_SEARCH = frozenset({"sample", "temperature", "top_p", "max_length", "seed"})
SERVER_UNKNOWN = ("num_beams", "min_new_tokens", "top_k", "repetition_penalty", "no_repeat_ngram_size")
# What quantized weights need besides the packages of a backend, and the extra that installs all of it.
QUANTIZE_PACKAGES, QUANTIZE_EXTRA = ("accelerate", "bitsandbytes"), "vlm-4bit"
DESCRIBE = "Describe this image in one detailed paragraph."


def _check_task(spec: ModelSpec) -> Iterator[str]:
    if spec.image.fit != "squash" or spec.image.size is None or spec.image.scale != "0..1":
        yield 'a Florence-2 needs fit = "squash", size and scale = "0..1" in [image]'
    if spec.model_type != "florence2":
        yield 'model_type must be "florence2", the only kind of model that takes task tokens'


def _check_server(spec: ModelSpec) -> Iterator[str]:
    if spec.server is None:
        yield "a captioner at a server needs [server] with url and model"
        return
    if not spec.server.urls:
        yield "server.url is empty; write the address of the server"
    for fault in filter(None, map(fault_of_address, spec.server.urls)):
        yield f"server.url: {fault}"
    if fixed := {"messages", "model", "stream", "n"} & spec.server.extra.keys():
        yield f"server.extra: {', '.join(sorted(fixed))} cannot be set"
    if (schema := spec.server.schema) and (
        schema.get("type") != "object" or not _are_texts(schema.get("required", []))
    ):
        yield 'server.schema needs type = "object", and required must be a list of keys'
    ignored = [name for name in SERVER_UNKNOWN if getattr(spec.generate, name) is not None]
    if ignored:
        yield f"generate.{ignored[0]} does not belong to the API; if the server knows it, write it in server.extra"
    if spec.image.fit != "inside" or spec.image.size is None:
        yield 'a captioner at a server needs fit = "inside" and size, the longest side, in [image]'


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _check_chat(spec: ModelSpec) -> Iterator[str]:
    if spec.image.fit is None or spec.image.size is None:
        yield 'a chat model needs fit and size in [image]: fit = "inside" and the longest side'
    if not any(name.endswith(".safetensors") for name in spec.files):
        yield "a chat model needs its weights as .safetensors in files"
    if spec.server is not None:
        yield '[server] is for captioners with backend = "server"'


def _check_onnx(spec: ModelSpec) -> Iterator[str]:
    if not spec.files[0].endswith(".onnx"):
        yield f'the first of files must be the .onnx file, not "{spec.files[0]}"'


def _check_tensorflow(spec: ModelSpec) -> Iterator[str]:
    if SAVED_MODEL not in spec.files:
        yield f"a tagger for tensorflow needs {SAVED_MODEL} in files"


def _check_blip(spec: ModelSpec) -> Iterator[str]:
    image = spec.image
    if image.size is None:
        yield "a captioner needs image.size"
    if image.scale != "0..1":
        yield 'a captioner needs scale = "0..1" in [image]: mean and std are meant for such values'
    if image.recipe or image.layout or image.channels != "rgb" or spec.labels or spec.output or spec.threshold:
        yield "image.recipe, image.layout, image.channels, labels, output and threshold are for taggers"


BACKENDS = {
    "onnx": Backend(
        title="ONNX Runtime",
        task="tag",
        extra="tag",
        packages=("onnxruntime",),
        loader="sdprep.models.taggers.onnx_tagger:OnnxTagger",
        check=_check_onnx,
        graph="ONNX file",
    ),
    "tensorflow": Backend(
        title="TensorFlow",
        task="tag",
        extra="tensorflow",
        packages=("tensorflow",),
        loader="sdprep.models.taggers.tensorflow_tagger:TensorflowTagger",
        check=_check_tensorflow,
        graph="SavedModel",
        providers=("auto", "cpu", "cuda"),
    ),
    "blip": Backend(
        title="BLIP on torch",
        task="caption",
        extra="caption",
        packages=("torch", "transformers"),
        loader="sdprep.models.captioners.blip.captioner:BlipCaptioner",
        check=_check_blip,
        generate=GenerateSpec(
            max_new_tokens=75,
            min_new_tokens=5,
            num_beams=3,
            top_p=0.9,
            top_k=0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
        ),
        prompt="a picture of",
        search=BLIP_SEARCH,
    ),
    "task": Backend(
        title="Florence-2 on torch",
        task="caption",
        extra="caption",
        packages=("torch", "transformers"),
        loader="sdprep.models.captioners.florence.captioner:FlorenceCaptioner",
        check=_check_task,
        generate=GenerateSpec(
            max_new_tokens=256,
            min_new_tokens=0,
            num_beams=3,
            top_p=1.0,
            top_k=0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=3,
        ),
        prompt="<MORE_DETAILED_CAPTION>",
        search=TASK_SEARCH,
        is_asked=True,
    ),
    "chat": Backend(
        title="chat models on transformers",
        task="caption",
        extra="vlm",
        packages=("torch", "transformers"),
        loader="sdprep.models.captioners.chat.captioner:ChatCaptioner",
        check=_check_chat,
        generate=GenerateSpec(
            max_new_tokens=256,
            min_new_tokens=0,
            num_beams=1,
            temperature=0.0,
            top_p=1.0,
            top_k=0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
        ),
        prompt=DESCRIBE,
        search=CHAT_SEARCH,
        is_asked=True,
    ),
    "server": Backend(
        title="a server with the Chat Completions API",
        task="caption",
        extra="",
        packages=(),
        loader="sdprep.models.captioners.server.captioner:ServerCaptioner",
        check=_check_server,
        generate=GenerateSpec(max_new_tokens=256),
        prompt=DESCRIBE,
        search=SERVER_SEARCH,
        is_asked=True,
    ),
    "fake-tag": Backend(
        title="fake tagger",
        task="tag",
        extra="",
        packages=(),
        loader="sdprep.models.fake:FakeTagger",
        check=lambda _: iter(()),
    ),
    "fake-caption": Backend(
        title="fake captioner",
        task="caption",
        extra="",
        packages=(),
        loader="sdprep.models.fake:FakeCaptioner",
        check=lambda _: iter(()),
        search=BLIP_SEARCH,
        is_asked=True,
    ),
}


def with_backend(spec: ModelSpec, wanted: str) -> ModelSpec:
    """The description of a tagger for a backend: "onnx", "tensorflow", or "auto" for the one that is installed.

    ONNX is preferred where both are. Raises UsageError if the model has no files for the backend.
    """
    if wanted == "auto":
        prefers_saved = spec.savedmodel and is_installed("tensorflow") and not is_installed(spec.backend)
        wanted = "tensorflow" if prefers_saved else spec.backend
    if wanted == spec.backend:
        return spec
    if wanted == "tensorflow" and spec.savedmodel:
        # The .onnx file comes first; what is beside it serves both.
        files = (*spec.savedmodel, *spec.files[1:])
        return msgspec.structs.replace(spec, backend="tensorflow", files=files, savedmodel=())
    raise UsageError(f"{spec.name} has no {BACKENDS[wanted].graph} that sdprep knows of; leave out --backend {wanted}")


def is_installed(backend: str) -> bool:
    """Whether what runs a backend's models is installed; nothing is imported."""
    return all(find_spec(package) is not None for package in BACKENDS[backend].packages)


def check_installed(spec: ModelSpec, quantize: str = "none") -> None:
    """Raise MissingExtra if what runs a model is not installed, or ModelError if it is too old; nothing is imported."""
    backend = BACKENDS[spec.backend]
    packages, extra = backend.packages, backend.extra
    if quantize != "none":
        packages, extra = (*packages, *QUANTIZE_PACKAGES), QUANTIZE_EXTRA
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)
        if (found := too_old(package, extra)) is not None:
            version, needed = found
            commands, advice = upgrade([f"{package}{needed}"], extra)
            advice = f"{advice} " if advice else ""
            raise ModelError(
                f"{package} {version} is too old: {backend.title} in sdprep needs {package}{needed}\n"
                f"{advice}{'Run' if advice else 'Upgrade it with'}: {' && '.join(commands)}"
            )


@contextmanager
def importing(package: str, extra: str) -> Iterator[None]:
    """A context in which `package`, which `extra` installs, is imported.

    Raises MissingExtra if it is not installed, ModelError if it is installed but cannot be loaded.
    """
    try:
        yield
    except Exception as error:  # incompatible versions can end an import with any error
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise MissingExtra(package, extra) from error
        advice = "\nFree some memory, or allow the process more of it (ulimit -v)" if lacks_memory(error) else ""
        raise ModelError(f"{package} is installed but cannot be loaded: {cause(error)}{advice}") from error


def open_model(
    spec: ModelSpec,
    files: ModelFiles,
    execution: Execution,
    options: CaptionOptions | None,
    note: Callable[[str], None],
) -> Model:
    """Load a model with the framework of its description; `options` are for a captioner.

    It calls `note` with what the user should know while it works. Raises MissingExtra, ModelError and UsageError.
    """
    if spec.task == "tag":
        return open_tagger(spec, files, execution)
    if options is None:
        raise AssertionError("a captioner is opened without its options")
    if execution.num_processes > 1:
        # torch reads it when it is imported; a value that the user has set stays.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // execution.num_processes)))
    with _model_errors(spec, files):
        check_contents(spec, files)
        captioner: Model = import_named(BACKENDS[spec.backend].loader)(spec, files, execution, options, note)
        return captioner


def open_tagger(spec: ModelSpec, files: ModelFiles, execution: Execution = Execution()) -> LabelledModel:
    """Load a tagger with the framework of its description. Raises MissingExtra and ModelError."""
    with _model_errors(spec, files):
        check_contents(spec, files)
        tagger: LabelledModel = import_named(BACKENDS[spec.backend].loader)(spec, files, execution)
        return tagger


@contextmanager
def _model_errors(spec: ModelSpec, files: ModelFiles) -> Iterator[None]:
    """Turn whatever a framework raises about a model that it cannot load into a ModelError that says its class."""
    try:
        yield
    except SdprepError:
        raise
    except Exception as error:  # frameworks raise whatever a wrong file leads them to
        raise ModelError(f"{spec.name} cannot be loaded from {files.folder}: {cause(error)}") from error
