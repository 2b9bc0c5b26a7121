"""What can be read and reached: contrast in light and dark, and controls that are not cut off."""

import pytest

from tests.review.browser.page import Page

# The contrast of a text with its background as WCAG 2 defines it; opacity counts as a fainter color.
CONTRAST = """
const [element, pseudo] = [document.querySelector(arguments[0]), arguments[1]];
const parse = (color) => [...color.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
const over = (top, bottom) => [0, 1, 2].map((at) => top[at] * top[3] + bottom[at] * (1 - top[3]));
const ancestors = [];
for (let each = element; each; each = each.parentElement) ancestors.push(getComputedStyle(each));
const layers = ancestors.map((style) => parse(style.backgroundColor)).reverse();
const back = layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
const style = getComputedStyle(element, pseudo);
const opacity = [...ancestors, ...(pseudo ? [style] : [])].reduce((all, each) => all * Number(each.opacity), 1);
const [red, green, blue] = parse(style.color);
const light = (color) => color.map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const [low, high] = [light(back), light(over([red, green, blue, opacity], back))].sort((one, other) => one - other);
return (high + 0.05) / (low + 0.05);
"""
READABLE = 4.5


@pytest.fixture(params=["light", "dark"])
def scheme(driver, request):
    def prefer(value):
        features = [{"name": "prefers-color-scheme", "value": value}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    prefer(request.param)
    yield request.param
    prefer("")


@pytest.mark.usefixtures("scheme")
def test_faint_texts_can_be_read(page):
    contrast = {"placeholder": page.run(CONTRAST, "#where", "::placeholder")}
    page.keys("Control+a")
    page.wait(lambda: page.texts("#tags .partly button"))
    contrast["tag of some"] = page.run(CONTRAST, "#tags .partly button", None)
    contrast["count"] = page.run(CONTRAST, "#tags .partly button", "::after")
    page.keys("Control+k")
    contrast["key of the chosen command"] = page.run(CONTRAST, "#commands [aria-selected=true] kbd", None)
    contrast["command"] = page.run(CONTRAST, "#commands [aria-selected=true]", None)
    page.keys("Escape")
    assert {name: ratio for name, ratio in contrast.items() if ratio < READABLE} == {}


@pytest.fixture
def narrow(driver):
    driver.set_window_size(900, 700)
    yield
    driver.set_window_size(1440, 900)


@pytest.mark.usefixtures("narrow")
def test_in_a_narrow_window_what_is_not_saved_is_not_cut_off(page):
    page.keys("Control+a", "c")
    page.type("typed")
    page.wait(lambda: page.text("#unsaved") == "1 not saved")
    for name in ("#unsaved", "#name", "#chosen"):
        width, needed = page.run(
            "const each = document.querySelector(arguments[0]); return [each.clientWidth, each.scrollWidth]", name
        )
        assert width >= needed, name


def test_beside_a_large_image_many_tags_are_scrolled_and_the_image_stays(driver, serve, imgs):
    (imgs / "0.txt").write_text(", ".join(f"a long tag with the number {number}" for number in range(100)))
    with Page(driver, serve(imgs)) as page:
        page.wait(lambda: len(page.tags()) == 100)
        page.keys("Enter")
        assert page.run("return getComputedStyle(document.getElementById('panel')).overflowY") == "auto"
        page.keys("c")
        image, caption = page.run(
            "return ['image', 'caption'].map((id) => document.getElementById(id).getBoundingClientRect().toJSON())"
        )
        assert image["top"] >= 0
        assert caption["bottom"] <= page.run("return innerHeight")
