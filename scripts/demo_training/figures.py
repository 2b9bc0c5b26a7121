"""What a demo image shows, and the caption and tags that are true of it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.demo_training.palette import BACKDROP, EYES, HAIR

HAIR_COLOURS, EYE_COLOURS, BACKGROUNDS = tuple(HAIR), tuple(EYES), tuple(BACKDROP)
GREYS = ("black", "grey", "white")
CLOSED = "closed"
"""The value of `Person.eyes` for happily closed eyes, drawn as `^ ^`."""

RATINGS = ("general", "sensitive", "questionable", "explicit")


@dataclass(frozen=True)
class Person:
    """One cartoon person.

    `eyes` is one of `EYE_COLOURS` or `CLOSED`; `headwear` is "", "hat" or "cat ears"; `character` is the
    booru name of a named character, or "".
    """

    gender: str
    hair_colour: str
    hair_length: str
    eyes: str
    headwear: str = ""
    glasses: bool = False
    scarf: bool = False
    smile: bool = False
    character: str = ""


@dataclass(frozen=True)
class Figure:
    """One image: one or two people, from left to right, and the colour behind them."""

    people: tuple[Person, ...]
    background: str


CHARACTERS: Mapping[str, Person] = {
    person.character: person
    for person in (
        Person("girl", "red", "long", "yellow", scarf=True, smile=True, character="aka_(sdprep)"),
        Person("boy", "black", "short", "red", glasses=True, character="kuro_(sdprep)"),
        Person("girl", "blue", "short", "purple", "cat ears", smile=True, character="sora_(sdprep)"),
    )
}
"""The named characters, each with one fixed look; the drawing adds an emblem that nobody else wears."""

GENERAL_TAGS: tuple[str, ...] = (
    *("1girl", "1boy", "2girls", "2boys", "multiple_girls", "multiple_boys", "solo"),
    *(f"{colour}_hair" for colour in HAIR_COLOURS),
    *("long_hair", "short_hair"),
    *(f"{colour}_eyes" for colour in EYE_COLOURS),
    *("closed_eyes", "^_^", "hat", "cat_ears", "animal_ears", "glasses", "scarf", "smile"),
    *(f"{colour}_background" for colour in BACKGROUNDS),
    *("simple_background", "upper_body", "looking_at_viewer"),
)
CHARACTER_TAGS: tuple[str, ...] = tuple(CHARACTERS)


def random_person(rng: random.Random, grey: bool = False) -> Person:
    """Return a random person without a name; a `grey` one has no coloured hair and no coloured eyes."""
    eyes = "black" if grey else rng.choice(EYE_COLOURS)
    return Person(
        gender=rng.choice(("girl", "boy")),
        hair_colour=rng.choice(GREYS if grey else HAIR_COLOURS),
        hair_length=rng.choice(("long", "short")),
        eyes=CLOSED if rng.random() < 0.15 else eyes,
        headwear=rng.choice(("", "", "hat", "hat", "cat ears")),
        glasses=rng.random() < 0.35,
        scarf=rng.random() < 0.3,
        smile=rng.random() < 0.5,
    )


def random_figure(rng: random.Random) -> Figure:
    """Return a random image: a quarter show two people, a few show named characters or only greys."""
    grey = rng.random() < 0.1
    people = [random_person(rng, grey) for _ in range(2 if rng.random() < 0.25 else 1)]
    if not grey and rng.random() < 0.15:
        people[rng.randrange(len(people))] = rng.choice(list(CHARACTERS.values()))
    return Figure(tuple(people), rng.choice(GREYS if grey else BACKGROUNDS))


def is_grey(figure: Figure) -> bool:
    """Say whether the image stays true when its colours are taken away."""
    people = figure.people
    colours = {figure.background, *(p.hair_colour for p in people)}
    return colours <= set(GREYS) and all(p.eyes in ("black", CLOSED) and not p.character for p in people)


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _caption_of_one(person: Person) -> str:
    text = f"a {person.gender} with {person.hair_length} {person.hair_colour} hair and {person.eyes} eyes"
    worn = {"hat": "a hat", "cat ears": "cat ears", "": ""}[person.headwear]
    wearing = [worn, "glasses" * person.glasses, "a scarf" * person.scarf]
    if any(wearing):
        text += f" wearing {_join([name for name in wearing if name])}"
    return text + ", smiling," * person.smile


def caption_of(figure: Figure) -> str:
    """Return the true caption in lower-case English; two people by their hair, from left to right."""
    if len(figure.people) == 1:
        text = _caption_of_one(figure.people[0])
    else:
        text = _join([f"a {p.gender} with {p.hair_length} {p.hair_colour} hair" for p in figure.people])
    return f"{text} on a {figure.background} background"


def _tags_of_one(person: Person) -> set[str]:
    tags = {f"{person.hair_colour}_hair", f"{person.hair_length}_hair"}
    tags |= {"closed_eyes", "^_^"} if person.eyes == CLOSED else {f"{person.eyes}_eyes", "looking_at_viewer"}
    tags |= {"": set(), "hat": {"hat"}, "cat ears": {"cat_ears", "animal_ears"}}[person.headwear]
    worn = {"glasses": person.glasses, "scarf": person.scarf, "smile": person.smile}
    return tags | {name for name, shown in worn.items() if shown} | ({person.character} - {""})


def tags_of(figure: Figure) -> set[str]:
    """Return the true general and character tags as boorus spell them; two people's tags are united."""
    tags = {f"{figure.background}_background", "simple_background", "upper_body"}
    for gender in ("girl", "boy"):
        count = sum(person.gender == gender for person in figure.people)
        tags |= (set(), {f"1{gender}"}, {f"2{gender}s", f"multiple_{gender}s"})[count]
    for person in figure.people:
        tags |= _tags_of_one(person)
    return tags | ({"solo"} if len(figure.people) == 1 else set())
