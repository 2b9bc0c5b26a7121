"""Functions that the stories share: run a command, read a folder, change a file as a user would."""

import os
import subprocess
import sys
from pathlib import Path

from sdprep.config import CaptionSettings, PathOptions, RunOptions, TagSettings
from sdprep.models.taggers.onnx_tagger import OnnxTagger
from sdprep.rules.labels import TagRules
from sdprep.tasks.annotation import run
from sdprep.tasks.caption import caption as caption_task
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag as tag_task

ALBUM = ("a.png", "b.png", "c.png")
SIDECARS = ("a.txt", "b.txt", "c.txt")
# Every image of the album has tags on both sides of each of these.
STRICT, USUAL, LOOSE = 0.95, 0.35, 0.02
CATALOG = Path(".sdprep") / "catalog.sqlite"
ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
# A captioner that loads no framework, for stories that are not about its captions.
FAKE_CAPTION = str(ROOT / "tests" / "fake_models" / "fake-caption.toml")


def chosen(values, kind):
    return {name: values.pop(name) for name in list(values) if name in kind.__dataclass_fields__}


def work(values):
    """How a story's run goes about its work: in this process, unless it says otherwise."""
    return RunOptions(**{"workers": 0, **chosen(values, RunOptions)})


def tag_settings(values):
    values = dict(values)
    parts = {"rules": TagRules(**chosen(values, TagRules)), "paths": PathOptions(**chosen(values, PathOptions))}
    return TagSettings(run=work(values), **parts, **{"model": "demo-tag", **values})


def caption_settings(values):
    values = dict(values)
    parts = {"paths": PathOptions(**chosen(values, PathOptions)), "run": work(values)}
    return CaptionSettings(**parts, **{"model": "demo-caption", "num_beams": 1, **values})


def tag(folder, **explicit):
    """A run of tag for which all these settings were stated."""
    settings = tag_settings(explicit)
    return tag_task(folder, settings, layers=stating(settings, explicit))


def tag_by_default(folder, **defaults):
    """A run of tag for which nothing was stated; the settings stand for other built-in values."""
    return tag_task(folder, tag_settings(defaults))


def caption(folder, **explicit):
    """A run of caption for which all these settings were stated."""
    settings = caption_settings(explicit)
    return caption_task(folder, settings, layers=stating(settings, explicit))


def counts(report):
    """The counts of a report that are not zero."""
    names = ("written", "current", "kept", "failed", "remaining")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def codes(report):
    return {failure["path"]: failure["code"] for failure in report.failures}


def texts(folder, extension=".txt"):
    """Every sidecar of a folder by its path in it, as bytes."""
    found = sorted(path for path in folder.rglob(f"*{extension}") if ".sdprep" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def everything(folder):
    """Every file of a folder, hidden ones too, as bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder):
    return [path.name for path in folder.rglob("*.tmp")]


def tags_of(path, separator=","):
    return [tag.strip() for tag in path.read_text(encoding="utf-8").strip("\n").split(separator) if tag.strip()]


def write(path, text):
    """Write a text as a user's editor would, on any system the same bytes."""
    path.write_bytes(text.encode("utf-8"))
    return path


def renew_times(folder):
    """Give every file another time, as copying without times does."""
    for path in folder.rglob("*"):
        if path.is_file() and ".sdprep" not in path.parts:
            stat = path.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**10))


def hide_models(monkeypatch):
    """From now on, loading a model is an error."""

    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(run, "open_engine", refuse)


def watch_model(monkeypatch):
    """A list that receives the number of images of every batch that the tagger sees."""
    seen, predict = [], OnnxTagger.predict

    def count(self, batches):
        def counted():
            for batch in batches:
                seen.append(len(batch.keys))
                yield batch

        return predict(self, counted())

    monkeypatch.setattr(OnnxTagger, "predict", count)
    return seen


def while_the_model_looks(monkeypatch, act):
    """Do something, once, after the images were read and before their tags are written."""
    predict, pending = OnnxTagger.predict, [act]

    def meddled(self, batches):
        for answer in list(predict(self, batches)):
            if pending:
                pending.pop()()
            yield answer

    monkeypatch.setattr(OnnxTagger, "predict", meddled)


def at_replace(monkeypatch, name, act, times=1):
    """Before a file of this name is replaced, do something, so many times."""
    real, pending = os.replace, [act] * times

    def replace(source, target, **folders):
        if Path(target).name == name and pending:
            pending.pop()(source, target, **folders)
        real(source, target, **folders)

    monkeypatch.setattr(os, "replace", replace)


def run_cli(*words):
    """Run the command as a user does; one that never ends fails."""
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [PYTHON, "-m", "sdprep", *map(str, words)]
    return subprocess.run(command, env=os.environ | path, capture_output=True, text=True, timeout=300)
