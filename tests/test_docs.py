"""The docs are true: commands run, options and codes are all there, links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sdprep import errors
from sdprep.cli.commands.models import about
from sdprep.models.registry.registry import load
from sdprep.report import RunReport
from sdprep.resources import configs_folder
from sdprep.tasks.demo import IMAGES
from tests.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
EXAMPLES = ["README.md", "docs/configuration.md"]
OPTIONS = [
    pytest.param(words, name, id=f"{words} {name}")
    for words, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
    for name in [*option.opts, *option.secondary_opts]
]
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
    """The commands of the console blocks of a page, each with the output that is shown."""
    for block in re.findall(r"^```console\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, shown


def obey(command, folder, home):
    """Run one line of an example as a shell would, on any system; what it says on both streams."""
    words = shlex.split(command)
    if words[0] == "echo":
        (folder / words[-1]).write_text(words[1] + "\n", "utf-8")
        return 0, ""
    if words[0] == "cat":
        return 0, (folder / words[1]).read_text("utf-8")
    assert words[0] == "sdprep", command
    models = {"SDPREP_TAG_MODEL": "demo-tag", "SDPREP_CAPTION_MODEL": "demo-caption"}
    done = subprocess.run(
        [sys.executable, "-m", "sdprep", *words[1:]],
        cwd=folder, env=home | models, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture(scope="module", params=EXAMPLES)
def followed(request, tmp_path_factory):
    """What came of following a page from its first example to its last: command, shown, exit code, output."""
    folder, home = tmp_path_factory.mktemp("reader"), str(tmp_path_factory.mktemp("home"))
    (folder / "imgs").mkdir()
    for name in ("aka.jpg", "kuro.png", "sora.webp"):
        (folder / "imgs" / name).write_bytes((IMAGES / name).read_bytes())
    environment = os.environ | {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home, "PYTHONUTF8": "1"}
    environment |= {"PYTHONPATH": str(ROOT)}
    return [(*each, *obey(each[0], folder, environment)) for each in examples(request.param)]


def comparable(line):
    """A line without what differs from run to run; words between commas in any order, as scores may tie."""
    for pattern, word in VOLATILE:
        line = re.sub(pattern, word, line)
    return sorted(line.rstrip().split(", "))


def agrees(shown, said):
    """Whether the lines shown are the lines said; a line `...` stands for any lines."""
    if not shown:
        return not said
    if shown[0] == "...":
        return any(agrees(shown[1:], said[start:]) for start in range(len(said) + 1))
    return bool(said) and comparable(shown[0]) == comparable(said[0]) and agrees(shown[1:], said[1:])


def test_the_examples_of_a_page_run(followed):
    assert [(command, said) for command, _, code, said in followed if code] == []


def test_the_examples_of_a_page_print_what_is_shown(followed):
    assert [(shown, said) for _, shown, _, said in followed if shown and not agrees(shown, said.splitlines())] == []


def test_the_three_commands_are_among_the_examples():
    said = [command for command, _ in examples("README.md")]
    assert {"sdprep caption ./imgs", "sdprep tag ./imgs --threshold 0.35", "sdprep merge ./imgs"} <= set(said)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_options_in_the_readme(command):
    assert f"<details><summary><b>sdprep {command}" in TEXTS["README.md"]


@pytest.mark.parametrize(("command", "name"), OPTIONS)
def test_every_option_is_in_the_table_of_its_command(command, name):
    part = TEXTS["README.md"].split(f"<b>sdprep {command}")[1].split("</details>")[0]
    assert f"`{name}`" in part


def test_every_exit_code_is_explained():
    known = {each.exit_code for each in vars(errors).values() if hasattr(each, "exit_code")} | {0, 3, 130, 143}
    assert {int(cells[0]) for cells in rows(section("docs/configuration.md", "Exit codes"))} == known


def test_every_field_of_the_report_is_explained():
    names = [cells[0] for cells in rows(section("docs/configuration.md", "For programs: `--json`"))]
    assert set(re.findall(r"`(\w+)`", " ".join(names))) == RunReport("tag").as_dict().keys()


@pytest.mark.parametrize("path", sorted(configs_folder("models").glob("*.toml")), ids=lambda path: path.stem)
def test_every_model_is_listed(path):
    assert f"| `{path.stem}`" in TEXTS["docs/models.md"]


@pytest.mark.parametrize("path", sorted(configs_folder("models").glob("*.toml")), ids=lambda path: path.stem)
def test_the_size_of_every_model_is_that_of_its_description(path):
    table = rows(section("docs/models.md", "The models that sdprep knows by name"))
    (cells,) = [each for each in table if each[0].startswith(f"`{path.stem}`")]
    spec = load(path)
    size = "" if spec.megabytes is None else about(spec.megabytes).removeprefix("about ")
    assert cells[5] == ("none" if spec.source.bundled else size)


def test_every_module_is_on_the_map():
    table = {
        cells[0].strip("`"): cells[2].split(", ") for cells in rows(section("docs/architecture.md", "The folders"))
    }
    listed = {Path("sdprep", "" if folder == "sdprep/" else folder, f"{name}.py")
              for folder, names in table.items() for name in names if name != "no code"}  # fmt: skip
    modules = {path.relative_to(ROOT) for path in (ROOT / "sdprep").rglob("*.py")}
    assert listed == {path for path in modules if not path.stem.startswith("__")}


def test_every_module_on_the_map_exists():
    named = re.findall(r"`(sdprep/[\w/]+\.py)`", TEXTS["docs/architecture.md"])
    assert [name for name in named if not (ROOT / name).is_file()] == []


KOHYA = [
    pytest.param(command, cells, id=f"{command} {cells[0]}")
    for command in ("tag", "caption", "merge")
    for heading in re.findall(rf"^## (.+ → `sdprep {command}`)$", TEXTS["docs/from-kohya.md"], re.MULTILINE)
    for cells in rows(section("docs/from-kohya.md", heading))
]


def names_of(command):
    """All spellings of all options of a command."""
    options = [option for option in COMMANDS[command].params if isinstance(option, click.Option)]
    return {name for each in options for name in [*each.opts, *each.secondary_opts, *getattr(each, "shortcuts", ())]}


@pytest.mark.parametrize(("command", "cells"), KOHYA)
def test_an_option_that_is_offered_to_kohyas_users_exists(command, cells):
    offered = {name.replace("_", "-") for name in re.findall(r"`(--[\w-]+)", cells[1])}
    assert offered <= names_of(command) | names_of("merge")


@pytest.mark.parametrize(("command", "cells"), KOHYA)
def test_an_option_of_kohyas_is_accepted_or_said_to_be_missing(command, cells):
    theirs = {name.replace("_", "-") for name in re.findall(r"`(--[\w-]+)`", cells[0])}
    if cells[1] == "none":
        assert not theirs & names_of(command)
    elif cells[2].startswith("same"):
        assert theirs <= names_of(command)
    else:
        assert cells[2].startswith("differs: ")


@pytest.mark.parametrize("page", TEXTS)
def test_every_relative_link_leads_to_a_file(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXTS[page])
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_to_a_heading_leads_to_one(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", TEXTS[page]):
        text = (ROOT / page).parent.joinpath(target).read_text("utf-8") if target else TEXTS[page]
        anchors = [
            re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)", text, re.M)
        ]
        assert anchor in anchors


@pytest.mark.parametrize("page", TEXTS)
def test_no_page_names_a_path_of_somebodys_machine(page):
    assert re.findall(r"(?:/home/\w+|/Users/\w+|/root\b|/work/|/tmp/|[A-Z]:\\\\?Users)", TEXTS[page]) == []


def test_every_page_is_linked_from_the_readme():
    assert [name for name in TEXTS if name != "README.md" and f"]({name})" not in TEXTS["README.md"]] == []


def test_the_image_of_the_readme_is_small():
    assert (ROOT / "docs" / "images" / "demo.jpg").stat().st_size <= 120 * 1024


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXTS["SECURITY.md"])
    missing = [
        (path, test)
        for path, test in named
        if not (ROOT / path).is_file() or f"def {test}" not in (ROOT / path).read_text("utf-8")
    ]
    assert len(named) > 15
    assert missing == []
