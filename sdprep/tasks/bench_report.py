"""What the figures of `sdprep bench` mean: where the time goes, what bounds a run, and what would change that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdprep.models.base import Task

# A share from which on a stage decides how long a run takes, and one from which on it is worth a word.
DECIDES, NOTABLE = 0.5, 0.15
# Below this share of what the stages allow, something else takes part.
GOOD = 0.8


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that was measured: seconds on the clock, and of the processor (None: not known)."""

    images: int
    seconds: float
    cpu_seconds: float | None

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def cpu(self) -> float:
        """Processor seconds an image; 0 where they are not known."""
        return (self.cpu_seconds or 0.0) / self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Under what figures were measured: `cpus` may be used by this process, `provider` is known once a model was open.

    `startup` are the seconds of a run before its first image.
    """

    model: str
    task: Task
    precision: str
    provider: str | None
    cpus: int
    workers: int
    startup: float | None = None

    @property
    def on_processor(self) -> bool:
        """Whether the model shares the processor with those that decode."""
        return self.provider == "cpu"


@dataclass(frozen=True, slots=True)
class BenchVerdict:
    """What follows from the figures; None where a stage that it needs was not measured.

    `shares` are of the processor's time. `limit` is the images a second that decoding and the model allow, `reached`
    the share of it that a whole run came to. `cores` decode as fast as the model can take images.
    """

    shares: dict[str, float] | None
    cores: float | None
    limit: float | None
    reached: float | None
    advice: tuple[str, ...]


def judge(stages: dict[str, Stage], at: Environment) -> BenchVerdict:
    """Judge the stages `read`, `decode` (which reads too), `predict`, `write` and `all`, as far as they are there."""
    shares = cores = limit = reached = None
    # A clock of the processor may be too coarse for a few small images.
    if "decode" in stages and "predict" in stages and stages["decode"].cpu > 0:
        decode, predict = stages["decode"], stages["predict"]
        shares = _shares(stages)
        cores = decode.cpu * predict.rate
        limit = at.cpus / (decode.cpu + predict.cpu) if at.on_processor else min(at.cpus / decode.cpu, predict.rate)
    if limit is not None and "all" in stages:
        reached = stages["all"].rate / limit
    advice = []
    if shares is not None and cores is not None:
        advice.append(_about_processor(shares, at) if at.on_processor else _about_card(cores, stages["predict"], at))
        if shares.get("write", 0) >= NOTABLE:
            advice.append(f"Texts and the catalog take {shares['write']:.0%}: a faster disk for --output-dir may help.")
    if limit is not None and "read" in stages and stages["read"].rate < limit:
        rate = stages["read"].rate
        advice.append(
            f"The disk gives {rate:.1f} images/s, the rest could take {limit:.1f}: copy them to a faster one."
        )
    advice += _about_whole(stages, reached, at)
    return BenchVerdict(shares, cores, limit, reached, tuple(advice))


def _shares(stages: dict[str, Stage]) -> dict[str, float]:
    """The parts of the processor's time for an image; decoding without the reading that is a stage of its own."""
    cpu = {name: stage.cpu for name, stage in stages.items() if name != "all"}
    if "read" in cpu:
        cpu["decode"] = max(0.0, cpu["decode"] - cpu["read"])
    return {name: value / sum(cpu.values()) for name, value in cpu.items()}


def _about_processor(shares: dict[str, float], at: Environment) -> str:
    decoding = shares["decode"] + shares.get("read", 0)
    if decoding >= DECIDES:
        more = f"--workers {at.cpus}, one for each processor, or " if at.workers < at.cpus else ""
        return (
            f"Reading images takes {decoding:.0%} of the processor's time: {more}more processors or smaller images "
            "would help, a faster model would not."
        )
    smaller = "a smaller model"
    if at.precision == "float32":
        command = f"`sdprep models quantize {at.model} --images DIR`, which makes {at.model}-int8"
        smaller = {"tag": command, "caption": "--dtype int8 and a smaller --num-beams of sdprep caption"}[at.task]
    return (
        f"The model takes {shares['predict']:.0%} of the processor's time: a graphics card would help, or {smaller}; "
        "more workers would not."
    )


def _about_card(cores: float, predict: Stage, at: Environment) -> str:
    need = math.ceil(cores)
    if cores > at.cpus:
        return (
            f"Decoding keeps {at.provider} waiting: it could take {predict.rate:.0f} images/s, for which {need} "
            f"processors have to decode, and there are {at.cpus}. More processors or smaller images would help, "
            "a faster card would not."
        )
    if at.workers < need:
        return f"--workers {need} would keep {at.provider} busy; {at.workers} do not decode fast enough."
    copy = at.task == "tag" and at.precision == "float32"
    smaller = f", or {at.model}-fp16 (`sdprep models quantize`)" if copy else ""
    return f"The model on {at.provider} decides: a larger --batch-size may help{smaller}; more workers would not."


def _about_whole(stages: dict[str, Stage], reached: float | None, at: Environment) -> list[str]:
    advice = []
    if reached is not None and reached < GOOD:
        why = "other programs at work, or too few images (--limit), are the usual reasons"
        if at.workers == 0:
            why = "with --workers 0 decoding and the model take turns"
        advice.append(f"A whole run comes to {reached:.0%} of what its stages allow: {why}.")
    if at.startup is not None and "all" in stages and at.startup > stages["all"].seconds:
        advice.append(
            f"Starting took {at.startup:.1f} s, the images {stages['all'].seconds:.1f} s: one run over many images "
            "is faster than many runs."
        )
    return advice
