"""Rule packs by name, as they come with sdprep, or by file."""

from __future__ import annotations

import sys
from pathlib import Path

from sdprep.errors import UsageError
from sdprep.files import LARGEST_TOML, configs_folder, read_toml_bytes
from sdprep.rules.edits.packs import Pack, parse_pack

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_pack(name: str) -> Pack:
    """The pack of this name, or of a TOML file. Raises UsageError if there is none, or one with a mistake."""
    known = {path.stem: path for path in sorted(configs_folder("rules").glob("*.toml"))}
    path = known.get(name, Path(name))
    if name not in known and path.suffix != ".toml":
        raise UsageError(f"no rule pack is named {name!r}; there are {', '.join(known)}, or give a TOML file")
    try:
        return parse_pack(name, tomllib.loads(read_toml_bytes(path, LARGEST_TOML).decode("utf-8-sig")))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def all_packs() -> dict[str, Pack]:
    """The packs that come with sdprep, by name."""
    return {path.stem: load_pack(path.stem) for path in sorted(configs_folder("rules").glob("*.toml"))}
