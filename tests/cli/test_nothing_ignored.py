"""What is stated on the command line is honoured, or named in one line."""

import json

import click
import pytest

from tests.commands import COMMANDS


@pytest.fixture
def tag(sdprep_command, imgs):
    def run(*words):
        return sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", "0", *words)

    return run


def tags(imgs):
    return {name for path in imgs.glob("*.txt") for name in path.read_text().strip().split(", ")}


def test_quotes_escapes_and_full_width_commas_in_a_list_are_honoured_and_misspellings_named(tag, imgs):
    ended = tag("--exclude", r'"solo",black hiar,kuro \(sdprep\),1boy，glasses')
    assert "--exclude: no tag of demo-tag matches black hiar (did you mean black_hair?)\n" in ended.err
    assert not tags(imgs) & {"solo", "kuro_(sdprep)", "1boy", "glasses"}


def test_a_misspelt_tag_is_named_although_nothing_is_left_to_write(tag):
    assert [tag("--exclude", "slo").err.count("did you mean solo?") for _ in range(2)] == [1, 1]


# Repeated options

LISTS = [("tag", name) for name in ("exclude", "tag-replacement", "always-first-tags", "prefix", "suffix")]
LISTS += [("caption", "bad-words"), ("caption", "drop-words")]


@pytest.fixture
def used(sdprep_command, imgs):
    """The value that a command uses for an option."""

    def find(command, name, *words):
        lines = sdprep_command(command, imgs, "--show-config", *words).out.splitlines()
        line = next(line for line in lines if line.startswith(f"{name} = "))
        return json.loads(line.removeprefix(f"{name} = ").split("  # ")[0])

    return find


@pytest.mark.parametrize(("command", "name"), LISTS)
def test_repeated_list_options_add_up(used, command, name):
    [old, new] = [used(command, name, f"--{name}", value) for value in ("a,b", "c,d")]
    assert used(command, name, f"--{name}", "a,b", f"--{name}=c,d") == old + new


def test_repeated_fields_providers_and_devices_add_up(used):
    assert used("merge", "fields", "--fields", "caption", "--fields", "tags") == ["caption", "tags"]
    assert used("tag", "provider", "--provider", "cuda", "--provider", "cpu") == "cuda,cpu"
    for command in ("tag", "caption"):
        assert used(command, "device", "--device", "cuda:0", "--device", "cuda:1") == "cuda:0,cuda:1"


def test_only_the_last_of_two_thresholds_counts_and_the_other_is_named(tag):
    said = tag("--threshold", "0.3", "--thresh", "0.4").err
    assert "--threshold 0.4 counts, and --threshold 0.3 before it does not\n" in said
    assert "counts" not in tag("--threshold", "0.4", "--threshold", "0.4").err


def test_only_the_last_of_two_opposite_flags_counts_and_the_other_is_named(used, sdprep_command, imgs):
    words = ["--no-recursive", "--recursive", "--update", "--update"]
    assert used("tag", "recursive", *words) is True
    said = sdprep_command("tag", imgs, "--show-config", *words).err
    assert said == "--recursive counts, and --no-recursive before it does not\n"


# Separators and blanks


@pytest.mark.parametrize(("typed", "meant"), [(r"\n", "\n"), (r"\t", "\t"), (r",\n", ",\n")])
def test_a_separator_of_two_characters_is_the_one_that_is_meant(tag, imgs, typed, meant):
    tag("--caption-separator", typed)
    text = (imgs / "a.txt").read_text()
    assert meant in text.strip()
    assert "\\" not in text


MAY_BE_BLANK = {"prompt", "prefix", "suffix", "exclude", "tag_replacement", "always_first_tags", "category_order"}
MAY_BE_BLANK |= {"artist_prefix", "bad_words", "drop_words", "category_threshold", "system_prompt", "trigger"}
BLANK = [
    (name, option)
    for name in ("caption", "tag", "merge")
    for option in COMMANDS[name].params
    if isinstance(option, click.Option) and not option.is_flag and option.name not in MAY_BE_BLANK
]


@pytest.mark.parametrize(("command", "option"), BLANK, ids=lambda each: each if isinstance(each, str) else each.name)
def test_a_blank_value_is_refused_by_name(sdprep_command, imgs, command, option):
    ended = sdprep_command(command, imgs, option.opts[0], "")
    assert (ended.code, option.opts[0] in ended.err) == (2, True), ended.err


# Options without effect


def test_options_without_effect_beside_others_are_named_in_one_line(tag):
    said = tag("--scores-min", "0.2", "--implied", "add", "--image-timeout", "5").err
    for line in ("--scores-min has no effect without --scores", "--implied has no effect without --implications"):
        assert f"{line}\n" in said
    assert "--image-timeout has no effect with --workers 0\n" in said


def test_sampling_options_without_sampling_are_named(sdprep_command, imgs):
    words = ["caption", imgs, "--model", "demo-caption", "--dry-run"]
    said = sdprep_command(*words, "--top-p", "0.5", "--top-k", "3", "--seed", "1").err
    assert "--top-p, --top-k and --seed have no effect without --sample\n" in said
    assert "no effect" not in sdprep_command(*words, "--sample", "--seed", "1").err
    assert "--num-beams has no effect with --sample\n" in sdprep_command(*words, "--sample", "--num-beams", "2").err


def test_flat_scores_under_mcut_are_counted_at_the_end(tag, imgs, monkeypatch):
    monkeypatch.setattr("sdprep.rules.thresholds.NARROWEST_GAP", 2.0)
    said = tag("--threshold", "mcut").err
    assert "scores without a gap, so --threshold mcut cuts anywhere; use a number: 2 images (a.jpg, b.png)" in said
    assert "without a gap" not in tag("--threshold", "0.3").err


def test_options_of_merge_without_effect_are_named(sdprep_command, imgs):
    said = sdprep_command(
        "merge", imgs, "--fields", "image_size", "--caption-extension", ".cap", "--missing", "skip"
    ).err
    assert "--caption-extension has no effect without caption in --fields\n" in said
    assert "--missing has no effect without caption or tags in --fields\n" in said
