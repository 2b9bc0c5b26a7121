"""What a captioner is asked about each image: the prompt of the run, filled with what is known of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sdprep.catalog.catalog import Catalog
from sdprep.errors import ModelError, SdprepError, UsageError
from sdprep.folders import Folders
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import find
from sdprep.models.taggers.label_file import read_columns
from sdprep.rules.labels import normalize_tag
from sdprep.rules.mixed_text import MixedText
from sdprep.rules.policy import SidecarStatus
from sdprep.rules.prompt import MissingValue, Prompt
from sdprep.tasks.annotation.compose import text_on_disk
from sdprep.texts.sidecar import decode_text, sidecar_name
from sdprep.types import ImageItem

# The variables that are filled from the sidecar with the tags.
FROM_TAGS = ("tags", "characters", "general", "rating")
# The file whose text `{caption}` is.
CAPTIONS = ".caption"
ADVICE = {
    "caption": f"a {CAPTIONS} file beside it",
    "characters": "character tags, from a tagger whose files are on this machine",
    "rating": "a rating among its tags: run `sdprep tag --ratings first`",
}


@dataclass(slots=True)
class Prompts:
    """Fills the prompt of a run for one image after the other; `extension` is that of the sidecars with the tags."""

    prompt: Prompt
    trigger: str
    extension: str
    naming: str
    _categories: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def filled(self, item: ImageItem, catalog: Catalog, folders: Folders) -> tuple[str, dict[str, str]]:
        """The prompt for an image, and the values in it. Raises UsageError if a value is missing."""
        values = self._values(item, catalog, folders)
        try:
            return self.prompt.render(values), {name: values.get(name, "") for name in self.prompt.variables}
        except MissingValue as error:
            name = error.args[0]
            advice = ADVICE.get(name, "tags: run `sdprep tag` first" if name in FROM_TAGS else f"a --{name}")
            raise UsageError(
                f"{item.rel}: the prompt asks for {{{name}}}, and there is none\n"
                f"It needs {advice}; or write {{{name}|none}} in the prompt for images without"
            ) from error

    def _values(self, item: ImageItem, catalog: Catalog, folders: Folders) -> dict[str, str]:
        wanted = set(self.prompt.variables)
        values = {"name": item.path.stem, "folder": item.path.parent.name, "trigger": self.trigger}
        if "caption" in wanted:
            values["caption"] = " ".join(self._read(item, CAPTIONS, folders).split())
        if wanted & {*FROM_TAGS}:
            values |= self._tags(item, catalog, folders)
        return values

    def _tags(self, item: ImageItem, catalog: Catalog, folders: Folders) -> dict[str, str]:
        """The tags of the sidecar as it is now, together and by category."""
        path = item.target.with_name(sidecar_name(item.target.name, self.extension, self.naming))
        key, text = catalog.key(path), self._read(item, self.extension, folders)
        state = catalog.states([key], [text.encode()]).get(key) if text else None
        content = text_on_disk(SidecarStatus(text or None, state))
        tags = list(dict.fromkeys(tag.strip() for tag in content.tags if tag.strip()))
        categories = self._categories_of(content) if set(self.prompt.variables) & {*FROM_TAGS[1:]} else {}
        by_category: dict[str, list[str]] = {}
        for tag in tags:
            by_category.setdefault(categories.get(normalize_tag(tag), "general"), []).append(tag)
        values = {"tags": tags, "general": by_category.get("general", [])}
        values |= {"characters": by_category.get("character", []), "rating": by_category.get("rating", [])}
        return {name: ", ".join(each) for name, each in values.items()}

    def _read(self, item: ImageItem, extension: str, folders: Folders) -> str:
        """The text of a sidecar, of whatever encoding; empty if there is none."""
        folder, _, name = item.within.rpartition("/")
        place = folders.find(folder)
        data = None if place is None else place.read(sidecar_name(name, extension, self.naming))
        return decode_text(data or b"") or ""

    def _categories_of(self, content: MixedText) -> dict[str, str]:
        """The categories of tags, by the label files of the taggers that wrote them; of what is not here, none."""
        found: dict[str, str] = {}
        for part in content.generated:
            if part.author == "tag":
                if part.model not in self._categories:
                    self._categories[part.model] = labels_of(part.model)
                found |= self._categories[part.model]
        return found


def labels_of(model: str) -> dict[str, str]:
    """The category of each tag of a tagger; nothing if the tagger is not on this machine any more."""
    try:
        spec = find(model, "tag")
        files = find_local(spec)
    except SdprepError:
        return {}
    if files is None or spec.task != "tag":
        return {}
    try:
        labels, _ = read_columns(spec, files)
    except ModelError:
        return {}
    return {normalize_tag(name): category for name, category in zip(labels.names, labels.categories, strict=True)}
