"""The settings of each image: a cascade of what was stated for it, from the weakest layer to the strongest.

built-in < preset < user-wide file < for each place from the catalog's folder down to the image: its `sdprep.toml`,
then what earlier runs stated there < stated now
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.schema import Key, as_key
from sdprep.catalog.session import CatalogSession
from sdprep.catalog.stated import MOVED, StatedRow, forget, state, stated_rows, user_key
from sdprep.config import CaptionSettings, MergeSettings, TagSettings, remembered_options, value_of, with_options
from sdprep.errors import CatalogFailed, UsageError
from sdprep.sanitize import printable, strip_invisible
from sdprep.tasks.option_values import OptionValues, as_argument, as_flags, spelt
from sdprep.tasks.options.untrusted import untrusted_fault
from sdprep.tasks.run_info import run_info
from sdprep.types import ImageItem

S = TypeVar("S", bound=TagSettings | CaptionSettings | MergeSettings)
PRESET = "preset"
# Folders that the line about remembered settings names.
MOST_FOLDERS = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """A value that was stated for an option now: "flag", "environment" or "sdprep.toml" (a file given by --config)."""

    value: Any
    origin: str = "flag"


def no_settings(_: Path | str) -> Mapping[str, Any]:
    """Return no settings: for a run without presets and settings files."""
    return {}


@dataclass(frozen=True, slots=True)
class Layers:
    """What the settings of images are made of besides built-in values and what catalogs remember.

    Options have underscores in their names, values have the types of the fields of the settings classes. Only options
    of the kind that is remembered (`config.remembered_options`, and "preset") count here; those of the whole run, as of
    the machine, are in the settings that the task is given, where all other fields keep their built-in values.

    `preset` reads the preset of a name, for the command that runs. `user` has the values of the user-wide file.
    `folder` reads the `sdprep.toml` of one folder, and gives nothing if there is none; it raises UsageError for a wrong
    one, and is asked once per folder. `now` has what flags, the environment and --config state, and "preset". Without
    `remembered`, nothing is read from memory and nothing is written to it. `whole_run` names the options of the whole
    run that are stated now, and so are in the settings.
    """

    preset: Callable[[str], Mapping[str, Any]] = no_settings
    user: Mapping[str, Any] = field(default_factory=dict)
    folder: Callable[[Path], Mapping[str, Any]] = no_settings
    now: Mapping[str, Statement] = field(default_factory=dict)
    remembered: bool = True
    whole_run: frozenset[str] = frozenset()


def stating(settings: Any, names: Collection[str]) -> Layers:
    """Layers in which the values that these settings have for these options are stated now, by flags."""
    return Layers(now={name: Statement(value_of(settings, name)) for name in names})


@dataclass(frozen=True, slots=True, eq=False)
class Effective(Generic[S]):
    """The settings of some images; few distinct objects serve all images of a run.

    `stated` names the options that any layer states, and `remembered` has those that earlier runs stated.
    """

    settings: S
    stated: frozenset[str] = frozenset()
    remembered: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Found:
    """A value from a place: the row of a catalog with it, or None for a value from a settings file."""

    value: Any
    row: StatedRow | None = None


_Values = dict[str, _Found]
# What earlier runs stated, by place and option.
_Rows = dict[Key, dict[str, StatedRow]]


class Cascade(Generic[S]):
    """The settings of every image of a run over `places`: folders and images, where sidecars are written.

    `settings` holds what no layer says, and the options of the whole run. `note` gets what the user should know about
    files and rows that do not count.
    """

    def __init__(
        self,
        task: str,
        settings: S,
        layers: Layers,
        catalogs: CatalogSession,
        places: Sequence[Path],
        note: Callable[[str], None],
    ) -> None:
        self._task, self._layers, self._catalogs = task, layers, catalogs
        self._base = settings
        self._places, self._note = places, note
        self._options = remembered_options(type(settings))
        self._reader = OptionValues(type(settings))
        self._rows: dict[int, _Rows] = {}
        self._of_folder: dict[Path, _Values] = {}
        # The catalog of a folder, its rows, how the keys in it begin, and its values.
        self._of_place: dict[tuple[Path, str], tuple[Catalog, _Rows, str, _Values]] = {}
        self._by_values: dict[int, Effective[S]] = {}
        self._interned: dict[Any, Effective[S]] = {}
        # The places below the folder of the run whose settings file states something, by catalog.
        self._files: dict[int, list[tuple[Key, Collection[str]]]] = {}
        self._noted: set[str] = set()
        self._recorded: set[int] = set()

    def narrow(self, images: Iterable[ImageItem]) -> None:
        """State what is stated now for these images alone, as if each of them had been given."""
        self._places = [item.target for item in images]

    def parts(self, items: Iterable[ImageItem]) -> list[tuple[Effective[S], list[ImageItem]]]:
        """The images by their settings, in their order.

        Raises UsageError for settings that contradict each other, or that came with the folder and may not.
        """
        found: dict[int, tuple[Effective[S], list[ImageItem]]] = {}
        for item in items:
            effective = self.of(item)
            found.setdefault(id(effective), (effective, []))[1].append(item)
        return list(found.values())

    def note_remembered(
        self, parts: list[tuple[Effective[S], list[ImageItem]]], used: Collection[str] | None = None
    ) -> None:
        """Note in a line what earlier runs stated, once no error is left that has `remembered_hint`.

        `used` names the options that the command uses, if it does not use all of them.
        """
        if (line := self._remembered_line(parts, used)) is not None:
            self._note(strip_invisible(line))

    def of(self, item: ImageItem) -> Effective[S]:
        """The settings of an image. Raises as `parts`."""
        folder, _, name = item.within.rpartition("/")
        place = item.target_folder, folder
        if (known := self._of_place.get(place)) is None:
            # Paths are slow for a million images, and few of them have rows of their own.
            target = item.target.parent
            catalog = self._catalog_of(target)
            known = catalog, self._rows_of(catalog), catalog.prefix(target), self._values_at(item)
            self._of_place[place] = known
        catalog, rows, prefix, values = known
        if rows and (own := rows.get(as_key(prefix + name))):
            brought = self._typed(catalog, {name: row for name, row in own.items() if row.origin == MOVED})
            stated = self._typed(catalog, {name: row for name, row in own.items() if row.origin != MOVED})
            return self._effective(catalog, {**brought, **values, **stated})
        # The values of a folder are kept, so they have an id of their own.
        if id(values) not in self._by_values:
            self._by_values[id(values)] = self._effective(catalog, values)
        return self._by_values[id(values)]

    def of_folder(self, source: Path, target: Path) -> Effective[S]:
        """The settings of an image in the folder `source` whose sidecars are in `target`. Raises as `parts`."""
        return self.of(ImageItem(source, "any", target))

    def _values_at(self, item: ImageItem) -> _Values:
        """What is stated from the catalog's folder down to that of an image."""
        folder = item.target.parent
        if folder not in self._of_folder:
            catalog = self._catalog_of(folder)
            # Outside the catalog's folder, as with --catalog, every folder above counts.
            above = [each for each in (folder, *folder.parents) if each.is_relative_to(catalog.root)]
            values: _Values = {}
            for place in reversed(above or [folder, *folder.parents]):
                if place not in self._of_folder:
                    self._of_folder[place] = self._with_own(values, catalog, place, item)
                values = self._of_folder[place]
        return self._of_folder[folder]

    def _catalog_of(self, folder: Path) -> Catalog:
        """The catalog of a folder; of one that cannot be searched, whose images will fail, that of the folder above."""
        while True:
            try:
                return self._catalogs.of(folder)
            except CatalogFailed:
                if not self._is_below_a_place(folder):
                    raise
                folder = folder.parent

    def _with_own(self, values: _Values, catalog: Catalog, folder: Path, item: ImageItem) -> _Values:
        """The values of a folder: those of the folder above, and what is stated here."""
        key = folder_key(catalog, folder)
        file = {name: _Found(value) for name, value in self._file_of(catalog, folder, item).items()}
        own = self._typed(catalog, self._rows_of(catalog).get(key, {}))
        if file and self._is_below_a_place(folder):
            self._files.setdefault(id(catalog), []).append((key, file.keys()))
        differing = [name for name in file.keys() & own.keys() if own[name].value != file[name].value]
        if names := [name for name in sorted(differing) if name not in self._layers.now]:
            self._note(
                f"{folder}: {', '.join(map(spelt, names))} in its sdprep.toml does not count, since an earlier run "
                f"stated another value there; drop that with: sdprep settings {as_argument(folder)} --forget "
                + " ".join(name.replace("_", "-") for name in names)
            )
        return {**values, **file, **own} if file or own else values

    def _file_of(self, catalog: Catalog, folder: Path, item: ImageItem) -> Mapping[str, Any]:
        """What the settings file of a folder states, if it may count: one beside the images, or above them."""
        if folder.is_relative_to(item.target_folder):
            found = self._layers.folder(item.folder / folder.relative_to(item.target_folder))
        elif item.folder == item.target_folder and folder.is_relative_to(catalog.root):
            found = self._layers.folder(folder)
        else:
            return {}
        return {name: value for name, value in found.items() if name in self._options or name == PRESET}

    def _rows_of(self, catalog: Catalog) -> _Rows:
        """What earlier runs stated, by place and option."""
        if id(catalog) not in self._rows:
            rows = [*stated_rows(catalog), *catalog.kept_settings] if self._layers.remembered else []
            by_place: _Rows = {}
            for row in rows:
                if row.task == self._task:
                    by_place.setdefault(row.place, {})[row.option] = row
            self._rows[id(catalog)] = by_place
        return self._rows[id(catalog)]

    def _typed(self, catalog: Catalog, rows: Mapping[str, StatedRow]) -> _Values:
        """The values of rows, without those that this sdprep cannot use, which are noted once."""
        found = {}
        for option, row in rows.items():
            if option in self._options or option == PRESET:
                try:
                    found[option] = _Found(self._reader.from_row(row, catalog.root), row)
                    continue
                except ValueError as error:
                    fault = str(error)
            else:
                fault = "this sdprep has no such setting"
            if option not in self._noted:
                self._noted.add(option)
                self._note(strip_invisible(f"{spelt(option)} of an earlier run is ignored: {fault}"))
        return found

    def _effective(self, catalog: Catalog, values: _Values) -> Effective[S]:
        now = {name: each.value for name, each in self._layers.now.items()}
        found = {name: each for name, each in values.items() if name not in now}
        preset = now.get(PRESET) or (found[PRESET].value if PRESET in found else None)
        merged = dict(self._layers.preset(preset)) if preset else {}
        merged |= {**self._layers.user, **{name: each.value for name, each in found.items()}, **now}
        merged = {name: value for name, value in merged.items() if name in self._options}
        remembered = {name: each.value for name, each in sorted(found.items()) if each.row is not None}
        key = (frozenset(merged.items()), frozenset(remembered.items()))
        if key not in self._interned:
            for name, each in found.items():
                self._check(catalog, name, each)
            try:
                settings = with_options(self._base, merged)
            except UsageError as error:
                raise UsageError(f"{error}{self.remembered_hint(remembered)}") from error
            self._interned[key] = Effective(settings, frozenset(merged), remembered)
        return self._interned[key]

    def _check(self, catalog: Catalog, name: str, found: _Found) -> None:
        """Raise UsageError if a value that came with the folder may not be set by it."""
        row = found.row
        if row is None or row.is_signed:
            return
        fault = self._reader.path_fault(row, catalog.root) or untrusted_fault(type(self._base), name, found.value)
        if fault is not None:
            place = catalog.root / os.fsdecode(row.place)
            what = strip_invisible(f"the catalog of {place} remembers {as_flags(name, found.value)}, which {fault}")
            raise UsageError(
                f"{what}\nState {spelt(name)} yourself, or drop it with: sdprep settings {as_argument(place)} --forget "
                f"{name.replace('_', '-')}"
            )

    def remembered_hint(self, remembered: Mapping[str, Any]) -> str:
        """What to add to an error about settings of which earlier runs stated some; empty without those."""
        return f"\n{self._line(_flags(remembered), self._places)}" if remembered else ""

    def _line(self, what: str, places: Sequence[Path]) -> str:
        commands = [f"sdprep settings {as_argument(place)}" for place in places]
        shown = "; ".join(commands[:MOST_FOLDERS])
        more = f"; {len(commands) - MOST_FOLDERS} more places" if len(commands) > MOST_FOLDERS else ""
        return strip_invisible(f"using settings of earlier runs: {what} ({shown}{more})")

    def _places_of(self, items: Collection[ImageItem]) -> Sequence[Path]:
        """The places of the run that have some images."""
        if len(self._places) == 1:
            return self._places
        folders = {(item.target_folder, item.within.rpartition("/")[0]) for item in items}
        used = {root / within for root, within in folders}
        images = {item.target for item in items} if any(not place.is_dir() for place in self._places) else set()
        return [place for place in self._places if place in images or any(each.is_relative_to(place) for each in used)]

    def _remembered_line(
        self, parts: list[tuple[Effective[S], list[ImageItem]]], used: Collection[str] | None
    ) -> str | None:
        """The line about what earlier runs stated: for all images, then for those of single folders."""
        all_of = [
            {(name, value) for name, value in effective.remembered.items() if used is None or name in used}
            for effective, _ in parts
        ]
        if not any(all_of):
            return None
        common = set.intersection(*all_of)
        texts = [_flags(dict(sorted(common)))] if common else []
        differing = [(items, dict(sorted(own - common))) for own, (_, items) in zip(all_of, parts, strict=True)]
        differing = [(items, own) for items, own in differing if own]
        for items, own in differing[:MOST_FOLDERS]:
            folders = {item.rel.rpartition("/")[0] for item in items}
            texts.append(f"in {posixpath.commonpath(folders) or '.'}: {_flags(own)}")
        if len(differing) > MOST_FOLDERS:
            texts.append(f"others in {len(differing) - MOST_FOLDERS} more places")
        images = [item for own, (_, items) in zip(all_of, parts, strict=True) if own for item in items]
        return self._line("; ".join(texts), self._places_of(images))

    def _is_below_a_place(self, folder: Path) -> bool:
        return any(folder != place and folder.is_relative_to(place) for place in self._places)

    @property
    def stated_now(self) -> dict[str, Statement]:
        """What is stated now and remembered from now on."""
        return {name: each for name, each in self._layers.now.items() if name in self._options or name == PRESET}

    @property
    def place(self) -> Key:
        """The first place of the run in its catalog, "" for the catalog's own folder."""
        return folder_key(self._catalog_of(self._places[0]), self._places[0])

    def run_record(self, settings: S, model: str | None) -> RunInfo:
        """The record of the run, with what is stated now and for which folder."""
        stated = {name: each.value for name, each in self.stated_now.items()}
        info = run_info(self._task, settings, model, stated=stated, folder=printable(os.fsdecode(self.place)))
        return replace(info, remember=lambda catalog: self.record(catalog, info.uid))

    def record(self, catalog: Catalog, run: str) -> None:
        """Remember in a catalog what is stated now, for the folder of the run and all below; inside a transaction."""
        if id(catalog) in self._recorded or not self.stated_now or not self._layers.remembered:
            return
        self._recorded.add(id(catalog))
        if (fault := user_key()[1]) and "key" not in self._noted:
            self._noted.add("key")
            self._note(f"what is stated now is remembered as if it had come with the folder: {fault}")
        root = catalog.root
        near = [each for each in self._places if each.is_relative_to(root) or root.is_relative_to(each)]
        # A place above the catalog's folder is that folder here; a catalog elsewhere (--catalog) has all places.
        whole = {each for each in near if not each.is_relative_to(root)}
        places = {"" if each in whole else folder_key(catalog, each) for each in near or self._places}
        for place in places:
            forget(
                catalog,
                place,
                self._task,
                self.stated_now.keys(),
                until=run,
                with_folders=self._base.paths.recursive,
            )
        # A settings file below would count more than a row here, but this statement is younger.
        below: list[tuple[Key, Collection[str]]] = self._files.get(id(catalog), [])
        state(
            catalog,
            [
                StatedRow(key, self._task, name, self._reader.to_row(name, each.value, catalog.root), each.origin, run)
                for key, names in [*((place, self.stated_now.keys()) for place in places), *below]
                for name, each in self.stated_now.items()
                if name in names
            ],
        )


def folder_key(catalog: Catalog, folder: Path) -> Key:
    """The key of a folder in a catalog, "" for the catalog's own folder."""
    return as_key(catalog.prefix(folder).removesuffix("/"))


def _flags(values: Mapping[str, Any]) -> str:
    return " ".join(as_flags(name, value) for name, value in values.items())
