"""What int8 changes: the captions of some pictures against those in float32."""

from __future__ import annotations

from collections.abc import Callable

from sdprep.models.blip_engine import CaptionEngine
from sdprep.models.blip_pictures import Pictures

# How many pictures of a run are captioned in both.
SAMPLE = 8


class Int8Sample:
    """Captions the first pictures of a run in int8 and float32, and tells `note` how many come out the same.

    Of each picture the first caption counts. Holds the weights in float32 as long as it lives.
    """

    def __init__(self, int8: CaptionEngine, exact: CaptionEngine, note: Callable[[str], None]) -> None:
        self._engines, self._note = (int8, exact), note
        self._seen = self._same = 0

    def look(self, pictures: Pictures) -> bool:
        """Compare those of the pictures that belong to the sample; whether it is full now, and has been told."""
        some = pictures.part(0, SAMPLE - self._seen)
        one, other = (dict(engine.captions([some])) for engine in self._engines)
        self._seen += len(some.keys)
        self._same += sum(one[key][0].tokens == other[key][0].tokens for key in some.keys)
        if self._seen == SAMPLE:
            self.tell()
        return self._seen == SAMPLE

    def tell(self) -> None:
        """Say what was seen."""
        self._note(f"int8: {self._same} of {self._seen} captions are those of float32")
