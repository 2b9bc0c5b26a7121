"""What `sdprep stats` counts, on real images with their sidecars."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdprep import demo
from sdprep.config import MergeSettings, PathOptions, RunOptions, TagSettings
from sdprep.errors import MissingExtra, NoImages, UsageError
from sdprep.tasks.tag import tag
from sdprep.tasks.texts.stats import Lengths, Stats, stats
from sdprep.tasks.texts.stats_page import page
from sdprep.tasks.texts.stats_plot import plot
from sdprep.tasks.texts.stats_tables import csv_of_tags, tables
from sdprep.tasks.texts.stats_tags import FEWEST, SHARE, pairs_of


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without a tokenizer, so that counts are estimates on every machine."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "imgs").mkdir()
    return tmp_path / "imgs"


def image(folder: Path, name: str, size: tuple[int, int] = (64, 64), tags: str = "", caption: str = "") -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (200, 90, 30)).save(path)
    if tags:
        path.with_suffix(".txt").write_text(f"{tags}\n", "utf-8")
    if caption:
        path.with_suffix(".caption").write_text(f"{caption}\n", "utf-8")


def test_tags_are_counted_once_per_image_whatever_their_spelling(folder: Path) -> None:
    image(folder, "a.png", tags="long_hair, Solo, long hair")
    image(folder, "b.png", tags="long hair, hat")
    assert stats(folder).tags == {"long_hair": 2, "Solo": 1, "hat": 1}


def test_a_sidecar_that_is_not_there_is_counted_as_missing(folder: Path) -> None:
    image(folder, "a.png", tags="hat", caption="a hat")
    image(folder, "b.png", tags="hat")
    image(folder, "c.png", caption="a cat")
    image(folder, "d.png")
    assert stats(folder).missing == {"caption": 1, "tags": 1, "both": 1}


def test_texts_are_counted_by_the_limit_that_holds_them(folder: Path) -> None:
    for name, words in (("a", 75), ("b", 76), ("c", 150), ("d", 151), ("e", 226)):
        image(folder, f"{name}.png", caption=" ".join(["cat"] * words))
    found = stats(folder)
    assert found.is_estimate
    assert found.tokens["caption"].within == {"75": 1, "150": 2, "225": 1, "more": 1}
    assert found.outliers["Longest captions"][0].path == "e.png"


@given(counts=st.dictionaries(st.integers(0, 400), st.integers(1, 5), min_size=1))
def test_the_median_is_the_middle_of_all_lengths(counts: dict[int, int]) -> None:
    every = sorted(length for length, texts in counts.items() for _ in range(texts))
    assert Lengths.of(counts).median == every[(len(every) - 1) // 2]
    assert sum(Lengths.of(counts).within.values()) == len(every)


def test_no_text_has_no_length() -> None:
    assert Lengths.of({}).median == 0


def test_sizes_and_ratios_are_those_of_the_image_upright(folder: Path) -> None:
    image(folder, "wide.png", (600, 300))
    turned = Image.new("RGB", (600, 300))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    found = stats(folder)
    assert found.ratios == {"1:2": 1, "2:1": 1}
    assert found.sides == {"below 512": 2}


def test_buckets_are_those_of_the_resolution(folder: Path) -> None:
    image(folder, "square.png", (1024, 1024))
    image(folder, "tall.png", (832, 1216))
    image(folder, "small.png", (300, 300))
    image(folder, "strip.png", (2000, 150))
    found = stats(folder)
    assert found.buckets == {"1024x1024": 2, "832x1216": 1, "2048x256": 1}
    assert (found.enlarged, found.cropped) == (2, 1)
    assert "512x512" in stats(folder, resolution=(512, 512)).buckets


def test_a_resolution_below_the_smallest_side_is_an_error(folder: Path) -> None:
    image(folder, "a.png")
    with pytest.raises(UsageError, match="64x64"):
        stats(folder, resolution=(64, 64))


def test_a_filter_chooses_what_is_counted(folder: Path) -> None:
    image(folder, "a.png", tags="hat, cat")
    image(folder, "b.png", tags="dog")
    found = stats(folder, MergeSettings(paths=PathOptions(where="tag:hat")))
    assert (found.found, found.images, found.tags) == (2, 1, {"cat": 1, "hat": 1})
    with pytest.raises(NoImages):
        stats(folder, MergeSettings(paths=PathOptions(where="tag:bird")))


def test_sources_and_models_come_from_the_catalog(folder: Path) -> None:
    for name in ("aka.jpg", "kuro.png", "sora.webp"):
        shutil.copy(demo.IMAGES / name, folder)
    tag(folder, TagSettings(model="demo-tag", run=RunOptions(workers=0)))
    (folder / "aka.txt").write_text("mine, smile\n", "utf-8")
    (folder / "aka.caption").write_text("by hand\n", "utf-8")
    before = sorted(folder.rglob("*"))
    found = stats(folder)
    assert found.sources == {"machine": 2, "mixed": 1, "user": 1}
    assert found.models == {"demo-tag": 3}
    assert sorted(folder.rglob("*")) == before


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_counted(folder: Path) -> None:
    image(folder, "a.png", tags="hat")
    (folder / "b.png").write_bytes(b"no image")
    (folder / "b.txt").write_bytes(b"\xff\xfe\x00")
    found = stats(folder)
    assert [(each["path"], each["code"]) for each in found.unreadable] == [
        ("b.png", "not_an_image"), ("b.png", "bad_text")
    ]  # fmt: skip
    assert (found.images, found.tags, found.exit_code) == (2, {"hat": 1}, 3)


def test_the_object_for_programs_has_all_counts_and_is_json(folder: Path) -> None:
    image(folder, "a.png", tags="hat", caption="a hat")
    found = stats(folder).as_dict()
    assert found["tokens"]["caption"] == {
        "counts": {2: 1}, "within": {"75": 1, "150": 0, "225": 0, "more": 0}, "files": 1, "median": 2
    }  # fmt: skip
    assert {"items"} == {name for name in Stats.__slots__ if name not in found}
    assert json.loads(msgspec.json.encode(found))["tags"] == {"hat": 1}


# Tags that come together


def test_a_tag_that_nearly_always_comes_with_another_is_found_with_its_exceptions() -> None:
    some = [("hat", "cat")] * 9 + [("hat",)] + [("cat",)] * 5 + [("dog",)] * 20
    counts = {"dog": 20, "cat": 14, "hat": 10}
    assert [(pair.tag, pair.other, pair.images, pair.without) for pair in pairs_of(some, counts)] == [
        ("hat", "cat", 10, 1)
    ]


def test_a_tag_that_every_image_has_says_nothing() -> None:
    some = [("solo", "hat")] * 9 + [("hat",)]
    assert pairs_of([*some], {"hat": 10, "solo": 9}) == []


@given(tags=st.lists(st.frozensets(st.sampled_from("abcdef"), max_size=5), max_size=40))
def test_pairs_are_those_that_counting_one_by_one_finds(tags: list[frozenset[str]]) -> None:
    counts = {tag: sum(tag in some for some in tags) for tag in "abcdef"}
    expected = set()
    for one in counts:
        for other in counts:
            both = sum({one, other} <= some for some in tags)
            often = counts[one] >= FEWEST and counts[other] >= FEWEST
            surplus = both - counts[one] * counts[other] / max(len(tags), 1)
            if one != other and often and SHARE <= both / counts[one] < 1 and surplus > 0:
                expected.add((one, other, counts[one], counts[one] - both))
    found = pairs_of([tuple(some) for some in tags], counts, most=100)
    assert {(pair.tag, pair.other, pair.images, pair.without) for pair in found} == expected


# Tables, CSV, page and charts


@pytest.fixture
def found(folder: Path) -> Stats:
    image(folder, "big.png", (640, 320), "hat, <script>alert(1)</script>, $x$", "a cat & a dog")
    image(folder, "sub/tiny.png", (32, 32), "hat, 日本語")
    (folder / "torn.png").write_bytes((folder / "big.png").read_bytes()[:300])
    return stats(folder)


def test_tables_show_all_that_was_counted(found: Stats) -> None:
    shown = {table.title: table.rows for table in tables(found)}
    assert shown["Dataset"][:2] == [("images", "3"), ("without both", "1")]
    assert ("hat", "2", "66.7%") in shown["Tags"]
    assert shown["Largest images"][0] == ("640x320", "big.png")
    assert all(len(row) == len(table.head) for table in tables(found) for row in table.rows)


def test_the_csv_has_all_tags_and_quotes_what_needs_it(found: Stats) -> None:
    assert csv_of_tags(found).splitlines()[:2] == ["tag,images", "hat,2"]
    found.tags = {'say "hi", all': 1}
    assert csv_of_tags(found).splitlines()[1] == '"say ""hi"", all",1'


def test_the_page_escapes_texts_and_loads_nothing(found: Stats) -> None:
    text = page(found)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "default-src 'none'" in text
    assert set(re.findall(r'(?:src|href)="([a-z]+:[a-z/]+)', text)) == {"data:image/webp"}


def test_the_page_shows_small_images_and_why_one_is_not_there(found: Stats) -> None:
    text = page(found)
    assert text.count("<figure>") == sum(map(len, found.outliers.values()))
    assert 'class="frame">truncated<' in text


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_charts_are_drawn_of_any_tags_and_the_same_each_time(found: Stats, kind: str, start: bytes) -> None:
    drawn = plot(found, kind)
    assert drawn.startswith(start)
    assert drawn == plot(found, kind)


def test_an_svg_keeps_its_text(found: Stats) -> None:
    assert "日本語" in plot(found, "svg").decode()


def test_charts_are_drawn_of_images_without_any_text(folder: Path) -> None:
    image(folder, "a.png")
    assert plot(stats(folder), "png")


def test_without_matplotlib_the_command_that_installs_it_is_named(
    found: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"matplotlib is not installed.*plot"):
        plot(found, "png")


def test_ratios_are_the_nearest_common_ones(folder: Path) -> None:
    image(folder, "a.png", (64, 65))
    image(folder, "b.png", (300, 400))
    image(folder, "c.png", (90, 10))
    found = stats(folder)
    assert found.ratios == {"3:4": 1, "1:1": 1, "3:1": 1}
    assert [each.path for each in found.outliers["Most extreme ratios"]] == ["c.png"]
    assert math.isclose(sum(found.buckets.values()), 3)


def test_one_very_long_text_leaves_the_chart_of_the_others_readable(folder: Path) -> None:
    for name, tags in (("a.png", "hat"), ("b.png", "hat, " * 9_999)):
        image(folder, name, tags=tags)
    drawn = plot(stats(folder), "svg").decode()
    assert "the last column has all from 300 to 19,998" in drawn
    assert len(drawn) < 100_000
