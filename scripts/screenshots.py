"""Draw the images of docs/review.md in a headless Chromium, from the page of `sdprep review` on drawings of the demo.

python scripts/screenshots.py
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from scripts.browser import open_browser, serving
from sdprep.demo import IMAGES

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "images"
WIDTH = 1200
DARK = "--blink-settings=preferredColorScheme=0"
LONGEST = 20.0


def press(browser: Chrome, *keys: str) -> None:
    """Press keys where the focus is; those in capitals are names of selenium."""
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        browser.switch_to.active_element.send_keys(getattr(Keys, key) if key.isupper() else key)


def wait(browser: Chrome, condition: str) -> None:
    """Wait until an expression of JavaScript is true."""
    end = time.monotonic() + LONGEST
    while not browser.execute_script(f"return Boolean({condition})"):
        if time.monotonic() > end:
            raise RuntimeError(f"not so after {LONGEST:.0f} s: {condition}")
        time.sleep(0.05)


def save(browser: Chrome, name: str) -> None:
    """Save what is to be seen as a small WebP file, once all images are there."""
    wait(browser, "[...document.querySelectorAll('img[src]')].every((image) => image.complete)")
    with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as shot:
        size = (WIDTH, round(shot.height * WIDTH / shot.width))
        shot.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(OUTPUT / name, "WEBP", quality=80, method=6)
    print(f"{OUTPUT / name}: {(OUTPUT / name).stat().st_size // 1024} KB")


def draw(address: str, work: Path) -> None:
    """Draw the grid, a preview and the large image, the last one dark."""
    for name, arguments in (("light", ["--lang=en-US"]), ("dark", ["--lang=en-US", DARK])):
        browser = open_browser(work / name, arguments)
        try:
            browser.get(address)
            wait(
                browser, "document.querySelector('#tags button') && document.querySelectorAll('#counts button').length"
            )
            if name == "light":
                press(browser, "t", "ha")
                wait(browser, "document.querySelector('#suggestions li')")
                save(browser, "review-grid.webp")
                press(browser, "ESCAPE", "ESCAPE", "e")
                wait(browser, "document.querySelector('#value')")
                press(browser, "1girl=girl")
                wait(browser, "document.querySelector('#samples li')")
                save(browser, "review-preview.webp")
            else:
                press(browser, "ENTER", "x")
                save(browser, "review-large.webp")
        finally:
            browser.quit()


def main() -> None:
    """Caption and tag the drawings, and draw the page."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "imgs"
        shutil.copytree(IMAGES, folder)
        for command, model in (("caption", "demo-caption"), ("tag", "demo-tag")):
            words = [sys.executable, "-m", "sdprep", command, str(folder), "--model", model, "-q"]
            subprocess.run(words, check=True, cwd=ROOT)
        with serving(folder) as (address, _):
            draw(address, Path(work))


if __name__ == "__main__":
    main()
