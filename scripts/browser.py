"""Chromium without a window, as the tests, the screenshots and the measurements of `sdprep review` use it.

Needs `chromium` and `chromium-driver` of Debian or Ubuntu, and selenium of `sdprep[dev]`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

APT = "apt-get install -y --no-install-recommends chromium chromium-driver"


class NoBrowser(Exception):  # noqa: N818 - a reason to skip
    """Chromium, its driver or selenium is not installed."""


def open_browser(profile: Path, arguments: Sequence[str] = ()) -> Chrome:
    """Chromium with a profile of its own. Raises NoBrowser."""
    browser, program = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or program is None:
        raise NoBrowser(f"Chromium and its driver are not installed: {APT}")
    try:
        from selenium.webdriver import Chrome, ChromeOptions
        from selenium.webdriver.chrome.service import Service
    except ModuleNotFoundError as error:
        raise NoBrowser("selenium is not installed: pip install 'sdprep[dev]'") from error
    options = ChromeOptions()
    options.binary_location = browser
    usual = ["--headless=new", "--disable-dev-shm-usage", "--window-size=1440,900", f"--user-data-dir={profile}"]
    # Chromium refuses its sandbox to root.
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    for argument in [*usual, *root, *(arguments or ["--lang=en-US"])]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Without its path, selenium would look for a driver on the network.
    return Chrome(options=options, service=Service(program))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """`sdprep review` on a folder: the address of its page, and its process id."""
    command = [sys.executable, "-m", "sdprep", "review", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            if not address:
                raise RuntimeError(f"{' '.join(command)} printed no address")
            yield address, process.pid
        finally:
            process.terminate()
