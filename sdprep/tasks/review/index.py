"""The images of a review by number, with what a filter can ask about them in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sdprep.catalog.session import CatalogSession
from sdprep.report import CancelToken, NullListener
from sdprep.rules.labels import normalize_tag
from sdprep.rules.where.parse import Where
from sdprep.rules.where.record import Record
from sdprep.tasks.review.spelling import Spellings
from sdprep.tasks.texts.records import ImageRecord, Records
from sdprep.tasks.texts.sidecars import SidecarNames
from sdprep.types import ImageItem

# What is known of every image from the beginning; anything else is read when a filter asks for it.
FIRST = frozenset({"rel", "tags", "caption", "missing", "source", "models"})
# Images that are read between two looks at whether the review ends, or a question waits.
CHUNK = 256
# Images whose tags are counted until a question is let through.
COUNTED = 2000


class Questions:
    """The questions that the page waits for, each held while it is answered; what takes longer waits for them."""

    def __init__(self) -> None:
        self._open, self._changed = 0, threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait(self) -> None:
        """Return as soon as none is open."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open)


class Named:
    """How the sidecars of an image are named; nearly all images share one answer."""

    def __init__(self, usual: SidecarNames, others: dict[str, SidecarNames]) -> None:
        self._usual, self._others = usual, others

    def __call__(self, item: ImageItem) -> SidecarNames:
        return self._others.get(item.rel, self._usual)


class Index:
    """The images of a review: a number is the place of an image in `items`, and stays that for the session.

    `state` counts the changes; `changed` has for each image the state since which it is as it is.
    """

    def __init__(self, items: Sequence[ImageItem], names_of: Callable[[ImageItem], SidecarNames]) -> None:
        self.items, self.names_of = list(items), names_of
        self.records = [Record(item.rel) for item in items]
        self.read, self.state, self.changed = 0, 0, [0] * len(items)
        # The normalized tags of all images by their spelling, shared by all that is read.
        self.vocabulary: dict[str, str] = {}
        self.spellings = Spellings(self.vocabulary)
        self._fields, self._scored = FIRST, frozenset[str]()
        # Which of these all images have, and how many images have all of them.
        self._known, self._learnt = (self._fields, self._scored), 0
        self._writing, self._asking = threading.Lock(), threading.Lock()
        self.questions = Questions()
        # How many images have each tag, in its normalized spelling.
        self._counts = Counter[str]()

    @property
    def is_reading(self) -> bool:
        """Whether some images have not been read yet."""
        return self.read < len(self.items)

    def load(self, catalogs: CatalogSession, stop: CancelToken) -> None:
        """Read all images, or fewer after a stop."""
        for start in range(0, len(self.items), CHUNK):
            self.questions.wait()
            if stop:
                return
            numbers = range(start, min(start + CHUNK, len(self.items)))
            self.refresh(numbers, catalogs, stop)
            self.read = numbers.stop

    def refresh(
        self, numbers: Sequence[int], catalogs: CatalogSession, stop: CancelToken | None = None, *, noted: bool = False
    ) -> None:
        """Read images and keep what was found; with `noted` all of them count as changed."""
        for start in range(0, len(numbers), CHUNK):
            some, is_kept = numbers[start : start + CHUNK], False
            while not is_kept:
                asked = self._fields, self._scored
                found = list(self.reading(some, catalogs, stop))
                with self._asking:
                    # A filter may have asked for more fields meanwhile.
                    if is_kept := asked == (self._fields, self._scored):
                        self.keep(zip(some, found, strict=False), noted=noted)

    def reading(
        self,
        numbers: Iterable[int],
        catalogs: CatalogSession,
        stop: CancelToken | None = None,
        fields: Collection[str] = (),
        scored: Collection[str] | None = (),
    ) -> Records:
        """Images as they are now, with what filters have asked about so far, and with further fields."""
        known = None if scored is None else {*self._scored, *scored}
        some = [self.items[number] for number in numbers]
        wanted = self._fields.union(fields)
        stop = stop or CancelToken()
        records = Records(some, self.names_of, catalogs, NullListener(), stop, fields=wanted, scored=known)
        records.vocabulary = self.vocabulary
        return records

    def keep(self, found: Iterable[tuple[int, ImageRecord]], *, noted: bool = False) -> None:
        """Take what was read of images; with `noted` all of them count as changed."""
        different = []
        for number, image in found:
            record = self._shortened(image.record)
            if noted or record != self.records[number]:
                self._replace(number, record)
                different.append(number)
        self.note(different)

    def _replace(self, number: int, record: Record) -> None:
        with self._writing:
            for tag in dict.fromkeys(self.records[number].tags):
                self._counts[tag] -= 1
                if not self._counts[tag]:
                    del self._counts[tag]
            self._counts.update(dict.fromkeys(record.tags).keys())
            self.records[number] = record

    def note(self, numbers: Sequence[int]) -> None:
        """Count these images as changed."""
        if numbers:
            with self._writing:
                self.state += 1
                for number in numbers:
                    self.changed[number] = self.state

    def _shortened(self, record: Record) -> Record:
        """A record without what only the page asked for."""
        scores: Mapping[str, float] = {tag: p for tag, p in record.scores.items() if tag in self._scored}
        sizes = self._fields & {"width", "height"}
        width, height = (record.width, record.height) if sizes else (0, 0)
        tokens = record.tokens if "tokens" in self._fields else 0
        rating = record.rating if "rating" in self._fields else ""
        failed = record.failed if "failed" in self._fields else ""
        return replace(record, scores=scores, width=width, height=height, tokens=tokens, rating=rating, failed=failed)

    def move(self, number: int, item: ImageItem) -> None:
        """Have an image at another place."""
        self.items[number] = item
        self.records[number] = replace(self.records[number], rel=item.rel)
        self.note([number])

    def read_for(self, where: Where | None, catalogs: CatalogSession) -> bool:
        """Read what a filter asks about of some more images; whether it is known of all images now.

        For one thread at a time.
        """
        fields = where.fields if where else FIRST
        scored = frozenset(map(normalize_tag, where.scored if where else ()))
        if fields <= self._known[0] and scored <= self._known[1]:
            return True
        if not (fields <= self._fields and scored <= self._scored):
            with self._asking:
                self._fields, self._scored, self._learnt = self._fields | fields, self._scored | scored, 0
        some = range(self._learnt, min(self._learnt + CHUNK, len(self.items)))
        self.refresh(some, catalogs)
        self._learnt = some.stop
        if self._learnt == len(self.items):
            self._known = self._fields, self._scored
        return self._learnt == len(self.items)

    def view(self, where: Where | None) -> list[int]:
        """The numbers of the images that match a filter, in their order; what it asks about has been read."""
        if where is None:
            return list(range(len(self.items)))
        matches = where.matcher(self.vocabulary.values())
        return [number for number, record in enumerate(self.records) if matches(record)]

    def counts(self) -> Counter[str]:
        """How many images have each tag; the tags in their normalized spelling."""
        with self._writing:
            return self._counts.copy()

    def counts_of(self, numbers: Sequence[int], stop: CancelToken) -> Counter[str]:
        """How many of these images have each tag; counting waits for questions, and ends early with a stop."""
        found = Counter[str]()
        for start in range(0, len(numbers), COUNTED):
            self.questions.wait()
            if stop:
                break
            for number in numbers[start : start + COUNTED]:
                found.update(dict.fromkeys(self.records[number].tags).keys())
        return found

    def changed_since(self, state: int) -> list[int]:
        """The numbers of the images that have changed since this state."""
        return [number for number, since in enumerate(self.changed) if since > state]
