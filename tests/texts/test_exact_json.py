"""JSON that others wrote keeps its letters, or is refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.texts.exact_json import MOST_LEVELS, Number, dump_exactly, parse_exactly

NUMBERS = ["0", "-0", "-0.0", "1.0", "0.1000", "1e999", "-1E+999", "1E5", "1e-400", "123456789012345678901234567890"]


@pytest.mark.parametrize("number", [*NUMBERS, "9" * 5000, "0." + "1" * 400])
def test_a_number_is_written_as_it_was_spelled(number):
    data = f'{{\n  "a": {number}\n}}\n'.encode()
    assert dump_exactly(parse_exactly(data)) == data


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_a_number_of_json_is_refused_by_name(number):
    with pytest.raises(ValueError, match=number):
        parse_exactly(f'{{"a": [1, {number}]}}'.encode())


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '{"x": [{"a": {}, "a": {}}]}', r'{"a": 1, "\u0061": 2}'])
def test_a_key_that_an_object_has_twice_is_refused_by_name(text):
    with pytest.raises(ValueError, match="'a'"):
        parse_exactly(text.encode())


def test_one_key_in_several_objects_is_no_fault():
    assert parse_exactly(b'{"a": {"a": {}}, "b": {"a": {}}}') == {"a": {"a": {}}, "b": {"a": {}}}


def test_a_number_is_not_the_text_of_the_same_letters():
    assert parse_exactly(b"[1]") != parse_exactly(b'["1"]')


@pytest.mark.parametrize("signs", ["[]", '{"a":}'], ids=["lists", "objects"])
def test_what_is_nested_too_deep_is_refused(signs):
    for levels in (MOST_LEVELS + 1, 500, 100_000):
        with pytest.raises(ValueError, match="levels of nesting"):
            parse_exactly(signs[:-1].encode() * levels + b"1" + signs[-1:].encode() * levels)


def test_what_is_nested_less_deep_is_written_again():
    data = b"[" * MOST_LEVELS + b"1" + b"]" * MOST_LEVELS
    assert json.loads(dump_exactly(parse_exactly(data))) == json.loads(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS).map(Number) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


def is_same(one, other):
    """Equal, and every object with its keys in the same order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [*one] == [*other] and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and one == other


@given(VALUES)
def test_any_value_comes_back_with_its_letters_and_its_order(value):
    data = dump_exactly(value)
    assert is_same(parse_exactly(data), value)
    assert dump_exactly(parse_exactly(data)) == data


@given(VALUES)
def test_any_value_is_read_by_others_as_one_that_python_wrote(value):
    plain = json.loads(dump_exactly(value))
    assert json.loads(json.dumps(plain)) == plain


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,0123eE+-.aNI\\u '), max_size=60).map(str.encode))
def test_any_bytes_are_a_value_or_refused(data):
    try:
        value = parse_exactly(data)
    except ValueError:
        return
    assert is_same(parse_exactly(dump_exactly(value)), value)


def test_strings_are_spelled_anew_and_control_characters_are_escaped():
    data = rb'{"\u007f": "\u00e9 \/ \u0085 \u2028 \ud83d\ude00 \u001b \\u007f"}'
    written = dump_exactly(parse_exactly(data))
    assert written == '{\n  "\\u007f": "é / \\u0085 \\u2028 😀 \\u001b \\\\u007f"\n}\n'.encode()
    assert parse_exactly(written) == parse_exactly(data)
