"""Taggers as their users run them: one command over a folder of images, which leaves a text beside each."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import ROOT, Taken, run

# kohya's script keeps the model `owner/name` in `owner_name`, wd14-tagger-standalone finds it in the cache of the Hub.
OWNER, NAME = "SmilingWolf", "wd-v1-4-vit-tagger-v2"
KNOWN_TO_WD14 = "wd14-vit.v2"
# sd-scripts 48d368f stops at the first character tag; at this threshold there is none.
NO_CHARACTERS = ("--character_threshold", "1.1")


@dataclass(frozen=True, slots=True)
class Peer:
    """A tagger: its command, but for the folder, and what its environment has besides."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path = ROOT

    def tag(self, images: Path) -> Taken:
        """Tag a folder that has no texts yet, and which is left without any catalog."""
        forget(images)
        return run([*(str(images) if word == "DIR" else word for word in self.command)], self.env, self.cwd)


def forget(images: Path) -> None:
    """Delete the texts and the catalog of a folder."""
    for text in images.glob("*.txt"):
        text.unlink()
    shutil.rmtree(images / ".sdprep", ignore_errors=True)


def texts(images: Path) -> dict[str, list[str]]:
    """The tags of every image."""
    return {path.stem: path.read_text("utf-8").strip().split(", ") for path in sorted(images.glob("*.txt"))}


def sdprep(name: str, model: Path, batch: int, workers: int, *options: str) -> Peer:
    """This checkout."""
    words = (sys.executable, "-m", "sdprep", "tag", "DIR", "--model", str(model), "--batch_size", str(batch))
    more = ("--max_data_loader_n_workers", str(workers), "--order", "csv", *NO_CHARACTERS, *options)
    return Peer(name, (*words, *more))


def kohya(checkout: Path, python: Path, model: Path, batch: int, workers: int) -> Peer:
    """`finetune/tag_images_by_wd14_tagger.py --onnx` of sd-scripts."""
    folder = model.parent / "as-kohya" / model.name
    _link(model, folder / f"{OWNER}_{NAME}")
    script = str(checkout / "finetune" / "tag_images_by_wd14_tagger.py")
    words = (str(python), script, "DIR", "--onnx", "--repo_id", f"{OWNER}/{NAME}", "--model_dir", str(folder))
    more = ("--batch_size", str(batch), "--max_data_loader_n_workers", str(workers), *NO_CHARACTERS)
    return Peer("kohya", (*words, *more), {"PYTHONPATH": str(checkout)})


def wd14(checkout: Path, python: Path, model: Path) -> Peer:
    """`run.py` of wd14-tagger-standalone, which knows models of the Hub only: this one lies in a cache of its own."""
    cache = model.parent / "as-wd14" / model.name
    repo = cache / "hub" / f"models--{OWNER}--{NAME}"
    revision = "0" * 40
    _link(model, repo / "snapshots" / revision)
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text(revision, "utf-8")
    words = (str(python), str(checkout / "run.py"), "--dir", "DIR", "--model", KNOWN_TO_WD14, "--cpu", "--rawtag")
    return Peer("wd14-tagger-standalone", words, {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}, checkout)


def _link(model: Path, folder: Path) -> None:
    """The files of a model once more, in another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "selected_tags.csv"):
        if not (folder / name).exists():
            (folder / name).hardlink_to(model / name)
