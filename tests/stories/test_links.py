"""Links in a dataset or an output folder, also ones that appear during a run, lead no write and no read out."""

import errno
import os
import shutil
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sdprep.config import MergeSettings, PathOptions
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from tests.stories.telling import LOOSE, STRICT, codes, counts, everything, tag, texts, while_the_model_looks, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of the user's that is none of the dataset's business."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write(folder / "d.txt", "precious")
    return folder


@pytest.fixture
def nested(album, drawings):
    """The album with a subfolder of one image."""
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])
    return album


def test_a_link_in_the_output_folder_leads_no_text_out_and_the_rest_is_done(nested, tmp_path, elsewhere):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(elsewhere)

    report = tag(nested, output_dir=tmp_path / "out", existing="overwrite")

    assert (codes(report), counts(report)) == ({"sub/d.png": "unreadable"}, {"written": 3, "failed": 1})
    assert everything(elsewhere) == {"d.txt": b"precious"}


def test_a_link_in_the_output_folder_makes_no_folder_at_its_other_end(nested, tmp_path, elsewhere):
    shutil.move(nested / "sub", nested / "deep")
    (nested / "sub").mkdir()
    shutil.move(nested / "deep", nested / "sub" / "deep")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(elsewhere)

    assert counts(tag(nested, output_dir=tmp_path / "out")) == {"written": 3, "failed": 1}
    assert everything(elsewhere) == {"d.txt": b"precious"}


def test_a_link_within_the_output_folder_is_followed(nested, tmp_path):
    (tmp_path / "out" / "real").mkdir(parents=True)
    (tmp_path / "out" / "sub").symlink_to("real")

    assert counts(tag(nested, output_dir=tmp_path / "out")) == {"written": 4}
    assert (tmp_path / "out" / "real" / "d.txt").exists()


def test_a_folder_that_is_exchanged_for_a_link_while_the_model_looks_gains_nothing(nested, elsewhere, monkeypatch):
    def exchange():
        (nested / "sub").rename(nested / "moved")
        (nested / "sub").symlink_to(elsewhere)

    while_the_model_looks(monkeypatch, exchange)
    report = tag(nested, existing="overwrite")

    assert counts(report) == {"written": 3, "failed": 1}
    assert everything(elsewhere) == {"d.txt": b"precious"}


def test_undo_writes_through_no_link_that_appeared_since(nested, elsewhere):
    tag(nested)
    shutil.move(nested / "sub" / "d.txt", elsewhere / "d.txt")
    shutil.rmtree(nested / "sub")
    (nested / "sub").symlink_to(elsewhere)
    before = everything(elsewhere)

    undo(nested)

    assert everything(elsewhere) == before


def test_merge_reads_no_text_through_a_link_that_leads_out(nested, tmp_path, elsewhere):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(elsewhere)

    report = merge(nested, MergeSettings(fields=("tags",), paths=PathOptions(output_dir=tmp_path / "out")))

    assert codes(report) == {"sub/d.png": "unreadable"}
    assert b"precious" not in b"".join(everything(tmp_path / "out").values())


LINKS = st.lists(
    st.tuples(
        st.sampled_from(["", "sub", "sub/deep"]),
        st.sampled_from(["sub", "deep", "a.txt", "d.txt", "metadata.json", ".sdprep-x-1.tmp", "b"]),
        st.sampled_from(["elsewhere", "elsewhere/d.txt", "elsewhere/new", "album", "album/sub", "out", "out/sub", "x"]),
    ),
    max_size=4,
)


@given(LINKS, st.sampled_from(["keep", "overwrite", "append"]), st.booleans())
@example(links=[("", "sub", "elsewhere"), ("", "a.txt", "elsewhere")], existing="keep", mirrored=True)
@settings(
    max_examples=settings().max_examples // 8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_links_others_make_nothing_outside_changes(drawings, tmp_path_factory, links, existing, mirrored):
    base = tmp_path_factory.mktemp("hostile")
    for folder in ("elsewhere", "album/sub/deep", "out"):
        (base / folder).mkdir(parents=True)
    for name, data in zip(("a.png", "sub/b.png", "sub/deep/d.png"), drawings, strict=False):
        (base / "album" / name).write_bytes(data)
    write(base / "elsewhere" / "d.txt", "precious")
    root = base / ("out" if mirrored else "album")
    for place, name, target in links:
        if (root / place).is_dir() and not os.path.lexists(root / place / name):
            (root / place / name).symlink_to(base / target)
    layout = {"output_dir": base / "out"} if mirrored else {}
    for threshold in (LOOSE, STRICT):
        tag(base / "album", existing=existing, threshold=threshold, **layout)
    # Links in the place of all tag files leave a run nothing to change.
    if any(run.changed for run in log(root)):
        undo(root)

    assert everything(base / "elsewhere") == {"d.txt": b"precious"}
    assert not (base / "x").exists()


# Names and places that a file system cannot have


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENAMETOOLONG, errno.EIO, errno.EILSEQ])
def test_a_name_that_the_disk_of_the_texts_cannot_have_fails_alone(album, drawings, tmp_path, monkeypatch, code):
    (album / "a:b.png").write_bytes(drawings[3])
    real = os.replace

    def as_on_exfat(source, target, **folders):
        if ":" in str(target):
            raise OSError(code, os.strerror(code), target)
        real(source, target, **folders)

    monkeypatch.setattr(os, "replace", as_on_exfat)
    report = tag(album, output_dir=tmp_path / "out")

    assert (codes(report), counts(report)) == ({"a:b.png": "unwritable"}, {"written": 3, "failed": 1})
    assert sorted(texts(tmp_path / "out")) == ["a.txt", "b.txt", "c.txt"]


def test_a_folder_that_the_disk_of_the_texts_cannot_have_fails_alone(nested, tmp_path, monkeypatch):
    real = os.mkdir

    def as_on_exfat(name, *rest, **options):
        if name == "sub":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        real(name, *rest, **options)

    monkeypatch.setattr(os, "mkdir", as_on_exfat)
    report = tag(nested, output_dir=tmp_path / "out")

    assert (codes(report), counts(report)) == ({"sub/d.png": "unwritable"}, {"written": 3, "failed": 1})


def test_a_file_in_the_place_of_a_folder_of_the_output_fails_its_images_alone(nested, tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "sub", "a file of the user's")

    report = tag(nested, output_dir=tmp_path / "out")

    assert counts(report) == {"written": 3, "failed": 1}
    assert (tmp_path / "out" / "sub").read_bytes() == b"a file of the user's"


@pytest.mark.parametrize("names", [("a.png", "A.png"), ("\u00e9.png", "e\u0301.png")])
def test_names_that_another_disk_may_not_tell_apart_fail_where_texts_lie_elsewhere(album, drawings, tmp_path, names):
    for name in names:
        (album / name).write_bytes(drawings[3])

    report = tag(album, output_dir=tmp_path / "out")

    assert codes(report) == dict.fromkeys(names, "stem_collision")
    assert set(texts(tmp_path / "out")) == {"a.txt", "b.txt", "c.txt"} - {f"{names[0][0]}.txt"}


# Folders that cannot be entered


@pytest.fixture
def barred(monkeypatch):
    """Bars a folder to this process, root included; `moment` gives what is to happen from then on."""
    folders = []
    real_stat, real_open = os.stat, os.open

    def check(path, error=errno.EACCES):
        for folder in folders:
            if str(path).startswith(f"{folder}{os.sep}"):
                raise OSError(error, os.strerror(error), str(path))

    def looking(path, *rest, **options):
        if options.get("dir_fd") is None and isinstance(path, (str, os.PathLike)):
            check(path)
        return real_stat(path, *rest, **options)

    def opening(path, flags, *rest, dir_fd=None):
        if dir_fd is None:
            check(path)
        elif any(os.path.samestat(os.fstat(dir_fd), real_stat(folder)) for folder in folders):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_open(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "stat", looking)
    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "access", lambda path, _: str(path) not in map(str, folders))
    return folders.append


def test_a_folder_that_may_not_be_entered_fails_its_images_alone(nested, barred):
    barred(nested / "sub")

    report = tag(nested)

    assert (codes(report), counts(report)) == ({"sub/d.png": "unreadable"}, {"written": 3, "failed": 1})


def test_log_and_undo_work_beside_a_folder_that_may_not_be_entered(nested, barred):
    tag(nested, limit=3)
    barred(nested / "sub")

    assert len(log(nested)) == 1
    assert counts(undo(nested)) == {"written": 3}


def test_a_folder_that_may_not_be_entered_any_more_fails_its_images_alone(nested, barred, monkeypatch):
    while_the_model_looks(monkeypatch, lambda: barred(nested / "sub"))

    report = tag(nested)

    assert (codes(report), counts(report)) == ({"sub/d.png": "unwritable"}, {"written": 3, "failed": 1})
