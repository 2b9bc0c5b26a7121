"""What a user gets from the wheel, and what a developer gets from the scripts."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sdprep

ROOT = Path(__file__).parents[1]
VERBS = ["setup", "demo", "check", "test", "bench"]
REGISTRY = """
import json, sdprep
from sdprep.files import configs_folder
from sdprep.models.registry.registry import names
print(json.dumps({"from": sdprep.__file__, "names": sorted(names()), "configs": str(configs_folder("models"))}))
"""


def run_python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run Python with `path`, if any, before everything that is installed, and return what it printed."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run_python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), ".", cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_file_of_the_registry(contents: set[str]) -> None:
    configs = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.toml")}
    assert configs
    assert {f"sdprep/{path.as_posix()}" for path in configs} <= contents


def test_the_wheel_carries_every_file_of_the_package(contents: set[str]) -> None:
    files = {path for path in (ROOT / "sdprep").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in files} <= contents


@pytest.mark.parametrize(
    "pattern",
    [
        r"sdprep/py\.typed",
        r"sdprep/demo/models/.+/model\.onnx",
        r"sdprep/demo/models/.+/selected_tags\.csv",
        r"sdprep/demo/models/.+\.safetensors",
        r"sdprep/demo/.+\.(png|jpg|webp)",
        r"sdprep-.+\.dist-info/licenses/LICENSE",
    ],
)
def test_the_wheel_carries(pattern: str, contents: set[str]) -> None:
    assert any(re.fullmatch(pattern, name) for name in contents)


def test_the_wheel_carries_nothing_but_the_package(contents: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in contents} == {"sdprep"}
    assert not [name for name in contents if "/tests/" in name or name.endswith(".pyc")]


def test_the_wheel_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= 12 * 1024**2


def test_the_installed_wheel_knows_its_models(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    run_python(
        *["-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"],
        *["--target", str(target), str(wheel)],
        cwd=tmp_path,
    )
    installed = json.loads(run_python("-c", REGISTRY, cwd=tmp_path, path=target))
    checkout = json.loads(run_python("-c", REGISTRY, cwd=tmp_path, path=ROOT))
    assert Path(installed["from"]).is_relative_to(target)
    assert Path(installed["configs"]).is_relative_to(target)
    assert Path(checkout["from"]).is_relative_to(ROOT)
    assert Path(checkout["configs"]).is_relative_to(ROOT)
    assert installed["names"] == checkout["names"] != []


def test_python_m_sdprep_says_its_version(tmp_path: Path) -> None:
    assert sdprep.__version__ in run_python("-m", "sdprep", "--version", cwd=tmp_path, path=ROOT)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_python_script_that_can_be_started(verb: str) -> None:
    script = ROOT / "scripts" / verb
    text = script.read_text("utf-8")
    compile(text, str(script), "exec")
    assert text.startswith("#!/usr/bin/env python3\n")
    assert sys.platform == "win32" or os.access(script, os.X_OK)


def test_setup_refuses_an_extra_that_does_not_exist() -> None:
    setup = [sys.executable, str(ROOT / "scripts" / "setup"), "everything"]
    done = subprocess.run(setup, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("setup: there is no extra 'everything'; there are: tag, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["310", "311", "312", "313"])
def test_the_constraints_pin_every_requirement_of_a_developer(version: str) -> None:
    lines = (ROOT / "constraints" / f"py{version}.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {"click", "msgspec", "numpy", "onnxruntime", "pillow", "pytest", "transformers"} <= pins.keys()
    assert pins["torch"] == "2.13.0"
    assert f"rev: v{pins['ruff']} " in (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
