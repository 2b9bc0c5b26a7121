"""What a secret looks like."""

import pytest

from sdprep.sanitize import redact

SECRET = "S3cretThing"


@pytest.mark.parametrize(
    "text",
    [
        f"hf_{SECRET}",
        f"the token 'hf_{SECRET}' is wrong",
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'bearer {SECRET}'}}",
        f"http://me:{SECRET}@hub.example/a",
        f"https://{SECRET}@hub.example",
        f"https://store.example/a?X-Amz-Signature={SECRET}&b=1",
    ],
)
def test_a_secret_is_not_shown(text):
    assert SECRET not in redact(text)


@pytest.mark.parametrize(
    "text", ["https://huggingface.co/a/b", "is HF_ENDPOINT right?", "C:/a b.png: what? yes", "shelf_life.png", "a@b"]
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text
