"""How sdprep was installed here, and the commands that change this very environment.

Every message that names an installation command takes it from this module, so that it can be copied as it stands.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "sdprep"
UV_RECEIPT, PIPX_RECEIPT = "uv-receipt.toml", "pipx_metadata.json"
# A word that no shell changes.
PLAIN = re.compile(r"[\w@%+=:,./~-]+", re.ASCII)
# Packages of trainers: where one is installed, another version of torch or transformers can break it.
TRAINERS = ("diffusers", "xformers", "lycoris-lora", "gradio", "onetrainer")


@dataclass(frozen=True, slots=True)
class Installation:
    """What manages the environment, its Python, and where sdprep itself came from.

    `manager` is "pip", "uv" (an environment without pip), "uv tool" or "pipx". `source` is the folder or the address
    that sdprep was installed from, empty for a package index. `extras` and `others`, the packages beside sdprep, are
    known of uv tool and pipx alone, which install all of it anew.
    """

    manager: str = "pip"
    python: str = "python"
    source: str = ""
    editable: bool = False
    extras: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def install_extra(self, extra: str) -> str:
        """The command that installs an extra, or what is missing of it."""
        extras = ",".join(dict.fromkeys((*self.extras, extra)))
        requirement = f"{NAME}[{extras}]"
        if self.editable:
            requirement = f"{self.source}[{extras}]"
        elif self.source:
            requirement = f"{requirement} @ {self.source}"
        what = [*(["--editable"] if self.editable else []), requirement]
        if self.manager == "uv tool":
            return _line("uv", "tool", "install", *what, *_with(self.others))
        return _line("pipx", "install", "--force", *what) if self.manager == "pipx" else self._run("install", what)

    def install(self, *requirements: str) -> str:
        """The command that installs other packages."""
        if self.manager != "uv tool":
            return self._run("install", requirements)
        what = f"{NAME}[{','.join(self.extras)}]" if self.extras else NAME
        what = what.replace(NAME, self.source, 1) if self.editable else f"{what} @ {self.source}".removesuffix(" @ ")
        option = ["--editable"] if self.editable else []
        return _line("uv", "tool", "install", *option, what, *_with((*self.others, *requirements)))

    def uninstall(self, *packages: str) -> str:
        """The command that removes packages, without a question."""
        return self._run("uninstall", [*([] if self.manager.startswith("uv") else ["-y"]), *packages])

    def update(self, version: str | None = None) -> str:
        """The command that installs a newer sdprep, at least this version where it is known."""
        if self.editable:
            return _line("git", "-C", self.source, "pull")
        if self.manager in ("uv tool", "pipx"):
            return _line(*self.manager.split(), "upgrade", NAME)
        if self.source:
            return self._run("install", ["--upgrade", f"{NAME} @ {self.source}"])
        return self._run("install", [f"{NAME}>={version}"] if version else ["--upgrade", NAME])

    def own_environment(self, extra: str) -> tuple[str, str]:
        """The commands that make an environment for sdprep alone."""
        python = r"sdprep-env\Scripts\python" if sys.platform == "win32" else "sdprep-env/bin/python"
        inside = Installation(python=python, source=self.source, editable=self.editable)
        return _line(self.python, "-m", "venv", "sdprep-env"), inside.install_extra(extra)

    def _run(self, verb: str, words: Sequence[str]) -> str:
        if self.manager == "pipx":
            return _line("pipx", "runpip", NAME, verb, *words)
        if self.manager.startswith("uv"):
            return _line("uv", "pip", verb, "--python", self.python, *words)
        return _line(self.python, "-m", "pip", verb, *words)


@cache
def here() -> Installation:
    """How sdprep was installed in this environment."""
    return find_installation(Path(sys.prefix), Path(__file__).parent, _direct_url())


def find_installation(prefix: Path, package: Path, direct_url: dict[str, Any]) -> Installation:
    """How the environment at `prefix` is managed, in which sdprep lies at `package`."""
    is_checkout = (package.parent / "pyproject.toml").is_file()
    source, is_editable = (str(package.parent), True) if is_checkout else (_address(direct_url), False)
    if (receipt := prefix / UV_RECEIPT).is_file():
        extras, others = _read_uv(receipt)
        return Installation("uv tool", sys.executable, source, is_editable, extras, others)
    if (receipt := prefix / PIPX_RECEIPT).is_file():
        return Installation("pipx", sys.executable, source, is_editable, _read_pipx(receipt))
    manager = "pip" if find_spec("pip") is not None else "uv"
    return Installation(manager, sys.executable, source, is_editable)


def upgrade(requirements: Sequence[str], extra: str) -> tuple[tuple[str, ...], str]:
    """The commands that bring packages up to what an extra requires, and what to know of them.

    Where a trainer shares the environment they leave it alone: its versions are pinned.
    """
    place = here()
    is_alone = place.manager in ("uv tool", "pipx")
    found = None if is_alone else next((name for name in TRAINERS if installed_version(name) is not None), None)
    if found is None:
        return (place.install(*requirements),), ""
    return place.own_environment(extra), f"{found} is in this environment too: give sdprep an environment of its own."


def too_old(package: str, extra: str) -> tuple[str, str] | None:
    """The installed version of a package and the one that an extra of sdprep needs, if it is certainly older."""
    from packaging.version import InvalidVersion, Version

    version = installed_version(package)
    if version is None:
        return None
    for need in _requirements():
        if need.name == package and (need.marker is None or need.marker.evaluate({"extra": extra})):
            try:
                lowest = [each.version for each in need.specifier if each.operator in (">=", "==", "~=")]
                if lowest and Version(version) < Version(lowest[0].removesuffix(".*")):
                    return version, str(need.specifier)
            except InvalidVersion:
                continue
    return None


@cache
def _requirements() -> tuple[Requirement, ...]:
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        return tuple(map(Requirement, metadata.requires(NAME) or []))
    except metadata.PackageNotFoundError:  # a checkout that is only on the path
        return ()


@cache
def installed_version(package: str) -> str | None:
    """The version of an installed package, or None; nothing of it is imported.

    It is looked up once: a process does not change to another version while it runs.
    """
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _direct_url() -> dict[str, Any]:
    """What an installer noted of a package that is not from an index."""
    from importlib import metadata

    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {}
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


def _address(found: dict[str, Any]) -> str:
    """The address of a direct_url.json as pip takes it after "sdprep @"."""
    url, version = str(found.get("url", "")), found.get("vcs_info")
    if not isinstance(version, dict):
        return url
    revision = version.get("requested_revision")
    return f"{version.get('vcs')}+{url}" + (f"@{revision}" if revision else "")


def _read_uv(receipt: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The extras of sdprep and the packages beside it, as uv installed them."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    listed = tomllib.loads(receipt.read_text(encoding="utf-8")).get("tool", {}).get("requirements", [])
    own: dict[str, Any] = next((each for each in listed if each.get("name") == NAME), {})
    others = [f"{each['name']}{each.get('specifier', '')}" for each in listed if each.get("name") not in (None, NAME)]
    return tuple(own.get("extras", ())), tuple(others)


def _read_pipx(receipt: Path) -> tuple[str, ...]:
    """The extras of sdprep as pipx installed them."""
    main = json.loads(receipt.read_text(encoding="utf-8")).get("main_package", {})
    match = re.search(r"\[([\w, -]+)\]", str(main.get("package_or_url", "")))
    return tuple(each.strip() for each in match[1].split(",")) if match else ()


def _with(packages: Sequence[str]) -> list[str]:
    return [word for package in packages for word in ("--with", package)]


def _line(*words: str) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word as every common shell reads it: in double quotes if it needs any."""
    if PLAIN.fullmatch(word) or (sys.platform == "win32" and PLAIN.fullmatch(word.replace("\\", "/"))):
        return word
    return shlex.quote(word) if sys.platform != "win32" and set(word) & set('"$`\\!') else f'"{word}"'
