"""SimpleTuner: a local folder with `caption_strategy` textfile, read in its `helpers/prompts.py`."""

from __future__ import annotations

from sdprep.trainers.files import OF_PILLOW
from sdprep.trainers.target import SidecarTarget


class SimpleTuner(SidecarTarget):
    """Text files of which each line is one prompt, with any spaces around it, and with the CR of a CRLF."""

    name = "simpletuner"
    title = "SimpleTuner, caption_strategy textfile"
    extension = ".txt"
    suffixes = OF_PILLOW
    # Another library decodes, and what it makes of either is not known.
    turns = None
    drops_alpha = None
    newline = ""
    prompts_without_text = ()
    without_text = "SimpleTuner stops"

    def prompts_of(self, text: str) -> list[str]:
        """Each line that is not empty; a text of one line is taken whole."""
        return [line for line in text.split("\n") if line] if "\n" in text else [text]
