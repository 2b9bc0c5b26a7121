"""The cache files that sd-scripts 0.10 and later write beside images, and which of them no longer fit.

A latents cache has the size of the image file in its name, but neither its content nor the resolution of the training;
a text cache has nothing of the text. `library/strategy_*.py` of sd-scripts names both and tests little more than that
they are there.
"""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib

import numpy as np

from sdprep.paths import stem_of
from sdprep.trainers.buckets import Bucket, Size
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code, Finding

# By the model family; for the first two the shape is not compared with the bucket.
SINGLE_SIZE = ("_sd.npz", "_sdxl.npz")
LATENTS = (*SINGLE_SIZE, "_sd3.npz", "_flux.npz", "_lumina.npz", "_anima.npz", "_hi.npz")
OLD_LATENTS = ".npz"
TEXTS = ("_te_outputs.npz", "_sd3_te.npz", "_flux_te.npz", "_lumina_te.npz", "_anima_te.npz", "_hi_te.npz")
# Besides what Python raises itself: a file of any bytes may have the name of a cache.
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError)
# Pixels of a side for each latent.
STRIDE = 8


def latents_of(rel: str, size: Size) -> list[str]:
    """The names that the latents of an image can have; the bare one, of older versions, takes precedence for ever."""
    stem = stem_of(rel)
    return [stem + OLD_LATENTS, *(f"{stem}_{size[0]:04d}x{size[1]:04d}{suffix}" for suffix in LATENTS)]


def texts_of(rel: str) -> list[str]:
    """The names that the encoded prompt of an image can have."""
    return [stem_of(rel) + suffix for suffix in TEXTS]


def find_stale_latents(rel: str, size: Size, bucket: Bucket, files: DatasetFiles) -> list[Finding]:
    """The latents caches of an image that are older than it, or were made for another bucket."""
    found = []
    for name in filter(files.has, latents_of(rel, size)):
        if files.modified(rel) > files.modified(name):
            found.append(Finding(Code.STALE_LATENTS, name, "the image is newer"))
        elif name.endswith((*SINGLE_SIZE, stem_of(rel) + OLD_LATENTS)):
            cached = _cached_size(name, files)
            if cached is not None and cached != bucket.size:
                made, wanted = (f"{width}x{height}" for width, height in (cached, bucket.size))
                found.append(Finding(Code.STALE_LATENTS, name, f"it was made for {made}, the bucket is {wanted}"))
    return found


def find_stale_texts(rel: str, source: str, files: DatasetFiles) -> list[Finding]:
    """The text caches of an image that are older than the file its prompt comes from."""
    return [
        Finding(Code.STALE_TEXT_CACHE, name, f"{source} is newer")
        for name in filter(files.has, texts_of(rel))
        if files.has(source) and files.modified(source) > files.modified(name)
    ]


def _cached_size(name: str, files: DatasetFiles) -> Size | None:
    """Width and height in pixels for which latents were made; None if that cannot be told."""
    try:
        with zipfile.ZipFile(files.root / name) as archive, archive.open("latents.npy") as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                return None
            shape = np.lib.format.read_array_header_1_0(stream)[0]
    except (*UNREADABLE, OSError, KeyError, ValueError, EOFError, RuntimeError, SyntaxError):
        return None
    return (shape[-1] * STRIDE, shape[-2] * STRIDE) if len(shape) >= 2 else None
