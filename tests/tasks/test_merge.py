import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdprep.config import MergeSettings, PathOptions
from sdprep.errors import MetadataError, MissingSidecars, NoImages, NoSidecars, UsageError
from sdprep.report import CancelToken, NullListener
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "merge"
FLAT = PathOptions(recursive=False)
AS_KOHYA = MergeSettings(keys="stem", fields=("caption", "tags"), paths=FLAT)
RELATIVE = MergeSettings(keys="relative")
TEXTS = MergeSettings(keys="relative", fields=("caption", "tags"))
CAPTIONS = MergeSettings(keys="relative", fields=("caption",))


class Ear(NullListener):
    def __init__(self):
        self.notes = []
        self.total = self.steps = 0

    def note(self, message):
        self.notes.append(message)

    def stage(self, _, total=None, *__):
        self.total = total

    def advance(self):
        self.steps += 1


def image(folder, name, caption=None, tags=None, size=(8, 6)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    for text, extension in ((caption, ".caption"), (tags, ".txt")):
        if text is not None:
            path.with_suffix(extension).write_text(text, encoding="utf-8")
    return path


def write_json(path, entries):
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def merged(folder, wanted=RELATIVE, listener=None):
    merge(folder, wanted, listener=listener)
    return read_json(folder / "metadata.json")


def counts(report):
    names = ("found", "written", "current", "kept", "failed", "remaining", "missing")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


# -- what kohya's scripts write, and where this differs on purpose


@pytest.fixture
def kohya(tmp_path):
    shutil.copytree(GOLDEN / "input", tmp_path / "input")
    return tmp_path / "input"


def expected(name):
    return read_json(GOLDEN / "expected" / name)


def test_captions_are_merged_as_kohya_merges_them(kohya):
    assert merged(kohya, replace(AS_KOHYA, fields=("caption",))) == expected("captions.json")


def test_captions_and_tags_in_one_pass_equal_kohyas_two(kohya):
    assert merged(kohya, AS_KOHYA) == expected("captions_then_tags.json")


def test_tags_are_merged_onto_captions_as_kohya_merges_them(kohya):
    captions = GOLDEN / "expected" / "captions.json"
    assert merged(kohya, replace(AS_KOHYA, fields=("tags",), in_json=captions)) == expected("captions_then_tags.json")


def test_an_older_json_is_updated_as_kohya_updates_it(kohya):
    wanted = replace(AS_KOHYA, fields=("caption",), in_json=GOLDEN / "existing.json")
    assert merged(kohya, wanted) == expected("onto_existing.json")


def test_full_paths_are_absolute_where_kohya_prints_them_as_typed(kohya):
    theirs = {str(kohya.parent / key): entry for key, entry in expected("full_path_recursive.json").items()}
    assert merged(kohya, MergeSettings(fields=("caption", "tags"))) == theirs


def test_paths_that_kohya_printed_as_typed_are_recognised(kohya, monkeypatch):
    monkeypatch.chdir(kohya.parent)
    wanted = MergeSettings(fields=("caption", "tags"), in_json=GOLDEN / "expected" / "full_path_recursive.json")
    assert list(merged(kohya, wanted)) == [str(kohya.parent / key) for key in expected("full_path_recursive.json")]


def test_a_missing_sidecar_does_not_stop_the_merge_as_it_does_in_kohya(kohya):
    (kohya / "b.v2.caption").unlink()
    rest = {key: entry for key, entry in expected("captions.json").items() if key != "b.v2"}
    assert merged(kohya, replace(AS_KOHYA, fields=("caption",))) == rest


@pytest.mark.parametrize("name", ["a.Png", "a.JPG", "a.WebP", "a.gif"])
def test_upper_and_mixed_case_extensions_are_found(tmp_path, name):
    image(tmp_path, name, "x")
    assert list(merged(tmp_path)) == [name]


def test_two_equal_stems_fail_where_kohya_lets_the_last_one_win(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        image(tmp_path, name, "x")
    report = merge(tmp_path, replace(RELATIVE, keys="stem"))
    assert [failure["code"] for failure in report.failures] == ["stem_collision"] * 2
    assert list(read_json(tmp_path / "metadata.json")) == ["b"]


def test_folders_are_searched_with_stem_keys_where_kohya_refuses(kohya):
    assert "c" in merged(kohya, replace(AS_KOHYA, paths=PathOptions()))


def test_letters_are_written_as_they_are_where_kohya_escapes_them(tmp_path):
    image(tmp_path, "日本.png", "猫")
    merge(tmp_path, RELATIVE)
    assert '"日本.png"' in (tmp_path / "metadata.json").read_text(encoding="utf-8")


# -- texts and sizes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_sidecars_in_these_encodings_are_read(tmp_path, encoding):
    image(tmp_path, "a.png").with_suffix(".caption").write_bytes("猫がいる\n".encode(encoding))
    assert merged(tmp_path)["a.png"]["caption"] == "猫がいる"


@pytest.mark.parametrize("raw", [b" one\ntwo \n\n", b"one\r\ntwo\r\n", b"one\rtwo\r"])
def test_a_text_is_stripped_and_its_inner_lines_kept(tmp_path, raw):
    image(tmp_path, "a.png").with_suffix(".caption").write_bytes(raw)
    assert merged(tmp_path)["a.png"]["caption"] == "one\ntwo"


def test_extensions_and_full_sidecar_names_are_followed(tmp_path):
    image(tmp_path, "a.png")
    (tmp_path / "a.png.cap").write_text("c", encoding="utf-8")
    (tmp_path / "a.png.tags").write_text("t", encoding="utf-8")
    wanted = replace(TEXTS, caption_extension=".cap", tag_extension=".tags", paths=PathOptions(sidecar_name="full"))
    assert merged(tmp_path, wanted) == {"a.png": {"caption": "c", "tags": "t"}}


def test_the_size_is_width_and_height_as_stored_however_exif_would_turn_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    assert merged(tmp_path)["a.jpg"]["image_size"] == [8, 6]


@pytest.mark.parametrize("name", ["caption", "tags", "image_size"])
def test_only_the_wanted_field_is_written(tmp_path, name):
    image(tmp_path, "a.png", "c", "t")
    assert merged(tmp_path, replace(RELATIVE, fields=(name,)))["a.png"].keys() == {name}


def test_an_image_without_size_is_no_fault_when_sizes_are_not_wanted(tmp_path):
    image(tmp_path, "a.png", "c").write_bytes(b"")
    assert merged(tmp_path, CAPTIONS) == {"a.png": {"caption": "c"}}


def test_images_that_share_a_sidecar_both_fail_since_nobody_knows_whose_text_it_is(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        image(tmp_path, name, "x")
    report = merge(tmp_path, CAPTIONS)
    assert [failure["code"] for failure in report.failures] == ["stem_collision"] * 2
    assert list(read_json(tmp_path / "metadata.json")) == ["b.png"]


def test_images_whose_sidecars_have_full_names_share_none(tmp_path):
    for name in ("a.jpg", "a.png"):
        image(tmp_path, name)
        (tmp_path / f"{name}.caption").write_text(f"the {name}\n")
    full = replace(CAPTIONS, paths=PathOptions(sidecar_name="full"))
    assert merged(tmp_path, full) == {"a.jpg": {"caption": "the a.jpg"}, "a.png": {"caption": "the a.png"}}


def test_a_run_with_its_output_elsewhere_belongs_to_the_folder_of_the_images(tmp_path):
    image(tmp_path / "imgs", "a.png", "x")
    merge(tmp_path / "imgs", replace(RELATIVE, output=tmp_path / "m.json"))
    undo(tmp_path / "imgs", catalog=tmp_path / "imgs" / ".sdprep" / "catalog.sqlite")
    assert not (tmp_path / "m.json").exists()
    assert not (tmp_path / ".sdprep").exists()


# -- where it is written


def test_the_output_can_be_put_elsewhere_and_is_named_in_the_report(tmp_path):
    image(tmp_path, "a.png", "x")
    output = tmp_path / "new" / "m.json"
    assert merge(tmp_path, replace(RELATIVE, output=output)).output == str(output)
    assert list(read_json(output)) == ["a.png"]


def test_with_an_output_folder_sidecars_and_json_lie_there_and_keys_name_the_real_image(tmp_path):
    real = image(tmp_path / "in", "sub/a.png")
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "a.txt").write_text("x", encoding="utf-8")
    merge(tmp_path / "in", MergeSettings(fields=("tags",), paths=PathOptions(output_dir=out)))
    assert read_json(out / "metadata.json") == {str(real): {"tags": "x"}}


def test_a_merge_that_changes_nothing_leaves_the_file_alone(tmp_path):
    image(tmp_path, "a.png", "x", "y")
    merge(tmp_path)
    before = (tmp_path / "metadata.json").stat()
    report = merge(tmp_path)
    assert (tmp_path / "metadata.json").stat().st_ino == before.st_ino
    assert counts(report) == {"found": 1, "current": 1}


def test_nothing_but_the_json_and_the_catalog_is_left_in_the_folder(tmp_path):
    image(tmp_path, "a.png", "x")
    merge(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".sdprep",
        "a.caption",
        "a.png",
        "metadata.json",
    ]


def test_nothing_to_merge_says_what_to_run_and_makes_no_json(tmp_path):
    image(tmp_path, "a.png")
    with pytest.raises(
        NoSidecars, match=r"no caption files \(.caption\) and no tag files \(.txt\) in .* Run sdprep cap"
    ) as found:
        merge(tmp_path)
    assert found.value.exit_code == 4
    assert not (tmp_path / "metadata.json").exists()


def test_tags_alone_are_merged_and_the_missing_captions_are_named_once(tmp_path):
    for name in ("a.png", "b.png"):
        image(tmp_path, name, tags="1girl")
    ear = Ear()
    assert merged(tmp_path, RELATIVE, ear)["a.png"]["tags"] == "1girl"
    assert ear.notes == [
        f"no caption files (.caption) found: run sdprep caption {tmp_path}, or use --fields tags,image_size"
    ]


def test_an_image_that_fails_is_named_rather_than_a_lack_of_sidecars(tmp_path):
    image(tmp_path, "a.png").write_bytes(b"no image")
    assert [failure["code"] for failure in merge(tmp_path).failures] == ["not_an_image"]


def test_a_json_that_another_program_changes_meanwhile_is_not_overwritten(tmp_path):
    image(tmp_path, "a.png", "x")
    path = write_json(tmp_path / "metadata.json", {})

    class Meddler(NullListener):
        def advance(self):
            path.write_text('{"b": {}}', encoding="utf-8")

    with pytest.raises(MetadataError, match="another program has changed it"):
        merge(tmp_path, listener=Meddler())
    assert path.read_text(encoding="utf-8") == '{"b": {}}'


def test_an_output_that_is_a_folder_is_named(tmp_path):
    image(tmp_path, "a.png", "x")
    (tmp_path / "m.json").mkdir()
    with pytest.raises(MetadataError, match=r"m\.json"):
        merge(tmp_path, replace(RELATIVE, output=tmp_path / "m.json"))


def test_an_output_below_a_file_is_named(tmp_path):
    image(tmp_path, "a.png", "x")
    (tmp_path / "file").touch()
    with pytest.raises(MetadataError, match=r"m\.json"):
        merge(tmp_path, replace(RELATIVE, output=tmp_path / "file" / "m.json"))


def test_a_dry_run_writes_nothing_and_counts_what_it_would_write_as_remaining(tmp_path):
    image(tmp_path, "a.png", "x")
    report = merge(tmp_path, replace(RELATIVE, dry_run=True))
    assert not (tmp_path / "metadata.json").exists()
    assert counts(report) == {"found": 1, "remaining": 1, "missing": 1}


def test_a_stop_leaves_every_image_remaining_and_the_file_as_it_was(tmp_path):
    image(tmp_path, "a.png", "x")
    stop = CancelToken()
    stop.exit_code = 130
    report = merge(tmp_path, stop=stop)
    assert counts(report) == {"found": 1, "remaining": 1}
    assert report.exit_code == 130
    assert not (tmp_path / "metadata.json").exists()


def test_the_listener_hears_of_every_image(tmp_path):
    for name in ("a.png", "b.png"):
        image(tmp_path, name, "x")
    ear = Ear()
    merge(tmp_path, listener=ear)
    assert (ear.total, ear.steps) == (2, 2)


# -- what it starts from


def test_the_output_itself_is_updated_and_unknown_keys_survive(tmp_path):
    image(tmp_path, "a.png", "new")
    write_json(tmp_path / "metadata.json", {"a.png": {"caption": "old", "score": 7, "train_resolution": [512, 512]}})
    entry = {"caption": "new", "score": 7, "train_resolution": [512, 512]}
    assert merged(tmp_path, CAPTIONS) == {"a.png": entry}


def test_a_given_json_comes_before_the_output(tmp_path):
    image(tmp_path, "a.png", "x")
    write_json(tmp_path / "metadata.json", {"a.png": {"from": "output"}})
    base = write_json(tmp_path / "base.json", {"a.png": {"from": "base"}})
    assert merged(tmp_path, replace(CAPTIONS, in_json=base))["a.png"]["from"] == "base"


def test_entries_lost_by_starting_from_another_json_are_told(tmp_path):
    image(tmp_path, "a.png", "x")
    write_json(tmp_path / "metadata.json", {"a": {}, "mine": {}})
    base = write_json(tmp_path / "base.json", {})
    ear = Ear()
    assert list(merged(tmp_path, replace(CAPTIONS, in_json=base), ear)) == ["a.png"]
    assert ear.notes == ["1 entry of metadata.json that are not in the JSON to start from are dropped"]


def test_a_given_json_that_is_missing_stops_the_merge(tmp_path):
    image(tmp_path, "a.png", "x")
    with pytest.raises(MetadataError, match=r"none\.json"):
        merge(tmp_path, MergeSettings(in_json=tmp_path / "none.json"))


@pytest.mark.parametrize("with_in_json", [False, True])
def test_a_file_that_is_no_metadata_json_is_never_overwritten(tmp_path, with_in_json):
    image(tmp_path, "a.png", "x")
    (tmp_path / "metadata.json").write_text("my notes", encoding="utf-8")
    base = write_json(tmp_path / "base.json", {})
    with pytest.raises(MetadataError, match=r"metadata\.json"):
        merge(tmp_path, MergeSettings(in_json=base if with_in_json else None))
    assert (tmp_path / "metadata.json").read_text(encoding="utf-8") == "my notes"


def test_an_entry_under_another_key_style_is_rekeyed_and_not_doubled(tmp_path):
    path = image(tmp_path, "a.png", "new")
    write_json(tmp_path / "metadata.json", {"a": {"caption": "old", "score": 7}})
    wanted = replace(CAPTIONS, keys="absolute")
    assert merged(tmp_path, wanted) == {str(path): {"caption": "new", "score": 7}}


def test_fresh_texts_come_before_those_of_united_entries(tmp_path):
    image(tmp_path, "a.png", "fresh")
    write_json(tmp_path / "metadata.json", {"a": {"caption": "stem"}, "a.png": {"caption": "relative"}})
    ear = Ear()
    assert merged(tmp_path, CAPTIONS, ear) == {"a.png": {"caption": "fresh"}}
    assert ear.notes == []


def test_a_value_lost_in_uniting_is_told(tmp_path):
    image(tmp_path, "a.png", "fresh")
    write_json(tmp_path / "metadata.json", {"a": {"score": 1}, "a.png": {"score": 2}})
    ear = Ear()
    assert merged(tmp_path, CAPTIONS, ear)["a.png"]["score"] == 2
    assert ear.notes == ["1 entry had different values under several keys; the most exact key was used"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_an_absolute_key_through_a_linked_folder_is_recognised(tmp_path):
    path = image(tmp_path / "real", "a.png", "x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_json(tmp_path / "real" / "metadata.json", {str(tmp_path / "link" / "a.png"): {"score": 7}})
    assert list(merged(tmp_path / "real", MergeSettings())) == [str(path)]


def test_existing_entries_keep_their_place_and_new_ones_follow_in_natural_order(tmp_path):
    for name in ("img10.png", "img2.png", "img1.png", "z.png"):
        image(tmp_path, name, "x")
    write_json(tmp_path / "metadata.json", {"z.png": {}, "gone.png": {}})
    assert list(merged(tmp_path)) == ["z.png", "gone.png", "img1.png", "img2.png", "img10.png"]


@pytest.mark.parametrize(
    "key", ["", ".", "..", "nul\0l", "nul\0l/a.png", "x" * 5000, "C:\\imgs\\b.png", "s3://a/b.png"]
)
def test_a_key_that_is_no_path_here_is_left_alone(tmp_path, key):
    image(tmp_path, "a.png", "x")
    write_json(tmp_path / "metadata.json", {key: {"score": 7}})
    assert merged(tmp_path)[key] == {"score": 7}


# -- missing sidecars


def test_a_missing_text_leaves_the_field_of_the_entry_as_it_is(tmp_path):
    image(tmp_path, "a.png", "c")
    write_json(tmp_path / "metadata.json", {"a.png": {"tags": ["a", "list"]}})
    assert merged(tmp_path, TEXTS) == {"a.png": {"tags": ["a", "list"], "caption": "c"}}


def test_a_missing_text_is_left_out_of_a_new_entry(tmp_path):
    image(tmp_path, "a.png", "c")
    assert merged(tmp_path, TEXTS) == {"a.png": {"caption": "c"}}


def test_a_missing_text_can_be_made_empty(tmp_path):
    image(tmp_path, "a.png", "c")
    assert merged(tmp_path, replace(TEXTS, missing="empty")) == {"a.png": {"caption": "c", "tags": ""}}


def test_images_that_lack_a_wanted_sidecar_are_named(tmp_path):
    image(tmp_path, "a.png", "c", "t")
    image(tmp_path, "b.png", "c")
    image(tmp_path, "c.png")
    report = merge(tmp_path)
    assert (report.missing, report.missing_paths) == (2, ["b.png", "c.png"])


def test_a_sidecar_that_is_not_wanted_is_not_missed(tmp_path):
    image(tmp_path, "a.png", "c")
    assert merge(tmp_path, CAPTIONS).missing == 0


def test_missing_sidecars_can_be_an_error_that_names_a_few_and_writes_nothing(tmp_path):
    for number in range(7):
        image(tmp_path, f"{number}.png")
    with pytest.raises(MissingSidecars, match=r"7 of 7 images .* 0\.png, 1\.png, .* and 2 more"):
        merge(tmp_path, MergeSettings(missing="error"))
    assert not (tmp_path / "metadata.json").exists()


def test_an_image_without_any_text_is_not_put_into_the_json(tmp_path):
    image(tmp_path, "a.png", "c")
    image(tmp_path, "b.png")
    report = merge(tmp_path, RELATIVE)
    assert list(read_json(tmp_path / "metadata.json")) == ["a.png"]
    assert report.kept_paths == ["b.png"]
    assert counts(report) == {"found": 2, "written": 1, "kept": 1, "missing": 2}


def test_an_image_without_any_text_keeps_the_entry_that_it_has(tmp_path):
    image(tmp_path, "a.png")
    write_json(tmp_path / "metadata.json", {"a.png": {"caption": "only here", "image_size": [8, 6]}})
    assert counts(merge(tmp_path, RELATIVE)) == {"found": 1, "kept": 1, "missing": 1}


def test_an_entry_without_sidecars_that_gains_a_size_is_written(tmp_path):
    image(tmp_path, "a.png")
    write_json(tmp_path / "metadata.json", {"a.png": {"caption": "only here"}})
    assert counts(merge(tmp_path, RELATIVE)) == {"found": 1, "written": 1, "missing": 1}


# -- sidecars that trainers cannot read, or read in part


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_sidecar"),
        ("猫\n".encode("utf-16"), "not_utf_8"),
        (b"1girl\nsolo\n", "several_lines"),
        (b"1girl\r\nsolo", "several_lines"),
        (b"\n1girl", "several_lines"),
    ],
)
def test_a_sidecar_that_a_trainer_cannot_read_as_it_is_is_named_by_its_own_name(tmp_path, data, code):
    image(tmp_path, "sub/a.png", "c").with_suffix(".txt").write_bytes(data)
    assert [(flag["path"], flag["code"]) for flag in merge(tmp_path).flagged] == [("sub/a.txt", code)]


@pytest.mark.parametrize("data", [b"\n", b"1girl, solo\n\n", b"1girl\r\n", b"a\xe2\x80\xa8b\n", b"\xef\xbb\xbf1girl"])
def test_a_sidecar_of_one_line_needs_no_word(tmp_path, data):
    image(tmp_path, "a.png", "c").with_suffix(".txt").write_bytes(data)
    assert merge(tmp_path).flagged == []


# -- failures


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (b"no image", "not_an_image")])
def test_an_image_whose_size_cannot_be_read_fails_and_keeps_its_entry(tmp_path, data, code):
    image(tmp_path, "a.png", "new").write_bytes(data)
    image(tmp_path, "b.png", "new")
    write_json(tmp_path / "metadata.json", {"a": {"caption": "old"}})
    report = merge(tmp_path, replace(RELATIVE, prune=True))
    assert [(failure["path"], failure["code"]) for failure in report.failures] == [("a.png", code)]
    assert read_json(tmp_path / "metadata.json")["a"] == {"caption": "old"}


def test_a_sidecar_that_is_no_text_fails_its_image_alone(tmp_path):
    image(tmp_path, "a.png").with_suffix(".txt").write_bytes(b"caf\xe9")
    image(tmp_path, "b.png", "c", "t")
    report = merge(tmp_path, RELATIVE)
    assert [(failure["path"], failure["code"]) for failure in report.failures] == [("a.png", "bad_text")]
    assert list(read_json(tmp_path / "metadata.json")) == ["b.png"]
    assert report.exit_code == 3


def test_a_sidecar_that_cannot_be_opened_fails_its_image_alone(tmp_path):
    image(tmp_path, "a.png").with_suffix(".txt").mkdir()
    assert [failure["code"] for failure in merge(tmp_path).failures] == ["unreadable"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_an_image_whose_name_is_not_unicode_fails(tmp_path):
    image(tmp_path, "a.png", "x").rename(tmp_path / "caf\udce9.png")
    failures = merge(tmp_path).failures
    assert [failure["code"] for failure in failures] == ["unreadable"]
    assert "not valid Unicode" in failures[0]["message"]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(NoImages):
        merge(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"keys": "name"}, {"missing": "no"}, {"fields": ("text",)}, {"fields": ()}, {"caption_extension": ".txt"}]
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, wrong):
    image(tmp_path, "a.png", "x")
    with pytest.raises(UsageError):
        merge(tmp_path, MergeSettings(**wrong))


# -- vanished images


OUTSIDE = "1 entry of images outside {} stay: {}/elsewhere"


@pytest.fixture
def vanished(tmp_path):
    elsewhere = image(tmp_path, "elsewhere/e.png")
    image(tmp_path, "imgs/a.png", "x", "y")
    keys = ["a.png", "gone", "sub/gone.png", str(tmp_path / "imgs" / "gone.png"), str(elsewhere)]
    write_json(tmp_path / "imgs" / "metadata.json", {key: {} for key in keys})
    return tmp_path / "imgs"


def test_entries_of_vanished_images_stay_and_are_told(vanished):
    ear = Ear()
    assert len(merged(vanished, RELATIVE, ear)) == 5
    assert ear.notes == [OUTSIDE.format(vanished, vanished.parent), "3 entries without an image; --prune drops them"]


def test_pruning_drops_entries_of_vanished_images_but_not_of_files_elsewhere(vanished):
    ear = Ear()
    kept = merged(vanished, replace(RELATIVE, prune=True), ear)
    assert list(kept) == ["a.png", str(vanished.parent / "elsewhere" / "e.png")]
    assert ear.notes == [OUTSIDE.format(vanished, vanished.parent), "pruned 3 entries of vanished images"]


def test_a_dry_run_tells_what_it_would_prune(vanished):
    ear = Ear()
    merge(vanished, replace(RELATIVE, prune=True, dry_run=True), listener=ear)
    assert ear.notes == [OUTSIDE.format(vanished, vanished.parent), "would prune 3 entries of vanished images"]


@pytest.mark.parametrize("key", ["sub/c.png", "sub/c"])
def test_pruning_spares_an_image_in_a_subfolder_that_was_not_looked_into(tmp_path, key):
    image(tmp_path, "a.png", "x")
    image(tmp_path, "sub/c.png")
    write_json(tmp_path / "metadata.json", {key: {}})
    assert key in merged(tmp_path, replace(RELATIVE, prune=True, paths=FLAT))


def test_pruning_spares_a_stem_that_fits_several_images_and_tells_of_it(tmp_path):
    image(tmp_path, "a.png", "x")
    image(tmp_path, "a.jpg")
    write_json(tmp_path / "metadata.json", {"a": {"score": 7}})
    ear = Ear()
    assert merged(tmp_path, replace(CAPTIONS, prune=True), ear)["a"] == {"score": 7}
    assert ear.notes == ["1 entry fit several images by their key and stay as they are"]


# -- keys and links that lead elsewhere


@pytest.mark.parametrize("key", ["../secret.png", "sub/../../secret.png", "//host/x.png", "a\0b", "/gone"])
def test_a_key_that_leads_out_of_the_folder_is_not_looked_up_and_stays(tmp_path, key, monkeypatch):
    image(tmp_path, "imgs/a.png", "x")
    image(tmp_path, "secret.png")
    write_json(tmp_path / "imgs" / "metadata.json", {key: {"score": 1}})
    looked, is_file = [], Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: looked.append(str(path)) or is_file(path))
    assert key in merged(tmp_path / "imgs", replace(RELATIVE, prune=True))
    outside = [path for path in looked if not path.startswith(str(tmp_path / "imgs"))]
    assert [path for path in outside if not path.endswith("catalog.sqlite")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_sidecar_that_is_a_link_out_of_the_folder_is_named_and_its_text_not_merged(tmp_path):
    image(tmp_path, "imgs/a.png")
    image(tmp_path, "imgs/b.png", "mine")
    (tmp_path / "key").write_text("a private key")
    (tmp_path / "imgs" / "a.caption").symlink_to(tmp_path / "key")
    report = merge(tmp_path / "imgs", RELATIVE)
    assert [(each["path"], each["code"]) for each in report.failures] == [("a.png", "unreadable")]
    assert "private" not in (tmp_path / "imgs" / "metadata.json").read_text("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_is_a_link_out_of_its_folder_is_refused(tmp_path, there):
    image(tmp_path, "imgs/a.png", "x")
    if there:
        (tmp_path / "elsewhere.json").write_text("{}")
    (tmp_path / "imgs" / "metadata.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(MetadataError, match=r"metadata\.json is a link that leaves its folder"):
        merge(tmp_path / "imgs", RELATIVE)
    assert (tmp_path / "elsewhere.json").exists() == there


# -- any folder


texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=8)
folders = st.dictionaries(
    st.sampled_from(["a.png", "a.bmp", "b.png", "sub/a.png"]), st.tuples(texts, texts), min_size=1
)
keys = st.sampled_from(["a.png", "a", "b", "./b.png", "sub/a", "gone", "/gone.png"])
older = st.dictionaries(keys, st.dictionaries(st.sampled_from(["caption", "tags", "mine"]), st.text(max_size=3)))
wishes = st.builds(
    MergeSettings,
    keys=st.sampled_from(["absolute", "relative", "stem"]),
    missing=st.sampled_from(["skip", "empty"]),
    prune=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(folders, older, wishes)
def test_merging_twice_is_merging_once(folder, entries, wanted):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for rel, (caption, tags) in folder.items():
            image(root, rel, caption, tags)
        # One image with a tag, since a folder without any sidecar is an error.
        image(root, "tagged.png", tags="1girl")
        write_json(root / "metadata.json", entries)
        merge(root, wanted)
        once = (root / "metadata.json").read_bytes()
        report = merge(root, wanted)
        assert (root / "metadata.json").read_bytes() == once
        assert report.written == 0


THEIRS = """{
  "a.png": {
    "caption": "old",
    "score": 0.1000,
    "far": 1e999,
    "big": 123456789012345678901234567890,
    "deep": {
      "z": [
        -0.0,
        1.0
      ],
      "a": "\\u0001\\udce9"
    }
  }
}
"""


def test_what_others_wrote_into_the_json_keeps_its_letters_and_its_order(tmp_path):
    image(tmp_path, "a.png", "new")
    (tmp_path / "metadata.json").write_text(THEIRS, encoding="utf-8")

    merge(tmp_path, CAPTIONS)

    assert (tmp_path / "metadata.json").read_text(encoding="utf-8") == THEIRS.replace("old", "new")


@pytest.mark.parametrize("entry", ['{"n": NaN}', '{"n": 1, "n": 2}', '{"n": [-Infinity]}', "[" * 200 + "]" * 200])
@pytest.mark.parametrize("name", ["metadata.json", "base.json"])
def test_a_json_that_cannot_keep_its_letters_is_refused_and_left_alone(tmp_path, name, entry):
    image(tmp_path, "a.png", "new")
    (tmp_path / name).write_text(f'{{"b.png": {{"x": {entry}}}}}', encoding="utf-8")
    before = (tmp_path / name).read_bytes()

    with pytest.raises(MetadataError, match=name):
        merge(tmp_path, replace(CAPTIONS, in_json=tmp_path / name if name == "base.json" else None))

    assert (tmp_path / name).read_bytes() == before
