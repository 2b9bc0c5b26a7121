"""What doctor knows about a machine: plain values, so that every problem follows from captured facts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "error", "crash", "timeout"]
Value = str | int | bool | None
# The jobs that can be requested, and what all of them need.
JOBS = ("caption", "tag", "tensorflow")
CORE = "core"


@dataclass(frozen=True, slots=True)
class Device:
    """A device on which something was computed: `detail` is its model, or what went wrong."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found in its process: `step` is the last one it began, `log` is its stderr."""

    name: str
    outcome: Outcome
    step: str = ""
    error: str = ""
    about: Mapping[str, Value] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    log: str = ""

    def value(self, name: str) -> str:
        """Return a value as text, empty if there is none."""
        value = self.about.get(name)
        return "" if value is None else str(value)

    @property
    def output(self) -> str:
        """All that the probe and its framework printed, to search for known messages."""
        return "\n".join([self.log, self.error, *(device.detail for device in self.devices if not device.ok)])

    def device(self, name: str) -> Device | None:
        """Return the device of this name."""
        return next((device for device in self.devices if device.name == name), None)


@dataclass(frozen=True, slots=True)
class Machine:
    """Python and the hardware; `system` as in sys.platform, `cards` are the NVIDIA GPUs that their driver names."""

    python: tuple[int, int, int]
    system: str
    arch: str
    sdprep: str
    cards: tuple[str, ...] = ()
    driver: str = ""
    driver_error: str = ""
    cuda_visible: str | None = None

    @property
    def nvidia(self) -> bool:
        """Whether there is an NVIDIA GPU."""
        return bool(self.cards)

    @property
    def is_gpu_hidden(self) -> bool:
        """Whether CUDA_VISIBLE_DEVICES hides the GPUs from every program."""
        return self.cuda_visible is not None and self.cuda_visible.strip() in ("", "-1")


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts: `packages` has the version of each distribution, `modules` the distributions of each framework.

    `probes` has those that had something to test, `models` for each job a model whose files are on this machine.
    """

    machine: Machine
    packages: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def version(self, module: str) -> str:
        """Return the version of a framework from its distribution, else from the framework; empty if unknown."""
        for name in (module, *self.modules.get(module, ())):
            if name in self.packages:
                return self.packages[name]
        return self.probes[module].value("version") if module in self.probes else ""
