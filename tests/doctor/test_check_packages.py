"""Problems of versions, of folders and the Hub, and of packages that fail when they are imported."""

import pytest

from sdprep.doctor.doctor import diagnose
from sdprep.doctor.facts import Facts
from sdprep.doctor.gather import read_models
from tests.doctor.patients import (
    LEFTOVER,
    NUMPY_2,
    PACKAGES,
    PROTOBUF,
    codes,
    facts,
    only_problem,
    onnx_probe,
    probe,
    tensorflow_facts,
    tensorflow_probe,
    torch_probe,
)

HUB = {"endpoint": "https://huggingface.co", "offline": False, "cache": "/c", "size": 1, "complete": True}
HUB |= {"free": 10**11, "writable": True}


def broken(name, outcome, step, error=""):
    return probe(name, outcome, step, error=error)


def test_a_complete_machine_has_no_problem():
    assert codes(facts(), ["caption", "tag"]) == []


def test_a_missing_core_package_comes_with_its_command():
    bare = facts()
    without = {name: version for name, version in PACKAGES.items() if name != "tqdm"}
    assert only_problem(Facts(bare.machine, without, bare.modules, bare.probes)).commands == (
        'python -m pip install "tqdm>=4.66"',
    )


def without_resizer(arch):
    bare = facts(arch=arch)
    packages = {name: version for name, version in PACKAGES.items() if name != "cykooz-resizer"}
    return diagnose(Facts(bare.machine, packages, bare.modules, bare.probes))


@pytest.mark.parametrize("arch", ["x86_64", "AMD64", "arm64"])
def test_without_the_fast_resizer_all_works_and_its_command_is_shown(arch):
    found = without_resizer(arch)
    assert [problem.commands for problem in found.problems] == [('python -m pip install "cykooz-resizer>=4.0"',)]
    assert found.exit_code == 0


def test_the_fast_resizer_is_not_suggested_where_it_is_not_available():
    assert without_resizer("aarch64").problems == ()


def test_an_old_core_package_blocks_everything():
    assert not any(diagnose(facts(packages={"msgspec": "0.18.6"})).works.values())


def test_pillow_before_13_is_a_problem():
    assert only_problem(facts(packages={"pillow": "12.3.0"})).commands == ('python -m pip install "pillow>=13.0"',)


def test_pillow_before_13_has_no_newer_one_on_python_3_10():
    assert only_problem(facts(packages={"pillow": "12.3.0"}, python=(3, 10, 4))).commands == ()


def test_pillow_before_13_blocks_nothing_on_python_3_10():
    assert diagnose(facts(packages={"pillow": "12.3.0"}, python=(3, 10, 4))).exit_code == 0


def test_pillow_before_12_3_blocks_everything_on_python_3_10():
    assert diagnose(facts(packages={"pillow": "11.0.0"}, python=(3, 10, 4))).exit_code == 5


def test_a_job_that_is_not_requested_may_be_missing():
    assert codes(facts(), ["tag"]) == []


def test_a_requested_job_may_not_be_missing():
    assert only_problem(facts(), ["tensorflow"]).commands == ('python -m pip install "sdprep[tensorflow]"',)


@pytest.mark.parametrize(
    ("of_machine", "extra"),
    [
        ({}, "tag"),
        ({"cards": ("T4",)}, "tag-gpu"),
        ({"system": "win32"}, "tag-directml"),
        ({"system": "darwin"}, "tag"),
    ],
)
def test_the_tagger_that_fits_the_machine_is_named(of_machine, extra):
    healthy = facts(**of_machine)
    modules = {name: found for name, found in healthy.modules.items() if name != "onnxruntime"}
    bare = Facts(healthy.machine, healthy.packages, modules, {})
    assert only_problem(bare, ["tag"]).commands == (f'python -m pip install "sdprep[{extra}]"',)


def test_a_python_too_new_for_tensorflow_gets_an_environment_with_an_older_one():
    assert only_problem(facts(python=(3, 14, 0)), ["tensorflow"]).commands[0] == "python3.13 -m venv tensorflow-env"


def test_old_transformers_block_captions():
    assert not diagnose(facts(packages={"transformers": "4.46.0"})).works["caption"]


def test_an_old_onnxruntime_is_upgraded_as_the_package_that_is_installed():
    sick = facts(
        packages={"onnxruntime-gpu": "1.16.0", "onnxruntime": ""}, modules={"onnxruntime": ("onnxruntime-gpu",)}
    )
    versions = {name: version for name, version in sick.packages.items() if name != "onnxruntime"}
    old = Facts(sick.machine, versions, sick.modules, sick.probes)
    assert only_problem(old).commands == ('python -m pip install "onnxruntime-gpu>=1.17"',)


def test_a_failing_import_is_fixed_by_reinstalling():
    sick = facts(broken("torch", "error", "import", "OSError: libc10.so: file too short"))
    assert only_problem(sick).commands == (
        "python -m pip uninstall -y torch",
        'python -m pip install "sdprep[caption]"',
    )


def test_a_failing_import_names_the_error():
    sick = facts(broken("torch", "error", "import", "OSError: libc10.so: file too short"))
    assert "libc10.so: file too short" in only_problem(sick).message


def test_transformers_are_not_blamed_for_torch():
    sick = facts(
        broken("torch", "crash", "import", "SIGSEGV"), broken("transformers", "crash", "import BLIP", "SIGSEGV")
    )
    assert only_problem(sick).item == "torch"


def test_a_crash_names_the_step():
    assert "'cuda:0': SIGSEGV" in only_problem(facts(broken("torch", "crash", "cuda:0", "SIGSEGV"))).message


def test_a_crash_on_the_first_gpu_blocks_captions():
    assert not diagnose(facts(broken("torch", "crash", "cuda:0", "SIGSEGV"))).works["caption"]


def test_a_crash_on_a_second_gpu_does_not():
    assert diagnose(facts(broken("torch", "crash", "cuda:1", "SIGSEGV"))).works["caption"]


def test_a_crash_of_a_provider_that_sdprep_does_not_use_does_not_block_tags():
    assert diagnose(facts(broken("onnxruntime", "crash", "TensorrtExecutionProvider", "SIGSEGV"))).works["tag"]


def test_a_hang_is_not_fixed_with_packages():
    assert only_problem(facts(broken("torch", "timeout", "cuda:0", "not finished within 60 seconds"))).commands == ()


def test_a_hang_has_its_code():
    assert codes(facts(broken("torch", "timeout", "import", "not finished within 60 seconds"))) == ["hangs"]


def test_numpy_2_with_tensorflow_2_10_is_recognised():
    sick = tensorflow_facts(broken("tensorflow", "error", "import", NUMPY_2), packages={"numpy": "2.2.6"})
    assert only_problem(sick).commands == ('python -m pip install "numpy<2"',)


def test_numpy_2_is_not_blamed_for_a_tensorflow_that_supports_it():
    sick = tensorflow_facts(
        broken("tensorflow", "error", "import", "ImportError: something"), version="2.21.0", packages={"numpy": "2.2.6"}
    )
    assert codes(sick) == ["import-fails"]


def test_a_new_protobuf_with_tensorflow_2_10_is_recognised():
    sick = tensorflow_facts(broken("tensorflow", "error", "import", PROTOBUF), packages={"protobuf": "5.29.6"})
    assert only_problem(sick).commands == ('python -m pip install "protobuf<3.20"',)


def test_a_cpu_without_avx_is_recognised():
    assert codes(tensorflow_facts(broken("tensorflow", "crash", "import", "SIGILL"))) == ["processor-without-avx"]


def test_a_missing_visual_cpp_runtime_is_recognised_on_windows():
    error = "ImportError: DLL load failed while importing onnxruntime_pybind11_state: The specified module could not be"
    sick = facts(broken("onnxruntime", "error", "import", error), system="win32")
    assert only_problem(sick).commands == ("winget install Microsoft.VCRedist.2015+.x64",)


def test_what_is_left_of_two_onnxruntimes_after_uninstalling_one_is_recognised():
    sick = facts(broken("onnxruntime", "error", "import", LEFTOVER), modules={"onnxruntime": ("onnxruntime-gpu",)})
    assert only_problem(sick).commands == (
        "python -m pip uninstall -y onnxruntime-gpu",
        'python -m pip install "sdprep[tag]"',
    )


def test_an_unreachable_hub_is_a_problem():
    sick = facts(probe("hub", "error", "answer", error="ConnectError: Name or service not known", about=HUB))
    assert codes(sick) == ["hub-unreachable"]


def test_an_unreachable_hub_blocks_no_job():
    sick = facts(probe("hub", "timeout", "answer", error="not finished within 20 seconds", about=HUB))
    assert diagnose(sick, ["caption", "tag"]).exit_code == 0


def test_a_hub_that_fails_is_a_problem():
    assert "HTTP 503" in only_problem(facts(probe("hub", about=HUB | {"status": 503}))).message


def test_an_address_that_is_not_a_hub_is_a_problem():
    assert codes(facts(probe("hub", about=HUB | {"status": 404}))) == ["hub-unreachable"]


@pytest.mark.parametrize("status", [200, 401, 429])
def test_a_hub_that_answers_is_not_a_problem(status):
    assert codes(facts(probe("hub", about=HUB | {"status": status}))) == []


def test_a_hub_that_must_not_be_contacted_is_not_a_problem():
    assert codes(facts(probe("hub", about=HUB | {"offline": True}))) == []


def test_a_full_disk_at_the_cache_is_a_problem():
    assert codes(facts(probe("hub", about=HUB | {"status": 200, "free": 10**9}))) == ["little-room"]


def test_a_cache_that_is_not_writable_is_a_problem():
    assert codes(facts(probe("hub", about=HUB | {"status": 200, "writable": False}))) == ["cache-unwritable"]


def test_a_broken_client_of_the_hub_blocks_everything():
    assert diagnose(facts(probe("hub", "error", "import", error="ImportError: httpx"))).exit_code == 5


FOLDER = {"path": "/pics", "free": 10**10, "writable": True}
LOCKED = FOLDER | {"writable": False, "reason": "Permission denied", "chmod_helps": True}


def test_a_writable_folder_is_not_a_problem():
    assert codes(facts(probe("folder", about=FOLDER))) == []


def test_a_locked_folder_is_unlocked_by_its_owner():
    assert only_problem(facts(probe("folder", about=LOCKED))).commands == ('chmod u+w "/pics"',)


def test_a_locked_folder_of_another_user_gets_no_command():
    assert "--output-dir" in only_problem(facts(probe("folder", about=LOCKED | {"chmod_helps": False}))).advice


def test_a_folder_that_hangs_is_not_writable():
    assert codes(facts(probe("folder", "timeout", "read", error="not finished within 10 seconds"))) == [
        "folder-unwritable"
    ]


def test_a_locked_folder_blocks_the_requested_job():
    assert diagnose(facts(probe("folder", about=LOCKED)), ["tag"]).exit_code == 5


def test_a_full_disk_at_the_folder_is_a_problem():
    assert codes(facts(probe("folder", about=FOLDER | {"free": 10**7}))) == ["little-room"]


def test_successful_probes_of_every_kind_are_not_a_problem():
    assert codes(tensorflow_facts(torch_probe(), onnx_probe(), tensorflow_probe())) == []


# Models

NO_ANSWER = {"endpoint": "https://huggingface.co", "cache": "/c", "writable": True, "free": 10**12}


def without_hub(**about):
    return probe("hub", "error", "answer", about={**NO_ANSWER, **about}, error="timed out")


@pytest.mark.parametrize("job", ["tag", "caption"])
def test_a_job_without_a_model_and_without_a_hub_is_not_possible(job):
    found = diagnose(facts(without_hub(), here={}), [job])
    assert (found.works[job], found.exit_code) == (False, 5)
    (problem,) = [each for each in found.problems if each.code.value == "model-missing" and each.part == job]
    assert "is on this machine, and none can be downloaded: https://huggingface.co cannot be reached" in problem.message
    assert "sdprep models download" in problem.advice


def test_a_job_is_not_possible_offline_without_a_model():
    offline = probe("hub", about={**NO_ANSWER, "offline": True})
    assert "HF_HUB_OFFLINE is set" in str(diagnose(facts(offline, here={}), ["tag"]).problems)


def test_a_model_on_this_machine_needs_no_hub():
    assert diagnose(facts(without_hub(), here={"tag": "wd-vit-tagger-v3"}), ["tag"]).works["tag"]


def test_a_hub_that_answers_brings_the_model():
    answers = probe("hub", about={**NO_ANSWER, "status": 200})
    assert diagnose(facts(answers, here={}), ["tag", "caption"]).exit_code == 0


def test_a_demo_model_is_no_model_for_a_job():
    assert read_models() == {}
