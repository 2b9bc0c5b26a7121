"""The files of a model that lie in a folder of this machine."""

from __future__ import annotations

from pathlib import Path

from sdprep.errors import ModelError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.files.lockfile import sha256_of, weights_of
from sdprep.models.registry.registry import local_folder
from sdprep.paths import is_inside


def files_of_folder(spec: ModelSpec) -> ModelFiles:
    """The files of a model that is no Hub repository.

    Raises ModelError if one is missing, cannot be read, or is a link that leaves the folder.
    """
    folder = local_folder(spec.source) or Path()
    for name in spec.files:
        if not (folder / name).is_file():
            raise ModelError(f"{spec.name}: there is no {name} in {folder}")
        if not is_inside(folder / name, _root(folder)):
            raise ModelError(
                f"{spec.name}: {name} is a link that leaves {folder}, which sdprep does not follow\n"
                "Put the file itself there, or name the folder in which it lies"
            )
    try:
        digests = {name: sha256_of(folder / name) for name in spec.files}
    except OSError as error:
        raise ModelError(f"{spec.name}: {error.filename}: {error.strerror}") from error
    return ModelFiles(folder, None, weights_of(digests))


def _root(folder: Path) -> Path:
    """The folder that the files may not leave: in a cache of the Hub, they are links to `blobs` beside."""
    return folder.parents[1] if folder.parent.name == "snapshots" else folder
