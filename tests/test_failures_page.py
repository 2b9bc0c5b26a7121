"""The pages that promise are held against the code: the codes are all the codes, and the tests are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from sdprep import errors
from sdprep.types import FailureCode

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "failures.md").read_text("utf-8")
PROMISES = (ROOT / "docs" / "your-text.md").read_text("utf-8") + (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE + PROMISES)))


def tables() -> dict[str, list[list[str]]]:
    """The rows of every table of the page, as cells, by the heading above it."""
    found = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        found[heading] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    return {heading: rows for heading, rows in found.items() if rows}


ROWS = [pytest.param(row, id=f"{heading}: {row[0]}") for heading, rows in tables().items() for row in rows]


@cache
def named_in(path: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_outcome_code_is_on_the_page_once_and_no_other() -> None:
    listed = [cells[0] for cells in tables()["Outcome codes"]]
    assert sorted(listed) == sorted(f"`{code.value}`" for code in FailureCode)


def test_every_exit_code_is_on_the_page_once_and_no_other() -> None:
    known = {each.exit_code for each in vars(errors).values() if hasattr(each, "exit_code")} | {0, 3, 130, 143}
    assert [int(cells[0]) for cells in tables()["Exit codes"]] == sorted(known)


@pytest.mark.parametrize("row", ROWS)
def test_every_line_names_a_test(row: list[str]) -> None:
    assert re.fullmatch(r"`tests/[\w/]+\.py::\w+`(, `tests/[\w/]+\.py::\w+`)*", row[-1])


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in named_in(path)


@pytest.mark.parametrize("code", [code.value for code in FailureCode])
def test_every_outcome_code_is_looked_for_by_its_test(code: str) -> None:
    (cells,) = [each for each in tables()["Outcome codes"] if each[0] == f"`{code}`"]
    (path, _), *_ = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells[-1])
    text = (ROOT / path).read_text("utf-8")
    assert code in text or FailureCode(code).name in text
