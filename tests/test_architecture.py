"""The rules of the house, held against the code as it is: imports point down, and nothing grows too large."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from tests.commands import COMMANDS

PACKAGE = Path(__file__).parents[1] / "sdprep"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]

# What each part may import besides itself. `package` is sdprep/__init__.py with its version.
BOTTOM = {"package", "types", "errors", "confine", "files", "redact", "spelling"}
ALLOWED = {
    "package": set(),
    "types": {"spelling"},
    "spelling": set(),
    "errors": {"types"},
    "confine": set(),
    "files": set(),
    "redact": set(),
    "rules": {"types", "errors"},
    "devices": BOTTOM,
    "demo": set(),
    "config": {*BOTTOM, "rules", "devices"},
    "data": {*BOTTOM, "rules", "config"},
    "models": {*BOTTOM, "rules", "config"},
    "pipeline": {*BOTTOM, "rules", "config", "data", "models"},
    "engines": {*BOTTOM, "rules", "config", "data", "models", "pipeline"},
    "tasks": {*BOTTOM, "rules", "config", "data", "models", "pipeline", "engines", "demo"},
    "doctor": {*BOTTOM, "models"},
    "cli": {*BOTTOM, "rules", "config", "data", "models", "pipeline", "engines", "demo", "tasks", "doctor"},
    "__main__": {"cli"},
}
# transformers lays BLIP out anew with its versions, so one file loads it and one small file knows its insides. The
# mathematics over the weights is torch's, in files of one subject each.
TORCH = [
    "models/blip.py",
    "models/blip_attention.py",
    "models/blip_compile.py",
    "models/blip_engine.py",
    "models/blip_graph.py",
    "models/blip_linear.py",
    "models/blip_logits.py",
    "models/blip_network.py",
    "models/blip_pictures.py",
    "models/blip_reference.py",
    "models/blip_running.py",
    "models/blip_search.py",
    "models/blip_transfer.py",
    "models/blip_weights.py",
]
FRAMEWORKS = ["torch", "transformers", "tensorflow", "onnxruntime", "ray", "huggingface_hub"]
HEAVY = [*FRAMEWORKS, "numpy", "PIL", "safetensors", "tokenizers", "onnx", "sqlite3", "tqdm", "msgspec"]
BELOW_CLI = [name for name in NAMES if not name.startswith("cli/") and name != "__main__.py"]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"))


def part_of(module: str) -> str:
    """The part of the house to which `sdprep.data.image` or `data/image.py` belongs."""
    names = [name for name in module.removesuffix(".py").replace("/", ".").split(".") if name != "sdprep"]
    return "package" if not names or names == ["__init__"] else names[0]


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        return [f"{module}.{alias.name}" for alias in node.names] if is_folder(module) else [module]
    return []


def is_folder(module: str) -> bool:
    """Whether what follows `from module import` may be a module itself."""
    return (PACKAGE.parent / module.replace(".", "/")).is_dir() and module.startswith("sdprep")


def imports(name: str) -> set[str]:
    return {module for node in ast.walk(tree(name)) for module in imported(node)}


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, nor what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from at_import_time(child)


def users_of(package: str) -> set[str]:
    """The files that import a package. The doctor's probes try each framework in a process of its own: they may."""
    return {
        name
        for name in NAMES
        if not name.startswith("doctor/probe_") and any(module.split(".")[0] == package for module in imports(name))
    }


# Imports


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_down_only(name: str) -> None:
    part = part_of(name)
    below = {part_of(module) for module in imports(name) if module.split(".")[0] == "sdprep"}
    # `from sdprep import __version__` reads the package itself.
    assert below - {part, "__version__"} <= ALLOWED[part]


def test_every_part_of_the_house_has_its_place_in_the_order() -> None:
    assert {part_of(name) for name in NAMES} == set(ALLOWED)


def test_no_import_is_relative() -> None:
    relative = [
        name for name in NAMES for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name != "torch"])
def test_a_framework_is_imported_in_at_most_one_file(framework: str) -> None:
    assert len(users_of(framework)) <= 1


@pytest.mark.parametrize(
    ("framework", "file"),
    [
        ("transformers", "models/blip.py"),
        ("onnxruntime", "models/onnx_session.py"),
        ("tensorflow", "models/wd_tensorflow.py"),
        ("huggingface_hub", "models/hub.py"),
    ],
)
def test_a_framework_is_imported_where_its_file_says(framework: str, file: str) -> None:
    assert users_of(framework) == {file}


def test_torch_is_imported_by_the_captioner_and_its_decoder_alone() -> None:
    assert sorted(users_of("torch")) == TORCH


def test_the_insides_of_transformers_are_known_to_one_file() -> None:
    inside = re.compile(r"\.(vision_model\.\w+|encoder|bert|crossattention|self_attn|word_embeddings|predictions)\b")
    assert [name for name in NAMES if inside.search(ast.unparse(tree(name)))] == ["models/blip_weights.py"]


@pytest.mark.parametrize("name", NAMES)
def test_a_framework_is_imported_inside_the_function_that_needs_it(name: str) -> None:
    early = {module.split(".")[0] for node in at_import_time(tree(name)) for module in imported(node)}
    assert early.isdisjoint(FRAMEWORKS)


def calls(name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call))


@pytest.mark.parametrize("name", NAMES)
def test_no_model_is_loaded_with_code_of_its_own(name: str) -> None:
    assert "trust_remote_code" not in (PACKAGE / name).read_text(encoding="utf-8")
    classes = re.compile(r"\.Auto(Model|Tokenizer|Config|Processor|ImageProcessor)|hub\.load\b")
    assert not classes.search(ast.unparse(tree(name)))


@pytest.mark.parametrize("name", NAMES)
def test_what_can_run_code_while_it_is_read_is_read_in_one_place_and_for_weights_only(name: str) -> None:
    risky = re.compile(r"(torch\.load|pickle\.loads?|joblib\.load|marshal\.loads?|shelve\.open|eval|exec)")
    found = [ast.unparse(call) for call in calls(name) if risky.fullmatch(ast.unparse(call.func))]
    assert not imports(name) & {"pickle", "marshal", "shelve", "joblib", "dill"}
    assert found == [] or (name == "models/pickles.py" and all("weights_only=True" in each for each in found))


def test_only_the_client_of_the_hub_speaks_to_the_network() -> None:
    clients = {
        "socket",
        "ssl",
        "http",
        "urllib.request",
        "urllib3",
        "ftplib",
        "smtplib",
        "requests",
        "httpx",
        "aiohttp",
    }
    assert {name: found for name in NAMES if (found := {each for each in imports(name) if each in clients})} == {}


def test_click_is_known_to_the_command_line_alone() -> None:
    assert {part_of(name) for name in users_of("click")} == {"cli"}


@pytest.mark.parametrize("name", BELOW_CLI)
def test_nothing_below_the_command_line_prints(name: str) -> None:
    calls = [node.func for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    assert not any(isinstance(called, ast.Name) and called.id == "print" for called in calls)


@pytest.mark.parametrize("name", BELOW_CLI)
def test_nothing_below_the_command_line_reads_arguments_or_the_environment(name: str) -> None:
    # Setting a variable for a framework before it is imported is no reading.
    writes = re.compile(r"os\.environ\.setdefault\(")
    assert not re.search(r"sys\.argv|os\.environ|os\.getenv|from os import", writes.sub("", ast.unparse(tree(name))))


def loaded_by(*arguments: str) -> set[str]:
    """The packages that a command line has loaded when it ends."""
    code = (
        "import sys\n"
        "from sdprep.cli.main import main\n"
        f"sys.argv = {['sdprep', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('\\n'.join({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert "Usage:" in done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("task", ["tag", "caption"])
def test_the_process_of_a_command_leaves_frameworks_to_its_worker(task: str, tmp_path: Path) -> None:
    for path in (PACKAGE / "demo" / "pictures").glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = (
        "import sys\nfrom pathlib import Path\n"
        f"from sdprep.config import {task.title()}Settings\nfrom sdprep.tasks.{task} import {task}\n"
        f"report = {task}(Path(sys.argv[1]), {task.title()}Settings(model='demo-{task}'))\n"
        "print(report.written == report.found, *{name.split('.')[0] for name in sys.modules})\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    packages, modules = (line.split() for line in done.stdout.splitlines())
    assert packages[0] == "True"
    assert set(packages).isdisjoint({*FRAMEWORKS, "numpy", "safetensors", "tokenizers", "onnx"})
    assert "PIL.Image" not in modules


@pytest.mark.parametrize(
    "arguments", [["--help"], ["tag", "--help"], ["caption", "-h"], ["merge", "--help"]], ids=" ".join
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments).isdisjoint(HEAVY)


def test_the_library_can_be_imported_without_any_framework() -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in FRAMEWORKS)
    modules = [name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in BELOW_CLI]
    wanted = "".join(f"import sdprep.{module}\n" for module in modules if module != "__init__")
    done = subprocess.run([sys.executable, "-c", f"import sys\n{blocked}{wanted}"], capture_output=True, text=True)
    assert done.stderr == ""


# The command line


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_an_example_in_its_help(name: str) -> None:
    text = COMMANDS[name].get_help(click.Context(COMMANDS[name], info_name=name))
    _, _, example = text.partition("Example:")
    assert f"sdprep {name}" in example


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_command_is_explained(name: str) -> None:
    options = [each for each in COMMANDS[name].params if isinstance(each, click.Option) and not each.hidden]
    assert [each.name for each in options if not each.help] == []


# Sizes


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_in_one_sitting(name: str) -> None:
    assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("name", NAMES)
def test_a_function_fits_a_screen(name: str) -> None:
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions(name) if node.end_lineno}
    assert {function: lines for function, lines in long.items() if lines > 40} == {}


@pytest.mark.parametrize("name", BELOW_CLI)
def test_a_signature_has_at_most_six_parameters(name: str) -> None:
    counts = {}
    for node in functions(name):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counts[node.name] = len([each for each in given if each.arg not in ("self", "cls")])
    assert {function: count for function, count in counts.items() if count > 6} == {}


@pytest.mark.parametrize("word", ["utils", "helper", "helpers", "manager", "misc", "common"])
def test_no_module_has_a_name_that_says_nothing(word: str) -> None:
    assert not [name for name in NAMES if Path(name).stem == word]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("__init__.py")])
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(tree(name))
