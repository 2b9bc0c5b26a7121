"""`sdprep merge` as kohya's users type it, and what it says."""

import json

import pytest


@pytest.fixture
def tagged(imgs):
    for image in list(imgs.iterdir()):
        image.with_suffix(".txt").write_text("1girl\n", encoding="utf-8")
    return imgs


@pytest.mark.parametrize("name", ["out.json", "out.JSON", "out.jsonl"])
def test_the_second_argument_is_the_output_as_in_kohyas_scripts(sdprep_command, tagged, tmp_path, name):
    assert sdprep_command("merge", tagged, name).code == 0
    assert (tmp_path / name).exists()
    assert not (tagged / "metadata.json").exists()


def test_in_json_and_an_output_may_be_given_as_kohya_gives_them(sdprep_command, tagged, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps({"a": {"score": 7}}), encoding="utf-8")
    assert sdprep_command("merge", tagged, "--in_json", "in.json", "out.json", "--full_path").code == 0
    assert json.loads((tmp_path / "out.json").read_text())[str(tagged / "a.jpg")]["score"] == 7


def test_an_output_that_is_named_twice_is_an_error(sdprep_command, tagged):
    outcome = sdprep_command("merge", tagged, "out.json", "-o", "other.json")
    assert (outcome.code, "both name the output" in outcome.err) == (2, True)


@pytest.mark.parametrize("further", [["notes.txt"], ["a.json", "b.json"]])
def test_a_second_argument_that_is_no_metadata_file_is_an_error(sdprep_command, tagged, further):
    assert sdprep_command("merge", tagged, *further).code == 2


def test_the_second_argument_is_shown_as_the_output(sdprep_command, tagged):
    assert 'output = "out.json"  # flag' in sdprep_command("merge", tagged, "out.json", "--show-config").out


def test_merge_without_any_sidecar_gives_4_and_says_what_to_run(sdprep_command, imgs):
    outcome = sdprep_command("merge", imgs)
    assert (outcome.code, "Run sdprep caption" in outcome.err) == (4, True)


def test_images_that_all_lack_captions_are_not_named_one_by_one(sdprep_command, tagged):
    said = sdprep_command("merge", tagged).err
    assert "no caption files (.caption) found" in said
    assert "a sidecar is missing" not in said


def test_texts_of_several_lines_are_named_once_with_what_trainers_read(sdprep_command, tagged):
    for path in tagged.glob("*.txt"):
        path.write_text("1girl\nsolo\n", encoding="utf-8")
    said = [line for line in sdprep_command("merge", tagged).err.splitlines() if "enable_wildcard" in line]
    what = "several lines: trainers read only the first one, unless enable_wildcard is on"
    assert said == [f"{what}: 2 images (a.txt, b.txt)"]


def test_merge_says_which_sidecars_are_missing_and_how_many(sdprep_command, tagged):
    (tagged / "a.caption").write_text("a girl\n", encoding="utf-8")
    (tagged / "b.txt").unlink()
    said = sdprep_command("merge", tagged, "--json")
    assert json.loads(said.out)["lacking"] == {"caption": 1, "tags": 1}
    assert "0 remaining, 1 without a caption, 1 without tags (" in said.err


def test_merge_names_a_sidecar_whose_image_was_renamed(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    [image] = [path for path in imgs.glob("a.*") if path.suffix != ".txt"]
    image.rename(imgs / f"hero{image.suffix}")
    ended = sdprep_command("merge", imgs, "--json")
    assert f"a.txt has no image; hero{image.suffix} has its content" in ended.err
    assert json.loads(ended.out)["orphans"] == [{"path": "a.txt", "image": f"hero{image.suffix}"}]


@pytest.mark.parametrize("name", ["out.txt", "out"])
def test_an_output_that_is_no_json_by_its_name_is_refused(sdprep_command, tagged, tmp_path, name):
    ended = sdprep_command("merge", tagged, "-o", tmp_path / name)
    assert (ended.code, "ends in .json, or in .jsonl for JSON Lines" in ended.err) == (2, True)
    assert not (tmp_path / name).exists()
