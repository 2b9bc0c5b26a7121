"""The READMEs in other languages say what the English one says: the same parts, commands, links and options."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGLISH = (ROOT / "README.md").read_text("utf-8")
TRANSLATIONS = {path.name: path.read_text("utf-8") for path in sorted(ROOT.glob("README.*.md"))}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def outline(text: str) -> list[str]:
    """Return the kinds of the lines in order: heading with its level, table row with its cells, list entry, block."""
    kinds = []
    for line in BLOCK.sub(r"block \1", text).splitlines():
        if found := re.match(r"(#+) |(- )|(\|)|(block \w+)", line):
            kinds.append(f"row of {line.count('|')}" if found[3] else found[0])
    return kinds


def words_of_programs(text: str) -> list[str]:
    """Return inline code, sorted, and the blocks except the tree, whose remarks are translated."""
    inline = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    blocks = [body for kind, body in BLOCK.findall(text) if kind != "text"]
    return sorted(inline) + blocks


def files_of_tree(text: str) -> list[str]:
    """Return the first words of the lines of the tree."""
    return [line.split()[0] for kind, body in BLOCK.findall(text) if kind == "text" for line in body.splitlines()]


def links(text: str) -> list[str]:
    return sorted(re.findall(r"\]\(([^)]+)\)", text))


def different(of) -> dict[str, list[tuple[str, str]]]:
    """Return where a translation has other items than the English README."""
    found = {}
    for name, text in TRANSLATIONS.items():
        english, other = of(ENGLISH), of(text)
        if english != other:
            found[name] = [pair for pair in zip(english, other, strict=False) if pair[0] != pair[1]][:3]
    return found


def test_there_are_two_translations() -> None:
    assert list(TRANSLATIONS) == ["README.ja.md", "README.zh-CN.md"]


def test_every_translation_has_the_headings_tables_and_lists_of_the_english_readme() -> None:
    assert different(outline) == {}


def test_every_translation_has_the_commands_options_and_file_names_of_the_english_readme() -> None:
    assert different(words_of_programs) == {}
    assert different(files_of_tree) == {}


def test_every_translation_has_the_links_of_the_english_readme() -> None:
    assert different(links) == {}


def test_every_translation_has_the_figures_of_the_english_readme() -> None:
    assert different(lambda text: sorted(re.findall(r"\d+(?:\.\d+)? [GM]B", text))) == {}


def test_no_heading_is_left_untranslated() -> None:
    def headings(text: str) -> set[str]:
        return set(re.findall(r"^##+ (.+)$", BLOCK.sub("", text), re.MULTILINE))

    left = [(name, found) for name, text in TRANSLATIONS.items() for found in headings(ENGLISH) & headings(text)]
    assert left == []


def test_the_words_that_users_search_for_occur_in_every_language() -> None:
    words = ["LoRA", "DreamBooth", "GPU", "fine-tuning", "Stable Diffusion", "BLIP", "WD14", "kohya"]
    texts = {"README.md": ENGLISH, **TRANSLATIONS}
    assert [(name, word) for name, text in texts.items() for word in words if word not in text] == []
