"""What a person knows about tags, as data: other names, what implies what, and thresholds of single tags."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sdprep.errors import UsageError
from sdprep.rules.labels import STORED_FLOOR, normalize_tag
from sdprep.sanitize import strip_invisible

LONGEST_TAG = 1000
# How many characters of a wrong line a message repeats.
LONGEST_QUOTED = 200
# How many steps along implications are followed per row of the list, and in any case. Real chains are short; one long
# chain would take as many steps per row as the list has rows.
STEPS_PER_ROW, FEWEST_STEPS = 10, 10_000


@dataclass(frozen=True, slots=True)
class TagLists:
    """Lists about tags, by folded names.

    `aliases` has the canonical name of another name; `implied` has all that a tag implies, the nearest first;
    `thresholds` has the threshold of single tags.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    implied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """The (antecedent, consequent) pairs of a CSV file as booru sites publish them.

    The columns are `antecedent` and `consequent`, or `antecedent_name` and `consequent_name`, or the two of a file
    without a heading. Rows whose `status` is not `active` are passed over. Raises UsageError naming the line.
    """
    rows = _rows(text)
    first = next(rows, (0, []))
    heading = [cell.strip().lower().removesuffix("_name") for cell in first[1]]
    places, has_heading = (0, 1), False
    if "antecedent" in heading and "consequent" in heading:
        places, has_heading = (heading.index("antecedent"), heading.index("consequent")), True
    status = heading.index("status") if "status" in heading else None
    pairs = []
    for line, row in rows if has_heading or not heading else itertools.chain([first], rows):
        if status is not None and status < len(row) and row[status].strip().lower() != "active":
            continue
        try:
            antecedent, consequent = (row[place].strip() for place in places)
        except IndexError:
            antecedent = consequent = ""
        if not antecedent or not consequent or (len(row) > 2 and not has_heading):
            raise UsageError(f"line {line}: expected antecedent,consequent but found {_quoted(row)}")
        pairs.append((antecedent, consequent))
    return pairs


def parse_thresholds(text: str) -> dict[str, float]:
    """The thresholds of a CSV file with `tag,threshold`, with or without that heading, by folded tag.

    Raises UsageError naming the line.
    """
    thresholds: dict[str, float] = {}
    for line, row in _rows(text):
        try:
            tag, value = row
            threshold = float(value)
        except ValueError:
            if not thresholds and [cell.strip().lower() for cell in row] == ["tag", "threshold"]:
                continue
            raise UsageError(f"line {line}: expected tag,threshold but found {_quoted(row)}") from None
        if not STORED_FLOOR <= threshold <= 2:
            raise UsageError(
                f"line {line}: a threshold is a probability such as 0.35, and at least {STORED_FLOOR:g}, "
                f"not {value.strip()}"
            )
        thresholds[normalize_tag(tag)] = threshold
    return thresholds


def resolve_aliases(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The canonical name of every other name, chains followed to their end.

    Raises UsageError for a circle, and for two names of which both should be the canonical one.
    """
    direct: dict[str, str] = {}
    for other, name in pairs:
        if normalize_tag(other) != normalize_tag(name) and normalize_tag(
            direct.setdefault(normalize_tag(other), name)
        ) != normalize_tag(name):
            raise UsageError(f"'{other}' is an alias of both '{direct[normalize_tag(other)]}' and '{name}'")
    resolved: dict[str, str] = {}
    for other in direct:
        # Every name of a chain is resolved with its first one, so that a long chain is followed once.
        chain, key = {other: None}, other
        while key not in resolved and (key := normalize_tag(direct[key])) in direct:
            if key in chain:
                raise UsageError(f"'{direct[key]}' is an alias of itself, by way of other aliases")
            chain[key] = None
        end = resolved.get(key) or direct[next(reversed(chain))]
        resolved.update(dict.fromkeys(chain, end))
    return resolved


def resolve_implications(pairs: Iterable[tuple[str, str]], aliases: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return all that every tag implies, the nearest first, under canonical names.

    Raises UsageError for a circle, and for chains so long that they take more time than their list is worth.
    """
    direct: dict[str, dict[str, str]] = {}
    for antecedent, consequent in pairs:
        implied = aliases.get(normalize_tag(consequent), consequent)
        tag = normalize_tag(aliases.get(normalize_tag(antecedent), antecedent))
        if tag != normalize_tag(implied):
            direct.setdefault(tag, {})[normalize_tag(implied)] = implied
    steps = STEPS_PER_ROW * sum(map(len, direct.values())) + FEWEST_STEPS
    resolved = {}
    for tag in direct:
        found = dict(direct[tag])
        waiting = list(found)
        for key in waiting:
            nearest = direct.get(key, {})
            steps -= len(nearest)
            if steps < 0:
                raise UsageError(f"the chains of its implications are too long to follow, that of '{tag}' for example")
            for further, name in nearest.items():
                if further not in found:
                    found[further] = name
                    waiting.append(further)
        if tag in found:
            raise UsageError(f"'{found[tag]}' implies itself, by way of other tags")
        resolved[tag] = tuple(found.values())
    return resolved


def _quoted(row: list[str]) -> str:
    """Return the beginning of a row for a message."""
    text = ",".join(row)
    return f"'{text}'" if len(text) <= LONGEST_QUOTED else f"'{text[:LONGEST_QUOTED]}...'"


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that say something, with their line numbers. Raises UsageError for another file."""
    reader = csv.reader(text.lstrip("\ufeff").splitlines(), strict=True)
    try:
        for row in reader:
            # A name that a terminal, an editor or a trainer shows as another one is no use to anybody.
            cells = [strip_invisible(cell) for cell in row]
            if max(map(len, cells), default=0) > LONGEST_TAG:
                raise UsageError(f"line {reader.line_num}: a name has more than {LONGEST_TAG} characters")
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"it is not a CSV file: {error}") from error
