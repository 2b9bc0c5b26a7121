"""No test sees the home folder, the caches or the environment of the user who runs it, or takes too much memory."""

import os
import sys
from itertools import count
from pathlib import Path

# Models this small are slowed down by threads that wait for each other; before any framework is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from sdprep import installation
from sdprep.catalog.catalog import Catalog
from sdprep.demo import IMAGES
from sdprep.models.taggers import onnx_session

try:
    import resource
except ImportError:  # Windows
    resource = None

# Tests run on laptops, two or more processes at once.
MEMORY_LIMIT = 3 * 2**30
ISOLATED = ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "APPDATA")

# A busy machine is no reason to fail, and a test that fails today does so because of today's change.
settings.register_profile("patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# Many times as many examples, which takes an hour: scripts/test --hypothesis-profile=fuzz tests/models
settings.register_profile("fuzz", deadline=None, max_examples=10_000)
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def one_thread_for_onnxruntime():
    """It has no variable for this; threads that wait for each other would take as long again as all else of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_session, "usable_cpus", lambda: 1)
        yield


@pytest.fixture(scope="session")
def homes(tmp_path_factory):
    """Paths of homes, one for each test."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def a_home_of_its_own(homes, monkeypatch):
    home = next(homes)
    home.mkdir()
    for name in ISOLATED:
        monkeypatch.setenv(name, str(home))
    for name in [name for name in os.environ if name.startswith("SDPREP_")]:
        monkeypatch.delenv(name)
    return home


@pytest.fixture
def plain_pip(monkeypatch):
    """An environment whose commands are the same on every machine: those of pip, and sdprep from an index."""
    place = installation.Installation()
    monkeypatch.setattr(installation, "find_installation", lambda *_: place)
    monkeypatch.setattr(installation, "TRAINERS", ())
    installation.here.cache_clear()
    yield place
    installation.here.cache_clear()


def memory_used():
    """The most memory that this process ever had, in bytes; 0 where the system does not tell."""
    if resource is None:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


@pytest.fixture(autouse=True)
def little_memory(request):
    """Fail the test during which the memory of this process exceeds the limit; models of real shapes may."""
    before = memory_used()
    yield
    if before <= MEMORY_LIMIT < (after := memory_used()) and request.node.get_closest_marker("long") is None:
        pytest.fail(f"this process took {after / 2**30:.1f} GB; use smaller inputs or a subprocess")


# How often random series try something; `scripts/test --all` says more.
SERIES = {
    "--settings-files": (30, "untrusted settings files"),
    "--odd-values": (40, "odd values of options"),
    "--kills": (50, "runs that are killed"),
    "--images": (30, "damaged images in whole runs"),
    "--failing-calls": (24, "runs whose system calls fail"),
    "--power-cuts": (2, "power cuts in a run"),
    "--damages": (12, "damages at random places of a catalog"),
    "--edits": (100, "sequences of edits and runs on a sidecar"),
    "--edit-kills": (8, "sequences of runs that are killed, edits among them"),
    "--many-images": (2_000, "images in a run in which some kill the worker, a multiple of 100"),
}


def pytest_addoption(parser):
    for name, (default, what) in SERIES.items():
        parser.addoption(name, type=int, default=default, help=f"number of {what}")


@pytest.fixture
def hasty_catalogs(monkeypatch):
    """Catalogs that do not wait for the disk."""
    prepare = Catalog._prepare

    def hasty(self):
        prepare(self)
        self.db.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(Catalog, "_prepare", hasty)


@pytest.fixture
def put_image():
    """Copies a demo image to a path."""

    def put(path: Path, name: str = "kuro.png") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((IMAGES / name).read_bytes())
        return path

    return put
