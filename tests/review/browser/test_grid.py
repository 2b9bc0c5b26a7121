"""The grid with few and with a million images: only what is in sight has elements."""

import pytest

NODES = 500
FILL = """
const [count, found, done] = arguments;
import('./static/state.js').then(({ setView }) => {
  setView(Uint32Array.from({ length: count }, (_, at) => at % found));
  done();
});
"""


def show(page, count):
    page.driver.execute_async_script(FILL, count, 5)


def nodes(page):
    return page.run("return document.querySelectorAll('*').length")


def labels(page):
    places = "return [...document.querySelectorAll('.cell:not([hidden])')].map((cell) => Number(cell.ariaPosInSet))"
    return page.run(places)


def in_sight(page):
    """Whether the current cell is inside the grid, as drawn."""
    script = """
    const cell = document.querySelector('.cell.current:not([hidden])')?.getBoundingClientRect();
    const box = document.getElementById('grid').getBoundingClientRect();
    return Boolean(cell) && cell.top >= box.top - 1 && cell.bottom <= box.bottom + 1;
    """
    return page.run(script)


@pytest.mark.parametrize("count", [5, 10_000, 1_000_000])
def test_the_last_image_is_reached_and_few_elements_exist(page, count):
    show(page, count)
    page.keys("End")
    page.wait(lambda: count in labels(page) and in_sight(page))
    assert nodes(page) <= NODES
    page.keys("Arrow_Up", "Home")
    page.wait(lambda: 1 in labels(page) and in_sight(page))
    assert nodes(page) <= NODES


def test_the_wheel_moves_a_million_images_by_pixels(page):
    show(page, 1_000_000)
    page.run("document.getElementById('grid').dispatchEvent(new WheelEvent('wheel', {deltaY: 432, cancelable: true}))")
    page.wait(lambda: 1 not in labels(page) and min(labels(page)) < 30)


def test_the_bar_reaches_every_part_of_a_million_images(page):
    show(page, 1_000_000)
    page.run("const grid = document.getElementById('grid'); grid.scrollTop = grid.scrollHeight / 2")
    page.wait(lambda: labels(page) and 490_000 < labels(page)[0] < 510_000)
    page.run("const grid = document.getElementById('grid'); grid.scrollTop = grid.scrollHeight")
    page.wait(lambda: 1_000_000 in labels(page))


def test_the_place_is_kept_after_an_edit(page):
    show(page, 10_000)
    page.run("import('./static/state.js').then(({ goTo }) => goTo(5000))")
    page.wait(lambda: 5001 in labels(page))
    top = page.run("return document.getElementById('grid').scrollTop")
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape")
    page.saved()
    assert page.run("return document.getElementById('grid').scrollTop") == top
    assert in_sight(page)
