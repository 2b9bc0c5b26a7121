"""Sources become shards: tars, row groups and slices, each with a name of its own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import NoImages, UsageError
from sdprep.shards import plan as module
from sdprep.shards.plan import Sources, expand_braces, plan_shards
from sdprep.shards.results import ID
from sdprep.shards.store import StoredObject
from tests.shards.tars import tar


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tar({"a.png": b"one"}))


def planned(*sources, **columns):
    return plan_shards(Sources.of(map(str, sources), **columns))


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("a", ["a"]),
        ("{00..02}.tar", ["00.tar", "01.tar", "02.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
    ],
)
def test_braces_stand_for_numbers_and_words(text, texts):
    assert list(expand_braces(text)) == texts


@pytest.mark.parametrize("text", ["{2..1}", "{0..9999999}"])
def test_braces_that_count_down_or_too_far_are_refused(text):
    with pytest.raises(UsageError, match="count up"):
        list(expand_braces(text))


def test_tars_have_their_names_sizes_and_etags(tmp_path):
    files(tmp_path, "b.tar", "a.tar.gz", "c.tgz")
    shards = planned(tmp_path)

    assert [shard.id for shard in shards] == ["a", "b", "c"]
    assert [shard.url for shard in shards] == [f"{tmp_path}/{name}" for name in ("a.tar.gz", "b.tar", "c.tgz")]
    assert all(shard.size == 10240 and shard.etag for shard in shards)


def test_patterns_and_several_sources_keep_their_order(tmp_path):
    files(tmp_path, "x/1.tar", "x/2.tar", "x/3.json", "y/0.tar")

    assert [shard.id for shard in planned(tmp_path / "y/0.tar", tmp_path / "x" / "*.tar")] == ["0", "1", "2"]


def test_shards_of_one_name_are_told_apart(tmp_path):
    files(tmp_path, "x/0.tar", "y/0.tar")

    assert [shard.id for shard in planned(tmp_path)] == ["000000-0", "000001-0"]


def test_the_tars_of_a_folder_count_before_other_files(tmp_path):
    files(tmp_path, "00000.tar", "00000.parquet", "00000_stats.json", "thumbnail.png")

    assert [shard.id for shard in planned(tmp_path)] == ["00000"]


def test_images_of_a_folder_come_in_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLICE", 2)
    files(tmp_path, "a.png", "b/1.png", "b/2.jpg", "b/3.txt", "c.webp", "d.png")

    shards = [(shard.id, shard.after, shard.last, shard.count) for shard in planned(tmp_path)]
    name = re.sub(r"[^\w=.-]", "_", tmp_path.name)
    assert shards == [
        (f"000000-{name}", "", "b/1.png", 2),
        (f"000001-{name}", "b/1.png", "c.webp", 2),
        (f"000002-{name}", "c.webp", "d.png", 1),
    ]


@pytest.mark.parametrize("source", ["set [v2] {a}", "set [v2] {a}/1.tar", "set [v2] {a}/?.tar"])
def test_brackets_in_the_name_of_a_folder_or_file_are_no_pattern(tmp_path, source):
    files(tmp_path, "set [v2] {a}/1.tar")

    if "?" in source:
        source = source.replace("{a}", "{a,b}")
        files(tmp_path, "set [v2] b/1.tar", "set [v2] a/1.tar")
        assert len(planned(tmp_path / source)) == 2
    else:
        assert [shard.url for shard in planned(tmp_path / source)] == [f"{tmp_path}/set [v2] {{a}}/1.tar"]


def test_a_long_list_in_braces_is_no_file_name(tmp_path):
    files(tmp_path, "1.tar")
    everything = ",".join(["1"] * 500)

    assert len(planned(f"{tmp_path}/{{{everything}}}.tar")) == 500


def test_extensions_in_large_letters_are_known(tmp_path):
    files(tmp_path, "A.TAR", "B.TAR.GZ", "c.Tgz")

    assert [shard.id for shard in planned(tmp_path)] == ["A", "B", "c"]
    assert [shard.id for shard in planned(tmp_path / "*.TAR")] == ["A"]
    assert [shard.id for shard in planned(tmp_path / "A.TAR")] == ["A"]


def test_names_that_differ_in_large_letters_alone_are_told_apart(tmp_path):
    files(tmp_path, "x/a.tar", "y/A.tar")

    assert [shard.id for shard in planned(tmp_path)] == ["000000-a", "000001-A"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no such file or folder: .*nothing"):
        planned(tmp_path / "nothing")


def test_a_tar_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"2\.tar: there is no such object"):
        files(tmp_path, "1.tar") or planned(tmp_path / "{1..2}.tar")


def test_a_folder_with_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(NoImages):
        planned(tmp_path)


def test_an_unknown_kind_of_url_is_refused():
    with pytest.raises(UsageError, match="ftp:// is not supported"):
        planned("ftp://host/a.tar")


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=4))
def test_every_shard_has_a_name_that_can_be_a_file(names):
    shards = list(module._named([module.Shard("0", f"s3://b/{name}.tar") for name in names]))

    assert len({shard.id for shard in shards}) == len(shards)
    assert all(ID.fullmatch(shard.id) for shard in shards)


def test_a_listing_of_any_length_is_planned_as_it_comes(monkeypatch):
    class Bucket:
        url = "s3://bucket/images"

        def list(self):
            return (StoredObject(f"{number:08}.jpg", 9, "", 0.0) for number in range(25_000))

    monkeypatch.setattr(module, "open_store", lambda _: Bucket())

    assert [(shard.last, shard.count) for shard in planned("s3://bucket/images/")] == [
        ("00009999.jpg", 10_000), ("00019999.jpg", 10_000), ("00024999.jpg", 5_000),
    ]  # fmt: skip
