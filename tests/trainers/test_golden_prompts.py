"""The final prompt of each image is the one that the trainer's own loader gives, on a dataset that is hard to read."""

import itertools
import json
import re
from pathlib import Path

import pytest

from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.target import LoadOptions
from sdprep.trainers.targets import TARGETS
from tests.golden.trainers import dataset

GOLDEN: dict[str, dict[str, list[str]]] = json.loads((dataset.HERE / "prompts.json").read_text("utf-8"))


def expanded(prompt: str) -> set[str]:
    """All prompts that sd-scripts makes of one with choices in braces."""
    parts = re.split(r"\{([^}]+)\}", prompt.replace("{{", "\0").replace("}}", "\1"))
    choices = [part.split("|") if number % 2 else [part] for number, part in enumerate(parts)]
    return {"".join(each).replace("\0", "{").replace("\1", "}") for each in itertools.product(*choices)}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The dataset with its texts in `.caption` and in `.txt` files."""
    made = {}
    for extension in (".caption", ".txt"):
        made[extension] = tmp_path_factory.mktemp("set") / "images"
        dataset.build(made[extension], dataset.load_dataset(), extension)
    return made


def prompts_of(case: str, roots: dict[str, Path], work: Path) -> dict[str, list[str]]:
    """What sdprep says that the trainer reads."""
    name, *words = case.split()
    target = TARGETS[name]
    root = roots[target.extension or ".caption"]
    metadata: tuple[Path, ...] = ()
    if name.startswith("sd-scripts"):
        metadata = (work / "metadata.json",)
        metadata[0].write_text(json.dumps(dataset.load_metadata(root, words[0])))
    if name == "diffusion-pipe":
        root = root / words[0]
    options = LoadOptions(metadata=metadata, wildcard="wildcard" in words)
    prompts = target.load(DatasetFiles(root), options).prompts
    if options.wildcard:
        return {rel: sorted(set().union(*map(expanded, some))) for rel, some in prompts.items()}
    return prompts


@pytest.mark.parametrize("case", [case for case in GOLDEN if not case.startswith("imagefolder")])
def test_the_prompts_are_those_of_the_loader(case: str, roots: dict[str, Path], tmp_path: Path) -> None:
    assert prompts_of(case, roots, tmp_path) == GOLDEN[case]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_the_prompts_of_an_imagefolder_are_those_of_datasets(form: str, roots: dict[str, Path]) -> None:
    file = roots[".caption"] / f"metadata.{form}"
    dataset.write_rows(file)
    try:
        prompts = TARGETS["imagefolder"].load(DatasetFiles(roots[".caption"]), LoadOptions()).prompts
    finally:
        file.unlink()
    assert prompts == GOLDEN[f"imagefolder {form}"]


def test_no_key_of_a_stem_is_found_by_sd_scripts_0_10_and_none_of_a_relative_path_by_0_9() -> None:
    empty = {case for case, prompts in GOLDEN.items() if not prompts}
    assert empty == {f"{name} {mode}" for name in ("sd-scripts-0.10 stem", "sd-scripts-0.9 relative")
                     for mode in ("plain", "wildcard")}  # fmt: skip
