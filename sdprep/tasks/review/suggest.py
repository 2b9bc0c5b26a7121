"""Suggestions while a tag is typed: tags of the dataset first, then those of a list that the user named."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.errors import UsageError
from sdprep.files import read_limited
from sdprep.rules.labels import normalize_tag

MOST = 20
# Bytes; the longest list that is shared has 10 MB.
LARGEST_LIST = 64_000_000


@dataclass(frozen=True, slots=True)
class ListedTag:
    """A tag of a list, as it is written there, with its normalized spelling and its other names."""

    tag: str
    normalized: str
    count: int
    aliases: tuple[str, ...]


def read_tag_list(path: Path) -> list[ListedTag]:
    """The tags of a CSV as a1111's autocompletion has them: tag, category, count, aliases separated by commas.

    The most frequent come first. Raises UsageError if it cannot be read.
    """
    try:
        text = read_limited(path, LARGEST_LIST).decode("utf-8-sig")
        found = [_listed(row) for row in csv.reader(text.splitlines()) if row and row[0].strip()]
    except OSError as error:
        raise UsageError(f"--tag-list {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--tag-list {path} is not a CSV with tag, category, count and aliases: {error}") from error
    return sorted(found, key=lambda each: -each.count)


def _listed(row: list[str]) -> ListedTag:
    count = row[2].strip() if len(row) > 2 else ""
    aliases = tuple(map(normalize_tag, row[3].split(","))) if len(row) > 3 and row[3].strip() else ()
    tag = row[0].strip()
    return ListedTag(tag, normalize_tag(tag), int(count) if count.isdecimal() and count.isascii() else 0, aliases)


def suggestions(query: str, counts: Counter[str], listed: Iterable[ListedTag]) -> list[dict[str, Any]]:
    """The tags that have a text in them: what begins with it first, then what is more frequent.

    `alias` is another name of a listed tag, if only that has the text.
    """
    wanted = normalize_tag(query)
    if not wanted:
        return []
    own = sorted((tag for tag in counts if wanted in tag), key=lambda tag: (not tag.startswith(wanted), -counts[tag]))
    found: dict[str, dict[str, Any]] = {tag: {"tag": tag, "count": counts[tag], "alias": None} for tag in own[:MOST]}
    starting: list[tuple[ListedTag, str | None]] = []
    inside: list[tuple[ListedTag, str | None]] = []
    for each in listed:
        alias = None if wanted in each.normalized else next((name for name in each.aliases if wanted in name), None)
        if alias is not None or wanted in each.normalized:
            is_start = (alias or each.normalized).startswith(wanted)
            (starting if is_start else inside).append((each, alias))
    for each, alias in (starting + inside)[: 2 * MOST]:
        found.setdefault(each.normalized, {"tag": each.normalized, "count": counts[each.normalized], "alias": alias})
    return list(found.values())[:MOST]
