"""Images and sidecars that were moved, renamed or copied between runs: their history goes with them."""

import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from sdprep.catalog.schema import as_key
from sdprep.folders import read_below
from sdprep.report import CancelToken, NullListener
from sdprep.tasks.annotation import moves
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.undo import undo
from sdprep.tasks.settings import Layers
from sdprep.tasks.tag import tag as tag_task
from tests.stories.telling import (
    CATALOG,
    FAKE_CAPTION,
    LOOSE,
    STRICT,
    USUAL,
    caption,
    codes,
    counts,
    hide_models,
    renew_times,
    tag,
    tag_by_default,
    tag_settings,
    tags_of,
    texts,
    write,
)


@pytest.fixture
def dataset(tmp_path, drawings):
    """A dataset with two folders as kohya names them, tagged."""
    folder = tmp_path / "dataset"
    for index, name in enumerate(("10_x/a.png", "10_x/b.png", "2_y/a.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(drawings[index])
    tag(folder)
    return folder


def names(orphans):
    return {each["path"]: each["image"] for each in orphans}


def test_a_renamed_folder_is_up_to_date(dataset, monkeypatch):
    (dataset / "10_x").rename(dataset / "5_x")
    hide_models(monkeypatch)

    report = tag(dataset)

    assert counts(report) == {"current": 3}
    assert report.recognised == 2
    assert report.orphans == []


def test_identical_images_look_at_what_is_known_of_each_other_once(tagged, monkeypatch):
    asked, real = [], moves.sidecars_of
    monkeypatch.setattr(moves, "sidecars_of", lambda catalog, image: asked.append(image) or real(catalog, image))
    for number in range(9):
        shutil.copyfile(tagged / "a.png", tagged / f"z{number}.png")

    report = tag(tagged)

    assert counts(report) == {"written": 9, "current": 3}
    assert asked == [as_key("a.png")]


def test_a_text_of_a_renamed_folder_is_rewritten_for_another_setting(dataset):
    (dataset / "10_x").rename(dataset / "5_x")

    report = tag(dataset, threshold=STRICT)

    assert counts(report) == {"written": 3}


def test_a_moved_sidecar_is_recognised_once(dataset):
    (dataset / "10_x").rename(dataset / "5_x")
    tag(dataset)

    assert tag(dataset).recognised == 0


def test_an_edit_before_the_folder_was_renamed_stays_the_users(dataset):
    write(dataset / "10_x" / "a.txt", "mine")
    (dataset / "10_x").rename(dataset / "5_x")

    report = tag(dataset, threshold=STRICT)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (dataset / "5_x" / "a.txt").read_text(encoding="utf-8") == "mine"


def test_a_tag_that_was_removed_around_the_move_is_not_put_back(dataset):
    before = tags_of(dataset / "10_x" / "a.txt")
    (dataset / "10_x").rename(dataset / "5_x")
    write(dataset / "5_x" / "a.txt", ", ".join([*before[1:], "mine"]))

    report = tag(dataset, existing="append")

    assert report.recognised == 2
    assert sorted(tags_of(dataset / "5_x" / "a.txt")) == sorted([*before[1:], "mine"])


def test_a_folder_that_was_renamed_back_is_up_to_date(dataset):
    (dataset / "10_x").rename(dataset / "5_x")
    tag(dataset, threshold=STRICT)
    (dataset / "5_x").rename(dataset / "10_x")

    assert counts(tag(dataset, threshold=STRICT)) == {"current": 3}


def test_a_renamed_image_takes_its_caption_and_its_tags_along(dataset):
    caption(dataset, model=FAKE_CAPTION)
    for suffix in (".png", ".txt", ".caption"):
        (dataset / "10_x" / f"a{suffix}").rename(dataset / "2_y" / f"hero{suffix}")

    report = caption(dataset, model=FAKE_CAPTION)

    assert counts(report) == {"current": 3}
    assert report.recognised == 2
    assert counts(tag(dataset, threshold=STRICT)) == {"written": 3}


def test_a_sidecar_with_the_full_name_of_its_image_is_recognised(album):
    tag(album, sidecar_name="full")
    for suffix in (".png", ".png.txt"):
        (album / f"a{suffix}").rename(album / f"hero{suffix}")

    report = tag(album, sidecar_name="full", threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert report.recognised == 1


def test_images_that_were_numbered_anew_keep_each_its_own_history(album):
    tag(album)
    write(album / "b.txt", "mine")
    for old, new in (("c", "d"), ("b", "c"), ("a", "b")):
        for suffix in (".png", ".txt"):
            (album / f"{old}{suffix}").rename(album / f"{new}{suffix}")

    report = tag(album, threshold=STRICT)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (album / "c.txt").read_text(encoding="utf-8") == "mine"


def test_two_images_that_changed_their_names_are_up_to_date(album, monkeypatch):
    tag(album)
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        for suffix in (".png", ".txt"):
            (album / f"{old}{suffix}").rename(album / f"{new}{suffix}")
    hide_models(monkeypatch)

    assert counts(tag(album)) == {"current": 3}


def test_a_copied_folder_goes_on_separately(dataset):
    shutil.copytree(dataset / "10_x", dataset / "5_x")
    report = tag(dataset)
    assert (counts(report), report.recognised) == ({"current": 5}, 2)

    write(dataset / "5_x" / "a.txt", "mine")

    assert counts(tag(dataset, threshold=STRICT)) == {"written": 4, "kept": 1}


@pytest.mark.parametrize("copy", [False, True], ids=["moved", "copied"])
def test_a_dataset_takes_its_history_along(dataset, tmp_path, copy, monkeypatch):
    write(dataset / "10_x" / "a.txt", "mine")
    (shutil.copytree if copy else shutil.move)(dataset, tmp_path / "elsewhere")
    hide_models(monkeypatch)

    report = tag(tmp_path / "elsewhere")

    assert counts(report) == {"current": 2, "kept": 1}
    assert report.recognised == 0


def test_a_dataset_that_was_copied_without_its_times_is_up_to_date(dataset, tmp_path, monkeypatch):
    shutil.copytree(dataset, tmp_path / "elsewhere")
    renew_times(tmp_path / "elsewhere")
    hide_models(monkeypatch)

    assert counts(tag(tmp_path / "elsewhere")) == {"current": 3}


def test_a_dry_run_recognises_and_records_nothing(dataset):
    (dataset / "10_x").rename(dataset / "5_x")

    first, second = tag(dataset, dry_run=True), tag(dataset, dry_run=True)

    assert counts(first) == counts(second) == {"current": 3}
    assert first.recognised == second.recognised == 2


def test_an_image_that_was_renamed_without_its_sidecar_is_named(album):
    tag(album)
    (album / "a.png").rename(album / "hero.png")

    report = tag(album)

    assert names(report.orphans) == {"a.txt": "hero.png"}
    assert report.recognised == 0
    assert (album / "a.txt").exists()
    assert names(tag(album).orphans) == {"a.txt": "hero.png"}


def test_a_sidecar_whose_image_was_deleted_is_named(album):
    tag(album)
    (album / "a.png").unlink()

    assert names(tag(album).orphans) == {"a.txt": None}


def test_a_sidecar_that_was_deleted_with_its_image_is_not_named(album):
    tag(album)
    (album / "a.png").unlink()
    (album / "a.txt").unlink()

    assert tag(album).orphans == []


def test_a_sidecar_whose_image_was_saved_in_another_format_is_not_named(album, drawings):
    tag(album)
    (album / "a.png").unlink()
    (album / "a.webp").write_bytes(drawings[4])

    assert tag(album).orphans == []


def test_a_text_of_the_users_at_a_copy_is_the_users(album):
    tag(album)
    shutil.copyfile(album / "a.png", album / "hero.png")
    write(album / "hero.txt", "mine")

    report = tag(album, threshold=STRICT)

    assert counts(report) == {"written": 3, "kept": 1}
    assert report.recognised == 0


def test_a_text_that_was_given_to_another_image_is_the_users(album, drawings):
    tag(album)
    (album / "new.png").write_bytes(drawings[4])
    shutil.copyfile(album / "a.txt", album / "new.txt")

    report = tag(album, threshold=STRICT)

    assert counts(report) == {"written": 3, "kept": 1}


def test_sidecars_in_an_output_folder_go_with_their_images(album, tmp_path):
    out = tmp_path / "out"
    tag(album, output_dir=out)
    (album / "a.png").rename(album / "hero.png")
    (out / "a.txt").rename(out / "hero.txt")

    report = tag(album, output_dir=out, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert report.recognised == 1
    assert codes(report) == {}


def test_nothing_of_other_runs_is_recognised_for_new_images(album, drawings, tmp_path):
    tag(album)
    (album / "new.png").write_bytes(drawings[4])
    write(album / "new.txt", "mine")

    report = tag_by_default(album)

    assert (counts(report), report.recognised) == ({"current": 3, "kept": 1}, 0)
    assert texts(album)["new.txt"] == b"mine"


# Settings of folders and images


def first_tags(folder):
    return {path: text.decode().split(",")[0] for path, text in texts(folder).items()}


@pytest.fixture
def named(dataset):
    """The dataset with a trigger word for one of its folders."""
    tag(dataset / "10_x", prefix=("kuro",))
    return dataset


def test_the_settings_of_a_renamed_folder_go_with_it(named, drawings, monkeypatch):
    (named / "10_x").rename(named / "5_x")
    hide_models(monkeypatch)
    assert counts(tag_by_default(named, dry_run=True)) == {"current": 3}
    assert counts(tag_by_default(named)) == {"current": 3}

    (named / "5_x" / "new.png").write_bytes(drawings[2])
    tag_by_default(named)

    assert first_tags(named)["5_x/new.txt"] == "kuro"
    assert "kuro" not in first_tags(named)["2_y/a.txt"]


def test_the_settings_of_a_folder_whose_parent_was_renamed_go_with_it(album, drawings):
    for name, data in (("x/deep/a.png", drawings[0]), ("y/a.png", drawings[1])):
        (album / name).parent.mkdir(parents=True)
        (album / name).write_bytes(data)
    tag(album)
    tag(album / "x", prefix=("kuro",))
    (album / "x").rename(album / "z")

    assert tag_by_default(album, refresh=True).failed == 0
    assert first_tags(album)["z/deep/a.txt"] == "kuro"


def test_a_copied_folder_gets_a_copy_of_the_settings(named):
    shutil.copytree(named / "10_x", named / "5_x")
    tag_by_default(named)
    tag(named / "5_x", prefix=("aka",))

    tag_by_default(named, refresh=True)

    assert {path: first for path, first in first_tags(named).items() if "2_y" not in path} == {
        "10_x/a.txt": "kuro",
        "10_x/b.txt": "kuro",
        "5_x/a.txt": "aka",
        "5_x/b.txt": "aka",
    }


def test_two_folders_that_changed_their_names_keep_each_its_settings(named):
    tag(named / "2_y", prefix=("aka",))
    for old, new in (("10_x", "z"), ("2_y", "10_x"), ("z", "2_y")):
        (named / old).rename(named / new)

    assert counts(tag_by_default(named)) == {"current": 3}
    assert first_tags(named) == {"10_x/a.txt": "aka", "2_y/a.txt": "kuro", "2_y/b.txt": "kuro"}


def tag_with_notes(folder, **defaults):
    """A run of tag for which nothing was stated, and what it told the user."""
    notes = []

    class Noting(NullListener):
        def note(self, message):
            notes.append(message)

    return tag_task(folder, tag_settings(defaults), listener=Noting()), notes


def move_image(folder, old, new):
    for suffix in (".png", ".txt"):
        (folder / f"{old}{suffix}").rename(folder / f"{new}{suffix}")


def test_an_image_that_was_moved_to_another_folder_keeps_what_that_does_not_state(named, monkeypatch):
    move_image(named, "10_x/b", "2_y/b")
    hide_models(monkeypatch)
    said = "1 image keeps settings of its former folder: --prefix kuro"

    for is_dry in (True, False):
        report, notes = tag_with_notes(named, dry_run=is_dry)
        assert (counts(report), notes.count(said)) == ({"current": 3}, 1)
    assert first_tags(named)["2_y/b.txt"] == "kuro"
    assert "kuro" not in first_tags(named)["2_y/a.txt"]


def test_an_image_that_was_moved_gets_what_its_new_folder_states(named):
    tag(named / "2_y", prefix=("aka",))
    move_image(named, "10_x/b", "2_y/b")

    report, notes = tag_with_notes(named)

    assert counts(report) == {"written": 1, "current": 2}
    assert first_tags(named)["2_y/b.txt"] == "aka"
    assert not [note for note in notes if "former folder" in note]


def test_an_image_that_was_moved_gets_what_the_settings_file_of_its_new_folder_states(named):
    move_image(named, "10_x/b", "2_y/b")
    layers = Layers(folder=lambda folder: {"prefix": ("aka",)} if folder.name == "2_y" else {})

    tag_task(named, tag_settings({}), layers=layers)

    assert first_tags(named)["2_y/b.txt"] == "aka"


def test_what_a_moved_image_kept_gives_way_to_what_its_folder_states_later(named):
    move_image(named, "10_x/b", "2_y/b")
    tag_by_default(named)

    tag(named / "2_y", prefix=("aka",))

    assert first_tags(named)["2_y/b.txt"] == "aka"


def test_what_was_stated_for_an_image_alone_goes_with_it_into_any_folder(named):
    tag(named / "2_y", prefix=("aka",))
    tag(named / "10_x" / "b.png", prefix=("midori",))
    move_image(named, "10_x/b", "2_y/b")

    assert counts(tag_by_default(named, refresh=True)) == {"current": 3}
    assert first_tags(named)["2_y/b.txt"] == "midori"


def test_what_a_moved_image_keeps_is_not_signed_if_it_came_with_the_folder(named):
    with closing(sqlite3.connect(named / CATALOG)) as db, db:
        db.execute("UPDATE stated SET signature = NULL")
    move_image(named, "10_x/b", "2_y/b")

    tag_by_default(named)

    with closing(sqlite3.connect(named / CATALOG)) as db:
        rows = db.execute("SELECT place, signature FROM stated WHERE option = 'prefix'").fetchall()
    assert rows == [("10_x", None), ("2_y/b.png", None)]


def test_settings_that_came_with_the_folder_are_not_signed_when_it_is_renamed(named):
    with closing(sqlite3.connect(named / CATALOG)) as db, db:
        db.execute("UPDATE stated SET signature = NULL")
    (named / "10_x").rename(named / "5_x")

    tag_by_default(named)

    with closing(sqlite3.connect(named / CATALOG)) as db:
        rows = db.execute("SELECT place, signature FROM stated WHERE option = 'prefix'").fetchall()
    assert rows == [("5_x", None)]


# Looking back


def test_the_log_of_a_moved_sidecar_has_the_history_of_its_former_path(dataset):
    before = file_versions(dataset / "10_x" / "a.txt")
    (dataset / "10_x").rename(dataset / "5_x")

    assert file_versions(dataset / "5_x" / "a.txt") == before
    tag(dataset)
    assert file_versions(dataset / "5_x" / "a.txt") == before
    tag(dataset, threshold=STRICT)
    assert file_versions(dataset / "5_x" / "a.txt")[: len(before)] == before
    assert len(file_versions(dataset / "5_x" / "a.txt")) == len(before) + 1


def test_a_sidecar_that_moved_twice_has_its_whole_history(dataset):
    for old, new, threshold in (("10_x", "5_x", STRICT), ("5_x", "3_x", LOOSE), ("3_x", "10_x", USUAL)):
        (dataset / old).rename(dataset / new)
        tag(dataset, threshold=threshold)

    assert [each.text is None for each in file_versions(dataset / "10_x" / "a.txt")] == [True, *[False] * 4]


def test_restore_of_a_moved_sidecar_gives_an_earlier_text(dataset):
    before = (dataset / "10_x" / "a.txt").read_bytes()
    tag(dataset, threshold=STRICT)
    (dataset / "10_x").rename(dataset / "5_x")

    restore(dataset / "5_x" / "a.txt")

    assert (dataset / "5_x" / "a.txt").read_bytes() == before


@pytest.mark.parametrize("is_recognised", [True, False], ids=["after a run", "at once"])
def test_undo_finds_files_at_the_place_where_they_were_moved(dataset, is_recognised):
    before = (dataset / "10_x" / "a.txt").read_bytes()
    run = tag(dataset, threshold=STRICT).run
    (dataset / "10_x").rename(dataset / "5_x")
    if is_recognised:
        assert counts(tag(dataset, threshold=STRICT)) == {"current": 3}

    planned = undo(dataset, run, dry_run=True).planned
    report = undo(dataset, run)

    assert counts(report) == {"written": 3}
    assert (dataset / "5_x" / "a.txt").read_bytes() == before
    assert len(planned) == 3
    assert not (dataset / "10_x").exists()


def test_undo_deletes_what_a_first_run_wrote_where_it_was_moved(dataset):
    (dataset / "10_x").rename(dataset / "5_x")

    assert counts(undo(dataset)) == {"written": 3}
    assert texts(dataset) == {}


def test_undo_of_a_run_leaves_a_copy_alone(dataset):
    shutil.copytree(dataset / "10_x", dataset / "5_x")
    tag(dataset)

    assert counts(undo(dataset)) == {"written": 3}
    assert sorted(texts(dataset)) == ["5_x/a.txt", "5_x/b.txt"]


def test_undo_names_a_file_that_is_nowhere(dataset):
    run = tag(dataset, threshold=STRICT).run
    shutil.rmtree(dataset / "10_x")

    report = undo(dataset, run)

    assert counts(report) == {"written": 1, "failed": 2}
    assert all("moved or deleted" in each["message"] for each in report.failures)


# Any moves, copies and edits


class Mover:
    """A user who moves, copies and edits images with their sidecars; `edited` has the texts that are the user's."""

    def __init__(self, folder, chance):
        self.folder, self.chance, self.number = folder, chance, 0
        self.edited = {}

    def images(self):
        return sorted(path for path in self.folder.rglob("*.png"))

    def new_path(self):
        self.number += 1
        return self.folder / self.chance.choice(["x", "y", "x/deep", "."]) / f"{self.number}.png"

    def transfer(self, act, old, new):
        """Move or copy an image with its sidecar, and the knowledge of whose text it is."""
        new.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".txt"):
            act(old.with_suffix(suffix), new.with_suffix(suffix))
        if old in self.edited:
            self.edited[new] = self.edited.pop(old) if act is shutil.move else self.edited[old]

    def move(self):
        self.transfer(shutil.move, self.chance.choice(self.images()), self.new_path())

    def copy(self):
        self.transfer(shutil.copy2, self.chance.choice(self.images()), self.new_path())

    def swap(self):
        one, other = self.chance.sample(self.images(), 2)
        spare = self.new_path()
        for old, new in ((one, spare), (other, one), (spare, other)):
            self.transfer(shutil.move, old, new)

    def rename_folder(self):
        folder = self.chance.choice(self.images()).parent
        if folder == self.folder:
            return
        self.number += 1
        new = folder.with_name(f"renamed{self.number}")
        folder.rename(new)
        self.edited = {
            new / path.relative_to(folder) if path.is_relative_to(folder) else path: text
            for path, text in self.edited.items()
        }

    def edit(self):
        path = self.chance.choice(self.images())
        self.number += 1
        write(path.with_suffix(".txt"), f"typed {self.number}")
        self.edited[path] = f"typed {self.number}".encode()

    def act(self):
        self.chance.choice([self.move, self.copy, self.swap, self.rename_folder, self.edit])()


@pytest.mark.parametrize("seed", range(8))
def test_after_any_moves_copies_and_edits_each_text_has_the_author_it_had(album, seed):
    wanted = {}
    for threshold in (USUAL, STRICT, LOOSE):
        tag(album, threshold=threshold)
        for path in album.glob("*.png"):
            wanted[path.read_bytes(), threshold] = path.with_suffix(".txt").read_bytes()
    user = Mover(album, random.Random(seed))

    for _ in range(5):
        for _ in range(user.chance.randint(1, 3)):
            user.act()
        threshold = user.chance.choice([USUAL, STRICT, LOOSE])
        report = tag(album, threshold=threshold)

        for path in user.images():
            expected = user.edited.get(path, wanted[path.read_bytes(), threshold])
            assert path.with_suffix(".txt").read_bytes() == expected, path
        assert (report.kept, report.failed, report.orphans) == (len(user.edited), 0, [])


# Ctrl-C


class StopsAtRead(CancelToken):
    """A stop that is asked for when the first sidecar is read, and that counts the reads."""

    reads = 0

    def read(self, *given):
        self.reads += 1
        self.exit_code = 130
        return read_below(*given)


def test_a_stop_during_the_search_for_moved_images_is_honoured_at_once(dataset, monkeypatch):
    (dataset / "10_x").rename(dataset / "5_x")
    stop = StopsAtRead()
    monkeypatch.setattr("sdprep.tasks.annotation.moves.read_below", stop.read)

    report = tag_task(dataset, tag_settings({}), stop=stop)

    assert (stop.reads, report.stopped, report.remaining, report.recognised) == (1, 130, 3, 0)
    assert counts(tag(dataset)) == {"current": 3}


def test_a_stop_before_the_search_for_moved_images_stats_no_image(dataset, monkeypatch):
    (dataset / "10_x").rename(dataset / "5_x")
    stop = CancelToken()
    stop.exit_code = 130
    monkeypatch.setattr("sdprep.tasks.annotation.moves.file_stat", None)

    assert tag_task(dataset, tag_settings({}), stop=stop).remaining == 3
