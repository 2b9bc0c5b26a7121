"""Label files: every form, and what is wrong with one."""

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import ModelError
from sdprep.models.base import ImageSpec, LabelSpec, ModelFiles, ModelSpec, Source
from sdprep.models.parse import LARGEST_FILE
from sdprep.models.taggers.label_file import read_columns

CODES = {"general": 0, "character": 4, "rating": 9}
WORDS = {"general": "General", "character": "Character"}
HEADER = "tag_id,name,category,count,best_threshold"
MAPS = {"idx_to_tag": {"0": "1girl", "1": "aka"}, "tag_to_category": {"1girl": "General", "aka": "Character"}}


@pytest.fixture
def read(tmp_path):
    """Reads text as a CSV file, anything else as a JSON file."""
    return reader(tmp_path)


def reader(tmp_path):
    def columns(content, name=None, **more):
        text = content if isinstance(content, str) else json.dumps(content, default=repr)
        data = content if isinstance(content, bytes) else text.encode()
        name = name or ("selected_tags.csv" if isinstance(content, str | bytes) else "tag_mapping.json")
        (tmp_path / name).write_bytes(data)
        labels = LabelSpec(name, **{"categories": CODES if name.endswith(".csv") else WORDS, **more})
        spec = ModelSpec("toy", "tag", "onnx", Source(path="."), ("model.onnx", name), ImageSpec("pad"), labels=labels)
        return read_columns(spec, ModelFiles(tmp_path, None, ""))

    return columns


def refusal(read, *given, **more):
    with pytest.raises(ModelError, match=r"selected_tags\.csv|tag_mapping\.json") as caught:
        read(*given, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ('"Tokyo, Japan"', "Tokyo, Japan"),
        ('"a ""quoted"" tag"', 'a "quoted" tag'),
        ('";)"', ";)"),
        (";p", ";p"),
        ("don't", "don't"),
        ("青い髪", "青い髪"),
        ("||_||", "||_||"),
    ],
)
def test_names_are_read_by_the_rules_of_csv(read, cell, name):
    table, _ = read(f"{HEADER}\n1,{cell},0,1,0.5\n2,aka,4,1,0.5\n")
    assert table.names == (name, "aka")


def test_a_column_of_thresholds_is_read_if_the_description_names_it(read):
    text = f"{HEADER}\n1,a,0,1,0.25\n2,b,4,1,1e-1\n"
    assert read(text, thresholds="best_threshold")[0].best_thresholds == (0.25, 0.1)
    assert read(text)[0].best_thresholds == ()


def test_one_name_may_be_in_two_categories(read):
    assert read(f"{HEADER}\n1,general,0,1,0\n2,general,9,1,0\n")[0].categories == ("general", "rating")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column name and no category"),
        ("tag_id;name;category\n1;a;0\n", "no column name and no category"),
        ("tag_id,tag,category\n1,a,0\n", "no column name"),
        (f"{HEADER}\n", "has no labels"),
        (f"{HEADER}\n1,a,0,1,0\n2,b,7,1,0\n", "line 3: category 7 is not one of 0, 4, 9"),
        (f"{HEADER}\n1,Tokyo, Japan,0,1,0\n", "line 2: fewer or more fields than the first line"),
        (f"{HEADER}\n1,a,0\n", "line 2: fewer or more fields than the first line"),
        (f"{HEADER}\n1,,0,1,0\n", "line 2: '' cannot be the name of a tag"),
        (f"{HEADER}\n1,  ,0,1,0\n", "line 2: '  ' cannot be the name of a tag"),
        (f'{HEADER}\n1,"a\nb",0,1,0\n', r"line 3: 'a\nb' cannot be the name of a tag"),
        (f"{HEADER}\n1,a\0b,0,1,0\n", r"selected_tags.csv"),
        (f"{HEADER}\n1,a\u2028b,0,1,0\n", "cannot be the name of a tag"),
        (f"{HEADER}\n1,a,0,1,0\n2,b,0,1,0\n3,a,0,1,0\n", "line 4: a is a duplicate of"),
        (f'{HEADER}\n1,"a,0,1,0\n', "cannot be read as a label file"),
        (f"{HEADER}\n1,é,0,1,0\n".encode("latin-1"), "it is not UTF-8 text"),
        (b"PK\x03\x04\xff\xfe", "selected_tags.csv"),
    ],
    ids=ascii,
)
def test_a_csv_file_that_cannot_be_right_is_refused_with_its_line(read, text, said):
    assert said in refusal(read, text)


@pytest.mark.parametrize("value", ["", "high", "1.5", "-0.1", "nan"])
def test_a_threshold_that_is_none_is_refused(read, value):
    message = refusal(read, f"{HEADER}\n1,a,0,1,{value}\n", thresholds="best_threshold")
    assert f"line 2: {value!r} is not a threshold" in message


def test_a_column_of_thresholds_that_is_missing_is_named(read):
    assert "no column other" in refusal(read, f"{HEADER}\n1,a,0,1,0\n", thresholds="other")


def test_json_labels_are_ordered_by_their_numbers_and_may_have_gaps(read):
    given = {"4": {"tag": "aka", "category": "Character"}, "1": {"tag": "1girl", "category": "General", "count": 5}}
    table, columns = read(given)
    assert (table.names, table.categories) == (("1girl", "aka"), ("general", "character"))
    assert columns.outputs == (1, 4)


@pytest.mark.parametrize("within", [None, "tags", "info.tag_mapping"])
def test_two_maps_may_lie_deeper_in_the_file(read, within):
    given = MAPS
    for name in reversed(within.split(".") if within else []):
        given = {name: given, "other": 1}
    table, _ = read(given, within=within)
    assert (table.names, table.categories) == (("1girl", "aka"), ("general", "character"))


@pytest.mark.parametrize(
    ("given", "within", "said"),
    [
        ({}, None, "has no labels"),
        ([], None, "expected a table"),
        ({"a": {"tag": "x", "category": "General"}}, None, "expected a whole number"),
        ({"-1": {"tag": "x", "category": "General"}}, None, "-1 is not the number of an output"),
        ({"0": {"tag": "x"}}, None, "missing required field `category`"),
        ({"0": "x"}, None, "expected a table"),
        ({"0": {"tag": "x", "category": "Odd"}}, None, "label 0: category Odd is not one of General, Character"),
        ({"0": {"tag": "a\nb", "category": "General"}}, None, "label 0: 'a\\nb' cannot be"),
        ({**MAPS, "tag_to_category": {"1girl": "General"}}, None, "no category for aka"),
        ({"idx_to_tag": {"0": "x"}}, None, "missing required field `tag_to_category`"),
        (MAPS, "dataset_info.tag_mapping", "has no dataset_info.tag_mapping"),
        ({"dataset_info": 3}, "dataset_info.tag_mapping", "has no dataset_info.tag_mapping"),
    ],
)
def test_a_json_file_of_another_shape_is_refused(read, given, within, said):
    assert said in refusal(read, given, within=within)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe{}", b'{"0": {"tag": "\\ud800", "category": "General"}}'], ids=repr
)
def test_a_json_file_that_is_broken_is_refused(read, text):
    assert "tag_mapping.json" in refusal(read, text, "tag_mapping.json")


CSV = f"{HEADER}\n1,a,0,1,0\n2,b,0,1,0\n"


@pytest.mark.parametrize(("shape", "right"), [([1, 2], True), (["N", "L"], True), ([1, 1], False), ([1, 3], False)])
def test_a_csv_file_has_one_row_for_each_score(read, shape, right):
    columns = read(CSV)[1]
    if right:
        columns.check(shape, "model.onnx")
        return
    with pytest.raises(ModelError, match=rf"model\.onnx outputs {shape[1]} scores but .*selected_tags\.csv has 2"):
        columns.check(shape, "model.onnx")


def test_a_json_file_may_leave_the_last_scores_without_a_label(read):
    columns = read({"1": {"tag": "x", "category": "General"}})[1]
    columns.check([1, 5], "model.onnx")
    with pytest.raises(ModelError, match=r"1 scores but its label file tag_mapping\.json goes up to number 1"):
        columns.check([1, 1], "model.onnx")


@pytest.mark.parametrize("shape", [[2], [1, 2, 1, 1], []])
def test_an_answer_that_is_no_line_of_scores_is_refused(read, shape):
    with pytest.raises(ModelError, match=r"model\.onnx outputs the shape"):
        read(CSV)[1].check(shape, "model.onnx")


@pytest.mark.parametrize("cell", ["gpj.\u202etxt", "\u200bgpj.txt", "gpj.t\u2066xt\u2069", "gpj.tx\u200dt\ufeff"])
def test_what_nobody_sees_is_taken_out_of_a_name(read, cell):
    assert read(f"{HEADER}\n1,{cell},0,1,0.5\n")[0].names == ("gpj.txt",)


def test_names_that_only_look_different_to_a_machine_are_the_same(read):
    assert "hat is a duplicate of" in refusal(read, f"{HEADER}\n1,hat,0,1,0.5\n2,h\u200bat,0,1,0.5\n")


# Any content at all: a table, or an error that names the file

CELLS = st.one_of(
    st.sampled_from(
        ["name", "category", "best_threshold", "0", "4", "9", "hat", "0.5", "nan", "1e999", '"', '""', "\0"]
    ),
    st.text(max_size=8),
)
LINES = st.lists(st.lists(CELLS, max_size=5).map(",".join), max_size=6).map("\n".join)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("General")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["0", "1", "-1", "9" * 5000, "tag", "category", *MAPS, "a"]), inner, max_size=4
        ),
    ),
    max_leaves=15,
)


@given(
    content=st.one_of(st.binary(max_size=60), LINES, LINES.map(lambda text: f"{HEADER}\n{text}")), wide=st.booleans()
)
def test_any_csv_file_is_a_table_or_refused(content, wide, tmp_path_factory):
    with contextlib.suppress(ModelError):
        table, columns = reader(tmp_path_factory.getbasetemp())(content, thresholds="best_threshold" if wide else None)
        assert len(table.names) == len(columns.outputs) > 0


@given(content=st.one_of(st.binary(max_size=60), VALUES), within=st.sampled_from([None, "a", "a.tag", ""]))
def test_any_json_file_is_a_table_or_refused(content, within, tmp_path_factory):
    with contextlib.suppress(ModelError):
        table, columns = reader(tmp_path_factory.getbasetemp())(content, "tag_mapping.json", within=within)
        assert len(table.names) == len(columns.outputs) > 0


@pytest.mark.parametrize("name", ["selected_tags.csv", "tag_mapping.json"])
def test_a_label_file_that_is_larger_than_any_tagger_has_is_refused(read, tmp_path, name):
    content = f"{HEADER}\n1,aka,4,1,0.5\n" if name.endswith(".csv") else {"0": {"tag": "aka", "category": "General"}}
    read(content, name)
    with (tmp_path / name).open("ab") as stream:
        stream.truncate(LARGEST_FILE + 1)
    labels = LabelSpec(name, CODES)
    spec = ModelSpec("toy", "tag", "onnx", Source(path="."), ("model.onnx", name), ImageSpec("pad"), labels=labels)
    with pytest.raises(ModelError, match=rf"{name}.*it is larger than 33,554,432 bytes"):
        read_columns(spec, ModelFiles(tmp_path, None, ""))


def test_a_label_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "tags.csv")
    labels = LabelSpec("tags.csv", CODES)
    spec = ModelSpec("toy", "tag", "onnx", Source(path="."), ("model.onnx", "x"), ImageSpec("pad"), labels=labels)
    with pytest.raises(ModelError, match=r"tags\.csv.*it is not a regular file"):
        read_columns(spec, ModelFiles(tmp_path, None, ""))


def test_a_name_that_is_longer_than_any_tag_is_refused_and_not_repeated(read):
    said = refusal(read, f"{HEADER}\n1,{'a' * 100_000},0,1,0.5\n")
    assert "the name has 100,000 characters, more than 1,000" in said
    assert len(said) < 500
