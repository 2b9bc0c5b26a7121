"""The categories of tags in texts, by the label files of the taggers of their images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from sdprep.catalog.session import CatalogSession
from sdprep.config import PathOptions, TagSettings
from sdprep.errors import UsageError
from sdprep.files import LARGEST_TOML, configs_folder, read_toml_bytes
from sdprep.report import NullListener
from sdprep.rules.edits.operations import ORDER, Operation
from sdprep.tasks.annotation.prompts import labels_of
from sdprep.tasks.settings import Cascade, Layers
from sdprep.tasks.texts.facts import taggers_of_runs
from sdprep.types import ImageItem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def with_preset_order(operation: Operation) -> Operation:
    """An operation in which the name of a preset that orders by category is its list of categories."""
    presets = {path.stem: path for path in configs_folder("presets").glob("*.toml")}
    if operation.name != ORDER or operation.value not in presets:
        return operation
    preset = tomllib.loads(read_toml_bytes(presets[operation.value], LARGEST_TOML).decode())
    order = preset["tag"].get("category-order")
    if order is None:
        raise UsageError(f"--order: the preset {operation.value} has no order of categories")
    return replace(operation, value=",".join(order))


def categories_of(items: Sequence[ImageItem], catalogs: CatalogSession, paths: PathOptions) -> dict[str, str]:
    """The category of each tag that the taggers of these images know, by its normalized name.

    They are the models that `tag` would use for these images, and those that have tagged here, which a settings file
    may have named. Raises UsageError if none of them is on this machine.
    """
    places = [item.target for item in items]
    cascade = Cascade("tag", TagSettings(paths=paths), Layers(), catalogs, places, NullListener().note)
    models = {model: None for part, _ in cascade.parts(items) for model in part.settings.models}
    of_runs = [model for catalog in catalogs for model in taggers_of_runs(catalog)]
    found = {name: category for model in (*models, *of_runs) for name, category in labels_of(model).items()}
    if not found:
        raise UsageError(
            f"--order needs the label file of {' or '.join(models)}, which says what tags are\n"
            f"Download it: sdprep models download {' '.join(models)}; or tag an image with a model that is here"
        )
    return found
