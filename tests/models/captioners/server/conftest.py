import hashlib
import math
import threading

import numpy as np
import pytest

from sdprep.models.base import ImageSpec, ModelFiles, ModelSpec, Price, ServerSpec
from sdprep.models.captioners.generation import CaptionOptions, GenerationConfig
from sdprep.models.captioners.server.captioner import ServerCaptioner
from sdprep.models.execution import Execution
from sdprep.types import Batch
from tests.stub_server import StubServer


class FastClock:
    """A clock whose time passes only where somebody waits for it, and whose delays are the longest possible."""

    def __init__(self):
        self.time, self.waits = 0.0, []
        self._lock = threading.Lock()

    def now(self):
        return self.time

    def wait(self, condition, seconds):
        if seconds == math.inf:
            condition.wait()
            return
        with self._lock:
            self.waits.append(seconds)
            self.time += seconds

    def delay(self, most):
        return most


def images(count, side=24):
    """Batches of one image each, of `count` colors."""
    for number in range(count):
        pixels = np.full((side, side + 8, 3), (number * 7 % 256, number % 256, 200), np.uint8)
        digest = hashlib.sha256(str(number).encode()).digest()
        yield Batch((f"{number}.png",), (digest,), (pixels,), ("Describe it.",))


class Asked:
    """A captioner at a stub, what it noted, and the time that it believes has passed."""

    def __init__(self, stub, options, in_flight, image, answer, *, clock=None, **server):
        self.stub, self.notes, self.clock = stub, [], clock or FastClock()
        spec = ModelSpec(
            name="stub",
            task="caption",
            backend="server",
            image=image,
            server=ServerSpec(**{"url": stub.url, "model": "stub", **server}),
            **answer,
        )
        execution = Execution(batch_size=1, in_flight=in_flight)
        self.captioner = ServerCaptioner(
            spec, ModelFiles(None, None, "server"), execution, options, self.notes.append, self.clock
        )

    def __call__(self, count=1):
        """What becomes of so many images, by their keys."""
        return dict(self.captioner.predict(images(count)))

    def one(self):
        """What becomes of one image."""
        return self()["0.png"]


@pytest.fixture
def stub():
    with StubServer() as server:
        yield server


@pytest.fixture
def ask(stub):
    """Open a captioner at the stub that does what a script says."""

    def opened(
        *script,
        in_flight=1,
        generation=GenerationConfig(max_new_tokens=50),
        stated=frozenset(),
        max_requests=None,
        max_cost=None,
        system="",
        answer=None,
        **server,
    ):
        stub.script.extend(script)
        if "price" in server:
            server["price"] = Price(**server["price"])
        options = CaptionOptions(
            generation=generation, stated=stated, max_requests=max_requests, max_cost=max_cost, system=system
        )
        return Asked(stub, options, in_flight, ImageSpec(fit="inside", size=512), answer or {}, **server)

    return opened
