"""`sdprep check` as a user types it, and what it prints."""

import json

import pytest
from PIL import Image

from sdprep import check


@pytest.fixture
def folder(tmp_path):
    """Seven images of which only the last has a text."""
    for number in range(7):
        Image.new("RGB", (512, 512 + number)).save(tmp_path / f"{number}.png")
    (tmp_path / "6.txt").write_text("1girl,\n\nsolo\n")
    return tmp_path


def test_findings_are_grouped_by_code_with_what_to_do_and_a_few_names(sdprep_command, folder):
    outcome = sdprep_command("check", folder, "-t", "onetrainer")
    assert outcome.code == 3
    assert outcome.out.splitlines() == [
        "error no_text: 6. The image has no text. Write one with `sdprep tag` or `sdprep caption`.",
        *(f"    {number}.png: its prompt is empty" for number in range(5)),
        "    and 1 more (--verbose names all)",
    ]
    assert "check: OneTrainer, prompts from text files loads 7 images: 6 errors, 0 warnings (" in outcome.err


def test_verbose_names_all(sdprep_command, folder):
    assert "    5.png" in sdprep_command("check", folder, "-t", "onetrainer", "-v").out


def test_a_sound_folder_gives_0(sdprep_command, folder):
    for number in range(6):
        (folder / f"{number}.txt").write_text("1girl\n")
    outcome = sdprep_command("check", folder, "-t", "onetrainer", "--prompts")
    assert (outcome.code, outcome.out.splitlines()[-2:]) == (0, ["6.png: 1girl,", "6.png: solo"])
    assert "nothing is wrong" in outcome.err


def test_an_entry_that_is_no_object_is_a_finding_beside_those_of_the_other_entries(sdprep_command, folder):
    entries = {f"{number}.png": {"caption": "c"} for number in range(6)} | {"6.png": "1girl, solo"}
    (folder / "metadata.json").write_text(json.dumps(entries))
    outcome = sdprep_command("check", folder, "-t", "sd-scripts")
    assert outcome.code == 3
    assert outcome.out.splitlines()[:2] == [
        "error bad_entry: 1. The metadata has a shape that the trainer cannot read. Fix what the detail names.",
        "    6.png: the entry is not an object",
    ]


def test_json_has_the_findings_as_objects_and_prompts_if_asked(sdprep_command, folder):
    report = json.loads(sdprep_command("check", folder, "-t", "onetrainer", "--json").out)
    assert (report["schema"], report["images"], report["counts"]) == (1, 7, {"no_text": 6})
    first = {"code": "no_text", "severity": "error", "path": "0.png", "detail": "its prompt is empty"}
    assert report["findings"][0] == first
    assert "prompts" not in report
    report = json.loads(sdprep_command("check", folder, "-t", "onetrainer", "--json", "--prompts").out)
    assert (report["prompts"]["0.png"], report["prompts"]["6.png"]) == ("", ["1girl,", "solo"])


@pytest.mark.parametrize("value", ["1024", "832,1216", "832x1216"])
def test_a_resolution_is_a_square_or_a_width_and_height(value, sdprep_command, folder):
    assert sdprep_command("check", folder, "-t", "dreambooth", "--resolution", value).code == 3


@pytest.mark.parametrize(
    "words", [["--resolution", "big"], ["--resolution", "0"], ["--min-bucket-reso", "2000"], ["-t", "x"]]
)
def test_an_option_that_makes_no_sense_gives_2(words, sdprep_command, folder):
    assert sdprep_command("check", folder, "-t", "dreambooth", *words).code == 2


def test_a_folder_without_images_gives_4(sdprep_command, tmp_path):
    assert sdprep_command("check", tmp_path, "-t", "dreambooth").code == 4


def test_where_limits_the_check_and_a_fault_in_it_is_shown(sdprep_command, folder):
    outcome = sdprep_command("check", folder, "-t", "onetrainer", "--where", "tag:1girl")
    assert (outcome.code, outcome.out) == (0, "")
    assert "1 of 7 images match" in outcome.err
    assert sdprep_command("check", folder, "-t", "onetrainer", "--where", "name:0*").code == 3
    assert sdprep_command("check", folder, "-t", "onetrainer", "--where", "tag:cat").code == 4
    outcome = sdprep_command("check", folder, "-t", "onetrainer", "--where", "tokens>x")
    assert (outcome.code, "^" in outcome.err) == (2, True)


def test_metadata_that_is_not_there_gives_1_and_says_what_to_run(sdprep_command, folder):
    outcome = sdprep_command("check", folder, "-t", "sd-scripts")
    assert (outcome.code, "sdprep merge" in outcome.err) == (1, True)


def test_python_gives_the_same_findings(folder):
    assert [each.path for each in check(folder, "onetrainer").findings] == [f"{number}.png" for number in range(6)]
