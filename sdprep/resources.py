"""Find the files that come with sdprep."""

from __future__ import annotations

from pathlib import Path

from sdprep.errors import ModelError


def configs_folder(kind: str) -> Path:
    """The folder of "models" or "presets" that come with sdprep: in a wheel inside the package, in a checkout beside.

    Raises ModelError if there is neither.
    """
    package = Path(__file__).parent
    for folder in (package / "configs" / kind, package.parent / "configs" / kind):
        if folder.is_dir():
            return folder
    raise ModelError(f"configs/{kind} is missing beside {package}\nThe installation is damaged: reinstall sdprep")
