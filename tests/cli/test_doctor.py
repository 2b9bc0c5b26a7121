"""`sdprep doctor` as a person meets it."""

import json

import pytest
from click.testing import CliRunner

from sdprep.cli.commands.doctor import doctor
from sdprep.doctor import doctor as examine
from tests.doctor.patients import CARD, Facts, facts, onnx_probe, probe

pytestmark = pytest.mark.alone

TWICE = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


@pytest.fixture
def visit(monkeypatch):
    """Runs the command on a machine with the given facts."""

    def run(patient: Facts, *words: object):
        monkeypatch.setattr(examine, "gather", lambda *_: patient)
        return CliRunner().invoke(doctor, [str(word) for word in words])

    return run


def test_a_healthy_machine_gives_0(visit):
    assert visit(facts()).exit_code == 0


def test_a_job_that_is_asked_for_and_impossible_gives_5(visit):
    assert visit(facts(), "--for", "tensorflow").exit_code == 5


def test_several_jobs_can_be_asked_for(visit):
    assert visit(facts(), "--for", "caption", "--for", "tag").exit_code == 0


def test_an_unknown_job_is_refused(visit):
    assert visit(facts(), "--for", "merge").exit_code == 2


def test_a_folder_that_does_not_exist_is_refused(visit, tmp_path):
    assert visit(facts(), tmp_path / "nowhere").exit_code == 2


def test_the_table_fits_80_columns(visit):
    hub = {
        "endpoint": "https://huggingface.co",
        "status": 200,
        "cache": f"/{'long/' * 40}hub",
        "size": 1,
        "free": 10**12,
    }
    table = visit(facts(onnx_probe(), probe("hub", about=hub), **CARD)).stdout
    commands = [line for line in table.splitlines() if line.startswith("    pip ")]
    assert max(len(line) for line in table.splitlines() if line not in commands) <= 80


def test_the_table_is_aligned(visit):
    lines = visit(facts()).stdout.splitlines()
    column = lines[0].index("STATE")
    states = {line[column:].split()[0] for line in lines[1 : lines.index("")] if line[:1].strip()}
    assert states == {"ok", "absent"}


def test_a_problem_is_told_with_its_commands(visit):
    said = visit(facts(modules=TWICE)).stdout
    assert '    pip uninstall -y onnxruntime onnxruntime-gpu\n    pip install "sdprep[tag]"\n' in said


def test_the_table_ends_with_what_is_possible(visit):
    said = visit(facts()).stdout.splitlines()[-1]
    assert said == "possible here: core, caption, tag; not possible here: tensorflow"


def test_fix_prints_the_commands_and_nothing_else(visit):
    said = visit(facts(modules=TWICE), "--fix").stdout
    assert said == 'pip uninstall -y onnxruntime onnxruntime-gpu\npip install "sdprep[tag]"\n'


def test_fix_prints_nothing_where_nothing_is_wrong(visit):
    assert visit(facts(), "--fix").stdout == ""


def test_fix_tells_on_stderr_what_no_command_mends(visit):
    assert "no command mends this: torch hangs" in visit(facts(probe("torch", "timeout", "import")), "--fix").stderr


def test_json_is_one_object(visit):
    assert json.loads(visit(facts(), "--json").stdout)["works"]["caption"] is True


def test_json_has_the_problems_with_their_codes(visit):
    problems = json.loads(visit(facts(modules=TWICE), "--json").stdout)["problems"]
    assert [problem["code"] for problem in problems] == ["onnxruntime-twice"]


def test_json_and_fix_exclude_each_other(visit):
    assert visit(facts(), "--json", "--fix").exit_code == 2


def test_help_has_an_example():
    assert "sdprep doctor ./imgs --for caption --for tag" in CliRunner().invoke(doctor, ["--help"]).stdout


def test_this_machine_can_be_examined(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = CliRunner().invoke(doctor, [str(tmp_path), "--for", "caption", "--for", "tag", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["works"]["caption"]) == (0, True)
