"""GPUs that are available but not used, and devices that do not compute."""

import pytest

from sdprep.doctor.doctor import diagnose
from tests.doctor.patients import (
    CARD,
    CPU,
    CUDA,
    CUDA_NOT_LOADED,
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
REFUSED = onnx_probe(CUDA, CPU, devices=[(CUDA, f"asked for {CUDA}, got {CPU}"), CPU], log=CUDA_NOT_LOADED)


def with_gpu(*probes, modules=GPU_PACKAGE, **rest):
    """A machine with a GPU that its other frameworks use."""
    return facts(GPU_TORCH, GPU_ONNX, *probes, modules=modules, **(CARD | rest))


def tensorflow_with_gpu(sick, version="2.10.0", **rest):
    return tensorflow_facts(GPU_TORCH, GPU_ONNX, sick, version=version, **(CARD | rest))


def cpu_torch(**rest):
    return torch_probe(about={"version": "2.13.0+cpu", "cuda": None, "hip": None}, **rest)


def test_a_gpu_that_every_framework_uses_is_not_a_problem():
    assert codes(with_gpu()) == []


def test_without_a_gpu_no_gpu_is_mentioned():
    assert codes(facts(cpu_torch())) == []


def test_torch_without_cuda_is_replaced_if_there_is_a_gpu():
    commands = only_problem(with_gpu(cpu_torch())).commands
    assert commands == ("python -m pip uninstall -y torch", 'python -m pip install "sdprep[caption]"')


def test_torch_without_cuda_still_makes_captions():
    assert diagnose(with_gpu(cpu_torch()), ["caption"]).exit_code == 0


def test_an_old_driver_is_recognised():
    assert codes(with_gpu(torch_probe(log=OLD_DRIVER))) == ["driver-too-old"]


def test_a_hidden_gpu_gets_the_command_that_shows_it():
    sick = facts(torch_probe(), modules=GPU_PACKAGE, cuda_visible="-1", **CARD)
    assert "unset CUDA_VISIBLE_DEVICES" in diagnose(sick).commands


def test_a_gpu_that_does_not_compute_blocks_captions():
    sick = torch_probe(devices=["cpu", ("cuda:0", "AcceleratorError: CUDA error: out of memory")])
    assert not diagnose(with_gpu(sick)).works["caption"]


def test_a_build_without_code_for_the_gpu_is_reported():
    sick = torch_probe(devices=["cpu", ("cuda:0", "RuntimeError: CUDA error: no kernel image is available")])
    assert "no code for this GPU" in only_problem(with_gpu(sick)).advice


def test_two_onnxruntimes_are_both_uninstalled():
    sick = facts(modules={"onnxruntime": ("onnxruntime", "onnxruntime-gpu")})
    assert only_problem(sick).commands[0] == "python -m pip uninstall -y onnxruntime onnxruntime-gpu"


@pytest.mark.parametrize(("of_machine", "extra"), [(CARD, "tag-gpu"), ({}, "tag")])
def test_of_two_onnxruntimes_the_one_that_fits_is_reinstalled(of_machine, extra):
    sick = facts(GPU_TORCH, modules={"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}, **of_machine)
    assert only_problem(sick).commands[1] == f'python -m pip install "sdprep[{extra}]"'


def test_the_cpu_package_of_onnxruntime_is_replaced_if_there_is_a_gpu():
    sick = with_gpu(onnx_probe(), modules={})
    assert only_problem(sick).commands == (
        "python -m pip uninstall -y onnxruntime",
        'python -m pip install "sdprep[tag-gpu]"',
    )


def test_the_gpu_package_of_onnxruntime_that_finds_only_the_cpu_is_a_problem():
    assert only_problem(with_gpu(onnx_probe())).message.endswith("onnxruntime-gpu finds only the CPU.")


def test_a_session_that_falls_back_to_the_cpu_is_a_problem():
    assert codes(with_gpu(REFUSED)) == ["onnxruntime-on-cpu"]


def test_a_session_that_falls_back_names_the_missing_library():
    assert "libcublasLt.so.13" in only_problem(with_gpu(REFUSED)).message


def test_a_session_that_falls_back_gets_cuda_installed():
    assert only_problem(with_gpu(REFUSED)).commands[0] == 'python -m pip install "onnxruntime-gpu[cuda,cudnn]"'


def test_a_driver_without_its_library_is_not_fixed_with_packages():
    sick = onnx_probe(
        CUDA, CPU, devices=[(CUDA, f"got {CPU}"), CPU], log=CUDA_NOT_LOADED.replace("cublasLt.so.13", "cuda.so.1")
    )
    assert only_problem(with_gpu(sick)).commands == ()


def test_a_missing_library_of_the_driver_is_reported_for_tensorflow():
    sick = tensorflow_probe("2.21.0", log="Could not find cuda drivers on your machine, GPU will not be used.")
    assert "libcuda.so.1" in only_problem(tensorflow_with_gpu(sick, "2.21.0", python=(3, 11, 7))).message


def test_a_session_that_falls_back_on_windows_can_use_directml():
    commands = only_problem(with_gpu(REFUSED, system="win32")).commands
    assert commands == ("python -m pip uninstall -y onnxruntime-gpu", 'python -m pip install "sdprep[tag-directml]"')


def test_a_session_that_falls_back_still_tags():
    assert diagnose(with_gpu(REFUSED), ["tag"]).exit_code == 0


def test_a_session_that_cannot_be_opened_blocks_tags():
    about = {"version": "1.18.0", "available": f"{CUDA} {CPU}"}
    about |= {"session_error": "RuntimeError: CUDA_PATH is set but CUDA wasnt able to be loaded."}
    assert diagnose(with_gpu(onnx_probe(about=about)), ["tag"]).exit_code == 5


def test_without_a_gpu_a_session_may_fall_back():
    assert codes(facts(REFUSED, modules=GPU_PACKAGE)) == []


def test_a_library_that_tensorflow_does_not_find_is_named():
    assert "libcudart.so.11.0" in only_problem(tensorflow_with_gpu(tensorflow_probe(log=NO_CUDART))).message


def test_a_library_that_tensorflow_does_not_find_has_its_code():
    assert codes(tensorflow_with_gpu(tensorflow_probe(log=NO_CUDART))) == ["tensorflow-library"]


def test_tensorflow_2_10_gets_cuda_11_and_cudnn_8():
    command = only_problem(tensorflow_with_gpu(tensorflow_probe(log=NO_CUDART))).commands[0]
    assert {"nvidia-cublas-cu11", '"nvidia-cudnn-cu11==8.*"'} <= set(
        command.removeprefix("python -m pip install ").split()
    )


def test_without_a_gpu_tensorflow_needs_no_cuda():
    assert codes(tensorflow_facts(tensorflow_probe(log=NO_CUDART))) == []


def test_a_missing_tensorrt_is_not_a_problem():
    sick = tensorflow_probe(log=NO_TENSORRT, devices=["CPU:0", "GPU:0"])
    assert codes(tensorflow_with_gpu(sick)) == []


def failing_on_gpu(version, **rest):
    return tensorflow_probe(version, devices=["CPU:0", ("GPU:0", NO_DNN)], **rest)


def test_a_cudnn_older_than_tensorflow_needs_is_reported_with_both_versions():
    sick = failing_on_gpu("2.16.1", log=CUDNN_MISMATCH)
    message = only_problem(tensorflow_with_gpu(sick, "2.16.1", python=(3, 11, 7))).message
    assert "8.7.0 is loaded, but it was built for 8.9.4" in message


def test_a_cudnn_that_does_not_fit_is_replaced_by_the_one_that_tensorflow_needs():
    sick = failing_on_gpu("2.16.1", log=CUDNN_MISMATCH)
    commands = only_problem(tensorflow_with_gpu(sick, "2.16.1", python=(3, 11, 7))).commands
    assert commands == ('python -m pip install "tensorflow[and-cuda]==2.16.1"',)


def test_a_dnn_library_that_is_not_found_is_recognised_without_the_versions():
    assert codes(tensorflow_with_gpu(failing_on_gpu("2.10.0"))) == ["tensorflow-cudnn"]


def test_without_a_dnn_library_tensorflow_cannot_tag():
    assert not diagnose(tensorflow_with_gpu(failing_on_gpu("2.10.0"))).works["tensorflow"]


def test_tensorflow_after_2_10_uses_no_gpu_on_windows():
    sick = tensorflow_probe("2.21.0", about={"version": "2.21.0", "cuda_build": False})
    found = tensorflow_with_gpu(sick, "2.21.0", system="win32", python=(3, 11, 7))
    assert only_problem(found).commands[0] == "py -3.10 -m venv tensorflow-env"


def test_the_cpu_build_of_tensorflow_is_replaced_if_there_is_a_gpu():
    sick = tensorflow_probe("2.21.0", about={"version": "2.21.0", "cuda_build": False})
    found = tensorflow_with_gpu(sick, "2.21.0", python=(3, 11, 7))
    assert only_problem(found).commands == (
        "python -m pip uninstall -y tensorflow",
        'python -m pip install "sdprep[tensorflow]"',
    )


def test_tensorflow_that_sees_no_gpu_for_an_unknown_reason_gets_its_own_cuda():
    found = tensorflow_with_gpu(tensorflow_probe("2.21.0"), "2.21.0", python=(3, 11, 7))
    assert only_problem(found).commands == ('python -m pip install "tensorflow[and-cuda]==2.21.0"',)


@pytest.mark.parametrize(("version", "works"), [("2.9.3", False), ("2.12.0", True)])
def test_an_unsupported_tensorflow_is_reported(version, works):
    found = diagnose(tensorflow_facts(version=version))
    assert ([each.code.value for each in found.problems], found.works["tensorflow"]) == (["tensorflow-version"], works)
