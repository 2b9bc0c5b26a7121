"""A package that is not installed is told from one that cannot be loaded."""

import sys

import pytest

from sdprep.errors import MissingExtra, ModelError, SdprepError
from sdprep.models.backends import importing, open_model, open_tagger, with_backend
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.execution import Execution
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import find

BROKEN = [
    "raise ImportError('libfar.so: failed to map segment from shared object')",
    "raise ImportError(\"cannot import name 'x' from partially initialized module\")",
    "raise OSError(12, 'Cannot allocate memory')",
    "import a_package_that_is_nowhere",
    "raise MemoryError",
    "raise AttributeError('no attribute of this name')",
]


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Makes a package that is installed and cannot be loaded."""

    def make(package: str, line: str) -> None:
        for name in [each for each in sys.modules if each.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        (tmp_path / f"{package}.py").write_text(line)
        monkeypatch.syspath_prepend(tmp_path)

    return make


def located(spec: ModelSpec) -> ModelFiles:
    files = find_local(spec)
    assert files is not None
    return files


def load(package: str) -> None:
    if package == "torch":
        captioner = find("demo-caption")
        open_model(captioner, located(captioner), Execution(), CaptionOptions(), print)
    else:
        tagger = with_backend(find("demo-tag"), "onnx" if package == "onnxruntime" else "tensorflow")
        open_tagger(tagger, located(tagger))


def refusal(package: str) -> SdprepError:
    with pytest.raises(SdprepError) as caught:
        load(package)
    return caught.value


@pytest.mark.parametrize("line", BROKEN)
@pytest.mark.parametrize("package", ["onnxruntime", "torch", "tensorflow"])
def test_a_framework_that_cannot_be_loaded_is_called_installed(package, line, broken):
    broken(package, line)
    error = refusal(package)
    assert (type(error), error.exit_code) == (ModelError, 1)
    assert f"{package} is installed but cannot be loaded: " in str(error)


@pytest.mark.parametrize("line", [BROKEN[0], BROKEN[2], BROKEN[4]])
def test_lack_of_memory_while_a_framework_is_loaded_is_named(line, broken):
    broken("onnxruntime", line)
    assert "ulimit -v" in str(refusal("onnxruntime"))


def test_another_fault_is_not_called_lack_of_memory(broken):
    broken("onnxruntime", BROKEN[1])
    assert "ulimit" not in str(refusal("onnxruntime"))


@pytest.mark.parametrize("name", ["torch_of_nobody", "torch_of_nobody.part"])
def test_only_the_package_itself_counts_as_missing(name):
    kind = MissingExtra if name == "torch_of_nobody" else ModelError
    with pytest.raises(kind), importing("torch_of_nobody", "caption"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
