"""One tiny model of each family for all tests."""

import pytest

from tests.models.captioners.chat.chat_models import write_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A function that gives the folder of a family's tiny model, written when it is first asked for."""
    made = {}

    def folder_of(family):
        if family not in made:
            made[family] = write_model(tmp_path_factory.mktemp("models") / family, family)
        return made[family]

    return folder_of
