"""The memory that decoding one image may take, and what is kept for the next."""

import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sdprep.engines import memory
from sdprep.engines.memory import DECODING_BYTES, limited
from sdprep.types import MAX_PIXELS, Decoded, ImageItem

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the addresses of a process")
ITEM = ImageItem.at(Path("/a.png"))


@pytest.fixture(autouse=True)
def no_cuda(tmp_path, monkeypatch):
    """Other tests may have loaded CUDA into this process, which would then not be limited."""
    process = tmp_path / "process"
    process.mkdir()
    (process / "maps").touch()
    (process / "statm").symlink_to(memory.PROCESS / "statm")
    monkeypatch.setattr(memory, "PROCESS", process)


def limits():
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)


def takes(size):
    """A decoder that needs so many bytes."""

    def decode(item):
        return Decoded(item, b"", np.empty((size,), np.uint8))

    return decode


def test_a_decoder_that_wants_more_than_any_image_takes_gets_a_memory_error():
    with pytest.raises(MemoryError):
        limited(takes(DECODING_BYTES + 2**30))(ITEM)


def test_a_decoder_gets_what_the_largest_image_takes():
    assert limited(takes(3 * 2**30))(ITEM).pixels.size == 3 * 2**30


def test_a_decoder_gets_more_where_larger_images_are_let_in():
    size = DECODING_BYTES + 2**30
    assert limited(takes(size), 2 * MAX_PIXELS)(ITEM).pixels.size == size


def test_a_limit_is_in_force_while_an_image_is_decoded():
    seen = []

    limited(lambda _: seen.append(limits()[0]))(ITEM)

    assert 0 < seen[0] - DECODING_BYTES < 2**45


@pytest.mark.parametrize("size", [1, DECODING_BYTES + 2**30], ids=["decoded", "refused"])
def test_afterwards_the_process_has_the_limits_that_it_had(size):
    before = limits()

    with suppress(MemoryError):
        limited(takes(size))(ITEM)

    assert limits() == before


def test_a_process_that_uses_cuda_is_not_limited(tmp_path, monkeypatch):
    (tmp_path / "maps").write_text("7f0000000000-7f0000001000 r-xp 0 08:01 1 /usr/lib/libcuda.so.550.54\n", "utf-8")
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    decode = takes(1)

    assert limited(decode) is decode


# Four blocks like those of an image, written to, are freed and asked for again; says how many pages had to be made.
AGAIN = """
import resource
import numpy as np
from sdprep.engines.memory import keep_one_heap
if {kept}:
    keep_one_heap()
def blocks():
    return [np.ones(12 * 2**20, np.uint8) for _ in range(4)]
blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_made_again(kept):
    answer = subprocess.run([sys.executable, "-c", AGAIN.format(kept=kept)], capture_output=True, text=True, check=True)
    return int(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc needs to be told")
def test_the_next_image_gets_the_memory_of_the_one_before():
    assert pages_made_again(kept=True) < 1000 < pages_made_again(kept=False)
