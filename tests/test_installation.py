"""The commands that messages name: they work in this very environment, however sdprep came into it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdprep import installation
from sdprep.installation import Installation, find_installation, too_old, upgrade

WHEEL = {"url": "https://example.org/sdprep-0.1.0-py3-none-any.whl", "archive_info": {}}
GIT = {"url": "https://example.org/sdprep.git", "vcs_info": {"vcs": "git", "requested_revision": "main"}}


@pytest.fixture
def place(tmp_path: Path) -> SimpleNamespace:
    """An environment, and in it a package without a checkout around it."""
    package = tmp_path / "env" / "lib" / "sdprep"
    package.mkdir(parents=True)
    return SimpleNamespace(prefix=tmp_path / "env", package=package)


def found(place: SimpleNamespace, direct_url: dict[str, object] | None = None) -> Installation:
    return find_installation(place.prefix, place.package, direct_url or {})


def test_pip_is_the_one_of_this_interpreter(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/env/bin/python")
    assert found(place).install_extra("tag") == '/opt/env/bin/python -m pip install "sdprep[tag]"'
    assert found(place).install("numpy<2") == '/opt/env/bin/python -m pip install "numpy<2"'
    assert found(place).uninstall("torch") == "/opt/env/bin/python -m pip uninstall -y torch"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows quotes in its own way")
def test_a_path_is_quoted_where_a_shell_would_change_it() -> None:
    assert Installation(python="/my env/bin/python").install("x") == '"/my env/bin/python" -m pip install x'
    assert Installation(python="/a$b/python").install("x") == "'/a$b/python' -m pip install x"


def test_an_environment_without_pip_is_changed_by_uv(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/env/bin/python")
    assert found(place).install_extra("tag") == 'uv pip install --python /env/bin/python "sdprep[tag]"'
    assert found(place).uninstall("torch") == "uv pip uninstall --python /env/bin/python torch"


def test_uv_tool_keeps_the_extras_and_packages_in_use(place: SimpleNamespace) -> None:
    (place.prefix / "uv-receipt.toml").write_text(
        '[tool]\nrequirements = [{ name = "sdprep", extras = ["tag"] }, { name = "onnx", specifier = ">=1.16" }]\n'
    )
    assert found(place).install_extra("caption") == 'uv tool install "sdprep[tag,caption]" --with "onnx>=1.16"'
    assert found(place).install("tensorrt") == 'uv tool install "sdprep[tag]" --with "onnx>=1.16" --with tensorrt'
    assert found(place).update("0.2") == "uv tool upgrade sdprep"


def test_pipx_keeps_the_extras_in_use(place: SimpleNamespace) -> None:
    (place.prefix / "pipx_metadata.json").write_text(json.dumps({"main_package": {"package_or_url": "sdprep[tag]"}}))
    assert found(place).install_extra("caption") == 'pipx install --force "sdprep[tag,caption]"'
    assert found(place).install("numpy<2") == 'pipx runpip sdprep install "numpy<2"'
    assert found(place).uninstall("torch") == "pipx runpip sdprep uninstall -y torch"
    assert found(place).update() == "pipx upgrade sdprep"


def test_an_extra_that_is_in_use_is_named_once() -> None:
    assert Installation("uv tool", extras=("tag",)).install_extra("tag") == 'uv tool install "sdprep[tag]"'


def test_a_checkout_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    checkout = find_installation(tmp_path / "env", tmp_path / "sdprep", {})
    assert checkout.install_extra("tag").endswith(f'-m pip install --editable "{tmp_path}[tag]"')
    assert checkout.update("0.2") == f"git -C {tmp_path} pull"


def test_a_checkout_as_a_tool_stays_one() -> None:
    tool = Installation("uv tool", source="/src/sdprep", editable=True, extras=("tag",))
    assert tool.install_extra("caption") == 'uv tool install --editable "/src/sdprep[tag,caption]"'
    assert tool.install("onnx") == 'uv tool install --editable "/src/sdprep[tag]" --with onnx'


@pytest.mark.parametrize(
    ("direct_url", "address"), [(WHEEL, str(WHEEL["url"])), (GIT, "git+https://example.org/sdprep.git@main")]
)
def test_what_was_not_installed_from_an_index_is_named_by_its_address(
    place: SimpleNamespace, direct_url: dict[str, object], address: str
) -> None:
    assert found(place, direct_url).install_extra("tag").endswith(f'-m pip install "sdprep[tag] @ {address}"')
    assert found(place, direct_url).update().endswith(f'-m pip install --upgrade "sdprep @ {address}"')


def test_this_environment_is_found_and_its_command_names_this_python() -> None:
    assert installation.here().install_extra("tag").startswith((sys.executable, f'"{sys.executable}"', "uv", "pipx"))


# Trainers


def versions(monkeypatch: pytest.MonkeyPatch, **installed: str) -> None:
    monkeypatch.setattr(installation, "installed_version", installed.get)


def test_no_package_is_upgraded_beside_a_trainer(plain_pip: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "TRAINERS", ("diffusers",))
    versions(monkeypatch, diffusers="0.30")
    commands, advice = upgrade(["transformers>=5.0"], "caption")
    assert (commands[0], "transformers" in " ".join(commands)) == ("python -m venv sdprep-env", False)
    assert 'sdprep[caption]"' in commands[1]
    assert advice == "diffusers is in this environment too: give sdprep an environment of its own."


def test_alone_in_its_environment_a_package_is_upgraded(plain_pip: Installation) -> None:
    assert upgrade(["transformers>=5.0"], "caption") == (('python -m pip install "transformers>=5.0"',), "")


def test_a_package_that_is_too_old_is_told_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, transformers="4.44.2", torch="2.13.0+cu130")
    assert too_old("transformers", "caption") == ("4.44.2", ">=5.0")
    assert too_old("torch", "caption") is None


@pytest.mark.parametrize("version", ["5.0", "5.23.0", "6.0.dev0", "unknown"])
def test_a_package_that_is_new_enough_or_has_no_version_passes(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    versions(monkeypatch, transformers=version)
    assert too_old("transformers", "caption") is None
