"""A model folder with something wrong in it: the file is named, and nothing is written beside the images."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

import sdprep.demo
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
# A worker passes every error on as it is: tests/engines.
INLINE = ("--workers", "0")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
PAGE = b"<!DOCTYPE html><title>404"
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
        outcome = sdprep_command("tag", "imgs", "--model", "mine.toml", *INLINE)
        after = sorted(path.name for path in imgs.iterdir())
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


def lose_weights(folder):
    move_weights_out(folder)
    (folder / "weights.bin").unlink()


def versions(opset=17, ir=8):
    def change(folder):
        model = onnx.load(folder / "model.onnx")
        model.ir_version, model.opset_import[0].version = ir, opset
        onnx.save(model, folder / "model.onnx")

    return change


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
    "a pointer of Git LFS": (put("model.onnx", LFS), TOML, "model.onnx is a Git LFS pointer, not the file itself"),
    "a web page saved as the graph": (
        put("model.onnx", b"<!DOCTYPE html><title>404"),
        TOML,
        "model.onnx is a web page",
    ),
    "a pointer of Git LFS for the labels": (
        put("selected_tags.csv", LFS),
        TOML,
        "selected_tags.csv is a Git LFS pointer",
    ),
    "an empty graph": (put("model.onnx", b""), TOML, "model.onnx is empty"),
    "weights elsewhere": (move_weights_out, TOML, "weights.bin, which the model's description does not name"),
    "weights elsewhere and missing": (
        lose_weights,
        TOML,
        "its weights in weights.bin, which is missing beside",
    ),
    "an opset too new": (versions(opset=99), TOML, "has opset 99, but onnxruntime"),
    "an IR version too new": (versions(ir=99), TOML, "has IR version 99, but onnxruntime"),
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
    sdprep_command("tag", "imgs", "--model", "mine.toml", "--scores", "scores.jsonl", "--scores-min", "0.01", *INLINE)
    line = json.loads((imgs.parent / "scores.jsonl").read_text().splitlines()[0])
    assert (cell.strip('"') if '""' not in cell else 'Tokyo, "the city"; Japan') in line["general"]


# Captioners


@pytest.fixture
def captioner(tmp_path):
    """A folder with the demo captioner."""
    return shutil.copytree(Path(sdprep.demo.__file__).parent / "models" / "demo-caption", tmp_path / "captioner")


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_table(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])


def other_tokenizer(tokens):
    """Gives these tokens of the tokenizer these ids."""

    def change(folder):
        path = folder / "tokenizer.json"
        found = json.loads(path.read_text("utf-8"))
        found["model"]["vocab"] |= tokens
        found["added_tokens"] = [each for each in found["added_tokens"] if each["content"] not in tokens]
        path.write_text(json.dumps(found), "utf-8")

    return change


def bigger_vocabulary(folder):
    """The configuration of a model with far more words than the tokenizer."""
    path = folder / "config.json"
    found = json.loads(path.read_text("utf-8"))
    found["text_config"]["vocab_size"] = 5000
    path.write_text(json.dumps(found), "utf-8")


def weights_named(*names):
    def change(folder):
        table = {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in names}
        head = json.dumps(table).encode()
        (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))

    return change


BAD_CAPTIONERS = {
    "cut weights": (cut_weights, "model.safetensors is cut off: it has"),
    "weights cut in their table": (cut_table, "and its table alone needs"),
    "a pickle under another name": (put("model.safetensors", b"\x80\x02}q\x00."), "is not a safetensors file"),
    "a pointer of Git LFS": (put("model.safetensors", LFS), "model.safetensors is a Git LFS pointer"),
    "a web page": (put("model.safetensors", b"\n<html>Sign in</html>"), "model.safetensors is a web page"),
    "a checkpoint of Stable Diffusion": (
        weights_named("model.diffusion_model.input_blocks.0.0.weight"),
        "model.safetensors is a Stable Diffusion checkpoint\nIt makes images",
    ),
    "a LoRA": (weights_named("lora_unet_down_blocks_0.lora_down.weight"), "model.safetensors is a LoRA\n"),
    "a tokenizer with more tokens": (
        other_tokenizer({"more": 6000}),
        "it belongs to another model",
    ),
    "a tokenizer with fewer tokens": (bigger_vocabulary, "it belongs to another model"),
    "a tokenizer with another end": (other_tokenizer({"[SEP]": 7}), "ends a text with token 7, but"),
}


@pytest.mark.parametrize(("spoil", "said"), BAD_CAPTIONERS.values(), ids=BAD_CAPTIONERS)
def test_a_captioner_that_is_wrong_is_refused_before_torch_is_loaded(
    spoil, said, captioner, imgs, sdprep_command, monkeypatch
):
    spoil(captioner)
    # What loads it would fail here, and in another way.
    monkeypatch.setattr("sdprep.models.captioners.blip.captioner.import_torch", lambda _: 1 / 0)
    outcome = sdprep_command("caption", "imgs", "--model", captioner, *INLINE)
    assert (outcome.code, "Traceback" in outcome.err) == (1, False)
    assert said in outcome.err
    assert outcome.err.count("\n") <= 3


def test_cut_pickles_are_named_unread(captioner, imgs, sdprep_command):
    (captioner / "model.safetensors").unlink()
    (captioner / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(1000))
    outcome = sdprep_command("caption", "imgs", "--model", captioner, "--allow-pickle", *INLINE)
    assert "pytorch_model.bin is cut off: the end of the file is missing" in outcome.err


# What is no model


def sd_file(path):
    weights_named("model.diffusion_model.out.weight")(path)
    return (path / "model.safetensors").rename(path / "sd.safetensors")


def lone(name):
    def make(folder):
        (folder / name).write_bytes(b"x")
        return folder / name

    return make


def one_too_high(folder):
    (folder / "snapshots" / "abc").mkdir(parents=True)
    for name in ("model.onnx", "selected_tags.csv"):
        (folder / "snapshots" / "abc" / name).touch()
    return folder


def pipeline(folder):
    (folder / "model_index.json").write_text("{}")
    return folder


def folder_of_checkpoints(folder):
    sd_file(folder)
    return folder


NO_MODELS = {
    "a .pth": (lone("model.pth"), 2, "is a pickle of weights alone"),
    "a .safetensors": (lone("blip.safetensors"), 2, "is weights alone"),
    "a .onnx": (lone("model.onnx"), 2, "is a graph alone"),
    "a label file": (lone("selected_tags.csv"), 2, "is a file, and it does not describe a model"),
    "a checkpoint of Stable Diffusion": (sd_file, 2, "sd.safetensors is a Stable Diffusion checkpoint"),
    "a folder of them": (folder_of_checkpoints, 1, "sd.safetensors is a Stable Diffusion checkpoint"),
    "a pipeline": (pipeline, 1, "is a Stable Diffusion pipeline"),
    "a folder one level too high": (one_too_high, 1, "snapshots/abc\n"),
}


@pytest.mark.parametrize("command", ["tag", "caption"])
@pytest.mark.parametrize(("make", "code", "said"), NO_MODELS.values(), ids=NO_MODELS)
def test_what_is_no_model_is_called_by_its_name(make, code, said, command, imgs, tmp_path, sdprep_command):
    (tmp_path / "given").mkdir()
    outcome = sdprep_command(command, "imgs", "--model", make(tmp_path / "given"))
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.err.count("\n") <= 3


def test_a_tagger_given_to_caption_is_called_one(imgs, tmp_path, sdprep_command):
    folder = one_too_high(tmp_path / "given") / "snapshots" / "abc"
    outcome = sdprep_command("caption", "imgs", "--model", folder)
    assert (outcome.code, "is a tagger, but `sdprep caption` needs a captioner" in outcome.err) == (2, True)
