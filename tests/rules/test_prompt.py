"""Prompts with variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.prompt import VARIABLES, MissingValue, parse_prompt, prompt_hash, variables_in, with_presets

PLAIN = st.text().filter(lambda text: "{" not in text and "}" not in text)


@given(PLAIN)
def test_a_prompt_without_braces_is_itself(text: str) -> None:
    assert parse_prompt(text).render({}) == text
    assert parse_prompt(text).variables == ()


@given(st.text())
def test_doubled_braces_give_any_text_back(text: str) -> None:
    assert parse_prompt(text.replace("{", "{{").replace("}", "}}")).render({}) == text


@given(st.lists(st.tuples(PLAIN, st.sampled_from(VARIABLES)), max_size=6), st.text(min_size=1))
def test_every_variable_is_filled_and_its_value_is_not_read_again(parts: list[tuple[str, str]], value: str) -> None:
    prompt = parse_prompt("".join(f"{text}{{{name}|-}}" for text, name in parts))
    shown = value if value.strip() else "-"
    assert prompt.render(dict.fromkeys(VARIABLES, value)) == "".join(f"{text}{shown}" for text, _ in parts)
    assert set(prompt.variables) == {name for _, name in parts}


def test_a_variable_in_a_value_stays_as_it_is() -> None:
    assert parse_prompt("Tags: {tags}").render({"tags": "{name}"}) == "Tags: {name}"


def test_a_missing_value_is_named() -> None:
    with pytest.raises(MissingValue) as caught:
        parse_prompt("{name}: {tags}").render({"name": "a", "tags": " "})
    assert caught.value.args == ("tags",)


@pytest.mark.parametrize(("text", "rendered"), [("{tags|none}", "none"), ("{tags|}", ""), ("{tags|a | b}", "a | b")])
def test_a_substitute_stands_for_a_missing_value(text: str, rendered: str) -> None:
    assert parse_prompt(text).render({}) == rendered


def test_a_text_that_is_no_prompt_may_have_other_braces_beside_variables() -> None:
    assert variables_in("{a {tags}, {{name}}, {trigger|none} {red|blue} }") == ["{tags}", "{trigger|none}"]


@pytest.mark.parametrize("text", ["{", "}", "{tags", "tags}", "{ tags }", "{1}", "{a{tags}b}"])
def test_a_single_brace_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(UsageError, match=r"write (\{\{|\}\}) for a brace"):
        parse_prompt(text)


def test_an_unknown_variable_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"unknown variable \{tag\}\nVariables: \{tags\}, \{characters\}"):
        parse_prompt("Use {tag}")


def test_a_preset_is_a_prompt_of_the_model() -> None:
    presets = {"short": "One line, {tags|none}."}
    assert with_presets("{preset:short} In English.", presets) == "One line, {tags|none}. In English."


@pytest.mark.parametrize(("presets", "has"), [({"short": "a", "long": "b"}, ": short, long"), ({}, " none")])
def test_an_unknown_preset_is_refused_with_those_of_the_model(presets: dict[str, str], has: str) -> None:
    with pytest.raises(UsageError, match=f"no prompt preset 'shrot'\nIt has{has}"):
        with_presets("{preset:shrot}", presets)


def test_prompts_that_differ_have_different_hashes() -> None:
    assert prompt_hash("a") != prompt_hash("b")
    assert prompt_hash("a") == prompt_hash("a")
