"""What a catalog or a settings file may set that came with the images."""

import pytest

from sdprep.config import SETTINGS, CaptionSettings, TagSettings, remembered_options, value_of
from sdprep.tasks.options.untrusted import untrusted_fault


@pytest.mark.parametrize("kind", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_built_in_value_of_every_remembered_option_may_come_with_the_images(kind):
    faults = {name: untrusted_fault(kind, name, value_of(kind(), name)) for name in remembered_options(kind)}

    # A model folder names files to load, and a server gets the images, whatever they are.
    assert {name for name, fault in faults.items() if fault is not None} <= {"model_dir", "server"}


def test_a_number_may_be_no_larger_than_the_built_in_value():
    limit = CaptionSettings().rules.captions

    assert untrusted_fault(CaptionSettings, "captions", limit) is None
    assert untrusted_fault(CaptionSettings, "captions", limit + 1) == (
        "can only be 1 or less in a file in the dataset folder"
    )


def test_an_option_that_nobody_decided_about_may_not_come_with_the_images():
    assert untrusted_fault(TagSettings, "sparkle", 1) == "cannot be set by a file in the dataset folder"


def test_only_the_name_of_a_preset_may_come_with_the_images():
    assert untrusted_fault(TagSettings, "preset", "/etc/passwd") == "is not the name of a preset"
    assert untrusted_fault(TagSettings, "preset", "kohya") is None
