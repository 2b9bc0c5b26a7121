"""A metadata.json whose dataset was moved or copied, and entries of other places."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdprep.config import MergeSettings, PathOptions
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from tests.tasks.test_merge import CAPTIONS, Ear, image, read_json, write_json

RELS = ("a.png", "b.png", "10_x/a.png", "10_x/c.png", "z.png")


@pytest.fixture
def dataset(tmp_path):
    """A merged dataset with a score in each entry, which no sidecar has."""
    for rel in RELS:
        image(tmp_path / "DS", rel, f"the caption of {rel}", "1girl")
    merge(tmp_path / "DS")
    entries = read_json(tmp_path / "DS" / "metadata.json")
    write_json(tmp_path / "DS" / "metadata.json", {key: {**entries[key], "score": key[-8:]} for key in sorted(entries)})
    return tmp_path / "DS"


def scores(directory, output=None):
    """The scores by relative path, in the order of the entries; each entry has to name an image here."""
    entries = read_json(output or directory / "metadata.json")
    return {Path(key).relative_to(directory).as_posix(): entry["score"] for key, entry in entries.items()}


@pytest.mark.parametrize("prune", [False, True])
def test_a_moved_dataset_has_one_entry_per_image_with_the_users_fields_in_their_place(dataset, prune):
    before = scores(dataset)
    moved = dataset.rename(dataset.with_name("DS2"))
    report = merge(moved, MergeSettings(prune=prune))
    assert list(scores(moved).items()) == list(before.items())
    assert (report.rekeyed, report.outside, report.pruned, report.vanished) == (5, 0, 0, 0)
    assert merge(moved, MergeSettings(prune=prune)).current == 5


def test_a_copied_dataset_is_not_trained_twice(dataset):
    copy = shutil.copytree(dataset, dataset.with_name("copy"))
    ear = Ear()
    merge(copy, listener=ear)
    assert scores(copy) == scores(dataset)
    assert ear.notes == [f"rekeyed 5 entries of {dataset}: the dataset was moved or copied to {copy}"]


def test_undo_brings_back_the_keys_of_before(dataset):
    moved = dataset.rename(dataset.with_name("DS2"))
    before = (moved / "metadata.json").read_bytes()
    merge(moved)
    undo(moved)
    assert (moved / "metadata.json").read_bytes() == before


def test_a_json_of_windows_is_rekeyed_on_linux(dataset):
    entries = read_json(dataset / "metadata.json")
    here = {key: str(PureWindowsPath("D:/sets/DS", Path(key).relative_to(dataset))) for key in entries}
    write_json(dataset / "metadata.json", {here[key]: entry for key, entry in entries.items()})
    merge(dataset, MergeSettings(prune=True))
    assert read_json(dataset / "metadata.json") == entries


@pytest.mark.parametrize("keys", ["absolute", "relative"])
def test_relative_keys_with_backslashes_name_the_same_images(dataset, keys):
    merge(dataset, MergeSettings(keys="relative"))
    entries = read_json(dataset / "metadata.json")
    write_json(dataset / "metadata.json", {key.replace("/", "\\"): entry for key, entry in entries.items()})
    report = merge(dataset, MergeSettings(keys=keys, prune=True))
    assert (report.found, len(read_json(dataset / "metadata.json")), report.pruned) == (5, 5, 0)


def test_an_image_that_was_deleted_before_the_move_is_pruned_with_its_entry_at_the_old_place(dataset):
    moved = dataset.rename(dataset.with_name("DS2"))
    (moved / "b.png").unlink()
    assert merge(moved).vanished == 1
    assert list(scores(moved)) == sorted(RELS)
    assert merge(moved, MergeSettings(prune=True)).pruned == 1
    assert "b.png" not in scores(moved)


def test_pruning_in_the_run_that_finds_the_move_drops_it_too(dataset):
    moved = dataset.rename(dataset.with_name("DS2"))
    (moved / "b.png").unlink()
    report = merge(moved, MergeSettings(prune=True))
    assert (report.pruned, report.vanished, report.outside) == (1, 0, 0)
    assert "b.png" not in scores(moved)


def test_a_subfolder_that_this_run_does_not_include_moves_with_the_others(dataset):
    moved = dataset.rename(dataset.with_name("DS2"))
    merge(moved, MergeSettings(paths=PathOptions(recursive=False), prune=True))
    assert list(scores(moved)) == sorted(RELS)


def test_another_dataset_on_a_drive_that_is_not_connected_is_named_and_stays(dataset):
    entries = read_json(dataset / "metadata.json")
    others = {f"/mnt/usb/other/{number}.png": {"score": number} for number in range(4)}
    write_json(dataset / "metadata.json", {**entries, **others})
    moved, ear = dataset.rename(dataset.with_name("DS2")), Ear()
    report = merge(moved, MergeSettings(prune=True), listener=ear)
    assert others.items() <= read_json(moved / "metadata.json").items()
    assert (report.rekeyed, report.outside, report.pruned) == (5, 4, 0)
    assert ear.notes[-1] == f"4 entries of images outside {moved} stay: /mnt/usb/other"


def test_two_datasets_with_the_same_names_in_one_json_stay_two(tmp_path):
    for rel in ("1.png", "2.png", "3.png"):
        image(tmp_path / "A", rel, f"a of {rel}")
        image(tmp_path / "B", rel, f"b of {rel}")
    both = MergeSettings(output=tmp_path / "all.json", prune=True)
    for name in ("A", "B", "A", "B"):
        report = merge(tmp_path / name, both)
    assert len(read_json(tmp_path / "all.json")) == 6
    assert (report.current, report.outside) == (3, 3)


def test_a_json_elsewhere_is_rekeyed_if_its_texts_are_those_of_the_sidecars(dataset):
    output = MergeSettings(output=dataset.with_name("all.json"))
    shutil.copy(dataset / "metadata.json", output.output)
    moved = dataset.rename(dataset.with_name("DS2"))
    before = scores(dataset, output.output)
    assert merge(moved, output).rekeyed == 5
    assert scores(moved, output.output) == before


def test_entries_of_both_places_become_one_and_the_newer_field_counts(dataset):
    moved = dataset.rename(dataset.with_name("DS2"))
    entries = read_json(moved / "metadata.json")
    newer = {str(moved / Path(key).relative_to(dataset)): {"score": "new"} for key in entries}
    write_json(moved / "metadata.json", {**entries, **newer})
    merge(moved, MergeSettings(prune=True))
    assert scores(moved) == dict.fromkeys(RELS, "new")


def test_images_of_other_sizes_at_the_same_names_are_another_dataset(tmp_path):
    image(tmp_path, "a.png", "x")
    theirs = {"/other/a.png": {"caption": "y", "image_size": [1024, 1024]}}
    write_json(tmp_path / "metadata.json", theirs)
    assert merge(tmp_path).outside == 1
    assert theirs.items() <= read_json(tmp_path / "metadata.json").items()


def test_a_name_that_two_other_places_have_is_left_alone(tmp_path):
    image(tmp_path, "a.png", "x")
    theirs = {"/train/a.png": {"n": 1}, "/val/a.png": {"n": 2}}
    write_json(tmp_path / "metadata.json", theirs)
    assert merge(tmp_path, replace(CAPTIONS, prune=True)).outside == 2
    assert theirs.items() <= read_json(tmp_path / "metadata.json").items()


def test_the_entry_of_a_deleted_subfolder_is_not_that_of_an_image_of_this_name(tmp_path):
    image(tmp_path, "a.png", "x")
    write_json(tmp_path / "metadata.json", {str(tmp_path / "sub" / "a.png"): {"n": 1}, "sub/a.png": {"n": 2}})
    assert merge(tmp_path, replace(CAPTIONS, prune=True)).pruned == 2
    assert read_json(tmp_path / "metadata.json") == {"a.png": {"caption": "x"}}


@pytest.mark.parametrize("keys", ["absolute", "relative"])
def test_a_renamed_subfolder_takes_the_users_fields_along(tmp_path, keys):
    wanted = MergeSettings(keys=keys, prune=True)
    for name in ("a.png", "b.png"):
        image(tmp_path, f"10_x/{name}", f"the caption of {name}", "1girl")
    image(tmp_path, "1_y/a.png", "another", "1boy")
    merge(tmp_path, wanted)
    entries = read_json(tmp_path / "metadata.json")
    write_json(tmp_path / "metadata.json", {key: {**entry, "score": key[-8:]} for key, entry in entries.items()})
    (tmp_path / "10_x").rename(tmp_path / "5_x")
    ear = Ear()
    report = merge(tmp_path, wanted, listener=ear)
    assert (report.rekeyed, report.pruned) == (2, 0)
    found = {Path(key).parent.name: entry["score"] for key, entry in read_json(tmp_path / "metadata.json").items()}
    assert found == {"5_x": "_x/b.png", "1_y": "_y/a.png"}
    former = tmp_path / "10_x" if keys == "absolute" else "10_x"
    assert ear.notes == [f"rekeyed 2 entries of {former}: the dataset was moved or copied to {tmp_path}"]


def test_a_renamed_subfolder_is_known_by_its_texts(tmp_path):
    image(tmp_path, "10_x/a.png", "x", "1girl")
    merge(tmp_path)
    shutil.rmtree(tmp_path / "10_x")
    image(tmp_path, "5_z/a.png", "z", "1boy")
    assert merge(tmp_path, MergeSettings(prune=True)).pruned == 1


folders = st.sampled_from(["", "10_x/", "10_x/deep/", "日本/"])
rels = st.builds(lambda folder, name: f"{folder}{name}.png", folders, st.sampled_from(["a", "b", "1", "é"]))
datasets = st.dictionaries(rels, st.sampled_from(["one", "two", None]), min_size=1, max_size=6)
places = st.sampled_from(["/old/DS", "/", "D:/sets/DS", "//nas/share/DS"])


@settings(max_examples=40, deadline=None)
@given(datasets, places, st.booleans(), st.sampled_from(["absolute", "relative"]), st.booleans())
def test_after_any_move_each_image_has_one_entry_with_the_users_fields(images, place, backslashes, keys, prune):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve() / "DS2"
        old = {rel: f"{place.rstrip('/')}/{rel}" for rel in images}
        old = {rel: key.replace("/", "\\") if backslashes else key for rel, key in old.items()}
        for rel, caption in images.items():
            image(root, rel, caption)
        write_json(root / "metadata.json", {old[rel]: {"mine": rel} for rel in images})
        report = merge(root, MergeSettings(keys=keys, prune=prune))
        after = (root / "metadata.json").read_bytes()
        wanted = {(rel if keys == "relative" else str(root / rel)): rel for rel in images}
        assert {key: entry["mine"] for key, entry in read_json(root / "metadata.json").items()} == wanted
        assert (report.rekeyed, report.outside) == (len(images), 0)
        assert merge(root, MergeSettings(keys=keys, prune=prune)).written == 0
        assert (root / "metadata.json").read_bytes() == after
