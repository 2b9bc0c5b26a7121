"""ai-toolkit: a folder tree with `.txt` files, read in `toolkit/data_loader.py` and `toolkit/dataloader_mixins.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sdprep.trainers.buckets import Bucket, BucketRules, Size, fit_area
from sdprep.trainers.target import Loaded, SidecarTarget

CONTROLS = "_controls"
PLACEHOLDERS = ("[name]", "[trigger]")


class AiToolkit(SidecarTarget):
    """The whole text is one prompt; without a trigger word its placeholders are removed."""

    name = "ai-toolkit"
    title = "ai-toolkit, text files"
    extension = ".txt"
    suffixes = frozenset({".jpg", ".jpeg", ".png", ".webp"})
    turns = True

    def select(self, images: Iterable[str], loaded: Loaded) -> Iterator[str]:
        """Leave out the folders with control images."""
        return super().select((rel for rel in images if f"/{rel}".split("/")[-2] != CONTROLS), loaded)

    def prompts_of(self, text: str) -> list[str]:
        """The text with a space more after each comma: it is split at commas and joined with a comma and a space."""
        prompt = ", ".join(text.split(","))
        for placeholder in PLACEHOLDERS:
            prompt = prompt.replace(placeholder, "")
        return [prompt]

    def bucket(self, image: Size, rules: BucketRules) -> Bucket:
        """The bucket of an image; of the rules, only the area and the step count."""
        return fit_area(image, int(rules.area**0.5), rules.bucket_reso_steps)
