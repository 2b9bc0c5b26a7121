"""The docs are true: commands run, options and codes are all there, links lead somewhere."""

import html
import re
import shlex
from collections import Counter
from io import StringIO
from pathlib import Path

import click
import pytest

from scripts.cli_page import page_name
from scripts.terminal_image import OUTPUT, SESSION
from sdprep import errors
from sdprep.cli.commands.models import about
from sdprep.demo import IMAGES
from sdprep.files import configs_folder
from sdprep.models.registry.registry import load
from sdprep.report import RunReport
from tests.commands import COMMANDS
from tests.in_process import run_in_process

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("README*.md")),
    *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
EXAMPLES = ["README.md", "docs/clean.md", "docs/configuration.md", "docs/edit.md", "docs/stats.md"]
# The folders of the examples, with images of the demo.
FOLDERS = {
    "imgs": ["aka.jpg", "kuro.png", "sora.webp"],
    "character": ["kuro.png", "aka-and-kuro.jpg"],
    "style": ["red-hair-hat.jpg", "two-girls.jpg"],
    "train/10_kuro": ["kuro.png"],
    "train/2_sora": ["sora.webp"],
    "both": ["red-hair-hat.jpg", "kuro.png"],
}
# What differs from run to run: seconds, names and times of runs, checksums of models.
VOLATILE = [
    (r"\(\d+\.\d s\)", "(SECONDS)"),
    (r'"seconds": [\d.]+', '"seconds": SECONDS'),
    (r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"#[0-9a-f]{12}", "#CHECKSUM"),
]


def section(page, heading):
    """The part of a page under a heading."""
    return re.split(r"^## ", TEXTS[page].split(f"## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text):
    """The cells of the rows of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def examples(page):
    """The commands of the console blocks of a page, each with the output that is shown.

    A TOML block that begins with a comment like `# imgs/sdprep.toml` comes as a command that writes this file.
    """
    for kind, block in re.findall(r"^```(console|toml)\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL):
        if kind == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                yield command, shown
        elif path := re.match(r"# (\S+\.toml)\n", block):
            yield f"echo {shlex.quote(block)} > {path[1]}", []


def obey(command, folder, environment):
    """Run one line of an example as a shell would, on any system; what it prints on both streams."""
    words = shlex.split(command)
    if words[0] == "echo":
        (folder / words[-1]).write_text(words[1] + "\n", "utf-8")
        return 0, ""
    if words[0] == "cat":
        return 0, "".join((folder / name).read_text("utf-8") for name in words[1:])
    assert words[0] == "sdprep", command
    said = StringIO()
    return run_in_process(*words[1:], folder=folder, environment=environment, out=said, err=said), said.getvalue()


@pytest.fixture(scope="module", params=EXAMPLES)
def followed(request, tmp_path_factory):
    """What came of following a page from its first example to its last: command, shown, exit code, output."""
    folder, home = tmp_path_factory.mktemp("reader"), str(tmp_path_factory.mktemp("home"))
    for place, names in FOLDERS.items():
        (folder / place).mkdir(parents=True)
        for name in names:
            (folder / place / name).write_bytes((IMAGES / name).read_bytes())
    environment = {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home, "HF_HOME": home}
    environment |= {"SDPREP_TAG_MODEL": "demo-tag", "SDPREP_CAPTION_MODEL": "demo-caption"}
    return [(*each, *obey(each[0], folder, environment)) for each in examples(request.param)]


def comparable(line):
    """A line without what differs from run to run; words between commas in any order, as scores may tie."""
    for pattern, word in VOLATILE:
        line = re.sub(pattern, word, line)
    return sorted(line.rstrip().split(", "))


def agrees(shown, said):
    """Whether the lines shown are the lines printed; a line `...` stands for any lines."""
    if not shown:
        return not said
    if shown[0] == "...":
        return any(agrees(shown[1:], said[start:]) for start in range(len(said) + 1))
    return bool(said) and comparable(shown[0]) == comparable(said[0]) and agrees(shown[1:], said[1:])


def names_of(command):
    """All spellings of all options of a command."""
    options = [option for option in COMMANDS[command].params if isinstance(option, click.Option)]
    return {name for each in options for name in [*each.opts, *each.secondary_opts, *getattr(each, "shortcuts", ())]}


def test_the_examples_of_a_page_run(followed):
    assert [(command, said) for command, _, code, said in followed if code] == []


def test_the_examples_of_a_page_print_what_is_shown(followed):
    assert [(shown, said) for _, shown, _, said in followed if shown and not agrees(shown, said.splitlines())] == []


def test_the_three_commands_are_among_the_examples():
    said = [command for command, _ in examples("README.md")]
    assert {"sdprep caption ./imgs", "sdprep tag ./imgs --threshold 0.35", "sdprep merge ./imgs"} <= set(said)


def test_every_command_has_a_page():
    pages = {path.name for path in (ROOT / "docs" / "cli").glob("*.md")}
    assert pages == {"README.md", *map(page_name, COMMANDS)}


def test_every_command_and_option_has_its_help_on_the_page_of_its_command():
    missing = []
    for words, command in COMMANDS.items():
        text = TEXTS[f"docs/cli/{page_name(words)}"]
        options = [each for each in command.params if isinstance(each, click.Option)]
        wanted = [f"`{name}`" for each in options for name in [*each.opts, *each.secondary_opts]]
        wanted += [each.help.replace("|", "\\|") for each in options]
        paragraphs = command.help.split("\n\n")
        wanted += [part[2:] if part.startswith("\b\n") else " ".join(part.split()) for part in paragraphs]
        missing += [(words, each) for each in wanted if each not in text]
    assert missing == [], "bring the pages up to date: python -m cogapp -r docs/*.md docs/cli/*.md"


def test_every_option_in_an_example_of_any_page_exists():
    unknown = []
    for page, text in {**TEXTS, "terminal": "\n".join(f"`{command}`" for command in SESSION)}.items():
        blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`(sdprep [^`]+)`", text)
        for line in lines:
            called = re.search(r"sdprep ((?:models|results) \w+|\w+)((?: .*)?)$", line)
            if called and called[1] in COMMANDS:
                options = {name.replace("_", "-") for name in re.findall(r"(?<= )--[\w-]+", called[2])}
                unknown += [(page, called[1], name) for name in options - names_of(called[1]) - {"--help"}]
    assert unknown == []


def test_every_exit_code_is_explained():
    known = {each.exit_code for each in vars(errors).values() if hasattr(each, "exit_code")} | {0, 3, 130, 143}
    assert {int(cells[0]) for cells in rows(section("docs/configuration.md", "Exit codes"))} == known


def test_every_field_of_the_report_is_explained():
    names = [cells[0] for cells in rows(section("docs/configuration.md", "For programs: `--json`"))]
    assert set(re.findall(r"`(\w+)`", " ".join(names))) == RunReport("tag").as_dict().keys()


def test_every_model_is_listed_with_the_size_in_its_description():
    shown = {cells[0].split("`")[1]: cells[5] for cells in rows(section("docs/models.md", "Built-in models"))}
    sizes = {}
    for path in configs_folder("models").glob("*.toml"):
        spec = load(path)
        size = "" if spec.megabytes is None else about(spec.megabytes).removeprefix("about ")
        sizes[path.stem] = "none" if spec.source.bundled else size
    assert shown == sizes


def test_the_readme_has_the_number_of_models_and_the_sizes_of_the_default_ones():
    text = TEXTS["README.md"]
    assert f"All {len(list(configs_folder('models').glob('*.toml')))} models" in text
    for command in ("caption", "tag"):
        (model,) = [option.default for option in COMMANDS[command].params if option.name == "model"]
        size = about(load(configs_folder("models") / f"{model}.toml").megabytes).removeprefix("about ")
        assert re.search(rf"{re.escape(size)} for {command}s", text), command


def test_every_module_on_the_map_exists():
    named = re.findall(r"`(sdprep/[\w/]+\.py)`", TEXTS["docs/architecture.md"])
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_an_option_that_is_offered_to_kohyas_users_exists_and_theirs_is_accepted_or_said_to_be_missing():
    wrong = []
    for command, cells in kohya_rows():
        theirs, offered = ({name.replace("_", "-") for name in re.findall(r"`(--[\w-]+)`", cell)} for cell in cells[:2])
        if not offered <= names_of(command) | names_of("merge"):
            wrong.append((command, cells, "is not an option"))
        if cells[1] == "none" and theirs & names_of(command):
            wrong.append((command, cells, "is accepted"))
        if cells[1] != "none" and cells[2].startswith("same") and not theirs <= names_of(command):
            wrong.append((command, cells, "is not accepted"))
        if cells[1] != "none" and not cells[2].startswith(("same", "differs: ")):
            wrong.append((command, cells, "is neither the same nor different"))
    assert wrong == []


def kohya_rows():
    """The rows of the tables for kohya's users, each with the command that takes the place of the script."""
    page = TEXTS["docs/from-kohya.md"]
    for command in ("tag", "caption", "merge", "clean"):
        headings = re.findall(rf"^## (.+ → `sdprep {command}`)$", page, re.MULTILINE)
        assert headings, command
        yield from ((command, cells) for heading in headings for cells in rows(section("docs/from-kohya.md", heading)))


def test_every_relative_link_leads_to_a_file():
    broken = [
        (page, target)
        for page, text in TEXTS.items()
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
        if not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_every_link_to_a_heading_leads_to_one():
    broken = []
    for page, text in TEXTS.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
            aim = (ROOT / page).parent.joinpath(target).read_text("utf-8") if target else text
            heads = re.findall(r"^#+ (.+)", aim, re.MULTILINE)
            if anchor not in [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]:
                broken.append((page, target, anchor))
    assert broken == []


def test_no_page_names_a_path_of_somebodys_machine():
    pattern = r"(?:/home/\w+|/Users/\w+|/root\b|/work/|/tmp/|[A-Z]:\\\\?Users)"
    assert [(page, found) for page, text in TEXTS.items() for found in re.findall(pattern, text)] == []


def test_the_changelog_tells_each_change_once():
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    beginnings = Counter(line[:40] for line in lines if line.startswith(("### ", "- `")))
    assert [begun for begun, count in beginnings.items() if count > 1] == []


def test_every_page_is_linked_from_the_readme_or_from_the_list_of_commands():
    linked = {f"docs/cli/{name}" for name in re.findall(r"\]\(([\w-]+\.md)\)", TEXTS["docs/cli/README.md"])}
    linked |= set(re.findall(r"\]\(([^)#]+)\)", TEXTS["README.md"])) | {"README.md"}
    assert TEXTS.keys() - linked == set()


def test_the_images_of_the_readme_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert {name: size for name, size in sizes.items() if size > 120 * 1024} == {}


def test_the_terminal_of_the_readme_shows_the_session_of_its_script():
    shown = html.unescape(re.sub(r"<[^>]+>", "", OUTPUT.read_text("utf-8")))
    words = re.findall(r"\S+", shown)
    assert [command for command in SESSION if not set(command.split()) <= set(words)] == []


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXTS["SECURITY.md"])
    missing = [
        (path, test)
        for path, test in named
        if not (ROOT / path).is_file() or f"def {test}" not in (ROOT / path).read_text("utf-8")
    ]
    assert len(named) > 15
    assert missing == []
