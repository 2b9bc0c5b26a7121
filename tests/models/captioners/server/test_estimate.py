"""What a run would ask of a server, before it asks."""

import pytest

from sdprep.models.base import ImageSpec, ModelSpec, Price, ServerSpec
from sdprep.models.captioners.server.estimate import describe_requests


@pytest.mark.parametrize(
    ("price", "prompts", "captions", "said"),
    [
        (None, 1000, 1, "1,000 requests to http://a: about 699.1 MB, at most 256,000 tokens in answers; "),
        (None, 1, 1, "1 request to http://a: about 0.7 MB, at most 256 tokens in answers; "),
        (None, 2, 3, "6 requests to http://a: "),
        # About 1,337 tokens of an image, 4 of the prompt, and 256 of the answer.
        (Price(input=1, output=2), 1000, 1, "tokens in answers, cost about 1.8535; "),
    ],
)
def test_requests_bytes_tokens_and_cost_are_said(price, prompts, captions, said):
    server = ServerSpec(url="http://a", model="m", price=price)
    spec = ModelSpec("m", "caption", "server", image=ImageSpec(fit="inside", size=1024), server=server)
    assert said in describe_requests(spec, ["Describe it."] * prompts, captions, 256)
