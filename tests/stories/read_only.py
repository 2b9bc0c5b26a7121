"""Runs sdprep in a folder that is read-only for everybody; for a mount namespace, which ends with the process.

`python -m tests.stories.read_only ALBUM COMMAND...` mounts ALBUM on itself, read-only, and runs the command in it.
"""

import os
import subprocess
import sys


def main(album, *words):
    subprocess.run(["mount", "--bind", album, album], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", album], check=True)
    os.chdir(album)
    return subprocess.run([sys.executable, "-m", "sdprep", *words]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
