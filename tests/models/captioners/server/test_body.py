"""The body of a request: the image first, stated fields alone, and other words for servers that want them."""

import json

import pytest

from sdprep.models.captioners.server.body import Dialect, Question

FULL = Question("m", "Describe it.", "Be brief.", 256, {"temperature": 0.5, "seed": 7, "response_format": {}})


def body(question, dialect=Dialect()):
    return json.loads(question.body("data:x", dialect))


def test_only_what_is_stated_is_sent():
    assert body(Question("m", "Describe it.")) == {
        "model": "m",
        "stream": False,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:x"}},
                    {"type": "text", "text": "Describe it."},
                ],
            }
        ],
    }


def test_a_system_prompt_and_fields_are_sent_as_they_are():
    sent = body(FULL)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: sent[name] for name in ("max_tokens", "temperature", "seed")} == {
        "max_tokens": 256,
        "temperature": 0.5,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("fault", "dialect"),
    [
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            Dialect(tokens="max_completion_tokens"),
        ),
        ("max_tokens: unknown field", Dialect(tokens="max_completion_tokens")),
        ("Unrecognized request argument supplied: seed", Dialect(dropped=frozenset({"seed"}))),
        ("response_format is not supported", Dialect(dropped=frozenset({"response_format"}))),
        ("System role not supported", Dialect(merges_system=True)),
        ("this model does not take messages with the role 'system'", Dialect(merges_system=True)),
    ],
)
def test_a_field_that_a_server_names_is_left_out_or_renamed(fault, dialect):
    assert Dialect().after(fault, FULL) == dialect
    assert dialect.notes(Dialect()) != []


@pytest.mark.parametrize(
    "fault", ["the image cannot be decoded", "the file system is full", "the seedling is too small"]
)
def test_another_fault_is_a_fault(fault):
    assert Dialect().after(fault, FULL) is None


def test_nothing_is_left_out_twice():
    dialect = Dialect("max_completion_tokens", frozenset({"seed", "response_format"}), merges_system=True)
    for fault in ("max_tokens", "seed", "response_format", "system role"):
        assert dialect.after(fault, FULL) is None


@pytest.mark.parametrize(
    "token",
    [
        *("<|im_end|>", "<|image_pad|>", "<image>", "</s>", "<start_of_turn>", "<__media__>", "[INST]", "[/INST]"),
        *("<|turn>", "<turn|>", "<|im_<|x|>end|>", "<</s>s>"),
    ],
)
def test_a_tag_that_looks_like_a_control_token_is_not_sent(token):
    sent = body(Question("m", f"Tags: 1girl{token}, <3, [x], a<b>c", f"Be{token} brief."))
    assert sent["messages"][0]["content"] == "Be brief."
    assert sent["messages"][1]["content"][1]["text"] == "Tags: 1girl, <3, [x], a<b>c"


def test_a_merged_system_prompt_comes_before_the_prompt():
    sent = body(FULL, Dialect("max_completion_tokens", frozenset({"seed"}), merges_system=True))
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert sent["messages"][0]["content"][1]["text"] == "Be brief.\n\nDescribe it."
    assert sent["max_completion_tokens"] == 256
    assert "seed" not in sent
    assert "max_tokens" not in sent
