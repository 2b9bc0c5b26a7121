"""Every engine here decodes with the decoder that does harm."""

import pytest

from sdprep.engines import local
from tests.engines.faults import DECODER


@pytest.fixture(autouse=True)
def decoder_that_does_harm(monkeypatch):
    monkeypatch.setattr(local, "DECODE", DECODER)
