"""The folders of sd-scripts (`DreamBoothDataset`): `10_name` with images and one text file for each."""

from __future__ import annotations

from sdprep.paths import stem_of
from sdprep.trainers.buckets import Bucket, BucketRules, Size
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.sd_scripts import SUFFIXES, choose_lines, judge_lines
from sdprep.trainers.target import Loaded, LoadOptions, Target, find_collisions, find_missing, read_utf8, with_dot

# The parts of a name that face detection has added, which a second file name leaves out.
FACE_PARTS = 4


class DreamBooth(Target):
    """Folders with repeats in their names; a folder without any such is read itself, as a dataset TOML says."""

    name = "dreambooth"
    title = "sd-scripts, folders with repeats (DreamBooth, LoRA)"
    extension = ".caption"
    suffixes = SUFFIXES
    any_case = False
    has_caches = True
    has_wildcards = True

    def bucket(self, image: Size, rules: BucketRules) -> Bucket:
        """The bucket of an image."""
        return rules.choose(image)

    def load(self, files: DatasetFiles, options: LoadOptions) -> Loaded:
        """Return the images of all folders and the text of each."""
        loaded = Loaded()
        extension = with_dot(options.extension) or self.extension
        classes = {place: class_of(place) for place in files.folders if place and "/" not in place}
        named = {place: name for place, name in classes.items() if name is not None}
        for rel in files.images():
            place = rel.rpartition("/")[0]
            if reason := self.why_not(rel):
                loaded.find(Code.NOT_LOADED, rel, reason)
            elif named and place not in named:
                in_deeper = place.partition("/")[0] in named
                reason = "it reads no subfolders" if in_deeper else "it is not in a folder with repeats such as 10_name"
                loaded.find(Code.NOT_LOADED, rel, reason)
            elif not named and place:
                loaded.find(Code.NOT_LOADED, rel, "it reads no subfolders")
            else:
                self._add(rel, extension, named.get(place), files, options, loaded)
        find_collisions(loaded)
        return loaded

    def _add(
        self,
        rel: str,
        extension: str,
        class_tokens: str | None,
        files: DatasetFiles,
        options: LoadOptions,
        loaded: Loaded,
    ) -> None:
        """Add an image with its prompts."""
        sidecar = next((each for each in self._candidates(rel, extension, files) if files.has(each)), None)
        if sidecar is None:
            loaded.prompts[rel] = [class_tokens or ""]
            effect = "its prompt is empty" if class_tokens is None else f"its prompt is {class_tokens!r}, of its folder"
            find_missing(rel, extension, files, loaded, effect)
            return
        loaded.prompts[rel], loaded.sources[rel] = [], sidecar
        text = read_utf8(files, sidecar, loaded)
        if text == "":
            loaded.find(Code.EMPTY_TEXT_FILE, sidecar)
        elif text is not None:
            lines = [line.strip() for line in text.removesuffix("\n").split("\n")]
            kept = [line for line in lines if line] if options.wildcard else lines
            joined = "\n".join(kept)
            loaded.prompts[rel] = choose_lines(joined, wildcard=options.wildcard)
            judge_lines(rel, joined, loaded, wildcard=options.wildcard)

    def _candidates(self, rel: str, extension: str, files: DatasetFiles) -> list[str]:
        """The sidecars that are looked for; the second leaves out the last parts of the whole path."""
        first = stem_of(rel) + extension
        parts = f"{files.root.as_posix()}/{stem_of(rel)}".split("_")
        if len(parts) <= FACE_PARTS:
            return [first]
        second = files.rel_of("_".join(parts[:-FACE_PARTS]) + extension)
        return [first] if second is None else [first, second]


def class_of(folder: str) -> str | None:
    """The class tokens in the name of a folder such as `10_name`; None if it does not begin with repeats."""
    repeats, _, rest = folder.partition("_")
    try:
        return rest if int(repeats) >= 1 else None
    except ValueError:
        return None
