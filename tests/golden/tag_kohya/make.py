"""Runs kohya's tagger on the images of the comparison and stores what it wrote; README.md has the command.

Needs an environment in which the checkout's own script runs, with `onnx` and `onnxruntime`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from tests.reference.kohya_inputs import LABELS, write_images, write_model  # noqa: E402
from tests.reference.kohya_options import BEFORE_APPENDING, NO_CHARACTERS, OPTIONS  # noqa: E402

SCRIPT = Path("finetune") / "tag_images_by_wd14_tagger.py"
# A name that the script uses in one branch and binds in the other, which makes the first character tag an error.
BROKEN = "nonlocal args, default_format, model, ort_sess, input_name, tag_freq"
MENDED = f"{BROKEN}, character_tags"


class Tagger:
    """The script of a checkout in a working folder with the model where the script expects one."""

    def __init__(self, checkout: Path, work: Path) -> None:
        self._checkout, self._work, self.album = checkout, work, work / "album"
        model = work / "wd14_tagger_model" / "sdprep_detail"
        for folder in (self.album, model):
            folder.mkdir(parents=True)
        write_model(model)
        write_images(self.album)
        source = (checkout / SCRIPT).read_text(encoding="utf-8")
        if source.count(BROKEN) != 1:
            raise SystemExit(f"{checkout / SCRIPT} is not the script of commit 48d368f")
        self._mended = work / "mended.py"
        self._mended.write_text(source.replace(BROKEN, MENDED), encoding="utf-8")

    def check(self, options: tuple[str, ...]) -> None:
        """A run that must succeed: by the script as it is where no character can come, else by the mended one."""
        done = self.run(options, mended=not set(NO_CHARACTERS) <= set(options))
        print(*options, flush=True)
        if done.returncode:
            raise SystemExit(done.stderr)

    def run(self, options: tuple[str, ...], *, mended: bool) -> subprocess.CompletedProcess[str]:
        """One run over the album, whose text files are left to the caller."""
        script = self._mended if mended else self._checkout / SCRIPT
        words = [sys.executable, str(script), str(self.album), "--onnx", "--repo_id", "sdprep/detail", *options]
        return subprocess.run(words, cwd=self._work, env=self._environment(), capture_output=True, text=True)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._checkout), "PYTHONUTF8": "1", "COLUMNS": "1000"}

    def texts(self) -> dict[str, str]:
        """The text of every image that has one, by the image's name."""
        found = {}
        for image in sorted(self.album.iterdir()):
            text = image.with_suffix(".txt")
            if image != text and text.is_file():
                found[image.name] = text.read_text(encoding="utf-8").removesuffix("\n")
        return found

    def forget_texts(self) -> None:
        """Remove what the last run wrote."""
        for text in self.album.glob("*.txt"):
            text.unlink()

    def probabilities(self) -> dict[str, list[float]]:
        """What the model says of each image after the script's own `preprocess_image`."""
        sys.path.insert(0, str(self._checkout))
        import numpy as np
        import onnxruntime
        from finetune.tag_images_by_wd14_tagger import preprocess_image
        from PIL import Image

        model = self._work / "wd14_tagger_model" / "sdprep_detail" / "model.onnx"
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        found = {}
        for path in sorted(self.album.iterdir()):
            pixels = np.stack([preprocess_image(Image.open(path))])
            scores = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
            found[path.name] = [round(float(score), 5) for score in scores]
        return found


def store(name: str, content: dict[str, Any]) -> None:
    """One JSON file; each image has a line."""
    lines = []
    for key, value in content.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(item)}" for name, item in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    (HERE / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(checkout: Path) -> None:
    """Every run of `kohya_options.py`."""
    with tempfile.TemporaryDirectory() as folder:
        tagger = Tagger(checkout.resolve(), Path(folder))
        store("probabilities", {"labels": [name for name, _ in LABELS], "probabilities": tagger.probabilities()})
        crash = tagger.run((), mended=False)
        error = crash.stderr.strip().splitlines()[-1]
        store("crash", {"exit_code": crash.returncode, "error": error, "texts": tagger.texts()})
        tagger.forget_texts()
        for name, options in OPTIONS.items():
            if name == "append_tags":
                tagger.check(BEFORE_APPENDING)
                store("before_appending", {"options": BEFORE_APPENDING, "texts": tagger.texts()})
            tagger.check(options)
            store(name, {"options": options, "texts": tagger.texts()})
            tagger.forget_texts()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
