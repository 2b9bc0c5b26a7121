"""Cards that are there but not used, and devices that do not compute."""

import pytest

from sdprep.doctor.doctor import diagnose
from tests.doctor.patients import (
    CARD,
    CPU,
    CUDA,
    CUDA_REFUSED,
    CUDNN_MISMATCH,
    NO_CUDART,
    NO_DNN,
    NO_TENSORRT,
    OLD_DRIVER,
    codes,
    facts,
    only_problem,
    onnx_probe,
    tensorflow_facts,
    tensorflow_probe,
    torch_probe,
)

GPU_TORCH = torch_probe(devices=["cpu", "cuda:0"])
GPU_ONNX = onnx_probe(CUDA, CPU)
GPU_PACKAGE = {"onnxruntime": ("onnxruntime-gpu",)}
REFUSED = onnx_probe(CUDA, CPU, devices=[(CUDA, f"asked for {CUDA}, got {CPU}"), CPU], log=CUDA_REFUSED)


def with_card(*probes, modules=GPU_PACKAGE, **rest):
    """A machine with a card whose other frameworks use it."""
    return facts(GPU_TORCH, GPU_ONNX, *probes, modules=modules, **(CARD | rest))


def tensorflow_with_card(sick, version="2.10.0", **rest):
    return tensorflow_facts(GPU_TORCH, GPU_ONNX, sick, version=version, **(CARD | rest))


def cpu_torch(**rest):
    return torch_probe(about={"version": "2.13.0+cpu", "cuda": None, "hip": None}, **rest)


def test_a_card_that_is_used_by_all_is_no_problem():
    assert codes(with_card()) == []


def test_without_a_card_nothing_is_said_of_cards():
    assert codes(facts(cpu_torch())) == []


def test_torch_without_cuda_beside_a_card_is_exchanged():
    commands = only_problem(with_card(cpu_torch())).commands
    assert commands == ("pip uninstall -y torch", 'pip install "sdprep[caption]"')


def test_torch_without_cuda_still_makes_captions():
    assert diagnose(with_card(cpu_torch()), ["caption"]).exit_code == 0


def test_an_old_driver_is_recognised():
    assert codes(with_card(torch_probe(log=OLD_DRIVER))) == ["driver-too-old"]


def test_a_hidden_card_is_shown_again():
    sick = facts(torch_probe(), modules=GPU_PACKAGE, cuda_visible="-1", **CARD)
    assert "unset CUDA_VISIBLE_DEVICES" in diagnose(sick).commands


def test_a_card_that_does_not_compute_stops_captions():
    sick = torch_probe(devices=["cpu", ("cuda:0", "AcceleratorError: CUDA error: out of memory")])
    assert not diagnose(with_card(sick)).works["caption"]


def test_a_card_without_code_for_it_is_told_so():
    sick = torch_probe(devices=["cpu", ("cuda:0", "RuntimeError: CUDA error: no kernel image is available")])
    assert "no code for this card" in only_problem(with_card(sick)).advice


def test_two_onnxruntimes_are_both_uninstalled():
    sick = facts(modules={"onnxruntime": ("onnxruntime", "onnxruntime-gpu")})
    assert only_problem(sick).commands[0] == "pip uninstall -y onnxruntime onnxruntime-gpu"


@pytest.mark.parametrize(("of_machine", "extra"), [(CARD, "tag-gpu"), ({}, "tag")])
def test_of_two_onnxruntimes_the_one_that_fits_is_installed_again(of_machine, extra):
    sick = facts(GPU_TORCH, modules={"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}, **of_machine)
    assert only_problem(sick).commands[1] == f'pip install "sdprep[{extra}]"'


def test_the_onnxruntime_for_processors_beside_a_card_is_exchanged():
    sick = with_card(onnx_probe(), modules={})
    assert only_problem(sick).commands == ("pip uninstall -y onnxruntime", 'pip install "sdprep[tag-gpu]"')


def test_the_onnxruntime_for_cards_that_finds_only_the_processor_is_a_problem():
    assert only_problem(with_card(onnx_probe())).says.endswith("onnxruntime-gpu finds only the processor.")


def test_a_session_that_falls_back_to_the_processor_is_a_problem():
    assert codes(with_card(REFUSED)) == ["onnxruntime-on-cpu"]


def test_a_session_that_falls_back_names_what_it_did_not_find():
    assert "libcublasLt.so.13" in only_problem(with_card(REFUSED)).says


def test_a_session_that_falls_back_gets_cuda_installed():
    assert only_problem(with_card(REFUSED)).commands[0] == 'pip install "onnxruntime-gpu[cuda,cudnn]"'


def test_a_driver_without_its_library_is_not_mended_with_packages():
    sick = onnx_probe(
        CUDA, CPU, devices=[(CUDA, f"got {CPU}"), CPU], log=CUDA_REFUSED.replace("cublasLt.so.13", "cuda.so.1")
    )
    assert only_problem(with_card(sick)).commands == ()


def test_tensorflow_without_the_drivers_library_is_told_so():
    sick = tensorflow_probe("2.21.0", log="Could not find cuda drivers on your machine, GPU will not be used.")
    assert "libcuda.so.1" in only_problem(tensorflow_with_card(sick, "2.21.0", python=(3, 11, 7))).says


def test_a_session_that_falls_back_on_windows_may_take_directml():
    commands = only_problem(with_card(REFUSED, system="win32")).commands
    assert commands == ("pip uninstall -y onnxruntime-gpu", 'pip install "sdprep[tag-directml]"')


def test_a_session_that_falls_back_still_tags():
    assert diagnose(with_card(REFUSED), ["tag"]).exit_code == 0


def test_a_session_that_cannot_be_opened_does_not():
    about = {"version": "1.18.0", "available": f"{CUDA} {CPU}"}
    about |= {"session_error": "RuntimeError: CUDA_PATH is set but CUDA wasnt able to be loaded."}
    assert diagnose(with_card(onnx_probe(about=about)), ["tag"]).exit_code == 5


def test_without_a_card_a_session_may_fall_back():
    assert codes(facts(REFUSED, modules=GPU_PACKAGE)) == []


def test_a_library_that_tensorflow_does_not_find_is_named():
    assert "libcudart.so.11.0" in only_problem(tensorflow_with_card(tensorflow_probe(log=NO_CUDART))).says


def test_a_library_that_tensorflow_does_not_find_has_its_code():
    assert codes(tensorflow_with_card(tensorflow_probe(log=NO_CUDART))) == ["tensorflow-library"]


def test_tensorflow_2_10_gets_cuda_11_and_cudnn_8():
    command = only_problem(tensorflow_with_card(tensorflow_probe(log=NO_CUDART))).commands[0]
    assert {"nvidia-cublas-cu11", '"nvidia-cudnn-cu11==8.*"'} <= set(command.removeprefix("pip install ").split())


def test_without_a_card_tensorflow_needs_no_cuda():
    assert codes(tensorflow_facts(tensorflow_probe(log=NO_CUDART))) == []


def test_nobody_needs_tensorrt():
    sick = tensorflow_probe(log=NO_TENSORRT, devices=["CPU:0", "GPU:0"])
    assert codes(tensorflow_with_card(sick)) == []


def failing_on_card(version, **rest):
    return tensorflow_probe(version, devices=["CPU:0", ("GPU:0", NO_DNN)], **rest)


def test_a_cudnn_older_than_tensorflow_was_built_for_is_told_with_both_versions():
    sick = failing_on_card("2.16.1", log=CUDNN_MISMATCH)
    says = only_problem(tensorflow_with_card(sick, "2.16.1", python=(3, 11, 7))).says
    assert "8.7.0 is loaded, but it was built for 8.9.4" in says


def test_a_cudnn_that_does_not_fit_is_replaced_by_the_one_that_tensorflow_asks_for():
    sick = failing_on_card("2.16.1", log=CUDNN_MISMATCH)
    commands = only_problem(tensorflow_with_card(sick, "2.16.1", python=(3, 11, 7))).commands
    assert commands == ('pip install "tensorflow[and-cuda]==2.16.1"',)


def test_a_dnn_library_that_is_not_found_is_recognised_without_the_versions():
    assert codes(tensorflow_with_card(failing_on_card("2.10.0"))) == ["tensorflow-cudnn"]


def test_without_a_dnn_library_tensorflow_cannot_tag():
    assert not diagnose(tensorflow_with_card(failing_on_card("2.10.0"))).works["tensorflow"]


def test_tensorflow_after_2_10_uses_no_card_on_windows():
    sick = tensorflow_probe("2.21.0", about={"version": "2.21.0", "cuda_build": False})
    found = tensorflow_with_card(sick, "2.21.0", system="win32", python=(3, 11, 7))
    assert only_problem(found).commands[0] == "py -3.10 -m venv tensorflow-env"


def test_tensorflow_for_processors_beside_a_card_is_exchanged():
    sick = tensorflow_probe("2.21.0", about={"version": "2.21.0", "cuda_build": False})
    found = tensorflow_with_card(sick, "2.21.0", python=(3, 11, 7))
    assert only_problem(found).commands == ("pip uninstall -y tensorflow", 'pip install "sdprep[tensorflow]"')


def test_tensorflow_that_sees_no_card_for_no_stated_reason_gets_its_own_cuda():
    found = tensorflow_with_card(tensorflow_probe("2.21.0"), "2.21.0", python=(3, 11, 7))
    assert only_problem(found).commands == ('pip install "tensorflow[and-cuda]==2.21.0"',)


@pytest.mark.parametrize(("version", "works"), [("2.9.3", False), ("2.12.0", True)])
def test_a_tensorflow_that_is_not_tested_is_told(version, works):
    found = diagnose(tensorflow_facts(version=version))
    assert ([each.code.value for each in found.problems], found.works["tensorflow"]) == (["tensorflow-version"], works)
