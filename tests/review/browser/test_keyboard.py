"""By keyboard alone: what a user does all day, with the files right afterwards."""

import subprocess
import sys

from PIL import Image

from tests.review.browser.page import Page

TRAINER = "const box = document.querySelector('#findings select'); box.value = arguments[0]; box.onchange()"
# What the page asks for at such an address waits until `release()`.
HELD = """
const [held, real] = [arguments[0], window.fetch];
const gate = new Promise((done) => { window.release = done; });
window.fetch = async (...request) => {
  if (String(request[0]).startsWith(held)) await gate;
  return real(...request);
};
"""


def text(imgs, name):
    return (imgs / name).read_text()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".txt", ".caption")}


def add_tags(page, *tags):
    """Add tags to the current image, one after the other."""
    for tag in tags:
        page.keys("t")
        page.type(tag)
        page.keys("Enter", "Escape")
    page.saved()


def sdprep(*arguments):
    """What a command prints, in a process of its own."""
    command = [sys.executable, "-m", "sdprep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_tag_is_added_and_saved_behind(page, imgs):
    page.keys("t")
    page.type("long hair")
    page.keys("Enter")
    assert page.tags() == ["1girl", "hat", "solo", "long hair"]
    page.saved()
    assert text(imgs, "0.txt") == "1girl, hat, solo, long hair\n"


def test_the_last_change_is_repeated_on_the_next_image(page, imgs):
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape", "Arrow_Right")
    page.wait(lambda: page.path() == "1.png")
    page.keys(".")
    page.saved()
    assert text(imgs, "0.txt") == "1girl, hat, solo, dress\n"
    assert text(imgs, "1.txt") == "1girl,black_hair,solo,dress\n"


def test_a_tag_file_is_made_for_an_image_without_one(page, imgs):
    page.keys("Arrow_Right", "Arrow_Right", "Arrow_Right")
    page.wait(lambda: page.path() == "3.png")
    page.keys("t")
    page.type("hat")
    page.keys("Enter")
    page.saved()
    assert text(imgs, "3.txt") == "hat\n"


def test_a_tag_is_removed_by_the_letter_over_it(page, imgs):
    page.keys("x")
    page.choose("tags", "hat")
    page.saved()
    assert text(imgs, "0.txt") == "1girl, solo\n"


def test_a_tag_is_renamed_in_its_place(page, imgs):
    page.keys("r")
    page.choose("tags", "hat")
    page.type("red hat")
    page.keys("Enter")
    page.saved()
    assert text(imgs, "0.txt") == "1girl, red hat, solo\n"


def test_a_tag_is_moved(page, imgs):
    page.keys("[")
    page.choose("tags", "solo")
    page.saved()
    assert text(imgs, "0.txt") == "1girl, solo, hat\n"


def test_a_caption_is_written(page, imgs):
    page.keys("c")
    page.type("a girl\nwith a hat")
    page.keys("Control+Enter")
    page.saved()
    assert text(imgs, "0.caption") == "a girl\nwith a hat\n"


def test_a_suggestion_is_taken(page, imgs):
    page.keys("t")
    page.type("bla")
    page.wait(lambda: page.texts("#suggestions li span"))
    page.keys("Control+Enter")
    page.saved()
    assert "black" in text(imgs, "0.txt")


def test_a_filter_is_typed_and_a_fault_in_it_is_shown(page):
    page.expected = {422}
    page.keys("/")
    page.type("tag:hat AND tag:")
    page.wait(lambda: page.text("#fault"))
    page.keys("Control+a")
    page.type("tag:hat")
    page.keys("Enter")
    # The same images may be shown from the first half of the faulty filter on.
    page.wait(lambda: page.text("#found") == "2 of 5" and not page.text("#fault"))
    assert page.cells() == 2


def test_enter_on_a_filter_whose_images_are_shown_leaves_it_before_the_next_letter(page):
    page.expected = {422}
    page.keys("/")
    page.type("tag:hat")
    page.wait(lambda: page.cells() == 2)

    focused = page.run("document.getElementById('filter').requestSubmit(); return document.activeElement.id")

    assert focused == "grid"


def test_after_enter_on_a_wrong_filter_the_letters_still_go_to_the_filter(page):
    page.expected = {422}
    page.keys("/")
    page.type("tag:hat AND")
    page.wait(lambda: page.text("#fault"))
    refused = "return performance.getEntriesByType('resource').filter((each) => each.responseStatus === 422).length"
    before = page.run(refused)
    page.keys("Enter")
    page.wait(lambda: page.run(refused) > before)
    page.type(" tag:smile")
    page.keys("Enter")
    page.wait(lambda: page.text("#found") == "1 of 5")
    assert page.path() == "2.png"


def test_the_caption_has_room_beside_an_open_tag_file(page):
    page.keys("w")
    page.driver.set_window_size(1440, 600)
    heights = page.run("return ['caption', 'text'].map((id) => document.getElementById(id).clientHeight)")
    page.driver.set_window_size(1440, 900)
    assert min(heights) >= 40


def test_approving_goes_to_the_next_image_and_counts_as_the_users(page, imgs):
    page.keys("a")
    page.wait(lambda: page.path() == "1.png")
    page.keys("Arrow_Left")
    page.wait(lambda: "approved" in page.text("#facts"))


def test_a_bulk_edit_writes_what_its_preview_shows(page, imgs):
    # A filter that is not typed to its end yet, on a busy machine.
    page.expected = {422}
    page.keys("/")
    page.type("tag:hat")
    page.keys("Enter")
    page.wait(lambda: page.cells() == 2)
    page.keys("e")
    page.wait(lambda: page.text("#preview"))
    page.run("const names = document.querySelector('#operation'); names.value = 'add'; names.onchange()")
    page.type("my trigger@first")
    page.wait(lambda: page.text("#plan").endswith("2 of 2."))
    assert page.texts("#samples ins") == ["my trigger", "my trigger"]
    page.keys("Enter")
    page.wait(lambda: not page.text("#preview"))
    assert text(imgs, "0.txt") == "my trigger, 1girl, hat, solo\n"
    assert text(imgs, "2.txt") == "my trigger, hat, smile\n"
    assert text(imgs, "1.txt") == "1girl,black_hair,solo\n"


def test_a_preview_is_gone_with_the_next_letter_of_its_operation(page):
    page.keys("Control+a", "t")
    page.type("dress")
    page.keys("Enter")
    page.wait(lambda: page.texts("#samples ins"))
    type_on = """
    const entry = document.getElementById("value");
    entry.value += "es";
    entry.dispatchEvent(new Event("input"));
    return [document.getElementById("plan").textContent, document.querySelectorAll("#samples ins").length];
    """
    assert page.run(type_on) == ["Looking…", 0]


def test_a_selection_is_edited_together(page, imgs):
    page.keys("Shift+Arrow_Right", "t")
    page.type("outdoors")
    page.keys("Enter")
    page.wait(lambda: page.text("#plan").endswith("2 of 2."))
    page.keys("Enter")
    page.wait(lambda: not page.text("#preview"))
    assert text(imgs, "0.txt") == "1girl, hat, solo, outdoors\n"
    assert text(imgs, "1.txt") == "1girl,black_hair,solo,outdoors\n"


def test_undo_and_redo_take_each_step(page, imgs):
    first = contents(imgs)
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape")
    page.saved()
    second = contents(imgs)
    page.keys("z")
    page.wait(lambda: page.text("#said").startswith("Undone"))
    assert page.tags() == ["1girl", "hat", "solo"]
    assert contents(imgs) == first
    page.keys("Shift+z")
    page.wait(lambda: page.text("#said").startswith("Done again"))
    assert "dress" in page.tags()
    assert contents(imgs) == second


def test_undo_pressed_three_times_takes_three_steps_back_while_the_first_is_under_way(page, imgs):
    first = contents(imgs)
    add_tags(page, "dress", "shoes", "gloves")
    page.run(HELD, "api/undo")
    page.keys("z", "z", "z")
    page.run("release()")
    page.saved()
    assert contents(imgs) == first


def test_what_is_done_after_undo_is_not_what_undo_takes_back(page, imgs):
    add_tags(page, "dress", "shoes")
    page.run(HELD, "api/undo")
    page.keys("z", "z", "t")
    page.type("gloves")
    page.keys("Enter", "Escape")
    page.run("release()")
    page.saved()
    assert text(imgs, "0.txt") == "1girl, hat, solo, gloves\n"


def test_a_held_key_takes_one_step_back(page, imgs):
    add_tags(page, "dress", "shoes")
    page.keys("z")
    page.wait(lambda: page.text("#said").startswith("Undone"))
    page.run(
        "document.getElementById('grid').dispatchEvent(new KeyboardEvent('keydown', "
        "{ key: 'z', repeat: true, bubbles: true, cancelable: true }))"
    )
    add_tags(page, "gloves")
    assert text(imgs, "0.txt") == "1girl, hat, solo, dress, gloves\n"


def test_undo_in_a_new_process_gives_the_first_bytes(page, imgs):
    first = contents(imgs)
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape", "Arrow_Right", ".")
    page.saved()
    session = page.run("return fetch('api/folder').then((answer) => answer.json())")["session"]
    assert session in sdprep("log", str(imgs))
    sdprep("undo", session, "--dir", str(imgs))
    assert contents(imgs) == first


def test_a_cleared_selection_comes_back(page):
    page.keys("Control+a")
    assert page.text("#chosen") == "5 selected"
    page.keys("Escape")
    assert page.text("#chosen") == ""
    page.keys("z")
    page.wait(lambda: page.text("#chosen") == "5 selected")


def test_a_quick_tag_is_set_once_and_added_by_its_digit(page, imgs):
    page.keys("1")
    page.type("masterpiece")
    page.keys("Enter")
    page.wait(lambda: page.texts("#quick button") == ["masterpiece"])
    page.keys("1")
    page.saved()
    assert text(imgs, "0.txt") == "1girl, hat, solo, masterpiece\n"


def test_letters_do_nothing_in_an_input(page, imgs):
    page.keys("c")
    page.type("xza1")
    page.keys("Escape")
    assert page.value("#caption") == "xza1"
    assert page.text("#unsaved") == "1 not saved"
    assert not (imgs / "0.caption").exists()
    page.keys("c", "Control+a", "Delete")
    assert page.text("#unsaved") == ""


def test_what_is_typed_before_the_page_has_images_is_no_command(page, imgs):
    page.open_with(f"(function () {{{HELD}}})('api/view')")
    page.wait(lambda: page.text("#open-keys"))
    page.keys("c", "a", "h", "x")
    page.run("release()")
    page.wait(lambda: page.run("return document.activeElement.id") == "caption")
    page.type("a hat")
    page.keys("Control+Enter")
    page.saved()
    assert text(imgs, "0.caption") == "a hat\n"
    assert page.run("return fetch('api/session').then((answer) => answer.json())")["runs"][1:] == []


def test_no_image_can_be_selected_where_there_is_none(page):
    page.expected = {422}
    page.keys("/")
    page.type("tag:nothing")
    page.keys("Enter")
    page.wait(lambda: page.text("#found") == "0 of 5" and page.run("return document.activeElement.id") == "grid")
    page.keys("Space")
    assert page.text("#chosen") == ""


def test_every_key_is_shown_and_has_words(page):
    page.keys("?")
    shown = page.texts("#help kbd")
    keys = page.run(
        "return import('./static/keys.js').then(({COMMANDS}) => COMMANDS.map(({name, keys}) => [name, keys]))"
    )
    assert len(keys) == len({key for _, names in keys for key in names}) - sum(len(names) - 1 for _, names in keys)
    assert {"T", "Shift+Z", "Ctrl+K", "?", "1-9"} <= set(shown)
    page.keys("?")
    page.wait(lambda: not page.texts("#help kbd"))


def test_both_languages_have_the_same_messages(page):
    read = "return import(`./static/messages.${arguments[0]}.js`).then(({ messages }) => messages)"
    english, chinese = page.run(read, "en"), page.run(read, "zh-CN")
    assert english.keys() == chinese.keys()
    assert all(chinese.values())


def test_stars_are_given_and_taken(page):
    page.keys("+", "+", "-")
    page.wait(lambda: page.texts("[aria-posinset='1'] .corner") == ["★"])


def test_undo_takes_back_stars_and_no_edit_before_them(page, imgs):
    page.keys("t")
    page.type("dress")
    page.keys("Enter", "Escape")
    page.saved()
    page.keys("+", "+")
    page.wait(lambda: page.texts("[aria-posinset='1'] .corner") == ["★★"])
    page.keys("z")
    page.wait(lambda: page.text("#said").startswith("Undone"))
    assert page.texts("[aria-posinset='1'] .corner") == ["★"]
    page.keys("Z")
    page.wait(lambda: page.text("#said").startswith("Done again"))
    assert page.texts("[aria-posinset='1'] .corner") == ["★★"]
    assert text(imgs, "0.txt") == "1girl, hat, solo, dress\n"


def test_an_image_is_rejected_and_undo_brings_it_back(page, imgs):
    page.keys("Delete")
    page.wait(lambda: "✕" in page.texts("[aria-posinset='1'] .corner")[0])
    assert not (imgs / "0.png").exists()
    assert (imgs / "_rejected" / "0.png").exists()
    page.keys("z")
    page.wait(lambda: "✕" not in page.texts("[aria-posinset='1'] .corner")[0])
    assert (imgs / "0.png").exists()
    assert text(imgs, "0.txt") == "1girl, hat, solo\n"


def test_a_finding_shows_its_images(page):
    page.keys("f")
    page.wait(lambda: page.texts("#findings button"))
    page.run("document.querySelector('#findings button').click()")
    page.wait(lambda: "dreambooth" in page.text("#found"))
    page.keys("u")
    assert "dreambooth" in page.text("#found")


def test_what_was_found_for_another_trainer_is_not_shown_for_the_one_that_is_chosen(page):
    page.run(HELD, "api/findings?target=dreambooth")
    page.keys("f")
    page.run(TRAINER, "onetrainer")
    page.wait(lambda: page.texts("#findings li") != ["Looking…"])
    found = page.texts("#findings li")
    page.driver.execute_async_script("""
    const done = arguments[0];
    release();
    import('./static/server.js').then(({ findings }) => findings('dreambooth')).then(done);
    """)
    assert page.texts("#findings li") == found


def test_a_trainer_that_cannot_be_checked_for_says_why(page):
    page.expected = {500}
    page.keys("f")
    page.wait(lambda: page.texts("#findings button"))
    page.run(TRAINER, "imagefolder")
    page.wait(lambda: "metadata.jsonl" in page.text("#findings [role=alert]"))


def test_the_crop_of_the_trainer_is_drawn_over_the_image(page):
    page.keys("b")
    inside = """
    const [crop, image] = ['crop', 'image'].map((id) => document.getElementById(id).getBoundingClientRect());
    return crop.width > 0 && crop.left >= image.left - 3 && crop.right <= image.right + 3;
    """
    page.wait(lambda: page.text("#crop") and page.run(inside))


def test_the_crop_stays_over_an_image_whose_place_changes_without_the_window(page):
    centered = """
    const [crop, image] = ['crop', 'image'].map((id) => document.getElementById(id).getBoundingClientRect());
    return crop.width > 0 && Math.abs(crop.left + crop.right - image.left - image.right) < 4;
    """
    page.wait(lambda: page.run("return document.getElementById('image').naturalWidth"))
    page.keys("b")
    page.wait(lambda: page.run(centered))
    page.run("document.getElementById('panel').style.paddingRight = '80px'")
    page.wait(lambda: page.run(centered))


def test_a_command_is_found_by_its_name(page):
    page.keys("Control+k")
    page.type("large")
    page.keys("Enter")
    page.wait(lambda: page.run("return document.body.classList.contains('large')"))
    page.keys("Escape")
    assert page.run("return document.body.classList.contains('large')") is False


def test_another_command_is_chosen_by_the_arrows(page):
    page.keys("Control+k")
    page.type("image")
    words = page.texts("#commands li")
    page.keys("Arrow_Down", "Arrow_Down", "Arrow_Up")
    assert page.texts("#commands [aria-selected=true]") == [words[1]]
    page.keys("Enter")
    page.wait(lambda: page.path() == "1.png")


def test_more_than_100_files_need_more_than_enter(driver, serve, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(101):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text("1girl\n")
    with Page(driver, serve(folder)) as page:
        # An operation that is not typed to its end yet, on a busy machine.
        page.expected = {422}
        page.keys("e")
        page.type("1girl=girl")
        page.wait(lambda: "101 of 101" in page.text("#plan"))
        page.keys("Enter")
        assert page.wait(lambda: page.run("return document.getElementById('plan').className") == "error")
        assert text(folder, "000.txt") == "1girl\n"
        page.keys("Control+Enter")
        page.wait(lambda: not page.text("#preview"))
        assert {path.read_text() for path in folder.glob("*.txt")} == {"girl\n"}
        page.keys("z")
        page.wait(lambda: page.text("#said").startswith("Undone"))
        assert {path.read_text() for path in folder.glob("*.txt")} == {"1girl\n"}


def test_nothing_that_changes_files_works_in_a_folder_that_cannot_be_written(page):
    read_only = (
        "import('./static/state.js').then(({ state, emit }) => { state.folder.is_read_only = true; emit('folder') })"
    )
    page.run(read_only)
    page.wait(lambda: page.text("#notice"))
    assert page.run("return document.getElementById('caption').readOnly")
