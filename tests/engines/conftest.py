"""Every engine here decodes with the decoder that does harm."""

import pytest

from sdprep.engines import base
from sdprep.engines.worker_process import WorkerProcess
from tests.engines.faults import DECODER


@pytest.fixture(autouse=True)
def decoder_that_does_harm(monkeypatch):
    monkeypatch.setattr(base, "DECODE", DECODER)


@pytest.fixture
def started(monkeypatch):
    """Every worker process that is started, in order."""
    seen, real = [], WorkerProcess.__init__

    def note(self, start, wakeup):
        seen.append(self)
        self.is_trial = start.limit_memory
        real(self, start, wakeup)

    monkeypatch.setattr(WorkerProcess, "__init__", note)
    return seen
