"""A model folder with something wrong in it: the file is named, and nothing is written beside the images."""

import json

import onnx
import pytest

from tests.models.taggers.tiny_graphs import Contract, write_graph

TOML = """
name = "mine"
task = "tag"
backend = "onnx"
files = ["model.onnx", "selected_tags.csv"]
answers = "logits"
[source]
path = "weights"
[image]
fit = "pad"
[labels]
file = "selected_tags.csv"
categories = { general = 0, character = 4, rating = 9 }
"""
HEADER = "tag_id,name,category,count"
ROWS = [HEADER, "1,general,9,1", "2,1girl,0,1", "3,aka,4,1"]
CONTRACT = Contract(("N", 16, 16, 3), 16, (("scores", "logits"),), 3, centre=127.5, spread=127.5)
RECIPE = TOML.replace('"selected_tags.csv"]', '"selected_tags.csv", "preprocess.json"]').replace(
    'fit = "pad"', 'recipe = "preprocess.json"'
)
JSON = TOML.replace("selected_tags.csv", "tags.json").replace(
    "{ general = 0, character = 4, rating = 9 }", '{ general = "General" }'
)


@pytest.fixture
def run(sdprep_command, imgs, tmp_path):
    """Writes a model that is right, spoils it, tags; tells what was said and if the images have no new files."""
    weights = tmp_path / "weights"
    write_graph(weights / "model.onnx", CONTRACT)
    (weights / "selected_tags.csv").write_text("\n".join([*ROWS, ""]))
    before = sorted(path.name for path in imgs.iterdir())

    def tag(spoil=None, toml=TOML):
        (tmp_path / "mine.toml").write_text(toml)
        if spoil is not None:
            spoil(weights)
        outcome = sdprep_command("tag", "imgs", "--model", "mine.toml")
        after = sorted(path.name for path in imgs.iterdir() if not path.name.startswith("."))
        return outcome, after == before

    return tag


def labels(*rows):
    return lambda folder: (folder / "selected_tags.csv").write_text("\n".join(rows), encoding="utf-8")


def graph(contract):
    return lambda folder: write_graph(folder / "model.onnx", contract)


def put(name, data):
    return lambda folder: (folder / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def cut(folder):
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:1000])


def move_weights_out(folder):
    path, model = str(folder / "model.onnx"), onnx.load(folder / "model.onnx")
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def delete(name):
    return lambda folder: (folder / name).unlink()


def other(**changes):
    values = {"shape": ("N", 16, 16, 3), "size": 16, "outputs": (("scores", "logits"),), "labels": 3, **changes}
    return graph(Contract(**values))


FAULTS = {
    "no label file": (delete("selected_tags.csv"), TOML, "there is no selected_tags.csv in"),
    "no graph": (delete("model.onnx"), TOML, "there is no model.onnx in"),
    "another header": (labels("id;tag", "1;a"), TOML, "selected_tags.csv is not a label file"),
    "too few labels": (labels(*ROWS[:-1]), TOML, "model.onnx outputs 3 scores"),
    "too many labels": (labels(*ROWS, "4,x,0,1"), TOML, "selected_tags.csv has 4 rows"),
    "no labels": (labels(HEADER), TOML, "selected_tags.csv has no labels"),
    "an empty label file": (put("selected_tags.csv", b""), TOML, "selected_tags.csv is not a label file"),
    "a label twice": (labels(*ROWS[:-1], "3,1girl,0,1"), TOML, "selected_tags.csv, line 4: 1girl is a duplicate of"),
    "a comma without quotes": (labels(*ROWS[:-1], "3,Tokyo, Japan,0,1"), TOML, "selected_tags.csv, line 4"),
    "a tag of two lines": (labels(*ROWS[:-1], '3,"a\nb",0,1'), TOML, "selected_tags.csv, line 5"),
    "labels that are no UTF-8": (put("selected_tags.csv", b"tag_id,name\n\xff\xfe"), TOML, "it is not UTF-8 text"),
    "a graph cut short": (cut, TOML, "model.onnx is truncated or not an ONNX file"),
    "no graph at all": (put("model.onnx", b"version https://git-lfs.github.com/spec/v1\n"), TOML, "model.onnx is"),
    "weights elsewhere": (move_weights_out, TOML, "model.onnx keeps its weights in other files"),
    "four channels": (other(shape=("N", 16, 16, 4)), TOML, "model.onnx"),
    "any size": (other(shape=("N", "H", "W", 3)), TOML, "Set size in [image]"),
    "another size": (None, TOML.replace('"pad"', '"pad"\nsize = 32'), "takes images of 16 x 16, but"),
    "size 0": (None, TOML.replace('"pad"', '"pad"\nsize = 0'), "mine.toml: image.size: expected a whole number >= 1"),
    "std 0": (None, TOML.replace('"pad"', '"pad"\nstd = [0.0, 1.0, 1.0]'), "mine.toml: image.std[0]"),
    "mean not finite": (None, TOML.replace('"pad"', '"pad"\nmean = [nan, 0.0, 0.0]'), "mine.toml: image.mean"),
    "no fit": (None, TOML.replace('fit = "pad"', ""), "mine.toml: [image] needs fit"),
    "an output that is not there": (None, TOML.replace("answers", 'output = "x"\nanswers'), "it has: scores"),
    "logits taken for probabilities": (None, TOML.replace('answers = "logits"', ""), "which are not probabilities"),
    "a code twice": (None, TOML.replace("character = 4", "character = 0"), "mine.toml: labels.categories"),
    "a threshold for nothing": (None, TOML.replace("answers", "threshold = { x = 0.5 }\nanswers"), "threshold names x"),
    "JSON of another shape": (put("tags.json", [1, 2]), JSON, "tags.json: expected a table"),
    "JSON cut short": (put("tags.json", b'{"0": {"tag"'), JSON, "tags.json: Input data was truncated"),
    "no recipe": (None, RECIPE, "there is no preprocess.json in"),
    "a stage that nobody knows": (
        put("preprocess.json", {"stages": [{"type": "swirl"}]}),
        RECIPE,
        "preprocess.json, stage 1 (swirl)",
    ),
}


@pytest.mark.parametrize(("spoil", "toml", "said"), FAULTS.values(), ids=FAULTS)
def test_a_model_that_is_wrong_is_refused_with_the_file(spoil, toml, said, run):
    outcome, unmodified = run(spoil, toml)
    assert outcome.code == 1
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") <= 4
    assert unmodified


def test_the_model_that_they_are_made_of_is_right(run, imgs):
    outcome, _ = run()
    assert outcome.code == 0
    assert {path.name for path in imgs.glob("*.txt")} == {"a.txt", "b.txt"}


@pytest.mark.parametrize("cell", ['"Tokyo, ""the city""; Japan"', '";)"', "don't"])
def test_names_with_commas_quotes_and_semicolons_are_read(run, cell, imgs, sdprep_command):
    run(labels(*ROWS[:-1], f"3,{cell},0,1"))
    sdprep_command("tag", "imgs", "--model", "mine.toml", "--scores", "scores.jsonl", "--scores-min", "0.01")
    line = json.loads((imgs.parent / "scores.jsonl").read_text().splitlines()[0])
    assert (cell.strip('"') if '""' not in cell else 'Tokyo, "the city"; Japan') in line["general"]
