"""The dataset of dataset.json: small images, texts that are hard to read, and metadata with three styles of keys."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
ROOT = "{ROOT}"


def load_dataset() -> dict[str, Any]:
    """What dataset.json says."""
    loaded: dict[str, Any] = json.loads((HERE / "dataset.json").read_text("utf-8"))
    return loaded


def build(root: Path, dataset: dict[str, Any], extension: str) -> None:
    """Make the images and texts; the texts that are `.caption` files there get this extension, others another."""
    for number, rel in enumerate(dataset["images"]):
        path = root / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.suffix[1:].upper().replace("JPG", "JPEG")
        Image.new("RGB", (64 + number, 64)).save(path, format=kind)
    for rel, text in dataset["texts"].items():
        stem, _, kind = rel.rpartition(".")
        other = ".other" if extension == ".txt" else ".txt"
        (root / (stem + (extension if kind == "caption" else other))).write_bytes(text.encode("utf-8"))


def load_metadata(root: Path, style: str) -> dict[str, Any]:
    """The metadata JSON with keys of a style: absolute, relative or stem."""
    return {key.replace(ROOT, str(root)): entry for key, entry in load_dataset()["metadata"][style].items()}


def write_rows(file: Path) -> None:
    """Write the metadata of an imagefolder, JSON Lines or CSV: all images but those without a text."""
    dataset = load_dataset()
    texts = {rel.rpartition(".")[0]: text for rel, text in dataset["texts"].items() if rel.endswith(".caption")}
    images = [rel for rel in dataset["images"] if "none" not in rel]
    rows = [{"file_name": rel, "text": texts.get(rel.rpartition(".")[0], "")} for rel in images]
    with file.open("w", encoding="utf-8", newline="") as stream:
        if file.suffix == ".jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(stream, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(rows)
