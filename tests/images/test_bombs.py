"""No image takes more memory than it honestly needs, whatever it claims, where its bytes are not decoded too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images import bombs

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the addresses of a process")
# What one image may take here besides the program: some times the largest of these files, and what Pillow keeps.
ROOM = 400 * 2**20
PROGRAM = """
import json, resource, sys
from pathlib import Path
from sdprep.images import decode as image, opening
from sdprep.types import Failure, Fit, ImageItem
names, folder, fit = json.loads(sys.argv[1]), Path(sys.argv[2]), Fit(448, "pad")
image.decode(ImageItem.at(folder / "good-0.png"), fit)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]),) * 2)
for name in names:
    opening.estimate_memory(ImageItem.at(folder / name), fit)
    outcome = image.decode(ImageItem.at(folder / name), fit)
    decoded = outcome.code.value if isinstance(outcome, Failure) else "decoded"
    try:
        size = "{}x{}".format(*image.read_size(ImageItem.at(folder / name)))
    except image.ImageError as error:
        size = error.code.value
    print(json.dumps([name, [decoded, size]]), flush=True)
"""


@LINUX
def test_no_image_takes_more_memory_than_its_file_and_its_pixels_honestly_need(tmp_path: Path) -> None:
    expected = bombs.write(tmp_path)
    bombs.good(tmp_path, 1)
    command = [sys.executable, "-c", PROGRAM, json.dumps(list(expected)), tmp_path, str(ROOM)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert {name: tuple(outcome) for name, outcome in found.items()} == expected
    assert (done.returncode, done.stderr) == (0, "")
