"""OneTrainer: folders with `.txt` files, of which each line is one prompt.

Read in its `DataLoaderText2ImageMixin.py` and in `CollectPaths`, `LoadMultipleTexts` and `LoadImage` of mgds.
"""

from __future__ import annotations

from sdprep.trainers.findings import Code
from sdprep.trainers.target import CHOICE, Loaded, SidecarTarget


class OneTrainer(SidecarTarget):
    """A concept with its prompts from text files, and with its subfolders."""

    name = "onetrainer"
    title = "OneTrainer, prompts from text files"
    extension = ".txt"
    suffixes = frozenset({".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif"})
    turns = True

    def prompts_of(self, text: str) -> list[str]:
        """Each line that is not blank."""
        return [line.strip() for line in text.split("\n") if line.strip()] or [""]

    def judge(self, rel: str, text: str, loaded: Loaded) -> None:
        """It has no choices in braces."""
        if CHOICE.search(text):
            loaded.find(Code.WILDCARD_OFF, rel, "OneTrainer has no choices; use one line for each")
