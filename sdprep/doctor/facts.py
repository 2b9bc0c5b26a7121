"""What doctor knows of a machine: plain values, so that every problem can be told from captured facts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "error", "crash", "timeout"]
Value = str | int | bool | None
# The jobs that can be asked for, and what all of them stand on.
JOBS = ("caption", "tag", "tensorflow")
CORE = "core"


@dataclass(frozen=True, slots=True)
class Device:
    """A device on which something was computed: `detail` says what it is, or what went wrong."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a process of its own found out; `step` is where it was last, `log` what was said on stderr."""

    name: str
    outcome: Outcome
    step: str = ""
    error: str = ""
    about: Mapping[str, Value] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    log: str = ""

    def value(self, name: str) -> str:
        """A value as text, empty if there is none."""
        value = self.about.get(name)
        return "" if value is None else str(value)

    @property
    def heard(self) -> str:
        """All that it and its framework said, for a look at known messages."""
        return "\n".join([self.log, self.error, *(device.detail for device in self.devices if not device.ok)])

    def device(self, name: str) -> Device | None:
        """The device of this name."""
        return next((device for device in self.devices if device.name == name), None)


@dataclass(frozen=True, slots=True)
class Machine:
    """Python and the hardware; `system` as in sys.platform, `cards` are the NVIDIA cards that their driver names."""

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
        """Whether there is an NVIDIA card."""
        return bool(self.cards)

    @property
    def cards_hidden(self) -> bool:
        """Whether CUDA_VISIBLE_DEVICES hides the cards from every program."""
        return self.cuda_visible is not None and self.cuda_visible.strip() in ("", "-1")


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts: `packages` has the version of every distribution, `modules` those that provide a framework's module.

    A probe is there if there was something to try.
    """

    machine: Machine
    packages: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)

    def version(self, module: str) -> str:
        """The version of a framework: of its distribution, else as it calls itself; empty if nobody says."""
        for name in (module, *self.modules.get(module, ())):
            if name in self.packages:
                return self.packages[name]
        return self.probes[module].value("version") if module in self.probes else ""
