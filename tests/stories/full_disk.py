"""Runs sdprep on a disk of its own that is full, then has room; for a mount namespace, which ends with the process.

`python -m tests.stories.full_disk DISK ALBUM ROOM COMMAND...` mounts a small tmpfs on DISK, copies ALBUM there, leaves
room for so many blocks, runs the command, makes room, runs it again, and prints what it found after each, as JSON.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

BLOCK = 4096


def tree(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and ".sdprep" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes().hex() for path in found}


def run(folder, words):
    done = subprocess.run([sys.executable, "-m", "sdprep", *words], cwd=folder, capture_output=True, text=True)
    return {"code": done.returncode, "said": done.stderr, "tree": tree(folder)}


def fill(disk, room):
    """Leave this many blocks."""
    with (disk / "ballast").open("wb") as ballast:
        free = os.statvfs(disk).f_bavail - room
        for _ in range(free):
            ballast.write(bytes(BLOCK))


def main(disk, album, room, *words):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
    folder = shutil.copytree(album, disk / "album")
    fill(disk, room)
    full = run(folder, words)
    (disk / "ballast").unlink()
    after = run(folder, words)
    print(json.dumps({"full": full, "after": after}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
