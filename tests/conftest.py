"""No test sees the home folder, the caches or the environment of the person who runs it."""

import os

# Models this small are slowed down by threads that wait for each other; before any framework is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

ISOLATED = ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "APPDATA")

# A busy machine is no reason to fail.
settings.register_profile("patient", deadline=None)
# Many times as many tries, for an hour to spare: scripts/test --hypothesis-profile=fuzz tests/models
settings.register_profile("fuzz", deadline=None, max_examples=10_000)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def a_home_of_its_own(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    for name in ISOLATED:
        monkeypatch.setenv(name, str(home))
    for name in [name for name in os.environ if name.startswith("SDPREP_")]:
        monkeypatch.delenv(name)
    return home


def pytest_addoption(parser):
    parser.addoption("--settings-files", type=int, default=60, help="how many settings files of a stranger are tried")
    parser.addoption("--odd-values", type=int, default=100, help="how many odd values of options are tried")
    parser.addoption("--kills", type=int, default=120, help="how often runs are killed to see that nothing is lost")
    parser.addoption("--images", type=int, default=80, help="how many damaged images go through whole runs")
    parser.addoption(
        "--failing-calls", type=int, default=60, help="how many runs have system calls fail to see that nothing is lost"
    )
    parser.addoption("--power-cuts", type=int, default=5, help="how many power cuts in a run are looked at")
    parser.addoption("--damages", type=int, default=24, help="how often a catalog is damaged at a random place")
    parser.addoption("--edits", type=int, default=400, help="how many sequences of edits and runs are tried on a text")
