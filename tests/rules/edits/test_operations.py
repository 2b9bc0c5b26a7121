"""What each operation of `sdprep edit` does with a text, and that it leaves everything else as it is."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.edits.operations import NAMES, Operation, prepare
from sdprep.rules.edits.spans import Layout, edit_lists, tags_in
from sdprep.rules.labels import normalize_tag

WORDS = ["1girl", "long hair", "long_hair", "LONG HAIR", "hat", "red hat", r"kuro \(sdprep\)", "^_^", ";)", "猫", "é"]
MARKS = [", ", ",", " , ", ",  "]


@st.composite
def tag_texts(draw, *, lines=True):
    """A text of tags as users write them: any separator, white space, a final newline or none, several lines."""
    tags = draw(st.lists(st.sampled_from(WORDS), max_size=6))
    kinds = [*MARKS, "\n", ",\n", "\r\n"] if lines else MARKS
    text = "".join(tag + draw(st.sampled_from(kinds)) for tag in tags[:-1]) + "".join(tags[-1:])
    return draw(st.sampled_from(["", " ", ", "])) + text + draw(st.sampled_from(["", "\n", "\r\n", " ", ", ", ",\n"]))


def edit(text, *operations, edited="tags", others=()):
    layout = Layout(text)
    for name, value in operations:
        layout = layout.at(text)
        some = [tags_in(text, layout), *map(tags_in, others)]
        text = prepare(Operation(name, value), edited, some)(text, layout)
    return text


@pytest.mark.parametrize(
    ("text", "operation", "after"),
    [
        # A tag is added with the file's own separator, and not twice in any spelling.
        ("1girl, hat\n", ("add", "solo"), "1girl, hat, solo\n"),
        ("1girl,hat", ("add", "solo"), "1girl,hat,solo"),
        ("1girl; hat\r\n", ("add", "solo"), "1girl; hat; solo\r\n"),
        ("1girl\nhat\n", ("add", "solo"), "1girl\nhat\nsolo\n"),
        ("1girl,\nhat,\n", ("add", "solo"), "1girl,\nhat,\nsolo,\n"),
        ("1girl, LONG_HAIR", ("add", "long hair"), "1girl, LONG_HAIR"),
        ("1girl, hat", ("add", "solo@first"), "solo, 1girl, hat"),
        ("1girl, hat", ("add", "solo@2"), "1girl, solo, hat"),
        ("1girl, hat", ("add", "solo@9"), "1girl, hat, solo"),
        ("1girl", ("add", "a, b@first"), "a, b, 1girl"),
        ("1girl", ("add", "hat@0@last"), "1girl, hat@0"),
        ("\n", ("add", "solo"), "solo\n"),
        ("1girl", ("add", "@_@"), "1girl, @_@"),
        ("1girl", ("add", "@_@@first"), "@_@, 1girl"),
        (";)", ("add", "hat"), ";), hat"),
        # A tag is separated by one mark, also where places are empty.
        (", 1girl,, hat", ("add", "solo"), ", 1girl,, hat, solo"),
        ("1girl , , hat", ("add", "solo@first"), "solo , 1girl , , hat"),
        ("1girl,\n,hat,\n,cat,", ("add", "solo"), "1girl,\n,hat,\n,cat,\nsolo,"),
        ("1girl,hat, hat", ("replace", "hat=red hat,cap"), "1girl,red hat,cap"),
        ("hat,hat", ("replace", "hat=red hat, cap"), "red hat,cap"),
        # Several lines with commas are several lists, of which trainers read one.
        ("1girl, hat\nsolo, cat\n", ("add", "x@first"), "x, 1girl, hat\nx, solo, cat\n"),
        ("1girl, hat", ("remove", "HAT"), "1girl"),
        ("a,b , c\n", ("remove", "b"), "a,c\n"),
        ("1girl, long_hair, hat", ("remove", "*hair*"), "1girl, hat"),
        ("1girl, solo, hat", ("remove", "/^(solo|hat)$/"), "1girl"),
        (r"1girl, kuro \(sdprep\)", ("remove", "kuro (sdprep)"), "1girl"),
        # Accents are the same in both encodings, and what is not edited keeps its own.
        ("1girl, cafe\u0301, o\u0308l", ("remove", "caf\xe9"), "1girl, o\u0308l"),
        ("1girl, cafe\u0301", ("remove", "*f\xe9"), "1girl"),
        ("1girl, caf\xe9", ("add", "cafe\u0301"), "1girl, caf\xe9"),
        # A file of 0 bytes would count as lost.
        ("hat", ("remove", "hat"), "\n"),
        ("hat\n", ("remove", "hat"), "\n"),
        ("1girl, long hair, hat", ("replace", "long_hair=short hair"), "1girl, short hair, hat"),
        ("1girl, long hair, short_hair", ("replace", "long hair=short hair"), "1girl, short_hair"),
        ("1girl, long hair", ("replace", "long hair=long_hair"), "1girl, long_hair"),
        ("1girl, hat", ("replace", "hat=red hat, cap"), "1girl, red hat, cap"),
        ("1girl, hat", ("replace", "hat="), "1girl"),
        ("1girl, =_=", ("replace", r"\=_\==closed eyes"), "1girl, closed eyes"),
        ("hat (blue), cap (blue)", ("regex", r"s/ \(blue\)$//"), "hat, cap"),
        ("aa, aaa", ("regex", "s/a/b/"), "ba, baa"),
        ("aa, aaa", ("regex", "s/A/b/gi"), "bb, bbb"),
        ("a b, c", ("regex", r"s|(\w) (\w)|\2 \1|"), "b a, c"),
        ("a, b", ("regex", "s/a//"), "b"),
        ("1girl, solo,hat\n", ("move", "hat@first"), "hat, 1girl,solo\n"),
        ("1girl, solo, hat", ("move", "hat, 1girl@last"), "solo, hat, 1girl"),
        ("1girl, solo, hat", ("move", "cat@first"), "1girl, solo, hat"),
        ("c, A,b\n", ("sort", ""), "A, b,c\n"),
        ("c\nb\na\n", ("sort", ""), "a\nb\nc\n"),
        ("b, a\nd, c\n", ("sort", ""), "a, b\nc, d\n"),
        ("hat, 1girl, Hat, HAT", ("dedupe", ""), "hat, 1girl"),
        ("1girl, hat\n", ("prefix", "trigger, "), "trigger, 1girl, hat\n"),
        ("trigger, 1girl", ("prefix", "trigger, "), "trigger, 1girl"),
        ("1girl, hat\r\n", ("suffix", ", end"), "1girl, hat, end\r\n"),
        ("1girl\nhat\n", ("suffix", "\nend"), "1girl\nhat\nend\n"),
    ],
)
def test_an_operation_on_tags(text, operation, after):
    assert edit(text, operation) == after


@pytest.mark.parametrize(
    ("text", "operations", "after"),
    [
        ("1girl,hat", [("remove", "hat"), ("add", "cap")], "1girl,cap"),
        ("1girl; hat\n", [("remove", "*"), ("add", "cap, bow")], "cap; bow\n"),
        ("1girl\nhat\n", [("remove", "hat"), ("add", "cap")], "1girl\ncap\n"),
        ("1girl,\nhat,\n", [("remove", "1girl"), ("add", "cap")], "hat,\ncap,\n"),
        ("1girl\r\nhat\r\n", [("remove", "1girl"), ("replace", "hat=cap, bow")], "cap\r\nbow\r\n"),
        ("1girl, hat,cap,bow", [("remove", "cap, bow"), ("add", "solo")], "1girl, hat,solo"),
        ("1girl,hat,cap, bow, tie", [("remove", "hat, cap"), ("add", "solo")], "1girl,bow, tie,solo"),
        ("1girl,hat\nsolo,cat\n", [("remove", "hat, solo"), ("add", "cap")], "1girl,cap\ncat,cap\n"),
        ("b\na\nc", [("prefix", "x, "), ("sort", "")], "a, b\nc\nx"),
        # What was one tag at the beginning is not two later.
        ("1girl|solo, hat", [("remove", "hat"), ("remove", "solo")], "1girl|solo"),
        ("1girl|solo, hat", [("remove", "hat"), ("drop_rare", "1")], "1girl|solo"),
        # One tag shows no separator, so that of the first operation that adds one counts.
        ("1girl", [("suffix", ";hat"), ("remove", "hat"), ("add", "cap")], "1girl;cap"),
        ("1girl", [("suffix", "\nhat"), ("add", "cap")], "1girl\nhat\ncap"),
    ],
)
def test_operations_of_one_edit_share_the_separator_that_the_text_had_before_the_first(text, operations, after):
    assert edit(text, *operations) == after


@pytest.mark.parametrize(
    ("text", "operation", "after"),
    [
        ("a girl\n", ("prefix", "photo of "), "photo of a girl\n"),
        ("a girl\na cat\n", ("suffix", ", drawn"), "a girl, drawn\na cat, drawn\n"),
        ("a girl, a girlfriend\n", ("replace", "girl=woman"), "a woman, a girlfriend\n"),
        ("a salesperson", ("replace", "person=girl"), "a salesperson"),
        ("猫がいる", ("replace", "猫=犬"), "犬がいる"),
        ("The image shows a girl.", ("regex", "s/^the image shows //i"), "a girl."),
        ("one\ntwo\n", ("regex", "s/^/> /gm"), "> one\n> two\n> "),
    ],
)
def test_an_operation_on_captions(text, operation, after):
    assert edit(text, operation, edited="caption") == after


def test_tags_that_few_of_the_images_have_are_dropped():
    texts = ["1girl, hat, hat", "1girl, Long_Hair", "1girl, long hair\n"]
    drop = prepare(Operation("drop_rare", "2"), "tags", map(tags_in, texts))
    assert [drop(text) for text in texts] == ["1girl", "1girl, Long_Hair", "1girl, long hair\n"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("add", " , "), ("add", r"a\,b"), ("remove", ""), ("replace", "hat"), ("replace", "=hat"), ("move", "hat"),
        ("regex", "hat"), ("regex", "s/(/a/"), ("regex", "s/a/b/x"), ("regex", r"s/a/\2/"), ("drop_rare", "0"),
        ("add", "hat@0"), ("add", "hat@-1"), ("drop_rare", "few"), ("prefix", ""), ("suffix", ""), ("add", "a\0"),
        ("remove", "/(/"),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_a_usage_error_that_names_the_option(name, value):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}|/\\(/"):
        prepare(Operation(name, value), "tags")


def test_an_operation_on_tags_refuses_captions_and_names_those_for_captions():
    with pytest.raises(UsageError, match="--sort works on tags; for captions there are --replace, --regex, --prefix"):
        prepare(Operation("sort"), "caption")


def test_every_operation_can_be_prepared():
    values = {
        "replace": "a=b",
        "regex": "s/a/b/",
        "move": "a@first",
        "drop_rare": "2",
        "sort": "",
        "dedupe": "",
    }
    assert [prepare(Operation(name, values.get(name, "a")), "tags")("") for name in NAMES if name != "add"]


# Whatever the text


@given(tag_texts(), st.sampled_from(["@first", "@last", "@2", ""]))
@example(", 1girl, 1girl\n1girl\n1girl", "@first")
def test_adding_and_removing_a_tag_gives_the_first_text(text, position):
    assert edit(text, ("add", f"new{position}"), ("remove", "new")) == (text or "\n")


@given(tag_texts(lines=False), st.sampled_from(WORDS))
def test_removing_a_tag_leaves_the_others_in_their_order(text, tag):
    left = [each for each in tags_in(text) if normalize_tag(each) != normalize_tag(tag)]
    assert tags_in(edit(text, ("remove", tag))) == left


@given(tag_texts())
def test_sorting_moves_tags_and_changes_no_other_character(text):
    assert sorted(edit(text, ("sort", ""))) == sorted(text)


@given(tag_texts(lines=False), st.sampled_from([("sort", ""), ("dedupe", ""), ("add", "hat@first"),
                                                ("remove", "*hat*"), ("replace", "hat=cat"), ("move", "hat@first"),
                                                ("prefix", "x, "), ("suffix", ", x")]))  # fmt: skip
def test_an_operation_done_twice_is_done_once(text, operation):
    once = edit(text, operation)
    assert edit(once, operation) == once


@given(tag_texts(), st.sampled_from([("remove", "absent"), ("replace", "absent=x"), ("move", "absent@first"),
                                     ("regex", "s/absent/x/"), ("drop_rare", "1")]))  # fmt: skip
def test_an_operation_that_finds_nothing_leaves_every_character(text, operation):
    assert edit(text, operation) == text


@given(st.text(), st.sampled_from(["tags", "caption"]))
def test_no_text_is_too_odd_for_an_operation(text, edited):
    assert edit(text, ("regex", "s/absent/x/"), edited=edited) == text
    added = edit(text, ("prefix", "new, "), edited=edited)
    assume("new, " not in text)
    assert added.replace("new, ", "") == text


@given(st.text())
def test_every_character_of_a_text_is_in_its_tags_or_between_them(text):
    assert edit(text, ("sort", ""), ("sort", "")) == edit(text, ("sort", ""))
    assert edit(text, ("remove", "/(?!)/")) == text


CATEGORIES = {"kuro (sdprep)": "character", "hat": "general", "long hair": "general", "1girl": "general"}


@given(tag_texts())
def test_the_tags_of_a_text_are_those_that_an_edit_sees(text):
    seen = []
    edit_lists(text, lambda tags: seen.extend(tags.tags) or tags)
    assert tags_in(text) == seen


@pytest.mark.parametrize(
    ("text", "order", "after"),
    [
        ("hat,long_hair,  kuro \\(sdprep\\), 1girl\n", "category", "1girl,kuro \\(sdprep\\),  hat, long_hair\n"),
        ("hat, 1girl, masterpiece, @hisa", "quality, artist, people", "masterpiece, @hisa, 1girl, hat"),
        ("my trigger, hat, 1girl", "category", "my trigger, 1girl, hat"),
        ("hat, my own, 1girl", "category", "1girl, hat, my own"),
    ],
    ids=["usual order", "own list of categories", "trigger word stays first", "unknown tag is general"],
)
def test_tags_are_ordered_by_category(text, order, after):
    assert prepare(Operation("order", order), "tags", (), CATEGORIES)(text) == after


def test_an_order_of_categories_that_nothing_has_is_refused():
    with pytest.raises(UsageError, match="--order: there is no category peple; there are people, character"):
        prepare(Operation("order", "peple,general"), "tags", (), CATEGORIES)
