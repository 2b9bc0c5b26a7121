"""What `--device` says."""

import pytest

from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.devices import parse_devices
from sdprep.errors import UsageError

SETTINGS = pytest.mark.parametrize("settings", [CaptionSettings, TagSettings])


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("auto", ("auto",)),
        ("cuda", ("cuda",)),
        ("mps", ("mps",)),
        ("cuda:0,1", ("cuda:0", "cuda:1")),
        ("cuda:0,cuda:1", ("cuda:0", "cuda:1")),
        (" cuda:2 , 0 ,cpu", ("cuda:2", "cuda:0", "cpu")),
        ("cpu,cpu", ("cpu", "cpu")),
    ],
)
def test_a_list_keeps_its_order_and_numbers_belong_to_the_card_before(text, devices):
    assert parse_devices(text) == devices


@pytest.mark.parametrize(
    "text", ["", "gpu", "0,1", "cuda:", "cuda:0,", "cuda,1", "cpu,1", "auto,cpu", "cuda:0-1", "cuda:all"]
)
def test_what_is_no_list_of_devices_is_refused_with_what_there_is(text):
    with pytest.raises(UsageError, match="--device takes auto, cpu, cuda, cuda:N or mps, or a list"):
        parse_devices(text)


@pytest.mark.parametrize("text", ["cuda:1,1", "cuda,cuda:0", "mps,mps", "cuda:0,cpu,cuda:0"])
def test_a_card_cannot_be_shared_out(text):
    with pytest.raises(UsageError, match=f"--device {text} names a GPU twice"):
        parse_devices(text)


@SETTINGS
def test_several_devices_need_several_processes(settings):
    with pytest.raises(UsageError, match=r"--workers 0 runs .* in this process, and --device cuda:0,1 needs a process"):
        settings(device="cuda:0,1", run=RunOptions(workers=0))


@SETTINGS
def test_one_device_needs_no_process(settings):
    assert settings(device="cuda:1", run=RunOptions(workers=0)).devices == ("cuda:1",)
