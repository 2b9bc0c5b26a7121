"""Draw docs/images/terminal.svg, the terminal of the README, from a real run on the images of the demo.

python scripts/terminal_image.py
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "images" / "terminal.svg"
SESSION = [
    "sdprep caption imgs --model demo-caption",
    "sdprep tag imgs --model demo-tag --threshold 0.35",
    "sdprep merge imgs",
    "cat imgs/kuro.caption imgs/kuro.txt",
    "# a trigger word, fewer tags: from the stored scores, without the model",
    'sdprep tag imgs --model demo-tag --prefix ohwx --exclude "*_hair,*_eyes" --remove-underscore',
    "cat imgs/kuro.txt",
    "# not what you wanted? take the run back",
    "sdprep undo --dir imgs",
]
COLUMNS = 98
# Sizes in pixels: a character of a monospaced font is 0.6 of its size wide.
FONT_SIZE, LINE, MARGIN, TITLE = 14, 20, 18, 34
BACKGROUND, BORDER, TEXT, PROMPT, COMMENT, OUTPUT_TEXT = (
    "#161b22",
    "#444c56",
    "#f0f6fc",
    "#7ee787",
    "#8b949e",
    "#c9d1d9",
)
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def run(command: str, folder: Path) -> str:
    """Return what the command prints, on both streams."""
    words = shlex.split(command)
    if words[0] == "cat":
        return "".join((folder / name).read_text("utf-8") for name in words[1:])
    done = subprocess.run(
        [sys.executable, "-m", "sdprep", *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=True,
    )
    # The folder of the run is a temporary one.
    return done.stdout.replace(f"{folder}/", "")


def record() -> list[tuple[str, str, str]]:
    """Return the lines of the session: what stands before the text, its color, and the text."""
    from sdprep.demo import IMAGES

    lines = []
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(IMAGES, Path(place) / "imgs")
        for command in SESSION:
            if command.startswith("#"):
                lines += [("", COMMENT, ""), ("", COMMENT, command)]
                continue
            lines += [("$ ", TEXT, part) for part in wrapped(command)[:1]]
            lines += [("  ", TEXT, part) for part in wrapped(command)[1:]]
            for line in run(command, Path(place)).splitlines():
                lines += [("", OUTPUT_TEXT, part) for part in wrapped(line)]
    return lines


def wrapped(line: str) -> list[str]:
    """Break a line as a terminal does, but between words."""
    return re.findall(rf".{{1,{COLUMNS - 2}}}(?:\s+|$)", line)


def drawn(lines: list[tuple[str, str, str]]) -> str:
    """Return the terminal as SVG."""
    width = round(COLUMNS * FONT_SIZE * 0.6 + 2 * MARGIN)
    height = TITLE + LINE * len(lines) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<title>sdprep captions, tags and merges a folder of images, then changes the tags and undoes that</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="9" fill="{BACKGROUND}"',
        f' stroke="{BORDER}"/>',
        *(
            f'<circle cx="{MARGIN + 4 + 20 * place}" cy="18" r="5.5" fill="{color}"/>'
            for place, color in enumerate(["#ff5f57", "#febc2e", "#28c840"])
        ),
        f'<g font-family="{FONT}" font-size="{FONT_SIZE}" xml:space="preserve">',
    ]
    for number, (before, color, text) in enumerate(lines):
        y = TITLE + LINE * number + FONT_SIZE
        spans = f'<tspan fill="{PROMPT}">{before}</tspan><tspan fill="{color}">{escape(text)}</tspan>'
        parts.append(f'<text x="{MARGIN}" y="{y}">{spans}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


if __name__ == "__main__":
    OUTPUT.write_text(drawn(record()), "utf-8")
