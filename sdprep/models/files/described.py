"""Describes a captioner's repository that no TOML file describes by its config.json."""

from __future__ import annotations

import msgspec

from sdprep.errors import ModelError
from sdprep.models.base import ModelSpec
from sdprep.models.captioners.trust import read_configs
from sdprep.models.files.hub import ensure_downloaded, find_local
from sdprep.models.registry.infer import CAPTIONERS, captioner
from sdprep.report import NullListener

CONFIG = "config.json"


def described(spec: ModelSpec) -> ModelSpec:
    """The same description, or that of the repository's family, for which its config.json is downloaded.

    Raises HubError if that is not available, ModelError for a model that is not loaded.
    """
    if _is_guess(spec):
        ensure_downloaded(_config_alone(spec), NullListener())
    return described_here(spec)


def described_here(spec: ModelSpec) -> ModelSpec:
    """As `described`, without network: a repository whose config.json is not here stays as it is."""
    files = find_local(_config_alone(spec)) if _is_guess(spec) else None
    if files is None:
        return spec
    family = read_configs(files.folder).get(CONFIG, {}).get("model_type")
    if family not in CAPTIONERS:
        raise ModelError(
            f"{spec.name} has a {family!r:.60} model, which sdprep does not load\n"
            f"It loads: {', '.join(CAPTIONERS)}. Run others in a server and use --server"
        )
    return captioner(spec.name, spec.source, family)


def _is_guess(spec: ModelSpec) -> bool:
    """Whether a captioner is described by its repository's name alone."""
    return spec.task == "caption" and spec.source.repo is not None and spec.name == spec.source.repo


def _config_alone(spec: ModelSpec) -> ModelSpec:
    return msgspec.structs.replace(spec, files=(CONFIG,))
