"""Folders and names as people have them; folders that must stay as they are."""

import sys

import pytest

NAMES = [
    "my image.png",
    "青い髪.png",
    "cat 😀.png",
    "[bracket].png",
    "-dash.png",
    "dots.v2.final.png",
    "100%.png",
    "é.PNG",
]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_with_an_odd_name_gets_its_tags(name, sdprep_command, tmp_path, put_image):
    image = put_image(tmp_path / "imgs" / name)
    sdprep_command("tag", "imgs", "--model", "demo-tag")
    assert "1boy" in image.with_suffix(".txt").read_text("utf-8")


@pytest.mark.parametrize("name", ["two words", "日本", "😀", "-dash"])
def test_an_image_in_a_folder_with_an_odd_name_gets_its_tags(name, sdprep_command, tmp_path, put_image):
    image = put_image(tmp_path / name / "a.png")
    sdprep_command("tag", "--model", "demo-tag", "--", name)
    assert "1boy" in image.with_suffix(".txt").read_text("utf-8")


def test_a_folder_may_end_with_a_slash(sdprep_command, imgs):
    sdprep_command("tag", "imgs/", "--model", "demo-tag")
    assert (imgs / "a.txt").exists()


@pytest.mark.parametrize("words", [("tag", "--model", "demo-tag"), ("caption", "--model", "demo-caption"), ("merge",)])
def test_a_dry_run_leaves_the_folder_as_it_is(words, sdprep_command, imgs):
    (imgs / "a.txt").write_text("my own words\n")
    (imgs / "empty.gif").touch()
    before = contents(imgs)
    sdprep_command(words[0], imgs, *words[1:], "--dry-run")
    assert contents(imgs) == before


def test_a_dry_run_leaves_a_catalog_as_it_is(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    before = contents(imgs)
    sdprep_command("tag", imgs, "--model", "demo-tag", "--threshold", "0.999", "--dry-run")
    assert contents(imgs) == before


def test_a_dry_run_says_what_would_be_written(sdprep_command, imgs):
    (imgs / "a.txt").write_text("my own words\n")
    assert "1 kept, 0 failed, 1 would be written" in sdprep_command("tag", imgs, "--model", "demo-tag", "--dry-run").err


def test_an_output_folder_leaves_the_images_folder_as_it_is(sdprep_command, imgs):
    before = contents(imgs)
    sdprep_command("tag", imgs, "--model", "demo-tag", "--output-dir", "out")
    assert contents(imgs) == before


def test_an_output_folder_gets_the_tree(sdprep_command, imgs, tmp_path, put_image):
    put_image(imgs / "sub" / "c.png")
    sdprep_command("tag", imgs, "--model", "demo-tag", "--output-dir", "out")
    assert (tmp_path / "out" / "sub" / "c.txt").exists()


def test_an_undo_brings_back_the_folder(sdprep_command, imgs):
    (imgs / "a.txt").write_bytes(b"\xef\xbb\xbfmy own words\r\n")
    before = contents(imgs)
    sdprep_command("tag", imgs, "--model", "demo-tag", "--existing", "overwrite")
    sdprep_command("undo", "--dir", imgs)
    assert {path: data for path, data in contents(imgs).items() if path.parts[0] != ".sdprep"} == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows makes links only for administrators")
@pytest.mark.parametrize(
    "words",
    [["tag", "imgs", "--model", "demo-tag", "--catalog", "loop"], ["log", "loop"], ["restore", "loop/a.txt"],
     ["tag", "imgs", "--model", "demo-tag", "--output-dir", "loop"],
     ["merge", "imgs", "-o", "loop"]],
    ids=" ".join,
)  # fmt: skip
def test_a_link_to_itself_is_refused_in_plain_words(words, imgs, sdprep_command, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    outcome = sdprep_command(*words)
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.err
    assert not list(imgs.glob("*.txt"))


def test_a_sidecar_in_place_of_an_image_is_named_with_what_to_give(sdprep_command, imgs):
    (imgs / "a.txt").write_text("1girl\n", "utf-8")
    ended = sdprep_command("tag", imgs / "a.txt", "--model", "demo-tag")
    assert ended.code == 4
    assert f"no image was given, but {imgs / 'a.txt'}" in ended.err
    assert f"Give images, or the folder in which they lie: {imgs}" in ended.err


def test_a_pattern_without_a_match_is_called_a_pattern(sdprep_command, imgs):
    ended = sdprep_command("tag", imgs / "*.jxl", "--model", "demo-tag")
    assert (ended.code, f"no file fits the pattern {imgs / '*.jxl'}" in ended.err) == (2, True)


def test_an_image_in_place_of_its_sidecar_is_answered_with_the_sidecar(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    [image] = [path for path in imgs.glob("a.*") if path.suffix != ".txt"]
    assert f"Give its sidecar, as {imgs / 'a.txt'}" in sdprep_command("log", image).err


def test_a_run_of_stored_results_says_so_at_its_end(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    assert "model demo-tag, stored results only" in sdprep_command("tag", imgs, "--prefix", "hana").err
