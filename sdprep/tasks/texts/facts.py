"""What catalogs know of images and their sidecars: who wrote them, the stored scores, and earlier failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.moves import image_sizes
from sdprep.catalog.results import are_scores, decode_scores, failure_codes, score_recipes
from sdprep.catalog.schema import Key, as_key, file_stat
from sdprep.catalog.session import CatalogSession
from sdprep.errors import ImageError, ModelError, SdprepError
from sdprep.images.decoder import file_digest
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import find, model_path, names
from sdprep.models.taggers.label_file import read_columns
from sdprep.rules.labels import LabelTable, normalize_tag
from sdprep.rules.mixed_text import MODELS, normalize
from sdprep.rules.policy import SidecarState
from sdprep.tasks.texts.sidecars import ImageFiles, Sidecar
from sdprep.types import ImageItem

# The fields of Record that come from states, and from what is stored of an image by its content.
OF_STATES = frozenset({"source", "models"})
OF_CONTENT = frozenset({"scores", "rating", "failed"})


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels of a stored result: those that are asked for by their number, and all ratings."""

    count: int
    asked: dict[int, str]
    ratings: dict[int, str]


class Facts:
    """What catalogs know of images, asked for some images at a time.

    `fields` are fields of Record; `scored` are the normalized tags whose scores are wanted, None for all. `note` gets
    what cannot be known.
    """

    def __init__(
        self,
        catalogs: CatalogSession,
        fields: Collection[str],
        scored: Collection[str] | None,
        note: Callable[[str], None],
    ) -> None:
        self._catalogs, self._fields = catalogs, frozenset(fields)
        self._scored = None if scored is None else frozenset(scored)
        self._note = cache(note)
        self._places: dict[tuple[Path, str], tuple[Catalog, str]] = {}
        self._recipes: dict[int, list[tuple[int, _Labels]]] = {}
        self._sizes: dict[int, set[int]] = {}

    def of(self, some: Sequence[ImageFiles]) -> list[dict[str, Any]]:
        """The values of fields of Record for each of these images; without what is not known."""
        found: list[dict[str, Any]] = [{} for _ in some]
        if self._fields & OF_STATES:
            for values, files in zip(found, self.states(some), strict=True):
                values.update(_origins(files))
        if self._fields & OF_CONTENT:
            digests = self._digests(some)
            for catalog in {id(catalog): catalog for catalog, _ in digests}.values():
                known = {digest for own, digest in digests if own is catalog and digest is not None}
                values_of = self._content(catalog, list(known))
                for values, (own, digest) in zip(found, digests, strict=True):
                    if own is catalog and digest is not None:
                        values.update(values_of(digest))
        return found

    def _place(self, item: ImageItem) -> tuple[Catalog, str]:
        """The catalog of an image, and how the keys in its folder begin."""
        folder = item.within.rpartition("/")[0]
        known = (item.target_folder, folder)
        if known not in self._places:
            target = item.target_folder / folder
            catalog = self._catalogs.of(target)
            self._places[known] = catalog, catalog.prefix(target)
        return self._places[known]

    def states(self, some: Sequence[ImageFiles]) -> Iterator[list[tuple[Sidecar, SidecarState | None]]]:
        """The sidecars that exist of each image, with what is known of them."""
        held: dict[int, tuple[Catalog, dict[Key, bytes]]] = {}
        keys: list[list[tuple[Sidecar, int, Key]]] = []
        for files in some:
            catalog, prefix = self._place(files.item)
            keys.append([])
            for sidecar in files.sidecars:
                if sidecar.data is not None:
                    key = as_key(prefix + sidecar.name.rpartition("/")[2])
                    held.setdefault(id(catalog), (catalog, {}))[1][key] = sidecar.data
                    keys[-1].append((sidecar, id(catalog), key))
        states = {number: catalog.states(list(texts), texts.values()) for number, (catalog, texts) in held.items()}
        return ([(sidecar, states[number].get(key)) for sidecar, number, key in each] for each in keys)

    def _digests(self, some: Sequence[ImageFiles]) -> list[tuple[Catalog, bytes | None]]:
        """The catalog and the SHA-256 of each image, None where that is not known.

        An image that was moved is read if it has the size of a known one.
        """
        placed = [(*self._place(files.item), files.item) for files in some]
        known: dict[tuple[int, Key], Any] = {}
        for catalog in {id(catalog): catalog for catalog, _, _ in placed}.values():
            keys = [_image_key(prefix, item) for own, prefix, item in placed if own is catalog]
            known |= {(id(catalog), key): value for key, value in catalog.images(keys).items()}
        found: list[tuple[Catalog, bytes | None]] = []
        for catalog, prefix, item in placed:
            key, digest = _image_key(prefix, item), None
            with suppress(OSError, ImageError):
                # Whatever reads the image reports why it cannot be read.
                stamp = file_stat(os.stat(f"{item.folder}/{item.within}"))  # noqa: PTH116 - a million times
                before, digest = known.get((id(catalog), key), (None, None))
                if before != stamp:
                    digest = file_digest(item) if stamp[0] in self._sizes_in(catalog) else None
                    if digest is not None:
                        catalog.remember_image(key, stamp, digest)
            found.append((catalog, digest))
        return found

    def _sizes_in(self, catalog: Catalog) -> set[int]:
        if id(catalog) not in self._sizes:
            self._sizes[id(catalog)] = image_sizes(catalog)
        return self._sizes[id(catalog)]

    def _content(self, catalog: Catalog, digests: list[bytes]) -> Callable[[bytes], dict[str, Any]]:
        """What tells the values of fields for an image of a digest."""
        failed = failure_codes(catalog, digests) if "failed" in self._fields else {}
        scores = self._results(catalog, digests) if self._fields & {"scores", "rating"} else {}

        def values(digest: bytes) -> dict[str, Any]:
            found: dict[str, Any] = {"failed": failed[digest]} if digest in failed else {}
            if digest in scores:
                found["scores"], found["rating"] = scores[digest]
            return found

        return values

    def _results(self, catalog: Catalog, digests: list[bytes]) -> dict[bytes, tuple[dict[str, float], str]]:
        """The scores that are asked for and the best rating, of the newest result of each image."""
        if id(catalog) not in self._recipes:
            self._recipes[id(catalog)] = list(self._labels_in(catalog))
        found: dict[bytes, tuple[dict[str, float], str]] = {}
        for recipe, labels in self._recipes[id(catalog)]:
            left = [digest for digest in digests if digest not in found]
            for digest, data in catalog.results(left, recipe).items():
                if are_scores(data, labels.count):
                    found[digest] = _scored(data, labels)
        return found

    def _labels_in(self, catalog: Catalog) -> Iterator[tuple[int, _Labels]]:
        """The recipes of a catalog whose labels are known here, the newest first."""
        recipes = score_recipes(catalog)
        tables = _label_tables(catalog) if recipes else {}
        for number, recipe in recipes:
            if (table := tables.get(str(recipe.get("weights")))) is None:
                self._note("scores of a model that is not on this machine are left out: --where cannot read its labels")
                continue
            tags = [normalize_tag(name) for name in table.names]
            scored = self._scored
            asked = {place: tag for place, tag in enumerate(tags) if scored is None or tag in scored}
            ratings = {place: name for place, name in enumerate(table.names) if table.categories[place] == "rating"}
            yield number, _Labels(len(tags), asked, ratings)


def _image_key(prefix: str, item: ImageItem) -> Key:
    return as_key(prefix + item.within.rpartition("/")[2])


def _origins(sidecars: Iterable[tuple[Sidecar, SidecarState | None]]) -> dict[str, Any]:
    """Who wrote the sidecars of an image: by whom each, and with which models."""
    sources, models = [], []
    for sidecar, state in sidecars:
        unmodified = state is not None and normalize(sidecar.text or "\0") == state.text
        if state is None or state.origin == "user":
            sources.append("user")
        else:
            # What a model wrote and the user has edited since is of both.
            sources.append(state.origin if unmodified else "mixed")
            models += [model for part in state.content.generated for model in part.model.split(MODELS) if model]
    return {"source": tuple(sources), "models": tuple(dict.fromkeys(models))}


def _scored(data: bytes, labels: _Labels) -> tuple[dict[str, float], str]:
    stored = dict(decode_scores(data))
    rating = max(labels.ratings, key=lambda place: stored.get(place, 0.0), default=None)
    scores = {tag: stored.get(place, 0.0) for place, tag in labels.asked.items()}
    return scores, "" if rating is None else labels.ratings[rating]


def taggers_of_runs(catalog: Catalog) -> list[str]:
    """The taggers that have tagged here; no paths, since a catalog may come from anybody."""
    rows = catalog.db.execute("SELECT DISTINCT model FROM runs WHERE command = 'tag' AND model IS NOT NULL").fetchall()
    # Behind the name is a part of the hash of the weights.
    found = [each.partition("#")[0] for [text] in rows for each in str(text).replace(MODELS, ", ").split(", ")]
    return [name for name in dict.fromkeys(found) if model_path(name) is None]


def _label_tables(catalog: Catalog) -> dict[str, LabelTable]:
    """The labels of taggers on this machine by the hash of their weights: of registered ones, and of earlier runs."""
    found: dict[str, LabelTable] = {}
    for name in dict.fromkeys([*names("tag"), *taggers_of_runs(catalog)]):
        with suppress(SdprepError):
            spec = find(name, "tag")
            files = find_local(spec)
            if files is not None and spec.task == "tag" and files.weights not in found:
                with suppress(ModelError):
                    found[files.weights] = read_columns(spec, files)[0]
    return found
