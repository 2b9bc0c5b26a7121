"""Demo images and two tiny demo models trained on such drawings, as data. It imports nothing."""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).parent / "images"
