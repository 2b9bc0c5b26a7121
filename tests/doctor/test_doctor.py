"""The diagnosis as a whole: rows, commands, exit code."""

import json
import re
from pathlib import Path

import pytest

from sdprep.doctor.doctor import diagnose
from sdprep.doctor.facts import JOBS
from sdprep.doctor.problems import Code
from tests.doctor.patients import CARD, CPU, CUDA, facts, onnx_probe, probe, tensorflow_facts, tensorflow_probe

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")


def row_of(diagnosis, item):
    return next(row for row in diagnosis.rows if row.item == item)


@pytest.mark.parametrize("job", ["caption", "tag"])
def test_a_complete_machine_can_run_a_job(job):
    assert diagnose(facts(), [job]).exit_code == 0


def test_a_requested_job_that_cannot_run_gives_5():
    assert diagnose(facts(), ["tensorflow"]).exit_code == 5


def test_a_missing_job_that_is_not_requested_gives_0():
    assert diagnose(facts()).exit_code == 0


def test_a_missing_core_package_gives_5():
    assert diagnose(facts(packages={"click": "7.0"})).exit_code == 5


def test_each_command_is_shown_once():
    sick = facts(packages={"transformers": "4.0"}, modules={"onnxruntime": ("onnxruntime", "onnxruntime-gpu")})
    commands = diagnose(sick, JOBS).commands
    assert len(commands) == len(set(commands)) > 2


def test_what_is_absent_shows_how_to_get_it():
    row = row_of(diagnose(facts()), "tensorflow")
    assert (row.state, row.detail) == ("absent", 'python -m pip install "sdprep[tensorflow]"')


def test_bitsandbytes_is_shown_with_its_devices_or_with_what_installs_it_and_no_job_needs_it():
    row = row_of(diagnose(facts()), "bitsandbytes")
    assert (row.part, row.state, row.detail) == ("vlm-4bit", "absent", 'python -m pip install "sdprep[vlm-4bit]"')
    gpu = probe("bitsandbytes", devices=["cpu", ("cuda:0", "RuntimeError: no library for CUDA 99")])
    found = diagnose(facts(gpu, modules={"bitsandbytes": ("bitsandbytes",)}))
    rows = {row.item: (row.state, row.detail) for row in found.rows if row.part == "vlm-4bit"}
    assert rows["cpu"] == ("ok", "computed")
    assert rows["cuda:0"] == ("problem", "RuntimeError: no library for CUDA 99")
    assert [each.message for each in found.problems] == [
        "bitsandbytes cannot compute on cuda:0: RuntimeError: no library for CUDA 99."
    ]
    assert found.works["caption"]


def test_what_has_a_problem_is_marked():
    assert row_of(diagnose(facts(packages={"pillow": "11.0.0"})), "pillow").state == "problem"


def test_a_device_that_computes_is_marked_ok():
    assert row_of(diagnose(facts()), CPU).state == "ok"


def test_a_provider_without_a_gpu_is_absent_and_not_a_problem():
    sick = facts(onnx_probe(CUDA, CPU, devices=[(CUDA, f"asked for {CUDA}, got {CPU}"), CPU]))
    assert row_of(diagnose(sick), CUDA).state == "absent"


def test_a_provider_that_does_not_use_the_gpu_is_a_problem():
    sick = facts(onnx_probe(CUDA, CPU, devices=[(CUDA, f"asked for {CUDA}, got {CPU}"), CPU]), **CARD)
    assert row_of(diagnose(sick), CUDA).state == "problem"


def test_a_provider_that_sdprep_does_not_use_is_marked():
    found = facts(onnx_probe(CPU, "AzureExecutionProvider"))
    assert "does not use it" in row_of(diagnose(found), "AzureExecutionProvider").detail


def test_keras_3_is_said_not_to_matter():
    about = {"version": "2.21.0", "cuda_build": True, "cuda": "12.5.1", "cudnn": "9", "keras": "3.15.1"}
    found = tensorflow_facts(tensorflow_probe(about=about), version="2.21.0", python=(3, 11, 7))
    assert "Keras 3.15.1 does not matter" in row_of(diagnose(found), "tensorflow").detail


def test_keras_2_is_not_mentioned():
    assert "Keras" not in row_of(diagnose(tensorflow_facts()), "tensorflow").detail


def test_the_cuda_that_tensorflow_was_built_for_is_shown():
    assert "CUDA 11.2, cuDNN 8" in row_of(diagnose(tensorflow_facts()), "tensorflow").detail


def test_of_a_tensorflow_that_cannot_be_imported_only_the_version_is_shown():
    sick = tensorflow_facts(probe("tensorflow", "error", "import", error="ImportError: no"))
    assert row_of(diagnose(sick), "tensorflow").detail == "2.10.0"


def test_a_hub_that_was_not_contacted_is_marked():
    hub = probe("hub", about={"endpoint": "https://huggingface.co", "offline": True, "cache": "/c"})
    assert "HF_HUB_OFFLINE" in row_of(diagnose(facts(hub)), "answer").detail


def test_everything_can_be_json():
    values = json.loads(json.dumps(diagnose(tensorflow_facts(), JOBS).as_dict()))
    assert set(values) == {"schema", "works", "asked", "rows", "problems", "commands", "facts"}


@pytest.mark.parametrize("code", [code.value for code in Code])
def test_every_problem_is_explained(code):
    assert f"| `{code}` |" in PAGE


def test_the_page_explains_no_problem_that_does_not_exist():
    assert set(re.findall(r"^\| `([\w+-]+)` \|", PAGE, re.MULTILINE)) == {code.value for code in Code}
