"""The commands that doctor names are the same on every machine."""

import pytest


@pytest.fixture(autouse=True)
def with_plain_pip(plain_pip):
    return plain_pip
