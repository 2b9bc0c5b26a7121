"""Sessions of the real onnxruntime: the providers that are here, and what is said of those that do not start."""

import os
import random
import shutil
import sys

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.errors import MissingExtra, MissingProvider, ModelError
from sdprep.images.fit import fitted
from sdprep.models.execution import Execution
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.models.taggers import onnx_session, onnx_tagger
from sdprep.models.taggers.onnx_session import OnnxSession, can_load
from sdprep.models.taggers.onnx_tagger import OnnxTagger
from sdprep.models.taggers.providers import PROVIDERS
from sdprep.types import Batch

DEMO = resolve("demo-tag", "tag")
GRAPH = find_local(DEMO).folder / "model.onnx"


@pytest.fixture(scope="module")
def drawings():
    """Seven images as the demo tagger sees them, uint8[7, H, W, 3]."""
    rng, fit = random.Random(7), OnnxTagger(DEMO, find_local(DEMO), Execution(provider="cpu")).fit
    return np.stack([np.asarray(fitted(draw(random_figure(rng), rng, (160, 160)), fit)) for _ in range(7)])


def scores_of(tagger, pixels):
    """Scores of images that come in batches of four."""
    keys = list(range(len(pixels)))
    batches = [Batch(tuple(keys[at : at + 4]), (), pixels[at : at + 4]) for at in range(0, len(keys), 4)]
    found = dict(tagger.predict(batches))
    return np.stack([found[key].scores for key in keys])


@pytest.fixture
def cuda_in_name_only(monkeypatch):
    """The real onnxruntime, which says that it has CUDA and does not."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if PROVIDERS["cuda"].full in onnxruntime.get_available_providers():
        pytest.skip("there is a real CUDA provider here")
    here = onnxruntime.get_available_providers()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"].full, *here])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)


# Providers


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_that_is_here_gives_the_scores_of_the_processor(name, drawings):
    try:
        tagger = OnnxTagger(DEMO, find_local(DEMO), Execution(provider=name, batch_size=4))
    except MissingProvider:
        pytest.skip(f"the installed onnxruntime has no {name}")
    cpu = OnnxTagger(DEMO, find_local(DEMO), Execution(provider="cpu"))
    assert tagger.provider == name
    assert np.abs(scores_of(tagger, drawings) - scores_of(cpu, drawings)).max() < 0.01


def test_the_processor_serves_without_a_word():
    session = OnnxSession(GRAPH, Execution(provider="cpu"))
    assert (session.provider, session.notes) == ("cpu", ())


def test_a_provider_that_onnxruntime_lacks_is_refused_with_the_command_that_brings_it():
    lacking = "directml" if sys.platform != "win32" else "coreml"
    with pytest.raises(MissingProvider, match=r"pip install"):
        OnnxSession(GRAPH, Execution(provider=lacking))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_says_loudly_that_the_session_took_the_processor(cuda_in_name_only):
    session = OnnxSession(GRAPH, Execution(provider="auto"))
    assert session.provider == "cpu"
    assert session.notes[0].startswith("WARNING: --provider asked for cuda, but onnxruntime runs on cpu")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_alone_does_not_end_on_the_processor(cuda_in_name_only):
    with pytest.raises(ModelError, match="asked for cuda, but onnxruntime runs on cpu"):
        OnnxSession(GRAPH, Execution(provider="cuda"))


@pytest.mark.filterwarnings("error:Specified provider")
def test_a_provider_that_refuses_leaves_its_reason_and_the_next_one_serves(cuda_in_name_only):
    session = OnnxSession(GRAPH, Execution(provider="cuda,cpu"))
    assert session.provider == "cpu"
    assert "runs on cpu: Specified provider 'CUDAExecutionProvider'" in session.notes[0]


@pytest.mark.filterwarnings("error:Specified provider")
def test_a_provider_that_refuses_and_was_asked_for_alone_is_an_error(cuda_in_name_only):
    with pytest.raises(ModelError, match="can run on cuda: Specified provider 'CUDAExecutionProvider'"):
        OnnxSession(GRAPH, Execution(provider="cuda"))


def test_tensorrt_is_not_offered_where_its_library_does_not_load(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    names = [PROVIDERS["tensorrt"].full, PROVIDERS["cpu"].full]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(names))
    monkeypatch.setattr(onnx_session, "TENSORRT", ["libnvinfer.so.none"])
    with pytest.raises(MissingProvider, match="has no provider tensorrt, only: cpu"):
        OnnxSession(GRAPH, Execution(provider="tensorrt"))


def test_a_library_that_the_system_has_can_be_loaded():
    known = {"linux": "libc.so.6", "darwin": "libSystem.dylib", "win32": "kernel32.dll"}[sys.platform]
    assert can_load(["libnvinfer.so.none", known])


def test_without_onnxruntime_the_extra_is_named(monkeypatch, plain_pip):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"sdprep\[tag\]"):
        OnnxSession(GRAPH, Execution())


def test_nothing_is_printed_when_a_graph_cannot_be_run(tmp_path, capfd):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError):
        OnnxSession(tmp_path / "model.onnx", Execution())
    assert capfd.readouterr().out == ""


def test_what_is_compiled_for_two_cards_does_not_lie_in_one_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_session, "user_cache_path", lambda _: tmp_path)

    folders = [onnx_session._options("tensorrt", card)["trt_engine_cache_path"] for card in ("", "0", "1")]

    assert len(set(folders)) == 3
    assert all(map(os.path.isdir, folders))


# A graph that fails at work


def one_image_only(path, batch):
    """A graph whose inside takes one image, whatever its input declares."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "one"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 4, 3])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])
    held = [numpy_helper.from_array(np.array(value), name) for name, value in (("axes", [1, 2]), ("one", [1, 3]))]
    graph = helper.make_graph(nodes, "one", [given], [made], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxSession(path, Execution(provider="cpu"))


def test_a_graph_that_fails_is_named_with_the_reason_and_a_smaller_batch_is_advised(tmp_path, capfd):
    session = one_image_only(tmp_path / "model.onnx", "N")
    with pytest.raises(ModelError, match=r"model\.onnx fails in onnxruntime on 2 images: .*Reshape") as caught:
        session.run(np.zeros((2, 4, 4, 3), np.float32))
    assert str(caught.value).splitlines()[1].endswith("--batch-size 1")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("batch", "size"), [("N", 1), (2, 2)])
def test_a_smaller_batch_is_not_advised_where_there_is_none(tmp_path, batch, size):
    session = one_image_only(tmp_path / "model.onnx", batch)
    # One image alone is refused for a fourth channel.
    channels = 3 if size > 1 else 4
    with pytest.raises(ModelError) as caught:
        session.run(np.zeros((size, 4, 4, channels), np.float32))
    assert "--batch-size" not in str(caught.value)


# Shapes


@pytest.fixture
def shapes(monkeypatch):
    """The numbers of images in the calls of a session."""
    seen, real = [], OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, values: seen.append(len(values)) or real(self, values))
    return seen


def test_on_the_processor_a_short_batch_stays_short(shapes, drawings):
    scores_of(OnnxTagger(DEMO, find_local(DEMO), Execution(provider="cpu", batch_size=4)), drawings)
    assert shapes == [4, 3]


def test_where_shapes_must_not_change_the_last_batch_is_filled_up(shapes, drawings, monkeypatch):
    expected = scores_of(OnnxTagger(DEMO, find_local(DEMO), Execution(provider="cpu")), drawings)
    shapes.clear()
    monkeypatch.setattr(onnx_tagger, "FIXED_SHAPES", {"cpu"})
    found = scores_of(OnnxTagger(DEMO, find_local(DEMO), Execution(provider="cpu", batch_size=4)), drawings)
    assert shapes == [4, 4]
    assert np.abs(found - expected).max() < 1e-5


# Threads


def settings_of(execution):
    return OnnxSession(GRAPH, execution)._session.get_session_options()


def test_a_session_has_a_thread_for_each_processor_that_it_may_use(monkeypatch):
    monkeypatch.setattr(onnx_session, "usable_cpus", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    given = settings_of(Execution(provider="cpu"))
    assert (given.intra_op_num_threads, given.inter_op_num_threads) == (1, 1)


def test_sessions_that_share_the_processors_have_a_part_of_the_threads_each(monkeypatch):
    monkeypatch.setattr(onnx_session, "usable_cpus", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert settings_of(Execution(provider="cpu", num_processes=2)).intra_op_num_threads == 2


def test_waiting_threads_do_not_spin_while_others_decode():
    given = settings_of(Execution(provider="cpu", decode_threads=1))
    assert given.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_waiting_threads_may_spin_where_nobody_else_computes():
    with pytest.raises(RuntimeError):
        settings_of(Execution(provider="cpu")).get_session_config_entry("session.intra_op.allow_spinning")


def test_weights_that_do_not_fit_what_runs_them_are_noted():
    tagger = OnnxTagger(msgspec.structs.replace(DEMO, precision="fp16"), find_local(DEMO), Execution(provider="cpu"))
    assert "fp16 is for GPUs" in tagger.notes[0]


def test_a_path_with_other_letters_and_spaces_is_opened(tmp_path):
    path = tmp_path / "å 青" / "model.onnx"
    path.parent.mkdir()
    shutil.copy(GRAPH, path)
    assert OnnxSession(path, Execution(provider="cpu")).provider == "cpu"
