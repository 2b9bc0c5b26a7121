"""What `check` finds in prompts, headers and caches; nothing is written."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdprep.errors import NoImages, UsageError
from sdprep.models.tokens import TokenCounter
from sdprep.report import NullListener
from sdprep.tasks.exchange.check import CheckReport, CheckSettings, check
from sdprep.trainers.findings import Code

WORDS = TokenCounter("words", lambda _: 1)


def put(path: Path, size: tuple[int, int] = (1024, 1024), text: str | None = "1girl", **options: Any) -> None:
    """An image of a colour of its own, with a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = sum(path.name.encode()) % 256
    Image.new(options.pop("mode", "RGB"), size, colour).save(path, **options)
    if text is not None:
        path.with_suffix(".txt").write_text(text)


def found(report: CheckReport) -> list[tuple[Code, str, str]]:
    return [(each.code, each.path, each.detail) for each in report.findings]


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_sound_dataset_has_no_findings(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "sub" / "b.png", text="two\nprompts")
    report = check(tmp_path, "onetrainer", counter=WORDS)
    assert (report.exit_code, report.images, report.findings) == (0, 2, [])
    assert report.as_dict(prompts=True)["prompts"] == {"a.png": "1girl", "sub/b.png": ["two", "prompts"]}


def test_a_blank_prompt_is_found_once(tmp_path: Path) -> None:
    put(tmp_path / "a.png", text=" \n")
    put(tmp_path / "b.png", text=None)
    report = check(tmp_path, "onetrainer", counter=WORDS)
    assert [(each.code, each.path) for each in report.findings] == [
        (Code.NO_TEXT, "b.png"),
        (Code.EMPTY_PROMPT, "a.png"),
    ]
    assert report.exit_code == 3


def test_the_longest_prompt_of_an_image_must_not_be_cut(tmp_path: Path) -> None:
    put(tmp_path / "a.png", text="short\n" + " ".join(["tag"] * 76))
    (finding,) = check(tmp_path, "onetrainer", counter=WORDS).findings
    assert (finding.code, finding.detail[:29]) == (Code.PROMPT_CUT, "76 tokens, 75 are used: tag t")
    assert check(tmp_path, "onetrainer", CheckSettings(max_token_length=150), counter=WORDS).findings == []
    assert check(tmp_path, "onetrainer", CheckSettings(max_token_length=0)).findings == []


def test_an_estimate_of_tokens_says_so(tmp_path: Path) -> None:
    put(tmp_path / "a.png", text=" ".join(["tag"] * 76))
    (finding,) = check(tmp_path, "onetrainer", counter=TokenCounter("e", lambda _: 1, "estimates")).findings
    assert finding.detail.startswith("about 76 tokens")


@pytest.mark.parametrize(
    ("target", "ignores"),
    [("dreambooth", True), ("diffusion-pipe", True), ("onetrainer", False), ("simpletuner", False)],
)
def test_exif_matters_to_trainers_that_ignore_it(target: str, ignores: bool, tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", exif=turned(6))
    report = check(tmp_path, target, CheckSettings(caption_extension=".txt"), counter=WORDS)
    assert found(report) == [(Code.EXIF_IGNORED, "a.jpg", "")] * ignores


def test_transparency_is_found(tmp_path: Path) -> None:
    put(tmp_path / "a.png", mode="RGBA")
    assert found(check(tmp_path, "onetrainer", counter=WORDS)) == [(Code.ALPHA_DROPPED, "a.png", "")]


def test_an_image_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"")
    (finding,) = check(tmp_path, "onetrainer", counter=WORDS).findings
    assert (finding.code, finding.detail) == (Code.UNREADABLE_IMAGE, "the file is empty")


@pytest.mark.parametrize(
    ("size", "settings", "code", "detail"),
    [
        ((4000, 500), {"resolution": (512, 512)}, Code.CROP_LOSS, "50%: 4000x500 becomes 1024x256"),
        ((63, 700), {"bucket_no_upscale": True}, Code.ZERO_BUCKET, "63x700 becomes 0x640"),
        ((4000, 500), {"bucket_no_upscale": True}, Code.OVERSIZED_BUCKET, "4000x500 becomes 2560x320, more than 2048"),
    ],
)
def test_a_bucket_that_does_not_serve_is_found(
    size: tuple[int, int], settings: dict[str, Any], code: Code, detail: str, tmp_path: Path
) -> None:
    put(tmp_path / "a.png", size)
    report = check(tmp_path, "dreambooth", CheckSettings(caption_extension=".txt", **settings), counter=WORDS)
    assert found(report) == [(code, "a.png", detail)]


def test_a_trainer_that_turns_images_has_the_bucket_of_the_turned_one(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", (600, 4000), exif=turned(6))
    (finding,) = check(
        tmp_path, "ai-toolkit", CheckSettings(min_bucket_reso=512, bucket_reso_steps=512), counter=WORDS
    ).findings
    assert finding.detail.endswith("4000x600 becomes 2560x512")


def test_a_size_in_the_metadata_that_is_not_that_of_the_image_is_found(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "metadata.json").write_text(json.dumps({"a.png": {"caption": "c", "image_size": [512, 512]}}))
    assert found(check(tmp_path, "sd-scripts", counter=WORDS)) == [
        (Code.WRONG_SIZE, "a.png", "512x512 is stated, it is 1024x1024")
    ]


def test_a_text_cache_that_is_older_than_its_text_is_found(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "a_te_outputs.npz").write_bytes(b"")
    os.utime(tmp_path / "a_te_outputs.npz", (1000, 1000))
    report = check(tmp_path, "dreambooth", CheckSettings(caption_extension="txt"), counter=WORDS)
    assert found(report) == [(Code.STALE_TEXT_CACHE, "a_te_outputs.npz", "a.txt is newer")]


def test_images_of_the_same_bytes_are_found_and_others_of_the_same_length_are_not(tmp_path: Path) -> None:
    for name in ("a.bmp", "b.bmp", "c.bmp"):
        put(tmp_path / name, (64, 64))
    (tmp_path / "c.bmp").write_bytes((tmp_path / "a.bmp").read_bytes())
    assert found(check(tmp_path, "onetrainer", counter=WORDS)) == [(Code.DUPLICATE_IMAGE, "c.bmp", "the same as a.bmp")]


def test_images_of_other_folders_are_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    listener = NullListener()
    listener.note = notes.append  # type: ignore[method-assign]
    put(tmp_path / "set" / "a.png")
    put(tmp_path / "b.png")
    entries = {"a.png": {"caption": "c"}, str(tmp_path / "b.png"): {"caption": "d"}}
    (tmp_path / "set" / "metadata.json").write_text(json.dumps(entries))
    report = check(tmp_path / "set", "sd-scripts", counter=WORDS, listener=listener)
    assert report.images == 2
    assert notes == [f"1 images are outside {tmp_path / 'set'}: only their prompts were checked"]


@pytest.mark.parametrize("settings", [CheckSettings(metadata=(Path("m.json"),)), CheckSettings(enable_wildcard=True)])
def test_an_option_that_the_trainer_does_not_have_is_refused(settings: CheckSettings, tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(UsageError, match="has no effect with onetrainer"):
        check(tmp_path, "onetrainer", settings)


def test_bucket_options_without_effect_are_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    listener = NullListener()
    listener.note = notes.append  # type: ignore[method-assign]
    put(tmp_path / "a.png")
    check(tmp_path, "onetrainer", CheckSettings(resolution=(512, 512)), counter=WORDS, listener=listener)
    assert notes == ["the buckets of onetrainer are not computed, so the options for them have no effect"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    values = check(tmp_path, "onetrainer", counter=WORDS).as_dict(prompts=True)
    assert (values["findings"][0]["path"], list(values["prompts"])) == ("\\xff.png", ["\\xff.png"])


def test_nothing_is_written(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    before = sorted(tmp_path.rglob("*"))
    check(tmp_path, "dreambooth", counter=WORDS)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_filter_reports_only_what_concerns_the_images_that_match(tmp_path: Path) -> None:
    put(tmp_path / "a.png", text="hat ||| b")
    put(tmp_path / "b.png", text="cat ||| b")
    put(tmp_path / "c.png", text="hat")
    put(tmp_path / "sub" / "d.png", text=None)
    (tmp_path / "sub" / "d.png").write_bytes((tmp_path / "b.png").read_bytes())
    settings = CheckSettings(caption_extension=".txt", where="tag:hat*")
    report = check(tmp_path, "dreambooth", settings, counter=WORDS)
    assert found(report) == [(Code.SEPARATOR_IN_PROMPT, "a.png", "")]
    assert (report.images, list(report.prompts)) == (2, ["a.png", "c.png"])


def test_a_filter_leaves_out_the_text_files_of_other_images(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.png")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert found(check(tmp_path, "onetrainer", CheckSettings(where="name:a*"), counter=WORDS)) == []
    assert [each.path for each in check(tmp_path, "onetrainer", CheckSettings(where="name:b*")).findings] == ["b.txt"]


def test_a_filter_that_matches_nothing_is_an_error_with_what_each_condition_matches(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(NoImages, match="Each condition alone matches: tag:hat: 0; name:a\\*: 1"):
        check(tmp_path, "onetrainer", CheckSettings(where="tag:hat AND name:a*"))


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoImages):
        check(tmp_path, "onetrainer")


def test_an_unknown_target_is_an_error_that_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onetrainer"):
        check(tmp_path, "unknown")
