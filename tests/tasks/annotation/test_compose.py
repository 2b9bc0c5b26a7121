"""Any sequence of edits and runs on one tag file: what the user typed stays, and what the user removed stays out."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.report import NullListener, RunReport
from sdprep.rules.labels import normalize_tag
from sdprep.rules.policy import SidecarStatus, TextRequest, decide
from sdprep.tasks.annotation.job import Job, PlannedImage
from sdprep.tasks.annotation.writer import Writer
from sdprep.types import ImageItem

ITEM = ImageItem(Path("d"), "a.png", Path("d"))
SEPARATORS = (", ", ",", " | ", "; ", "\n", " / ", "/", " + ")
MACHINE = ("1girl", "long_hair", "solo", "x_(y)", "hat", "smile")
# What the machine gives, in its order, by threshold.
GIVEN = {0.9: MACHINE[:1], 0.5: MACHINE[:4], 0.1: MACHINE}
WORDS = (*MACHINE, "Long Hair", "SOLO", r"x \(y\)", "mine", "b c", "1boy")
TRIGGER = "my_Trigger"
RUNS = st.fixed_dictionaries(
    {"existing": st.sampled_from(["keep", "append", "prepend"])},
    optional={
        "threshold": st.sampled_from(list(GIVEN)),
        "caption_separator": st.sampled_from(SEPARATORS),
        "remove_underscore": st.booleans(),
    },
)
PLACES = st.floats(0, 1, exclude_max=True)
STEPS = st.one_of(
    RUNS.map(lambda explicit: ("run", explicit)),
    st.tuples(st.just("type"), st.sampled_from(WORDS), PLACES),
    st.tuples(st.just("remove"), PLACES),
    st.just(("empty",)),
)


class Catalog:
    """The least that a catalog does for one sidecar."""

    state = None

    def key(self, path):
        return str(path)

    def store_state(self, state):
        return state

    def set_state(self, _, state):
        self.state = state


class Pieces:
    """What a model gives for the image, already as pieces of text."""

    def __init__(self, pieces):
        self.pieces = pieces

    def render(self, _):
        return list(self.pieces)


def pieces_of(text):
    return [piece.strip() for piece in re.split(r"[,|;\n/+]", text) if piece.strip()]


class File:
    """A tag file between a user and runs of sdprep; it knows what the user typed and what the user removed."""

    def __init__(self):
        self.catalog, self.data = Catalog(), None
        self.typed, self.removed = [], set()
        # Words that came, and words that went, since a run last looked at who wrote what.
        self.pending, self.doubtful = set(), set()

    @property
    def text(self):
        return (self.data or b"").decode().rstrip("\n")

    def run(self, explicit):
        values = {"threshold": 0.5, "caption_separator": ", ", "remove_underscore": False, **explicit}
        existing = values.pop("existing")
        request = TextRequest("tag", values, frozenset(explicit) - {"existing"}, existing)
        tags = [tag.replace("_", " ") if values["remove_underscore"] else tag for tag in GIVEN[values["threshold"]]]
        self.apply(Job(request, ".txt", "stem", values["caption_separator"], Pieces(tags), {}, "decoder"))
        if existing != "keep":
            self.pending.clear()
            self.doubtful.clear()

    def apply(self, job):
        disk = SidecarStatus(self.data.decode() if self.data else None, self.catalog.state, b"image", self.data == b"")
        decision = decide(disk, job.request)
        image = PlannedImage(ITEM, job, self.catalog, (0, 0), self.data, disk, decision, b"result")
        change = Writer(RunReport("tag", found=1), None, NullListener())._change_of(image)
        if change is not None:
            self.data = change.after
            self.catalog.set_state("", change.state)

    def type(self, word, place):
        places = [0, *(match.end() for match in re.finditer(r"[,|;\n/+]", self.text)), len(self.text)]
        at = places[int(place * len(places))]
        before, after = self.text[:at], self.text[at:]
        self.save(f"{before}, {word}" if before and not after else f"{before} {word}, {after}")
        # A word that went and came back meanwhile looks as if it had never gone.
        self.typed.extend([word] if normalize_tag(word) not in self.doubtful else [])
        self.pending.add(normalize_tag(word))
        self.removed.discard(normalize_tag(word))

    def remove(self, place):
        words = [word for word in pieces_of(self.text) if word != TRIGGER]
        if words:
            self.strike({normalize_tag(words[int(place * len(words))])})

    def empty(self):
        self.strike({normalize_tag(word) for word in pieces_of(self.text) if word != TRIGGER})

    def strike(self, gone):
        self.save(", ".join(word for word in pieces_of(self.text) if normalize_tag(word) not in gone))
        self.typed = [word for word in self.typed if normalize_tag(word) not in gone]
        self.doubtful |= gone
        # Of a word that came and went meanwhile, sdprep cannot know.
        self.removed |= gone - self.pending

    def save(self, text):
        self.data = f"{text}\n".encode()

    def check(self, before, existing):
        found, typed = Counter(pieces_of(self.text)), Counter(self.typed)
        assert not typed - found
        folded = Counter(map(normalize_tag, pieces_of(self.text)))
        assert self.removed.isdisjoint(folded)
        if existing != "keep":
            theirs = Counter(map(normalize_tag, self.typed))
            held = Counter(map(normalize_tag, pieces_of(before)))
            assert not {word for word in folded if folded[word] > max(1, theirs[word], held[word])}


@pytest.mark.parametrize("start", ["the machine's text", "the user's text", "a text with separators of its own"])
def test_what_the_user_typed_stays_and_what_was_removed_stays_out(start, request):
    @settings(max_examples=request.config.getoption("--edits"), suppress_health_check=list(HealthCheck))
    @given(st.lists(STEPS, min_size=2, max_size=10))
    def live(steps):
        file = File()
        if start == "the machine's text":
            file.run({"existing": "keep"})
        elif start == "the user's text":
            file.type(TRIGGER, 0)
        else:
            file.typed = [TRIGGER, "1girl", "SOLO"]
            file.save(f"{TRIGGER} / 1girl + SOLO")
            for separator in (" / ", " + "):
                file.run({"existing": "append", "caption_separator": separator})
        for name, *details in steps:
            before = file.text
            getattr(file, name)(*details)
            file.check(before, details[0]["existing"] if name == "run" else "keep")

    live()


LINES = ("a girl, smiling", "a girl with blue hair", "one girl")
EDITS = st.one_of(
    st.fixed_dictionaries(
        {"existing": st.sampled_from(["keep", "append", "prepend"])}, optional={"best_of": st.sampled_from([1, 2, 3])}
    ).map(lambda explicit: ("run", explicit)),
    st.tuples(st.just("type"), st.sampled_from(["mine, smiling", "  indented", "a  girl; x", "my line"]), PLACES),
    st.tuples(st.just("strike"), PLACES),
)


class CaptionFile(File):
    """A caption file of runs that ask for several captions, so that the pieces are lines."""

    @property
    def lines(self):
        return self.text.split("\n") if self.text else []

    def run(self, explicit):
        values = {"captions": 3, "best_of": 1, **explicit}
        request = TextRequest("caption", values, frozenset(explicit) - {"existing"}, values.pop("existing"))
        self.apply(Job(request, ".caption", "stem", "\n", Pieces(LINES[: values["best_of"]]), {}, "decoder"))

    def type(self, line, place):
        at = int(place * (len(self.lines) + 1))
        self.save("\n".join([*self.lines[:at], line, *self.lines[at:]]))
        self.typed.append(line)

    def strike(self, place):
        lines = self.lines
        at = int(place * len(lines))
        if lines and lines[at] in LINES:
            self.removed.add(lines[at])
            self.save("\n".join([*lines[:at], *lines[at + 1 :]]))

    def check(self):
        assert not Counter(self.typed) - Counter(self.lines)
        assert self.removed.isdisjoint(self.lines)
        assert max(Counter(line for line in self.lines if line in LINES).values(), default=1) == 1


@pytest.mark.parametrize("start", ["the machine's text", "the user's text"])
def test_every_line_of_a_caption_that_the_user_typed_stays_to_the_letter(start, request):
    @settings(max_examples=request.config.getoption("--edits"), suppress_health_check=list(HealthCheck))
    @given(st.lists(EDITS, min_size=2, max_size=10))
    def live(steps):
        file = CaptionFile()
        file.run({"existing": "keep"}) if start == "the machine's text" else file.type(TRIGGER, 0)
        for name, *details in steps:
            getattr(file, name)(*details)
            file.check()

    live()


def test_a_line_of_a_caption_that_was_removed_stays_away_although_another_line_has_its_end():
    file = CaptionFile()
    file.run({"existing": "keep"})
    file.type("mine, smiling", 1)
    file.run({"existing": "prepend"})
    file.strike(0)
    file.run({"existing": "append"})
    assert file.text == "mine, smiling"


@pytest.mark.parametrize(
    ("text", "separators"),
    [
        ("1girl solo", [" ", ", ", ", ", " | ", ", "]),
        ("mine / 1girl / solo", [" / ", ", ", "; ", ", "]),
        ("mine + 1girl / solo", [" / ", " + ", ", ", "\t", ", "]),
    ],
)
@pytest.mark.parametrize("existing", ["append", "prepend"])
def test_a_separator_that_a_text_was_once_read_with_counts_in_every_later_run(text, separators, existing):
    file = File()
    file.save(text)
    for separator in separators:
        file.run({"existing": existing, "caption_separator": separator, "threshold": 0.1})
    file.run({"existing": "keep", "threshold": 0.5})
    file.run({"existing": existing, "remove_underscore": True})

    assert text in file.text
    assert file.text.count("1girl") == file.text.count("solo") == 1


BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\t")


@pytest.mark.parametrize("line_break", BREAKS, ids=ascii)
@pytest.mark.parametrize("existing", ["append", "prepend"])
def test_every_line_break_and_the_tab_separate_tags(line_break, existing):
    text = line_break.join(["1girl", "Solo", "mine"])
    file = File()
    file.save(text)
    for explicit in ({}, {"caption_separator": " | "}, {"remove_underscore": True}):
        file.run({"existing": existing, "threshold": 0.1, **explicit})

    assert text.replace("\r\n", "\n") in file.text
    assert file.text.casefold().count("1girl") == file.text.casefold().count("solo") == 1


@pytest.mark.parametrize("line_break", [each for each in BREAKS if each != "\t"], ids=ascii)
def test_every_line_break_separates_captions(line_break):
    file = CaptionFile()
    file.save(line_break.join(["mine", LINES[0], "also mine"]))
    file.run({"existing": "append", "best_of": 2})

    assert (file.text.count(LINES[0]), file.text.count(LINES[1])) == (1, 1)


def test_generated_tags_that_an_edit_left_beside_the_users_stay_generated():
    file = File()
    file.save("mine")
    file.run({"existing": "append"})
    file.strike({"solo"})

    file.run({"existing": "append"})
    file.run({"existing": "keep", "threshold": 0.9})

    assert file.text == "mine, 1girl"
