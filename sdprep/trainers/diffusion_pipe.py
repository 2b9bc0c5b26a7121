"""diffusion-pipe: one folder with `.txt` files, or a `captions.json`, read in its `utils/dataset.py`."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from sdprep.errors import MetadataError, UsageError
from sdprep.trainers.files import OF_PILLOW, PIXELS, DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import Loaded, LoadOptions, SidecarTarget, read_utf8

CAPTIONS = "captions.json"
# Every other file of the folder is taken for an image or a video; in this spelling only.
IGNORED = frozenset({".txt", ".npz", ".json", ".parquet", ".bak", ".db"})
MEDIA = frozenset({".tar", ".mp4", ".avi", ".mov", ".webm", ".mkv", ".wmv", ".m4v", ".flv"})
SKIPPED = "the image is skipped"


class DiffusionPipe(SidecarTarget):
    """The whole text is one prompt; an image without a text is skipped, as skip_empty_caption is on by default."""

    name = "diffusion-pipe"
    title = "diffusion-pipe, text files or captions.json"
    extension = ".txt"
    suffixes = OF_PILLOW
    recursive = False
    without_text = SKIPPED

    def load(self, files: DatasetFiles, options: LoadOptions) -> Loaded:
        """Return the images and their prompts; with a captions.json, all text files are ignored."""
        if options.extension and options.extension not in (".txt", "txt"):
            raise UsageError("diffusion-pipe reads .txt files only; leave --caption-extension out")
        loaded = self._listed(files) if files.has(CAPTIONS) else super().load(files, options)
        for name in sorted(files.folders[""]):
            suffix = PurePosixPath(name).suffix
            if suffix == ".tar":
                loaded.notes.append(
                    f"{name} was not checked: diffusion-pipe reads images in tar files, sdprep does not"
                )
            if suffix not in IGNORED | MEDIA and suffix.lower() not in PIXELS:
                loaded.find(Code.STRAY_FILE, name)
        return loaded

    def miss(self, rel: str, extension: str, files: DatasetFiles, loaded: Loaded) -> None:
        """An image without a text is not trained."""
        super().miss(rel, extension, files, loaded)
        del loaded.prompts[rel]

    def prompts_of(self, text: str) -> list[str]:
        """The text without white space around it; its lines stay."""
        return [text.strip()]

    def _listed(self, files: DatasetFiles) -> Loaded:
        """The images with the prompts of captions.json. Raises MetadataError if it is not JSON."""
        loaded = Loaded()
        text = read_utf8(files, CAPTIONS, loaded)
        try:
            captions = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise MetadataError(f"{files.root / CAPTIONS} is not valid JSON: {error}") from error
        if not isinstance(captions, dict):
            raise MetadataError(f"{files.root / CAPTIONS} is not an object with a list of captions for each image")
        for rel in self.select(files.images(), loaded):
            listed = captions.get(rel)
            if listed is None:
                loaded.find(Code.NOT_LISTED, rel, SKIPPED)
            elif not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
                loaded.find(Code.BAD_ENTRY, rel, f"its value in {CAPTIONS} is not a list of texts")
            else:
                loaded.prompts[rel], loaded.sources[rel] = listed, CAPTIONS
        for key in captions:
            if not files.has(key):
                loaded.find(Code.UNRESOLVED_KEY, key, CAPTIONS)
        return loaded
