"""`sdprep edit` as users type it: the order of operations, the diff, the question, and what is refused."""

import json
import re
import sys

import pytest

from sdprep.tasks.texts import plan


@pytest.fixture
def tagged(imgs):
    for stem, text in (("a", "1girl, hat\n"), ("b", "solo\n")):
        (imgs / f"{stem}.txt").write_bytes(text.encode())
    return imgs


def tags(imgs):
    return [(imgs / name).read_text() for name in ("a.txt", "b.txt")]


def test_operations_are_done_in_the_order_of_the_command_line(sdprep_command, tagged):
    words = ["--add", "cat", "--remove", "c*", "--add", "cap@first", "--sort", "--prefix", "x, "]
    assert sdprep_command("edit", tagged, *words).code == 0
    assert tags(tagged) == ["x, 1girl, cap, hat\n", "x, cap, solo\n"]


def test_the_diff_on_stdout_has_only_the_tags_that_change(sdprep_command, tagged):
    done = sdprep_command("edit", tagged, "--add", "cat", "--replace", "hat=red hat")
    assert done.out == "a.txt: ... -hat +red hat, cat\nb.txt: ... +cat\n"
    assert "edit: 2 images: 2 written, 0 up to date, 0 kept, 0 failed, 0 remaining" in done.err


def test_the_diff_is_red_and_green_where_colors_are_shown(sdprep_command, tagged, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = sdprep_command("edit", tagged, "--replace", "hat=cap", "--dry-run")
    assert done.out == "a.txt: ...\x1b[31m -hat\x1b[0m\x1b[32m +cap\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in sdprep_command("edit", tagged, "--replace", "hat=cap", "--dry-run").out


def test_the_diff_of_captions_has_words(sdprep_command, tagged):
    (tagged / "a.caption").write_text("a girl with a hat", encoding="utf-8")
    done = sdprep_command("edit", tagged, "--captions", "--replace", "girl=tall woman")
    assert done.out == "a.caption: ... -girl +tall woman ...\n"


def test_a_change_of_separators_alone_is_named(sdprep_command, tagged):
    assert sdprep_command("edit", tagged, "--prefix", " ", "--dry-run").out.startswith("a.txt: (only what is between")


def test_a_tag_cannot_move_the_cursor(sdprep_command, tagged):
    (tagged / "a.txt").write_text("1girl\x9b2J", encoding="utf-8")
    assert sdprep_command("edit", tagged, "--remove", "1girl*").out == "a.txt: -1girl\\x9b2J\n"


def test_of_many_files_samples_are_shown_and_all_with_verbose(sdprep_command, tagged, put_image):
    for number in range(30):
        put_image(tagged / f"{number}.png")
        (tagged / f"{number}.txt").write_text("hat", encoding="utf-8")
    done = sdprep_command("edit", tagged, "--add", "cat", "--dry-run")
    assert done.out.count("+cat") == 8
    assert "these are samples of 32 changes; --verbose shows all" in done.err
    assert sdprep_command("edit", tagged, "--add", "cat", "--dry-run", "--verbose").out.count("+cat") == 32


def test_a_dry_run_writes_nothing_and_its_json_has_every_change(sdprep_command, tagged):
    done = sdprep_command("edit", tagged, "--add", "cat", "--where", "tag:hat", "--dry-run", "--json")
    report = json.loads(done.out)
    assert report["planned"] == [
        {"path": "a.jpg", "change": "write", "before": "1girl, hat\n", "after": "1girl, hat, cat\n"}
    ]
    assert (report["found"], report["remaining"], report["written"]) == (1, 1, 0)
    assert "1 of 2 images match" in done.err
    assert tags(tagged) == ["1girl, hat\n", "solo\n"]


@pytest.mark.parametrize(("answer", "words", "code"), [("n\n", (), 1), ("y\n", (), 0), ("", ("--yes",), 0)])
def test_on_a_terminal_more_than_100_files_are_changed_after_a_question(
    sdprep_command, tagged, monkeypatch, answer, words, code
):
    monkeypatch.setattr("sdprep.cli.texts.plans.MOST_UNASKED", 1)
    answers = iter([answer])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: next(answers).strip())
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)

    done = sdprep_command("edit", tagged, "--add", "cat", *words)

    assert done.code == code
    assert tags(tagged)[1] == ("solo, cat\n" if code == 0 else "solo\n")
    assert ("nothing was changed" in done.err) == (code == 1)


def test_ctrl_c_at_the_question_changes_nothing_and_leaves_the_question_readable(sdprep_command, tagged, monkeypatch):
    monkeypatch.setattr("sdprep.cli.texts.plans.MOST_UNASKED", 1)

    def ctrl_c(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", ctrl_c)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    done = sdprep_command("edit", tagged, "--add", "cat")
    assert (done.code, tags(tagged)) == (130, ["1girl, hat\n", "solo\n"])
    assert re.search(r"\n\W*sdprep: interrupted", done.err)


def test_without_a_terminal_nobody_is_asked(sdprep_command, tagged, monkeypatch):
    monkeypatch.setattr("sdprep.cli.texts.plans.MOST_UNASKED", 1)
    assert sdprep_command("edit", tagged, "--add", "cat").code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "name an operation such as --add TAG"),
        (("--captions", "--sort"), 2, "--sort works on tags; for captions there are --replace, --regex"),
        (("--regex", "hat"), 2, "--regex takes s/OLD/NEW/"),
        (("--add", "x", "--where", "tag:hat AND"), 2, "^"),
        (("--add", "x", "--where", "tag:dog"), 4, "none of 2 images matches"),
        (("--captions", "--prefix", "x"), 4, "none of the 2 images has a caption file (a.caption)"),
    ],
)
def test_what_makes_no_sense_changes_nothing_and_is_explained(sdprep_command, tagged, words, code, message):
    done = sdprep_command("edit", tagged, *words)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not (tagged / ".sdprep").exists()


def test_failures_give_the_exit_code_3_and_are_named(sdprep_command, tagged):
    (tagged / "a.txt").write_bytes(b"caf\xe9")
    done = sdprep_command("edit", tagged, "--add", "cat")
    assert done.code == 3
    assert "failed: a.jpg: bad_text: a.txt is neither UTF-8" in done.err
    assert "byte 3" in done.err


def test_the_extension_that_merge_remembers_counts_for_edit_too(sdprep_command, tagged):
    for name in ("a", "b"):
        (tagged / f"{name}.txt").rename(tagged / f"{name}.tags")
    sdprep_command("merge", tagged, "--tag-extension", ".tags")
    assert sdprep_command("edit", tagged, "--add", "cat").code == 0
    assert (tagged / "b.tags").read_text() == "solo, cat\n"


def test_the_table_of_merge_in_a_settings_file_counts_as_far_as_edit_has_its_settings(sdprep_command, tagged):
    (tagged / "a.txt").rename(tagged / "a.caption")
    (tagged / "sdprep.toml").write_text('[merge]\ntag-extension = ".caption"\nkeys = "stem"\n', encoding="utf-8")
    done = sdprep_command("edit", tagged, "--add", "cat")
    assert (done.code, (tagged / "a.caption").read_text()) == (0, "1girl, hat, cat\n")


def test_an_operation_is_never_taken_from_the_environment(sdprep_command, tagged, monkeypatch):
    monkeypatch.setenv("SDPREP_EDIT_REMOVE", "*")
    done = sdprep_command("edit", tagged, "--add", "cat")
    assert tags(tagged) == ["1girl, hat, cat\n", "solo, cat\n"]
    assert "SDPREP_EDIT_REMOVE is set, but edit has no such option" in done.err


def test_tags_are_ordered_by_the_categories_of_the_folders_tagger(sdprep_command, imgs):
    sdprep_command("tag", imgs / "b.png", "--model", "demo-tag")
    (imgs / "a.txt").write_text("hat, kuro (sdprep), 1girl", encoding="utf-8")
    sdprep_command("tag", imgs, "--model", "demo-tag")
    sdprep_command("edit", imgs / "a.jpg", "--order", "category")
    assert (imgs / "a.txt").read_text("utf-8") == "1girl, kuro (sdprep), hat"


def test_the_tagger_of_the_folder_may_be_named_in_its_settings_file(sdprep_command, imgs):
    (imgs / "sdprep.toml").write_text('[tag]\nmodel = "demo-tag"\n', encoding="utf-8")
    sdprep_command("tag", imgs)
    (imgs / "a.txt").write_text("hat, kuro (sdprep), 1girl", encoding="utf-8")
    sdprep_command("edit", imgs / "a.jpg", "--order", "category")
    assert (imgs / "a.txt").read_text("utf-8") == "1girl, kuro (sdprep), hat"


def test_ordering_by_category_without_a_tagger_on_this_machine_is_refused(sdprep_command, tagged):
    ended = sdprep_command("edit", tagged, "--order", "category")
    assert (ended.code, "sdprep models download wd-v1-4-swinv2-tagger-v2" in ended.err) == (2, True)


def test_the_settings_of_earlier_runs_that_count_are_named(sdprep_command, imgs):
    (imgs / "a.tags").write_text("1girl, hat")
    sdprep_command("merge", imgs, "--tag-extension", ".tags", "--fields", "tags", "--keys", "stem")
    done = sdprep_command("edit", imgs, "--add", "cat")
    assert f"using settings of earlier runs: --tag-extension .tags (sdprep settings {imgs})" in done.err
    assert (imgs / "a.tags").read_text() == "1girl, hat, cat"


def test_a_setting_that_may_not_come_with_images_is_refused_without_an_option_that_edit_lacks(sdprep_command, tagged):
    (tagged / "sdprep.toml").write_text("[merge]\ntag-extension = '.py'\n")
    done = sdprep_command("edit", tagged, "--add", "cat")
    assert (done.code, "sdprep.toml: tag-extension" in done.err) == (2, True)
    assert "Set it on the command line" in done.err
    assert "--config" not in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="no name has a line break there")
def test_the_name_of_a_file_takes_one_line(sdprep_command, put_image, tmp_path):
    put_image(tmp_path / "imgs" / "a\nb.png")
    (tmp_path / "imgs" / "a\nb.txt").write_text("1girl")
    assert sdprep_command("edit", tmp_path / "imgs", "--add", "cat").out == "a b.txt: ... +cat\n"


def test_a_filter_of_images_is_refused_for_a_metadata_file(sdprep_command, tmp_path):
    (tmp_path / "m.json").write_text('{"a": {"tags": "red_hair"}}')
    done = sdprep_command("clean", tmp_path / "m.json", "--pack", "booru", "--where", "tag:hat")
    assert (done.code, "--where chooses images" in done.err) == (2, True)
    assert (tmp_path / "m.json").read_text() == '{"a": {"tags": "red_hair"}}'


def test_a_filter_sees_the_tags_that_an_edit_sees(sdprep_command, tagged):
    (tagged / "a.txt").write_text("1girl\nhat\nsolo,\n")
    sdprep_command("edit", tagged, "--where", "tag:solo AND name:a*", "--replace", "solo=duo")
    assert (tagged / "a.txt").read_text() == "1girl\nhat\nduo,\n"


def test_the_log_has_the_operations_in_the_order_in_which_they_were_done(sdprep_command, tagged):
    words = ["--replace", "hat=cap", "--add", "b", "--sort", "--remove", "b", "--add", "c d@first"]
    sdprep_command("edit", tagged, *words, "--where", "tag:hat")
    [line] = sdprep_command("log", tagged).out.splitlines()
    shown = "--replace hat=cap --add b --sort --remove b --add 'c d@first' --where tag:hat"
    assert line.endswith(shown)


def test_a_file_that_changes_meanwhile_is_named_with_quiet_too(sdprep_command, tagged, monkeypatch):
    apply = plan.apply

    def edited_before(made, **others):
        for name in ("a.txt", "b.txt"):
            (tagged / name).write_bytes(b"mine\n")
        return apply(made, **others)

    monkeypatch.setattr(plan, "apply", edited_before)
    done = sdprep_command("edit", tagged, "--add", "cat", "-q")
    assert done.err.endswith("2 images (a.jpg, b.png): changed during the run (run the command again)\n")
    assert tags(tagged) == ["mine\n", "mine\n"]
