"""The list of findings is closed: each code has a sentence and advice, and a line in the docs."""

import re
from pathlib import Path

from sdprep.trainers.findings import ABOUT, Code

PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text("utf-8")


def test_every_code_has_its_text_in_the_order_of_the_list() -> None:
    assert list(ABOUT) == list(Code)


def test_every_code_is_on_the_page_once_and_no_other() -> None:
    assert re.findall(r"^\| `(\w+)` \| (?:error|warning)", PAGE, re.MULTILINE) == [code.value for code in Code]


def test_every_text_is_a_sentence() -> None:
    texts = [text for about in ABOUT.values() for text in (about.sentence, about.advice)]
    assert [text for text in texts if not text[0].isupper() or not text.endswith(".")] == []


def test_every_code_is_used() -> None:
    package = Path(__file__).parents[2] / "sdprep"
    text = "".join(
        path.read_text("utf-8")
        for folder in ("trainers", "tasks/exchange")
        for path in (package / folder).glob("*.py")
        if path.name != "findings.py"
    )
    assert [code for code in Code if f"Code.{code.name}" not in text] == []
