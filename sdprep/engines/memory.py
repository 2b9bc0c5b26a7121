"""What the system can be told of memory: a bound for decoding one picture, and one heap for all threads."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from sdprep.pipeline import Decode
from sdprep.types import MAX_PIXELS, Decoded, Failure, ImageItem

# Three times what the worst picture that is let in takes: 100 megapixels with transparency as WebP, 2.6 GiB.
DECODING_BYTES = 8 * 2**30
PROCESS = Path("/proc/self")
# CUDA reserves addresses by the terabyte, which a bound on addresses would forbid.
CUDA = "libcuda.so"

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# What a picture of 8 megapixels takes; larger blocks come from the system and go back to it.
LARGE_BLOCK = 32 * 2**20
# What the heap may keep for the next picture.
KEPT = 64 * 2**20


def keep_one_heap() -> None:
    """Have the threads of this process, before there are any, take memory from one heap; glibc alone needs that.

    It would give each a heap of its own, and keep what one has freed from the others: eight threads that decode then
    hold on to twice what `--memory` allows. And it would give back the memory of one picture before the next asks for
    it, which costs a tenth of the time: the system clears every page that it hands out.
    """
    # Other C libraries have no such function.
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def limited(decode: Decode, max_pixels: int = MAX_PIXELS) -> Decode:
    """The same decoding with a bound on the addresses of this process, above those in use when it begins.

    A decoder that wants more gets a MemoryError. A raised `max_pixels` raises the bound in proportion. The bound holds
    for the whole process, so nothing else may be at work there: a model that predicts meanwhile takes more the larger
    its batch is (a BLIP base with three beams 0.2 GiB for one picture, 4.5 GiB for 32), and would be refused. It has
    no effect outside Linux, nor where CUDA is in use.
    """
    if sys.platform != "linux" or CUDA in (PROCESS / "maps").read_text(encoding="utf-8", errors="replace"):
        return decode
    import resource

    page = resource.getpagesize()
    # No more than the system can count, with what is in use.
    allowed = min(DECODING_BYTES * max(MAX_PIXELS, max_pixels) // MAX_PIXELS, sys.maxsize // 2)

    def within(item: ImageItem) -> Decoded | Failure:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int((PROCESS / "statm").read_text(encoding="ascii").split()[0]) * page
        bounds = [bound for bound in (used + allowed, soft, hard) if bound != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
        try:
            return decode(item)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return within
