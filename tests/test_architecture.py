"""The rules of the house, held against the code as it is: imports point down, and nothing grows too large."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from tests.commands import COMMANDS
from tests.stories.telling import FAKE_CAPTION

PACKAGE = Path(__file__).parents[1] / "sdprep"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]

# The folders and single modules of the package from the bottom up: each line may import itself and the lines above it,
# and nothing beside it. `package` is sdprep/__init__.py with its version.
ORDER = [
    {"package"},
    {"types", "paths", "installation"},
    {"errors"},
    {"sanitize"},
    {"files", "report", "devices", "choices"},
    {"folders"},
    {"images", "rules"},
    {"catalog", "texts", "models"},
    {"engines", "doctor", "demo", "config", "trainers", "shards"},
    {"tasks"},
    {"review"},
    {"api", "cli"},
    {"__main__"},
]
# transformers changes the layout of its models with its versions: for each family one small file knows the internals.
TORCH = (
    "models/captioners/blip/",
    "models/captioners/chat/",
    "models/captioners/florence/",
    "models/captioners/frameworks.py",
)
FRAMEWORKS = [
    *("torch", "transformers", "bitsandbytes", "tensorflow", "onnxruntime", "ray", "huggingface_hub", "pyarrow"),
    *("obstore", "starlette", "uvicorn"),
]
HEAVY = [*FRAMEWORKS, "numpy", "PIL", "safetensors", "tokenizers", "onnx", "sqlite3", "tqdm", "msgspec"]
BELOW_CLI = [name for name in NAMES if not name.startswith("cli/") and name != "__main__.py"]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"))


@cache
def nodes(name: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(name)))


@cache
def unparsed(name: str) -> str:
    """A module without its comments."""
    return ast.unparse(tree(name))


def part_of(module: str) -> str:
    """The part of the house to which `sdprep.images.decode` or `images/decode.py` belongs."""
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


@cache
def imports(name: str) -> frozenset[str]:
    return frozenset(module for node in nodes(name) for module in imported(node))


def module_of(name: str) -> str:
    return "sdprep." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def early_imports(name: str) -> set[str]:
    return {module for node in at_import_time(tree(name)) for module in imported(node)}


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes(name) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


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
        if name != "doctor/probes.py" and any(module.split(".")[0] == package for module in imports(name))
    }


# Imports


def test_imports_point_down_only() -> None:
    levels = {part: level for level, parts in enumerate(ORDER) for part in parts}
    upward = []
    for name in NAMES:
        part = part_of(name)
        # The package loads its public names when they are used, so its own file may name any module.
        for module in imports(name) if name != "__init__.py" else ():
            # `from sdprep import __version__` reads the package itself.
            used = part_of(module.replace(".__version__", ""))
            if module.split(".")[0] == "sdprep" and used != part and levels[used] >= levels[part]:
                upward.append((name, module))
    assert upward == []


def test_no_two_modules_import_each_other() -> None:
    known = {module_of(name): {each for each in early_imports(name) if each.startswith("sdprep.")} for name in NAMES}
    graph = {module: {other for each in found for other in (each, each.rpartition(".")[0]) if other in known}
             for module, found in known.items()}  # fmt: skip
    # What is left after taking away, again and again, what imports nothing that is left, imports itself in the end.
    while free := {module for module, below in graph.items() if not (below & graph.keys()) - {module}}:
        graph = {module: below for module, below in graph.items() if module not in free}
    assert graph == {}


def test_every_folder_and_module_has_its_level() -> None:
    assert {part_of(name) for name in NAMES} == set().union(*ORDER)


def test_no_folder_has_more_files_than_a_reader_can_take_in() -> None:
    counts = Counter(str(Path(name).parent) for name in NAMES)
    assert {folder: count for folder, count in counts.items() if count > 14} == {}


def test_no_import_is_relative() -> None:
    relative = [name for name in NAMES for node in nodes(name) if isinstance(node, ast.ImportFrom) and node.level]
    assert relative == []


@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name != "torch"])
def test_a_framework_is_imported_in_at_most_one_file(framework: str) -> None:
    assert len(users_of(framework)) <= 1


@pytest.mark.parametrize(
    ("framework", "file"),
    [
        ("transformers", "models/captioners/frameworks.py"),
        ("bitsandbytes", "models/captioners/chat/quantize.py"),
        ("onnxruntime", "models/taggers/onnx_session.py"),
        ("tensorflow", "models/taggers/tensorflow_tagger.py"),
        ("huggingface_hub", "models/files/hub.py"),
        ("pyarrow", "texts/exchange/parquet.py"),
        ("obstore", "shards/store.py"),
        ("ray", "engines/ray.py"),
        ("fsspec", "shards/hub.py"),
        ("starlette", "review/app.py"),
        ("uvicorn", "review/serving.py"),
    ],
)
def test_a_framework_is_imported_where_its_file_says(framework: str, file: str) -> None:
    assert users_of(framework) == {file}


def test_torch_is_imported_by_captioners_and_their_decoders_alone() -> None:
    assert [name for name in users_of("torch") if not name.startswith(TORCH)] == []


def test_the_insides_of_transformers_are_known_to_one_file_a_family() -> None:
    inside = re.compile(r"\.(vision_model\.\w+|encoder|bert|crossattention|self_attn|word_embeddings|predictions)\b")
    assert [name for name in NAMES if inside.search(unparsed(name))] == [
        "models/captioners/blip/weights.py",
        "models/captioners/florence/network.py",
    ]


def test_a_framework_is_imported_inside_the_function_that_needs_it() -> None:
    early = [(name, each) for name in NAMES for each in early_imports(name) if each.split(".")[0] in FRAMEWORKS]
    assert early == []


@cache
def calls(name: str) -> tuple[tuple[str, ast.Call], ...]:
    """Every call with what is called."""
    return tuple((ast.unparse(node.func), node) for node in nodes(name) if isinstance(node, ast.Call))


def test_no_model_is_loaded_with_code_of_its_own() -> None:
    loaders = re.compile(r"\.Auto(Model|Tokenizer|Config|Processor|ImageProcessor)|hub\.load\b")
    texts = {name: (PACKAGE / name).read_text(encoding="utf-8") for name in NAMES}
    # There it is asked for beforehand, and transformers is told that the answer is no.
    chat = "models/captioners/chat/loading.py"
    assert [name for name in NAMES if loaders.search(texts[name])] == [chat]
    assert [name for name in NAMES if "trust_remote_code" in texts[name]] == [chat]
    assert re.findall(r"trust_remote_code.*", texts[chat]) == ['trust_remote_code": False}']


def test_what_can_run_code_while_it_is_read_is_read_in_one_place_and_for_weights_only() -> None:
    risky = re.compile(r"(torch\.load|pickle\.loads?|joblib\.load|marshal\.loads?|shelve\.open|eval|exec)")
    found = [(name, ast.unparse(call)) for name in NAMES for called, call in calls(name) if risky.fullmatch(called)]
    assert [name for name, _ in found] == ["models/captioners/trust.py"]
    assert "weights_only=True" in found[0][1]
    assert [name for name in NAMES if imports(name) & {"pickle", "marshal", "shelve", "joblib", "dill"}] == []


def test_only_the_clients_of_the_hub_and_of_a_server_speak_to_the_network() -> None:
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
    used = {name: {part for each in imports(name) for part in (each, each.split(".")[0])} for name in NAMES}
    # The page of `review` is served to this machine alone.
    allowed = ["models/captioners/server/connection.py", "review/serving.py"]
    assert [name for name in NAMES if clients & used[name]] == allowed


def test_click_is_known_to_the_command_line_alone() -> None:
    assert {part_of(name) for name in users_of("click")} == {"cli"}


def test_nothing_below_the_command_line_prints() -> None:
    assert [name for name in BELOW_CLI for called, _ in calls(name) if called == "print"] == []


def test_nothing_below_the_command_line_reads_arguments_or_the_environment() -> None:
    # Setting a variable for a framework before it is imported is not reading one.
    writes = re.compile(r"os\.environ\.setdefault\(")
    reads = re.compile(r"sys\.argv|os\.environ|os\.getenv|from os import")
    # A key is read where it is used, so that no setting, message or record ever holds it.
    found = [name for name in BELOW_CLI if reads.search(writes.sub("", unparsed(name)))]
    assert found == ["models/captioners/server/key.py"]


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


# Both kinds of captioners have the same parent, and the fake one loads in no time.
@pytest.mark.parametrize(("task", "model"), [("tag", "demo-tag"), ("caption", FAKE_CAPTION)], ids=["tag", "caption"])
def test_the_process_of_a_command_leaves_frameworks_to_its_worker(task: str, model: str, tmp_path: Path) -> None:
    for path in (PACKAGE / "demo" / "images").glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = (
        "import sys\nfrom pathlib import Path\n"
        f"from sdprep.config import {task.title()}Settings\nfrom sdprep.tasks.{task} import {task}\n"
        f"report = {task}(Path(sys.argv[1]), {task.title()}Settings(model={model!r}))\n"
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


def test_every_command_has_an_example_in_its_help() -> None:
    texts = {name: command.get_help(click.Context(command, info_name=name)) for name, command in COMMANDS.items()}
    assert [name for name, text in texts.items() if f"sdprep {name}" not in text.partition("Example:")[2]] == []


def test_every_option_of_a_command_is_explained() -> None:
    options = [(name, each) for name in COMMANDS for each in COMMANDS[name].params if isinstance(each, click.Option)]
    assert [(name, each.name) for name, each in options if not each.hidden and not each.help] == []


# Sizes


def test_a_file_is_read_in_one_sitting() -> None:
    lines = {name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in NAMES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_a_function_fits_a_screen() -> None:
    spans = [(name, node.name, (node.end_lineno or 0) - node.lineno + 1) for name in NAMES for node in functions(name)]
    assert [span for span in spans if span[2] > 40] == []


def test_a_signature_has_at_most_eight_parameters() -> None:
    counts = {}
    for name in BELOW_CLI:
        for node in functions(name):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            counts[name, node.name] = len([each for each in given if each.arg not in ("self", "cls")])
    assert {function: count for function, count in counts.items() if count > 8} == {}


def test_fields_are_passed_by_name_and_not_unpacked_in_order() -> None:
    classes = {node.name for name in NAMES for node in nodes(name) if isinstance(node, ast.ClassDef)}
    unpacked = [
        (name, called)
        for name in NAMES
        for called, call in calls(name)
        if called.rpartition(".")[2] in classes and any(isinstance(a, ast.Starred) for a in call.args)
    ]
    assert unpacked == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "helper", "helpers", "manager", "misc", "common"}
    assert [name for name in NAMES if Path(name).stem in empty] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name in NAMES if not ast.get_docstring(tree(name))] == []
