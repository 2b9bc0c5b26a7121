"""Lists about tags: aliases, implications, and thresholds of single tags."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sdprep.errors import UsageError
from sdprep.rules.labels import STORED_FLOOR, normalize_tag
from sdprep.sanitize import strip_invisible

LONGEST_TAG = 1000
# Characters of a wrong line that a message quotes.
LONGEST_QUOTED = 200
# Steps along implications that are followed per row of the list, and at least. Real chains are short; a single long
# chain would take as many steps per row as the list has rows.
STEPS_PER_ROW, FEWEST_STEPS = 10, 10_000


@dataclass(frozen=True, slots=True)
class TagLists:
    """Lists about tags, by normalized name.

    `aliases` has the canonical name of an alias; `implied` has all tags that a tag implies, the nearest first;
    `thresholds` has the thresholds of single tags.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    implied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """The (antecedent, consequent) pairs of a CSV file as booru sites publish them.

    The columns are `antecedent` and `consequent`, or `antecedent_name` and `consequent_name`, or the two of a file
    without a header. Rows whose `status` is not `active` are skipped. Raises UsageError naming the line.
    """
    rows = _rows(text)
    first = next(rows, (0, []))
    header = [cell.strip().lower().removesuffix("_name") for cell in first[1]]
    columns, has_header = (0, 1), False
    if "antecedent" in header and "consequent" in header:
        columns, has_header = (header.index("antecedent"), header.index("consequent")), True
    status = header.index("status") if "status" in header else None
    pairs = []
    for line, row in rows if has_header or not header else itertools.chain([first], rows):
        if status is not None and status < len(row) and row[status].strip().lower() != "active":
            continue
        try:
            antecedent, consequent = (row[column].strip() for column in columns)
        except IndexError:
            antecedent = consequent = ""
        if not antecedent or not consequent or (len(row) > 2 and not has_header):
            raise UsageError(f"line {line}: expected antecedent,consequent but found {_quoted(row)}")
        pairs.append((antecedent, consequent))
    return pairs


def parse_thresholds(text: str) -> dict[str, float]:
    """The thresholds of a CSV file with `tag,threshold`, with or without that header, by normalized tag.

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
    """The canonical name of every alias, following chains to their end.

    Raises UsageError for a cycle, and for an alias of two names.
    """
    direct: dict[str, str] = {}
    for other, name in pairs:
        if normalize_tag(other) != normalize_tag(name) and normalize_tag(
            direct.setdefault(normalize_tag(other), name)
        ) != normalize_tag(name):
            raise UsageError(f"'{other}' is an alias of both '{direct[normalize_tag(other)]}' and '{name}'")
    resolved: dict[str, str] = {}
    for other in direct:
        # All names of a chain are resolved with its first one, so that a long chain is followed once.
        chain, key = {other: None}, other
        while key not in resolved and (key := normalize_tag(direct[key])) in direct:
            if key in chain:
                raise UsageError(f"'{direct[key]}' is an alias of itself, through other aliases")
            chain[key] = None
        end = resolved.get(key) or direct[next(reversed(chain))]
        resolved.update(dict.fromkeys(chain, end))
    return resolved


def resolve_implications(pairs: Iterable[tuple[str, str]], aliases: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return all that every tag implies, the nearest first, under canonical names.

    Raises UsageError for a cycle, and for chains that are unreasonably long for the size of their list.
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
                raise UsageError(f"its chains of implications are too long to follow, such as that of '{tag}'")
            for further, name in nearest.items():
                if further not in found:
                    found[further] = name
                    waiting.append(further)
        if tag in found:
            raise UsageError(f"'{found[tag]}' implies itself, through other tags")
        resolved[tag] = tuple(found.values())
    return resolved


def _quoted(row: list[str]) -> str:
    """Return the start of a row for a message."""
    text = ",".join(row)
    return f"'{text}'" if len(text) <= LONGEST_QUOTED else f"'{text[:LONGEST_QUOTED]}...'"


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the non-empty rows of a CSV file with their line numbers. Raises UsageError for any other file."""
    reader = csv.reader(text.lstrip("\ufeff").splitlines(), strict=True)
    try:
        for row in reader:
            # Invisible characters would make a name look like another one.
            cells = [strip_invisible(cell) for cell in row]
            if max(map(len, cells), default=0) > LONGEST_TAG:
                raise UsageError(f"line {reader.line_num}: a name has more than {LONGEST_TAG} characters")
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"it is not a CSV file: {error}") from error
