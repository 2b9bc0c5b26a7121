"""Images with their sidecars, and those that a filter chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from sdprep import demo
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import MergeSettings, PathOptions, RunOptions, TagSettings
from sdprep.errors import NoImages
from sdprep.report import CancelToken, NullListener
from sdprep.rules.labels import TagRules
from sdprep.tasks.settings import Layers
from sdprep.tasks.tag import tag
from sdprep.tasks.texts.facts import taggers_of_runs
from sdprep.tasks.texts.records import ImageRecord, Records, open_records


class Notes(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@contextmanager
def opened(
    folder: Path,
    where: str | None = None,
    fields: Sequence[str] = (),
    listener: NullListener = NullListener(),
    **paths: object,
) -> Iterator[Records]:
    settings = MergeSettings(paths=PathOptions(where=where, **paths))  # type: ignore[arg-type]
    access = CatalogAccess("log", AccessMode.DRY_RUN, listener.note)
    with open_records(folder, settings, Layers(), access, listener, CancelToken(), fields=fields) as all_of:
        yield all_of


def read(folder: Path, *fields: str) -> list[ImageRecord]:
    with opened(folder, fields=fields) as records:
        return list(records)


def chosen(folder: Path, where: str, **paths: object) -> list[str]:
    with opened(folder, where, **paths) as records:
        return [each.item.rel for each in records.select()]


def image(path: Path, size: tuple[int, int] = (8, 8), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: with tags and a caption, with tags of another spelling, and with nothing."""
    image(tmp_path / "a.png", (16, 9))
    (tmp_path / "a.txt").write_text("1girl, Long_Hair, miku \\(vocaloid\\)\n")
    (tmp_path / "a.caption").write_text("A girl with a hat\r\n")
    image(tmp_path / "sub" / "b.png", (4, 4))
    (tmp_path / "sub" / "b.txt").write_text("1boy\nlong hair\n")
    image(tmp_path / "sub" / "c.png", (4, 8))
    return tmp_path


def test_a_record_has_what_was_asked_for(folder: Path) -> None:
    first, second, third = (each.record for each in read(folder, "tags", "caption", "missing", "width", "height"))
    assert first.tags == ("1girl", "long hair", "miku (vocaloid)")
    assert first.caption == "A girl with a hat"
    assert (first.missing, second.missing, third.missing) == ((), ("caption",), ("tags", "caption"))
    assert (first.width, first.height) == (16, 9)
    assert second.tags == ("1boy", "long hair")


def test_what_was_not_asked_for_is_not_read(folder: Path) -> None:
    (folder / "a.caption").unlink()
    (folder / "a.caption").mkdir()
    [first, *_] = read(folder, "tags")
    assert first.caption is None
    assert first.record.width == 0


def test_a_sidecar_is_as_it_is_on_disk(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf1girl,  x\r\n")
    [first, _, third] = read(folder, "tags")
    assert first.tags is not None
    assert first.tags.path == folder / "a.txt"
    assert first.tags.data == b"\xef\xbb\xbf1girl,  x\r\n"
    assert first.tags.text == "1girl,  x\r\n"
    assert third.tags is not None
    assert (third.tags.data, third.tags.text, third.tags.failure) == (None, None, None)


def test_a_sidecar_that_is_not_text_has_a_failure(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    [first, *_] = read(folder, "tags")
    assert first.tags is not None
    assert first.tags.failure is not None
    assert first.tags.failure.code.value == "bad_text"
    assert first.tags.data == b"caf\xe9"


def test_a_size_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "a.jpg", (16, 8), exif=exif)
    image(tmp_path / "b.webp", (16, 8), exif=exif)
    assert [(each.record.width, each.record.height) for each in read(tmp_path, "width")] == [(8, 16), (8, 16)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("tag:long_hair", ["a.png", "sub/b.png"]),
        ("tag:*hair AND NOT tag:1girl", ["sub/b.png"]),
        ("caption:hat", ["a.png"]),
        ("path:sub/*", ["sub/b.png", "sub/c.png"]),
        ("missing:tags", ["sub/c.png"]),
        ("ratio<1", ["sub/c.png"]),
        ("ratio=16/9 OR width=height AND width<=4" .replace("width=height", "ratio=1"), ["a.png", "sub/b.png"]),
        ("source:user", ["a.png", "sub/b.png"]),
    ],
)  # fmt: skip
def test_a_filter_chooses_images(folder: Path, where: str, expected: list[str]) -> None:
    assert chosen(folder, where) == expected


def test_how_many_images_match_is_noted(folder: Path) -> None:
    listener = Notes()
    with opened(folder, "tag:1girl", listener=listener) as records:
        assert len(list(records.select())) == 1
    assert "1 of 3 images match" in listener.notes


def test_without_a_match_it_is_said_what_each_condition_matches(folder: Path) -> None:
    with pytest.raises(NoImages) as raised:
        chosen(folder, "tag:1girl AND path:sub/*")
    assert str(raised.value) == (
        "none of 3 images matches --where tag:1girl AND path:sub/*\n"
        "Each condition alone matches: tag:1girl: 1; path:sub/*: 2"
    )


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    listener = Notes()
    with opened(folder, "NOT tag:1girl", listener=listener) as records:
        assert len(list(records.select())) == 3
    assert "a.txt cannot be read, so --where takes it for empty" in listener.notes


def test_files_that_the_filter_does_not_ask_about_are_not_named(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    listener = Notes()
    with opened(folder, "path:*", listener=listener, fields=["tags"]) as records:
        assert len(list(records.select())) == 3
    assert listener.notes == ["3 of 3 images match"]


def test_sidecars_in_an_output_folder_are_read_there(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    output = tmp_path_factory.mktemp("out")
    (output / "sub").mkdir()
    (output / "sub" / "c.txt").write_text("1girl")
    assert chosen(folder, "tag:1girl", output_dir=output) == ["sub/c.png"]


def test_thousands_of_images_keep_their_order(tmp_path: Path) -> None:
    source = image(tmp_path / "0.png")
    for number in range(1, 2200):
        (tmp_path / f"{number}.png").hardlink_to(source)
    for number in (7, 1500, 2199):
        (tmp_path / f"{number}.txt").write_text(f"tag{number}")
    assert chosen(tmp_path, "tag:tag*") == ["7.png", "1500.png", "2199.png"]


def test_tokens_are_those_of_the_longer_text_and_an_estimate_says_so(folder: Path) -> None:
    (folder / "sub" / "c.caption").write_text("word " * 80)
    listener = Notes()
    with opened(folder, "tokens>75", listener=listener) as records:
        assert [each.item.rel for each in records.select()] == ["sub/c.png"]
    assert any("token counts are estimates" in note for note in listener.notes)


# What the catalog knows.


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """Two drawings of the demo with tags of its tagger."""
    for name in ("aka.jpg", "kuro.png"):
        (tmp_path / name).write_bytes((demo.IMAGES / name).read_bytes())
    tag(tmp_path, TagSettings(model="demo-tag", rules=TagRules(threshold=0.5), run=RunOptions(workers=0)))
    return tmp_path


def test_who_wrote_a_sidecar_is_known(tagged: Path) -> None:
    assert chosen(tagged, "source:machine AND model:demo-*") == ["aka.jpg", "kuro.png"]
    (tagged / "kuro.txt").write_text((tagged / "kuro.txt").read_text() + ", mine")
    assert chosen(tagged, "source:mixed") == ["kuro.png"]
    assert chosen(tagged, "source:machine") == ["aka.jpg"]


def test_a_sidecar_of_0_bytes_is_read_from_the_catalog(tagged: Path) -> None:
    before = (tagged / "aka.txt").read_text()
    (tagged / "aka.txt").write_bytes(b"")
    [first, _] = read(tagged, "tags", "source")
    assert first.tags is not None
    assert (first.tags.data, first.tags.text) == (b"", before.rstrip("\n"))
    assert first.record.source == ("machine",)


def test_a_sidecar_of_0_bytes_that_no_run_wrote_is_missing(folder: Path) -> None:
    (folder / "a.caption").write_bytes(b"")
    assert chosen(folder, "missing:caption AND NOT missing:tags") == ["a.png", "sub/b.png"]
    (folder / "a.caption").write_bytes(b"\n")
    assert chosen(folder, "missing:caption AND NOT missing:tags") == ["sub/b.png"]


def test_stored_scores_can_be_compared(tagged: Path) -> None:
    tags = (tagged / "aka.txt").read_text().strip().split(", ")
    assert "aka.jpg" in chosen(tagged, f'score("{tags[0]}")>=0.5')
    assert chosen(tagged, f'score("{tags[0]}")<0.5 OR path:*') == ["aka.jpg", "kuro.png"]


def test_the_taggers_of_earlier_runs_are_known_by_name(tagged: Path) -> None:
    with CatalogSession([tagged], CatalogAccess("edit", AccessMode.READ, NullListener().note)) as catalogs:
        assert taggers_of_runs(catalogs.of(tagged)) == ["demo-tag"]


def test_a_tag_that_no_model_has_fits_no_comparison(tagged: Path) -> None:
    assert chosen(tagged, "NOT score(no_such_tag)<0.5") == ["aka.jpg", "kuro.png"]


def test_scores_go_with_the_content_of_an_image(tagged: Path) -> None:
    tags = (tagged / "aka.txt").read_text().strip().split(", ")
    (tagged / "aka.jpg").rename(tagged / "moved.jpg")
    assert "moved.jpg" in chosen(tagged, f'score("{tags[0]}")>=0.5')
    image(tagged / "kuro.png")
    assert "kuro.png" not in chosen(tagged, "score(solo)>=0 OR path:moved*")


def test_an_earlier_failure_is_known(tagged: Path) -> None:
    (tagged / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    tag(tagged, TagSettings(model="demo-tag", run=RunOptions(workers=0)))
    assert chosen(tagged, "failed:*") == ["broken.png"]
