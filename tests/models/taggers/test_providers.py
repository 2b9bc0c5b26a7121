"""Names, order and options of providers, and what is said when another one than asked for serves."""

from pathlib import Path

import pytest

from sdprep.errors import MissingProvider, ModelError, UsageError
from sdprep.models.taggers import providers
from sdprep.models.taggers.providers import (
    PROVIDERS,
    candidates,
    check_active,
    openvino_options,
    options,
    parse,
    precision_warning,
)

ALL = [provider.full for provider in PROVIDERS.values()]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


# Names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("tensorrt,cuda,cpu", ("tensorrt", "cuda", "cpu")),
        (" CUDA , cpu,cuda", ("cuda", "cpu")),
    ],
)
def test_a_list_keeps_its_order_and_names_each_provider_once(text, names):
    assert parse(text) == names


@pytest.mark.parametrize("text", ["", "gpu", "auto,cpu", "cuda,", "CUDAExecutionProvider"])
def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(text):
    with pytest.raises(UsageError, match="auto, cpu, cuda, tensorrt, rocm, migraphx, directml, coreml, openvino"):
        parse(text)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda"])
def test_tensorflow_takes_the_processor_and_cuda(text):
    assert providers.check(text, "tensorflow") is None


@pytest.mark.parametrize("text", ["tensorrt", "directml", "cuda,cpu"])
def test_tensorflow_takes_no_other_provider(text):
    with pytest.raises(UsageError, match="TensorFlow takes auto, cpu or cuda"):
        providers.check(text, "tensorflow")


# Order


@pytest.mark.parametrize(
    ("available", "asked"),
    [
        ([CPU], ("cpu",)),
        (["TensorrtExecutionProvider", CUDA, CPU], ("cuda", "cpu")),
        (["OpenVINOExecutionProvider", CPU], ("cpu",)),
        (["AzureExecutionProvider", "DmlExecutionProvider", CPU], ("directml", "cpu")),
        (ALL, ("cuda", "rocm", "migraphx", "directml", "coreml", "cpu")),
    ],
)
def test_auto_asks_for_the_best_that_is_there_and_for_the_processor_last(available, asked):
    assert candidates("auto", available) == asked


def test_providers_that_are_named_are_asked_for_in_their_order():
    assert candidates("cpu,tensorrt,cuda", ALL) == ("cpu", "tensorrt", "cuda")


@pytest.mark.parametrize("name", sorted(set(PROVIDERS) - {"cpu"}))
def test_a_provider_that_the_installed_onnxruntime_lacks_is_refused_with_the_command_that_brings_it(name, plain_pip):
    with pytest.raises(MissingProvider) as caught:
        candidates(f"{name},cpu", [CPU])
    assert f"has no provider {name}, only: cpu" in str(caught.value)
    assert f"({PROVIDERS[name].system})" in str(caught.value)
    assert "python -m pip uninstall -y onnxruntime && python -m pip install " in str(caught.value)
    assert all(package in str(caught.value) for package in PROVIDERS[name].packages.split())


def test_a_missing_provider_has_the_exit_code_of_a_missing_package():
    assert MissingProvider("cuda", ["cpu"], "x", "y").exit_code == 5


def test_every_extra_in_a_command_exists():
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8")
    extras = [part.split("]")[0] for each in PROVIDERS.values() for part in each.packages.split("sdprep[")[1:]]
    assert [extra for extra in extras if f"\n{extra} = [" not in text] == []


# Devices


def test_a_card_that_is_named_is_not_replaced_by_the_processor():
    assert candidates("auto", [*ALL], "cuda:1") == ("cuda", "rocm", "migraphx")
    assert candidates("auto", [CUDA, CPU], "cuda:1") == ("cuda",)


def test_a_card_without_a_provider_for_it_is_refused_with_the_command_that_brings_one():
    with pytest.raises(MissingProvider, match="has no provider cuda, only: cpu"):
        candidates("auto", [CPU], "cuda:1")


def test_the_processor_that_is_named_is_asked_for_where_there_are_cards():
    assert candidates("auto", ALL, "cpu") == ("cpu",)


def test_providers_that_are_named_are_asked_for_on_their_card():
    assert candidates("tensorrt,cuda,cpu", ALL, "cuda:1") == ("tensorrt", "cuda", "cpu")


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("directml", "cuda:1"),
        ("cuda,coreml", "cuda:1"),
        ("cpu", "cuda:1"),
        ("cpu,cuda", "cuda"),
        ("cuda", "cpu"),
        ("cuda,cpu", "cpu"),
        ("openvino", "cpu"),
        ("auto", "mps"),
    ],
)
def test_a_provider_that_cannot_be_told_to_run_there_is_refused(text, device):
    with pytest.raises(UsageError, match=f"--device {device} does not go with --provider {text}"):
        providers.check(text, "onnx", (device,))


def test_every_device_of_a_list_is_looked_at():
    with pytest.raises(UsageError, match="--device cpu does not go with --provider cuda"):
        providers.check("cuda", "onnx", ("cuda:0", "cpu"))


def test_tensorflow_takes_no_device():
    with pytest.raises(UsageError, match="--device is for ONNX"):
        providers.check("auto", "tensorflow", ("cuda:0", "cuda:1"))


# Options


@pytest.mark.parametrize("name", ["cuda", "tensorrt", "rocm", "migraphx"])
def test_a_provider_that_knows_cards_by_number_is_told_the_number(name):
    assert options(name, Path("cache"), "1") == {**options(name, Path("cache")), "device_id": "1"}


@pytest.mark.parametrize("name", ["cpu", "directml", "coreml"])
def test_other_providers_are_not_told_a_number(name):
    assert options(name, Path("cache"), "1") == {}


def test_cuda_grows_its_memory_by_what_is_needed_and_tries_no_algorithms():
    assert options("cuda", Path("cache")) == {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }


def test_tensorrt_keeps_its_engines_and_timings():
    given = options("tensorrt", Path("cache"))
    assert (given["trt_engine_cache_enable"], given["trt_timing_cache_enable"]) == ("1", "1")
    assert given["trt_engine_cache_path"] == given["trt_timing_cache_path"] == str(Path("cache") / "tensorrt")


def test_tensorrt_is_not_told_to_round():
    assert not [name for name in options("tensorrt", Path("cache")) if "fp16" in name or "int8" in name]


@pytest.mark.parametrize("name", ["cpu", "directml", "coreml", "migraphx"])
def test_other_providers_keep_their_own_ways(name):
    assert options(name, Path("cache")) == {}


@pytest.mark.parametrize(
    ("devices", "device"), [(["CPU"], "CPU"), (["CPU", "GPU"], "GPU"), (["CPU", "GPU.0", "GPU.1"], "GPU"), ([], "CPU")]
)
def test_openvino_takes_a_card_where_there_is_one_and_always_float32(devices, device):
    assert openvino_options(devices) == {"device_type": device, "precision": "FP32"}


# Asked and got


def test_what_was_asked_for_first_and_serves_needs_no_words():
    assert check_active(("cuda", "cpu"), [CUDA, CPU]) == ("cuda", None)


def test_another_one_of_those_that_were_asked_for_is_said_loudly():
    first, note = check_active(("tensorrt", "cuda", "cpu"), [CUDA, CPU])
    assert first == "cuda"
    assert note.startswith("WARNING: --provider asked for tensorrt, but onnxruntime runs on cuda\n")
    assert "sdprep doctor" in note


def test_the_reason_is_passed_on():
    _, note = check_active(("cuda", "cpu"), [CPU], ["libcudnn.so.9 is missing"])
    assert "runs on cpu: libcudnn.so.9 is missing\n" in note


@pytest.mark.parametrize("asked", [("cuda",), ("tensorrt", "cuda")])
def test_the_processor_is_no_stand_in_if_it_was_not_asked_for(asked):
    with pytest.raises(ModelError, match=f"asked for {asked[0]}, but onnxruntime runs on cpu"):
        check_active(asked, [CPU])


@pytest.mark.parametrize("provider", ["cuda", "directml", "coreml"])
def test_int8_does_not_fit_a_graphics_card(provider):
    assert f"{provider} runs it no faster" in precision_warning("int8", provider)


def test_fp16_does_not_fit_the_processor():
    assert "fp16 is for GPUs" in precision_warning("fp16", "cpu")


@pytest.mark.parametrize(("precision", "provider"), [("float32", "cuda"), ("fp16", "cuda"), ("int8", "cpu")])
def test_what_fits_needs_no_words(precision, provider):
    assert precision_warning(precision, provider) is None
