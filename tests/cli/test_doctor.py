"""`sdprep doctor` as a user runs it."""

import json

import pytest
from click.testing import CliRunner

from sdprep.cli.commands.doctor import doctor
from sdprep.doctor import doctor as examine
from sdprep.doctor import gather
from tests.doctor.patients import CARD, Facts, facts, onnx_probe, probe

pytestmark = pytest.mark.usefixtures("plain_pip")

TWICE = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


@pytest.fixture
def check(monkeypatch):
    """Runs the command on a machine with these facts."""

    def run(patient: Facts, *words: object):
        monkeypatch.setattr(examine, "gather", lambda *_: patient)
        return CliRunner().invoke(doctor, [str(word) for word in words])

    return run


def test_a_complete_machine_gives_0(check):
    assert check(facts()).exit_code == 0


def test_a_requested_job_that_cannot_run_gives_5(check):
    assert check(facts(), "--for", "tensorflow").exit_code == 5


def test_several_jobs_can_be_requested(check):
    assert check(facts(), "--for", "caption", "--for", "tag").exit_code == 0


def test_an_unknown_job_is_refused(check):
    assert check(facts(), "--for", "merge").exit_code == 2


def test_a_folder_that_does_not_exist_is_refused(check, tmp_path):
    assert check(facts(), tmp_path / "nowhere").exit_code == 2


def test_the_table_fits_80_columns(check):
    hub = {
        "endpoint": "https://huggingface.co",
        "status": 200,
        "cache": f"/{'long/' * 40}hub",
        "size": 1,
        "free": 10**12,
    }
    table = check(facts(onnx_probe(), probe("hub", about=hub), **CARD)).stdout
    commands = [line for line in table.splitlines() if line.startswith("    pip ")]
    assert max(len(line) for line in table.splitlines() if line not in commands) <= 80


def test_the_table_is_aligned(check):
    lines = check(facts()).stdout.splitlines()
    column = lines[0].index("STATE")
    states = {line[column:].split()[0] for line in lines[1 : lines.index("")] if line[:1].strip()}
    assert states == {"ok", "absent"}


def test_a_problem_is_shown_with_its_commands(check):
    output = check(facts(modules=TWICE)).stdout
    assert (
        '    python -m pip uninstall -y onnxruntime onnxruntime-gpu\n    python -m pip install "sdprep[tag]"\n'
        in output
    )


def test_the_table_ends_with_what_is_possible(check):
    output = check(facts()).stdout.splitlines()[-1]
    assert output == "possible here: core, caption, tag; not possible here: tensorflow"


def test_fix_prints_the_commands_and_nothing_else(check):
    output = check(facts(modules=TWICE), "--fix").stdout
    assert output == 'python -m pip uninstall -y onnxruntime onnxruntime-gpu\npython -m pip install "sdprep[tag]"\n'


def test_fix_prints_nothing_where_nothing_is_wrong(check):
    assert check(facts(), "--fix").stdout == ""


def test_fix_prints_to_stderr_what_no_command_fixes(check):
    assert "no command fixes this: torch hangs" in check(facts(probe("torch", "timeout", "import")), "--fix").stderr


def test_json_is_one_object(check):
    assert json.loads(check(facts(), "--json").stdout)["works"]["caption"] is True


def test_json_has_the_problems_with_their_codes(check):
    problems = json.loads(check(facts(modules=TWICE), "--json").stdout)["problems"]
    assert [problem["code"] for problem in problems] == ["onnxruntime-twice"]


def test_json_and_fix_exclude_each_other(check):
    assert check(facts(), "--json", "--fix").exit_code == 2


def test_help_has_an_example():
    assert "sdprep doctor ./imgs --for caption --for tag" in CliRunner().invoke(doctor, ["--help"]).stdout


def test_this_machine_can_be_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The others take many seconds; tests/doctor/test_gather.py has them.
    monkeypatch.setattr(gather, "FRAMEWORKS", {"onnxruntime": gather.FRAMEWORKS["onnxruntime"]})
    done = CliRunner().invoke(doctor, [str(tmp_path), "--for", "tag", "--json"])
    found = json.loads(done.stdout)
    assert {problem["code"] for problem in found["problems"]} == {"model-missing"}
    assert (done.exit_code, found["works"]["core"], found["works"]["tag"]) == (5, True, False)
    probes = found["facts"]["probes"]
    assert {name: probes[name]["outcome"] for name in probes} == {"onnxruntime": "ok", "hub": "ok", "folder": "ok"}
