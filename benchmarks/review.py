"""What `sdprep review` takes in a browser: to print its address, fill the page, filter, scroll, edit and save.

`python -m benchmarks.review --images 10000 --folder /dev/shm` makes images of 640 x 480 pixels with 20 tags each; above
2,000 images they are links to the same pixels. Needs Chromium (`scripts/browser.py`).
"""

from __future__ import annotations

import argparse
import compileall
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sdprep
from benchmarks.measure import machine, table
from scripts.browser import open_browser, serving

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

DRAWN, TAGS, NAMES, REPEATS = 2000, 20, 4000, 20
LONGEST = 120.0
SEEN = "[...document.querySelectorAll('.cell:not([hidden]) img')]"
FILLED = f"{SEEN}.length && {SEEN}.every((image) => image.src && image.complete) && document.querySelector('#tags li')"
SCROLL = """
const [pixels, done] = arguments;
const grid = document.getElementById('grid');
const times = [];
let last = performance.now();
function step(now) {
  times.push(now - last);
  last = now;
  grid.scrollTop += pixels;
  if (times.length < 180) requestAnimationFrame(step); else done(times.slice(1));
}
requestAnimationFrame(step);
"""
# From a letter to how many images match, and to the words below each of them.
FILTER = """
const [text, done] = arguments;
const [input, found] = ['where', 'found'].map((id) => document.getElementById(id));
const began = performance.now();
const look = () => {
  const words = [...document.querySelectorAll('.cell:not([hidden]) .words')];
  if (words.every((each) => each.textContent)) done(performance.now() - began); else setTimeout(look, 1);
};
new MutationObserver((_, watch) => { watch.disconnect(); look(); })
  .observe(found, { childList: true, characterData: true, subtree: true });
input.value = text;
input.dispatchEvent(new Event('input'));
"""
# One edit from the key to the answer that it is saved; the page draws before that.
SAVE = """
const [tag, done] = arguments;
const began = performance.now();
const add = document.getElementById('add');
add.value = tag;
add.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', cancelable: true }));
const shown = performance.now() - began;
const look = () => {
  if (document.getElementById('unsaved').textContent) setTimeout(look, 1);
  else done([shown, performance.now() - began]);
};
look();
"""
BULK = """
const [where, count, done] = arguments;
import('./static/server.js').then(async (server) => {
  const began = performance.now();
  const numbers = [...(await server.view('')).numbers].slice(0, count);
  const { plan } = await server.plan({ numbers }, 'tags', { name: 'add', value: where });
  const { run, written } = await server.apply(plan);
  const applied = performance.now();
  await server.undo(run);
  done([written, applied - began, performance.now() - applied]);
});
"""


def make(folder: Path, count: int) -> None:
    """Images with tag files; many are links to the same bytes."""
    from PIL import Image

    draw = random.Random(0)
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        image = place / f"{number:06}.jpg"
        if number < DRAWN:
            noise = Image.effect_noise((160, 120), 60).convert("RGB").resize((640, 480))
            noise.save(image, quality=85)
        else:
            first = number % DRAWN
            os.link(folder / f"{first // 1000:03}" / f"{first:06}.jpg", image)
        names = sorted({int(draw.triangular(0, NAMES, 0)) for _ in range(TAGS)})
        image.with_suffix(".txt").write_text(", ".join(f"tag {name}" for name in names) + "\n")


def until(browser: Chrome, condition: str) -> float:
    """Seconds until an expression of JavaScript is true."""
    began = time.perf_counter()
    while not browser.execute_script(f"return Boolean({condition})"):
        if time.perf_counter() - began > LONGEST:
            raise RuntimeError(f"not so after {LONGEST:.0f} s: {condition}")
        time.sleep(0.005)
    return time.perf_counter() - began


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values: list[float]) -> str:
    """Median and 95th percentile of milliseconds."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.0f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.0f} ms"


def filtering(browser: Chrome) -> list[float]:
    """Milliseconds from the last letter of a filter to its images in the grid, with their tags."""
    took = [browser.execute_async_script(FILTER, f'tag:"tag {number}" AND NOT tag:*99*') for number in range(REPEATS)]
    browser.execute_async_script(FILTER, "")
    return took


def measured(browser: Chrome, folder: Path) -> Iterator[tuple[str, str]]:
    """What was measured, in words and numbers."""
    for name in ("cold", "warm"):
        began = time.perf_counter()
        with serving(folder) as (address, pid):
            yield f"address printed, thumbnails {name}", f"{time.perf_counter() - began:.1f} s"
            began = time.perf_counter()
            browser.get(address)
            until(browser, FILLED)
            yield f"page filled, thumbnails {name}", f"{time.perf_counter() - began:.1f} s"
            if name == "warm":
                yield from in_use(browser, pid)
            browser.get("about:blank")


def in_use(browser: Chrome, pid: int) -> Iterator[tuple[str, str]]:
    """What a user does."""
    until(browser, "!/read/.test(document.getElementById('found').textContent)")
    yield "filter typed to shown", percentile(filtering(browser))
    for pixels in (40, 400):
        yield f"frame while scrolling {pixels} px a frame", percentile(browser.execute_async_script(SCROLL, pixels))
    nodes = browser.execute_script("return document.querySelectorAll('*').length")
    saved: list[Any] = [browser.execute_async_script(SAVE, f"new {number}") for number in range(REPEATS)]
    yield "tag shown", percentile([shown for shown, _ in saved])
    yield "tag saved", percentile([done for _, done in saved])
    for count in (1000, 10_000):
        written, applied, undone = browser.execute_async_script(BULK, f"bulk {count}", count)
        yield f"bulk edit of {written:,} files, and its undo", f"{applied / 1000:.1f} s, {undone / 1000:.1f} s"
    yield "elements on the page", str(nodes)
    yield "memory of the server", f"{resident(pid):.0f} MB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the images are made; a temporary folder otherwise")
    parser.add_argument("--images", type=int, default=10_000)
    given = parser.parse_args()
    print(machine())
    # As pip installs it: compiled, also where Python is told to keep nothing.
    compileall.compile_dir(Path(sdprep.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        make(Path(work) / "imgs", given.images)
        browser = open_browser(Path(work) / "profile")
        browser.set_script_timeout(LONGEST)
        try:
            print(table(["what", f"{given.images:,} images"], list(measured(browser, Path(work) / "imgs"))))
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
