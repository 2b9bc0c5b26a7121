"""What the page must never do: lose what was typed, write over what it has not shown, take text for markup."""

from urllib.parse import urlsplit

import pytest

from sdprep.catalog.lock import FolderLock
from sdprep.tasks.texts.plan import apply
from tests.review.browser.page import Page

MARKUP = "<img src=x onerror=alert(1)>, <script>document.title='taken'</script>"
# A page that is not told what changes in the folder.
BLIND = """
const old = window.fetch;
window.fetch = (path, ...rest) => (/changes/.test(path) ? new Promise(() => {}) : old(path, ...rest));
"""
INSERTED = """
const script = document.createElement('script');
script.textContent = 'window.taken = 1';
document.head.append(script);
"""
# A page whose folder is told of only when `release` is called.
LATE = """
const old = window.fetch;
window.fetch = async (path, ...rest) => {
  if (path === "api/folder") await new Promise((go) => (window.release = go));
  return old(path, ...rest);
};
"""
CAPTION_OF_ROW = "return import('./static/state.js').then(({ rowOf }) => rowOf(0).caption.text)"


def read(imgs, name):
    return (imgs / name).read_text()


@pytest.fixture
def lock(imgs):
    """The lock of the folder, held as by `sdprep tag` at work there."""
    (imgs / ".sdprep").mkdir(exist_ok=True)
    held = FolderLock(imgs / ".sdprep" / "catalog.sqlite", "tag")
    held.acquire()
    return held


def test_a_stale_caption_is_not_written_and_both_texts_are_shown(page, imgs):
    page.expected = {412}
    page.keys("c")
    page.type("mine")
    (imgs / "0.caption").write_text("theirs\n")
    page.keys("Control+Enter")
    page.wait(lambda: page.text("#conflict"))
    assert (page.text("#theirs"), page.text("#mine")) == ("theirs", "mine")
    assert read(imgs, "0.caption") == "theirs\n"
    page.run("document.getElementById('write').click()")
    page.saved()
    assert read(imgs, "0.caption") == "mine\n"


def test_a_stale_tag_file_is_not_written_and_both_texts_are_shown(page, imgs):
    page.expected = {412}
    # From its beginning on: an answer that is under way could tell it.
    page.open_with(BLIND)
    page.wait(lambda: page.path() and page.text("#name"))
    (imgs / "0.txt").write_text("other, tags\n")
    page.keys("t")
    page.type("dress")
    page.keys("Enter")
    page.wait(lambda: page.text("#conflict"))
    assert (page.text("#theirs"), page.text("#mine")) == ("other, tags", "other, tags, dress")
    assert read(imgs, "0.txt") == "other, tags\n"
    page.run("document.getElementById('keep').click()")
    page.saved()
    assert read(imgs, "0.txt") == "other, tags\n"


def test_a_file_that_changes_while_an_edit_is_written_is_left_and_both_texts_are_shown(page, imgs, monkeypatch):
    page.expected = {412}

    def apply_after_a_change(*args, **kwargs):
        (imgs / "0.txt").write_text("theirs\n")
        return apply(*args, **kwargs)

    monkeypatch.setattr("sdprep.tasks.review.review.apply", apply_after_a_change)
    page.keys("t")
    page.type("mine")
    page.keys("Enter")
    page.wait(lambda: page.text("#conflict"))
    assert (page.text("#theirs"), page.text("#mine")) == ("theirs", "1girl, hat, solo, mine")
    assert read(imgs, "0.txt") == "theirs\n"


def test_an_edit_waits_for_the_lock_of_another_run(page, imgs, lock):
    page.expected = {423}
    page.keys("t")
    page.type("dress")
    page.keys("Enter")
    page.wait(lambda: "1 not saved ·" in page.text("#unsaved"))
    assert page.tags()[-1] == "dress"
    assert read(imgs, "0.txt") == "1girl, hat, solo\n"
    lock.release()
    page.saved()
    assert read(imgs, "0.txt") == "1girl, hat, solo, dress\n"


def test_an_approval_waits_for_the_lock_of_another_run_and_for_the_edit_before_it(page, imgs, lock):
    page.expected = {423}
    page.keys("c")
    page.type("a girl")
    page.keys("Control+Enter", "a")
    page.wait(lambda: page.text("#unsaved").startswith("2 not saved · sdprep tag is at work"))
    lock.release()
    page.saved()
    page.keys("Arrow_Left")
    page.wait(lambda: page.text("#facts").endswith("Tags: approved · Caption: approved"))


def test_an_undo_waits_for_the_lock_of_another_run(page, imgs):
    page.expected = {423}
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape")
    page.saved()
    lock = FolderLock(imgs / ".sdprep" / "catalog.sqlite", "tag")
    lock.acquire()
    page.keys("z")
    page.wait(lambda: page.text("#unsaved").startswith("1 not saved · sdprep tag is at work"))
    lock.release()
    page.saved()
    assert read(imgs, "0.txt") == "1girl, hat, solo\n"


def test_the_letters_of_who_types_before_the_page_is_ready_stay_in_the_input(page):
    page.open_with(LATE)
    page.wait(page.path)
    page.keys("t")
    page.type("dre")
    page.run("window.release()")
    page.wait(lambda: page.text("#name"))
    assert page.run("return document.activeElement.id") == "add"


def test_two_tabs_agree(page, imgs):
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.open()
    page.keys("t")
    page.type("dress")
    page.keys("Enter")
    page.saved()
    page.driver.switch_to.window(first)
    page.wait(lambda: "dress" in page.tags())


@pytest.mark.parametrize(
    "text",
    [MARKUP, "\u202etfel ot thgir, \u0645\u0631\u062d\u0628\u0627", "word " * 20_000 + "end"],
    ids=["markup", "rtl", "100 kB"],
)
def test_texts_are_letters(driver, serve, imgs, text):
    (imgs / "0.txt").write_text(text + "\n", encoding="utf-8")
    (imgs / "0.caption").write_text(text + "\n", encoding="utf-8")
    with Page(driver, serve(imgs)) as page:
        page.wait(lambda: page.value("#caption") == text)
        assert page.tags() == [tag.strip() for tag in text.split(",")]
        assert page.run("return document.title") == "imgs - sdprep review"
        assert page.run("return document.querySelectorAll('main script, main [onerror]').length") == 0


def test_a_file_of_thousands_of_tags_stays_small_on_the_page(driver, serve, imgs):
    (imgs / "0.txt").write_text(", ".join(f"tag {number}" for number in range(10_000)))
    with Page(driver, serve(imgs)) as page:
        page.wait(lambda: len(page.tags()) == 100)
        assert "9,900" in page.text("#tags")


def test_no_request_leaves_the_host(page):
    page.requested()
    page.open()
    page.keys("Enter", "Arrow_Right", "t")
    page.type("hat")
    page.wait(lambda: page.texts("#suggestions li"))
    hosts = {urlsplit(address).hostname for address in page.requested() if not address.startswith("data:")}
    assert hosts == {"127.0.0.1"}


def test_scripts_in_the_page_are_refused(page):
    page.run(INSERTED)
    assert page.run("return window.taken") is None
    page.wait(lambda: any("Content Security Policy" in each["message"] for each in page.driver.get_log("browser")))


def test_an_image_that_cannot_be_read_is_named(driver, serve, imgs):
    (imgs / "0.png").write_bytes(b"not an image")
    with Page(driver, serve(imgs)) as page:
        page.expected = {404}
        page.wait(lambda: "!" in page.texts("[aria-posinset='1'] .corner")[0])
        assert page.wait(lambda: page.text("#facts"))


def test_a_caption_that_changes_while_another_is_typed_is_not_written_over(page, imgs):
    page.expected = {412}
    page.keys("c")
    page.type("mine")
    (imgs / "0.caption").write_text("theirs\n")
    page.wait(lambda: "theirs" in str(page.run(CAPTION_OF_ROW)))
    assert page.value("#caption") == "mine"
    page.keys("Control+Enter")
    page.wait(lambda: page.text("#conflict"))
    assert (page.text("#theirs"), page.text("#mine")) == ("theirs", "mine")
    assert read(imgs, "0.caption") == "theirs\n"


def test_a_text_that_is_typed_on_while_it_is_saved_is_saved_again_without_a_question(page, imgs, lock):
    page.expected = {423}
    page.keys("c")
    page.type("first")
    page.keys("Control+Enter")
    page.wait(lambda: "not saved ·" in page.text("#unsaved"))
    page.keys("c", "End")
    page.type(", second")
    page.keys("Control+Enter", "c", "End")
    page.type(", third")
    lock.release()
    page.wait(lambda: (imgs / "0.caption").exists() and read(imgs, "0.caption") == "first, second\n")
    page.keys("Control+Enter")
    page.saved()
    assert read(imgs, "0.caption") == "first, second, third\n"


def test_undo_says_that_a_file_was_left_which_has_changed_since(page, imgs):
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape")
    page.saved()
    (imgs / "0.txt").write_text("theirs\n")
    page.keys("z")
    page.wait(lambda: "0.txt" in page.text("#said"))
    assert "Undone" not in page.text("#said")
    assert read(imgs, "0.txt") == "theirs\n"
    page.keys("Shift+z")
    page.wait(lambda: page.text("#said") == "Nothing more")
