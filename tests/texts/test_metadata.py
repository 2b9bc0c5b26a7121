import contextlib
import json
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.choices import choices
from sdprep.config import MergeSettings
from sdprep.errors import MetadataError
from sdprep.files import FILE_LIMIT
from sdprep.texts.exact_json import Number
from sdprep.texts.metadata import (
    drop,
    dump,
    find_claims,
    key_failures,
    key_of,
    load,
    locator,
    parse,
    rekey,
    rename,
    unite,
)
from sdprep.types import FailureCode, ImageItem

ROOT = Path(__file__).resolve().parent / "imgs"


def item(rel: str) -> ImageItem:
    return ImageItem(ROOT, rel, ROOT)


def nowhere(key: str) -> str:
    return key


def from_parent(key: str) -> str:
    return str(ROOT.parent / key)


def rekeyed(entries, items, style, find_local=nowhere):
    claims = find_claims(entries, items, style, find_local)
    return rekey(entries, items, claims, style)[0]


# -- reading and writing


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MetadataError, match=r"none\.json"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b"[]", b"null", b'{"a": "text"}'])
def test_anything_but_an_object_of_objects_is_refused_naming_the_file(tmp_path, data):
    path = tmp_path / "meta.json"
    path.write_bytes(data)
    with pytest.raises(MetadataError, match=r"meta\.json"):
        load(path)


def test_a_refusal_names_the_entry_that_is_not_an_object(tmp_path):
    with pytest.raises(MetadataError, match="'b'"):
        parse(b'{"a": {}, "b": 1}', tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_tolerated(tmp_path, encoding):
    assert parse('{"猫": {}}'.encode(encoding), tmp_path) == {"猫": {}}


def test_tags_that_are_a_list_are_accepted(tmp_path):
    assert parse(b'{"a": {"tags": ["x", "y"]}}', tmp_path) == {"a": {"tags": ["x", "y"]}}


def test_the_json_is_plain_utf8_indented_by_two_with_a_final_newline():
    assert dump({"猫": {"image_size": [Number("8"), Number("6")]}}, Path("x")).decode() == (
        '{\n  "猫": {\n    "image_size": [\n      8,\n      6\n    ]\n  }\n}\n'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers().map(str).map(Number) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
@given(entries=st.dictionaries(st.text(), st.dictionaries(st.text(), json_values, max_size=3), max_size=3))
def test_what_is_written_is_read_back(name, entries):
    assert parse(dump(entries, Path(name)), Path(name)) == entries


def test_what_is_refused_is_named_with_the_file(tmp_path):
    with pytest.raises(MetadataError, match=r"x\.json .*'a' twice"):
        parse(b'{"a": {}, "a": {}}', tmp_path / "x.json")
    with pytest.raises(MetadataError, match=r"x\.json .*NaN"):
        parse(b'{"a": {"b": NaN}}', tmp_path / "x.json")


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path):
    with (tmp_path / "x.json").open("wb") as stream:
        stream.truncate(FILE_LIMIT + 1)
    with pytest.raises(MetadataError, match=r"x\.json.*larger than"):
        load(tmp_path / "x.json")


def test_a_lone_surrogate_that_another_tool_wrote_survives():
    assert dump(parse(rb'{"caf\udce9": {}}', Path("x")), Path("x")) == b'{\n  "caf\\udce9": {}\n}\n'


# -- keys


def test_the_absolute_key_is_the_path_in_the_form_of_the_platform():
    assert key_of(item("sub/c.jpg"), "absolute") == str(ROOT / "sub" / "c.jpg")


def test_the_relative_key_has_forward_slashes_and_the_extension():
    assert key_of(item("sub/c.v2.jpg"), "relative") == "sub/c.v2.jpg"


def test_the_stem_key_keeps_inner_dots_and_trailing_spaces():
    assert key_of(item("sub/c.v2  .jpg"), "stem") == "c.v2  "


def test_every_image_of_a_shared_stem_fails_and_is_told_of_absolute_keys():
    failures = key_failures([item("a.jpg"), item("b.jpg"), item("sub/a.png")], "stem")
    assert failures.keys() == {"a.jpg", "sub/a.png"}
    assert {failure.code for failure in failures.values()} == {FailureCode.STEM_COLLISION}
    assert all("--keys absolute" in failure.message for failure in failures.values())


def test_a_collision_names_a_few_images_however_many_there_are():
    failures = key_failures([item(f"{n}/a.jpg") for n in range(50)], "stem")
    assert "0/a.jpg, 1/a.jpg, 2/a.jpg and 47 more" in failures["7/a.jpg"].message


@pytest.mark.parametrize("style", ["absolute", "relative"])
def test_equal_stems_do_not_matter_to_keys_with_a_path(style):
    assert key_failures([item("a.jpg"), item("a.png")], style) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there")
def test_a_name_that_is_not_unicode_cannot_be_a_key():
    failure = key_failures([item("caf\udce9.jpg")], "relative")["caf\udce9.jpg"]
    assert failure.code is FailureCode.UNREADABLE
    assert "not valid Unicode" in failure.message


SPELLINGS = {
    "absolute": str(ROOT / "sub" / "c.jpg"),
    "relative to the folder": "sub/c.jpg",
    "relative with a leading dot": "./sub/c.jpg",
    "relative to the current folder": "imgs/sub/c.jpg",
    "relative without extension": "sub/c",
    "bare stem": "c",
}


@pytest.mark.parametrize("style", choices(MergeSettings, "keys"))
@pytest.mark.parametrize("key", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_an_entry_under_any_spelling_is_brought_under_the_wanted_key(style, key):
    image = item("sub/c.jpg")
    entries = {key: {"caption": "x"}}
    assert rekeyed(entries, [image], style, from_parent) == {key_of(image, style): {"caption": "x"}}


def test_a_key_that_leads_to_another_file_from_the_current_folder_is_not_taken():
    assert rekeyed({"imgs/a.jpg": {}}, [item("a.jpg")], "absolute", nowhere) == {"imgs/a.jpg": {}}


def test_a_bare_stem_that_two_images_have_is_left_alone():
    items = [item("a.jpg"), item("sub/a.jpg")]
    assert find_claims(["a"], items, "absolute", nowhere).shared == ["a"]
    assert rekeyed({"a": {}}, items, "absolute") == {"a": {}}


def test_a_stem_that_looks_like_a_file_name_gives_way_to_that_file():
    items = [item("a.jpg"), item("a.jpg.png")]
    assert find_claims(["a.jpg"], items, "absolute", nowhere).keys == {"a.jpg": ["a.jpg"]}


def test_a_key_of_the_wanted_style_belongs_to_its_image_whatever_else_it_could_mean():
    items = [item("a.jpg"), item("a.jpg.png")]
    assert find_claims(["a.jpg"], items, "stem", nowhere).keys == {"a.jpg.png": ["a.jpg"]}


def test_a_key_of_no_image_is_an_orphan():
    assert find_claims(["gone", "/gone.jpg"], [item("a.jpg")], "absolute", nowhere).orphans == ["gone", "/gone.jpg"]


def test_a_rekeyed_entry_keeps_its_place():
    entries = {"x": {}, "a": {}, "y": {}}
    assert list(rekeyed(entries, [item("a.jpg")], "relative")) == ["x", "a.jpg", "y"]


def test_united_entries_take_the_place_of_the_wanted_key():
    entries = {"a": {"tags": "t"}, "x": {}, "a.jpg": {"caption": "c"}}
    assert list(rekeyed(entries, [item("a.jpg")], "relative").items()) == [
        ("x", {}),
        ("a.jpg", {"caption": "c", "tags": "t"}),
    ]


def test_the_entry_under_the_wanted_key_wins_field_by_field():
    entries = {"a": {"caption": "stem", "n": 1}, "a.jpg": {"caption": "relative"}}
    assert rekeyed(entries, [item("a.jpg")], "relative") == {"a.jpg": {"caption": "relative", "n": 1}}
    assert rekeyed(entries, [item("a.jpg")], "stem") == {"a": {"caption": "stem", "n": 1}}


def test_uniting_tells_which_fields_lost_a_differing_value():
    assert unite([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}]) == ({"a": 1, "b": 2, "c": 4}, {"b"})


@pytest.mark.parametrize("keys", list(permutations(["old", "older", "new"])), ids=" ".join)
def test_an_entry_that_gets_the_key_of_another_adds_its_fields_to_it(keys):
    entries = {"old": {"tags": "b", "score": 2}, "older": {"tags": "c", "size": 3}, "new": {"tags": "a"}}

    renamed = rename({key: entries[key] for key in keys}, {"old": "new", "older": "new"})

    assert renamed == {"new": {"tags": "a", "score": 2, "size": 3}}


def test_dropping_leaves_the_other_entries_in_their_order():
    assert list(drop({"c": {}, "b": {}, "a": {}}, ["b"])) == ["c", "a"]


rels = st.sampled_from(["a.jpg", "a.png", "b.jpg", "sub/a.jpg", "sub/c.jpg", "sub/c", "imgs/b.jpg", "a.jpg.png"])
images = st.lists(rels.filter(lambda rel: "." in rel), min_size=1, unique=True).map(lambda found: [*map(item, found)])
names = rels.flatmap(
    lambda rel: st.sampled_from(
        [str(ROOT / rel), rel, f"./{rel}", f"imgs/{rel}", rel.rsplit(".", 1)[0], Path(rel).stem]
    )
)
metadata = st.dictionaries(
    names, st.dictionaries(st.sampled_from(["caption", "tags", "mine"]), st.sampled_from(["x", "y"])), max_size=8
)


@given(metadata, images, st.sampled_from(choices(MergeSettings, "keys")))
def test_every_key_is_claimed_once_shared_or_orphaned(entries, items, style):
    claims = find_claims(entries, items, style, from_parent)
    claimed = [key for keys in claims.keys.values() for key in keys]
    assert Counter([*claimed, *claims.shared, *claims.orphans]) == Counter(entries.keys())


@given(metadata, images, st.sampled_from(choices(MergeSettings, "keys")))
def test_rekeying_twice_is_rekeying_once(entries, items, style):
    free = [image for image in items if image.rel not in key_failures(items, style)]
    once = rekey(entries, free, find_claims(entries, items, style, from_parent), style)[0]
    twice = rekey(once, free, find_claims(once, items, style, from_parent), style)[0]
    assert json.dumps(twice) == json.dumps(once)


@given(metadata, images, st.sampled_from(choices(MergeSettings, "keys")))
def test_rekeying_loses_no_field_of_any_image(entries, items, style):
    free = [image for image in items if image.rel not in key_failures(items, style)]
    claims = find_claims(entries, items, style, from_parent)
    result, _ = rekey(entries, free, claims, style)
    for image in free:
        fields = {name for key in claims.keys.get(image.rel, []) for name in entries[key]}
        assert fields <= result.get(key_of(image, style), {}).keys()


# -- any content at all: entries, or an error that names the file

VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
KEYS = st.one_of(
    st.text(max_size=10), st.text(st.sampled_from("a./\\:\0~\udce9b.png"), max_size=12), st.just("/" * 5000 + "a")
)


@given(
    data=st.one_of(st.binary(max_size=60), VALUES.map(json.dumps).map(str.encode)),
    path=st.sampled_from([Path("meta.json"), Path("meta.jsonl")]),
)
def test_any_bytes_are_entries_or_refused(data, path):
    with contextlib.suppress(MetadataError):
        entries = parse(data, path)
        assert parse(dump(entries, path), path) is not None


@given(keys=st.lists(KEYS, unique=True, max_size=8), style=st.sampled_from(choices(MergeSettings, "keys")))
def test_any_keys_are_claimed_shared_or_orphans(keys, style):
    items = [item("a.png"), item("sub/a.png"), item("b.png")]
    claims = find_claims(keys, items, style, locator())
    named = [key for found in claims.keys.values() for key in found]
    assert sorted([*named, *claims.shared, *claims.orphans]) == sorted(keys)
