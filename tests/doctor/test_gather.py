"""Probes as they run: real ones, and ones that crash, hang and print."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from sdprep.doctor.doctor import diagnose
from sdprep.doctor.gather import FRAMEWORKS, Ended, clean, gather, read_probe, run_bounded, run_probe
from sdprep.doctor.probes import USED
from sdprep.models.taggers.providers import PROVIDERS, candidates

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and permissions of POSIX")


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Puts a framework of a few lines in front of the real one."""

    def put(name, text):
        folder = tmp_path / "pretended"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(textwrap.dedent(text), "utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return put


@pytest.fixture(scope="module")
def this_machine(tmp_path_factory):
    """What there is to know of this machine, gathered once: its frameworks take many seconds."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("HOME", home), ("HF_HOME", home), ("HF_HUB_OFFLINE", "1")):
            patch.setenv(name, value)
        return gather(tmp_path_factory.mktemp("imgs"))


@pytest.fixture
def real(this_machine):
    """Its probes by name."""
    return this_machine.probes


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_installed_framework_works(name, real):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    assert real[name].outcome == "ok"


def test_a_machine_with_the_frameworks_lacks_only_models_without_a_hub(this_machine):
    found = diagnose(this_machine, ["caption", "tag"])
    assert {problem.code.value for problem in found.problems} == {"model-missing"}
    assert (found.exit_code, found.works["core"], found.works["caption"]) == (5, True, False)


@pytest.mark.parametrize(("name", "device"), [("torch", "cpu"), ("onnxruntime", "CPUExecutionProvider")])
def test_the_cpu_computes(name, device, real):
    assert real[name].device(device).ok


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="sdprep[vlm-4bit] is not installed")
def test_bitsandbytes_makes_4_bit_weights_on_the_cpu(real):
    found = real["bitsandbytes"]
    assert (found.outcome, found.value("version")) == ("ok", version("bitsandbytes"))
    assert found.device("cpu").ok


def test_the_version_of_a_framework_is_found(real):
    assert real["transformers"].value("version") == version("transformers")


def test_the_probe_requests_the_providers_that_the_tagger_requests():
    assert tuple(PROVIDERS[name].full for name in candidates("auto", USED)) == USED


@posix_only
def test_a_crash_is_a_finding(pretend):
    pretend("torch", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    found = run_probe("torch")
    assert (found.outcome, found.step, found.error) == ("crash", "import", "SIGSEGV")


def test_exiting_without_a_finding_is_a_crash(pretend):
    pretend("torch", "import os; os._exit(3)")
    assert run_probe("torch").error == "exit code 3"


def test_a_hang_is_a_finding(pretend):
    pretend("torch", "import time; time.sleep(60)")
    found = run_probe("torch", limit=2.0)
    assert (found.outcome, found.step) == ("timeout", "import")


def test_what_was_found_before_a_crash_is_kept(pretend):
    pretend("onnxruntime", "import os\n__version__ = '9.9'\ndef get_available_providers(): os._exit(1)")
    assert run_probe("onnxruntime").value("version") == "9.9"


def test_an_error_is_a_finding(pretend):
    pretend("tensorflow", "raise ImportError('libfoo.so: file too short')")
    assert run_probe("tensorflow").error == "ImportError: libfoo.so: file too short"


def test_what_a_framework_prints_to_stdout_is_not_read_as_a_finding(pretend):
    pretend("torch", "print('{\"step\": \"done\"}'); raise ImportError('no')")
    assert run_probe("torch").outcome == "error"


def test_what_a_framework_prints_is_kept(pretend):
    pretend("torch", "print('Could not load dynamic library'); raise ImportError('no')")
    assert "Could not load dynamic library" in run_probe("torch").log


def test_a_file_in_the_current_folder_is_not_taken_for_a_framework(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('this is the user\\'s own file')")
    monkeypatch.chdir(tmp_path)
    assert run_probe("onnxruntime").outcome == "ok"


def test_a_probe_that_ends_in_the_middle_of_a_line_keeps_the_lines_before():
    ended = Ended(-signal.SIGTERM, '{"step": "import"}\n{"about": {"version": "1.0"}}\n{"dev', "")
    assert read_probe("torch", ended, 60.0).value("version") == "1.0"


def test_windows_exceptions_are_named_by_number():
    assert read_probe("torch", Ended(-1073741795 & 0xFFFFFFFF, "", ""), 60.0).error == "exit code 0xc000001d"


def test_a_long_log_keeps_its_start_and_its_end():
    log = read_probe("torch", Ended(1, "", "start" + "x" * 10**6 + "end"), 60.0).log
    assert (log[:5], log[-3:], len(log) < 30_000) == ("start", "end", True)


@pytest.mark.parametrize("secret", ["hf_abcdefghij", "https://me:password@example.org/x"])
def test_secrets_are_removed(secret):
    assert not {"hf_abcdefghij", "me:password"} & set(clean(f"cannot open {secret}").replace("/", " ").split())


def test_colours_are_removed():
    assert clean("\x1b[1;31mred\x1b[m") == "red"


def test_a_folder_is_left_as_it_was(tmp_path):
    run_probe("folder", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_writable_folder_is_recognised(tmp_path):
    assert run_probe("folder", str(tmp_path)).about["writable"] is True


@posix_only
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root can write everywhere")
def test_a_locked_folder_is_recognised(tmp_path):
    tmp_path.chmod(0o500)
    about = run_probe("folder", str(tmp_path)).about
    tmp_path.chmod(0o700)
    assert (about["writable"], about["chmod_helps"]) == (False, True)


def test_a_relative_folder_starts_at_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "imgs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_probe("folder", "imgs").value("path") == str((tmp_path / "imgs").resolve())


def test_the_hub_is_not_contacted_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = run_probe("hub")
    assert (found.outcome, found.about["offline"], found.about.get("status")) == ("ok", True, None)


def test_a_hub_without_a_server_is_unreachable(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = run_probe("hub")
    assert (found.outcome, found.step) == ("error", "answer")


def test_the_size_of_the_cache_is_measured(monkeypatch, tmp_path):
    (tmp_path / "models--a--b").mkdir()
    (tmp_path / "models--a--b" / "blob").write_bytes(b"x" * 12345)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run_probe("hub").about["size"] == 12345


def test_gathering_imports_no_framework_here():
    code = "import sys; from sdprep.doctor.gather import gather; gather(limit=0.01)\n"
    code += (
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'tensorflow', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_gathering_tests_what_is_installed(tmp_path):
    found = gather(tmp_path, limit=0.01)
    assert {"torch", "transformers", "onnxruntime", "hub", "folder"} <= found.probes.keys()


def test_the_output_of_a_program_is_kept():
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    ended = run_bounded([sys.executable, "-c", code], 30)
    assert (ended.code, ended.out.strip(), ended.err.strip()) == (7, "out", "err")


def test_a_program_that_does_not_finish_is_killed_and_has_no_code():
    start = time.monotonic()
    assert run_bounded([sys.executable, "-c", "import time; time.sleep(60)"], 0.2).code is None
    assert time.monotonic() - start < 20


def test_a_child_that_keeps_the_streams_open_is_not_waited_for():
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    start = time.monotonic()
    run_bounded([sys.executable, "-c", code], 30)
    assert time.monotonic() - start < 15
