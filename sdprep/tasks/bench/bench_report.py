"""What the figures of `sdprep bench` mean: where the time goes, what limits a run, and what would help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sdprep.models.base import Task
from sdprep.report import StageTime
from sdprep.tasks.option_values import as_argument

# From the first share on, a stage dominates a run; from the second on, it is mentioned.
DOMINANT, NOTABLE = 0.5, 0.15
# Below this share of the rate that the stages allow, something else slows the run.
GOOD = 0.8


class Stage(StageTime):
    """A measured stage of at least one image."""

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    @property
    def cpu(self) -> float:
        """CPU seconds per image."""
        return self.cpu_seconds / self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What figures depend on: `cpus` usable by this process; `provider` is None if no model was opened.

    `startup` is the time in seconds before the first image of a run. `images` is the folder of your own that was
    measured; None for the images of the demo.
    """

    model: str
    task: Task
    precision: str
    provider: str | None
    cpus: int
    workers: int
    startup: float | None = None
    images: Path | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether the model shares the CPU with the decoding threads."""
        return self.provider == "cpu"


@dataclass(frozen=True, slots=True)
class BenchVerdict:
    """What follows from the figures; None if a stage that it needs was not measured.

    `shares` are of the CPU time. `limit` is the images per second that decoding and the model allow, `reached` the
    share of it that a whole run reached. `cores` decode as fast as the model can predict.
    """

    shares: dict[str, float] | None
    cores: float | None
    limit: float | None
    reached: float | None
    advice: tuple[str, ...]


def judge(stages: dict[str, Stage], env: Environment) -> BenchVerdict:
    """Judge the stages `decode` (which also reads), `predict`, `write` and `all`, as far as measured."""
    shares = cores = limit = reached = None
    # The CPU clock may be too coarse for a few small images.
    if "decode" in stages and "predict" in stages and stages["decode"].cpu > 0:
        decode, predict = stages["decode"], stages["predict"]
        cpu = {name: stage.cpu for name, stage in stages.items() if name != "all"}
        shares = {name: value / sum(cpu.values()) for name, value in cpu.items()}
        cores = decode.cpu * predict.rate
        limit = env.cpus / (decode.cpu + predict.cpu) if env.on_cpu else min(env.cpus / decode.cpu, predict.rate)
    if limit is not None and "all" in stages:
        reached = stages["all"].rate / limit
    advice = []
    if shares is not None and cores is not None:
        advice.append(_advise_cpu(shares, env) if env.on_cpu else _advise_gpu(cores, stages["predict"], env))
        if shares.get("write", 0) >= NOTABLE:
            advice.append(
                f"Sidecars and the catalog take {shares['write']:.0%}: a faster disk for --output-dir may help."
            )
    advice += _advise_whole_run(stages, reached, env)
    return BenchVerdict(shares, cores, limit, reached, tuple(advice))


def _advise_cpu(shares: dict[str, float], env: Environment) -> str:
    if shares["decode"] >= DOMINANT:
        more = f"--workers {env.cpus}, one per CPU core, or " if env.workers < env.cpus else ""
        return (
            f"Reading images takes {shares['decode']:.0%} of the CPU time: {more}more CPU cores or smaller images "
            "would help, a faster model would not."
        )
    smaller = "a smaller model"
    if env.precision == "float32":
        made = f"which makes {env.model}-int8"
        command = f"`sdprep models quantize {env.model}` with a folder of your own as --images, {made}"
        if env.images is not None:
            command = f"`sdprep models quantize {env.model} --images {as_argument(env.images)}`, {made}"
        smaller = {"tag": command, "caption": "--dtype int8 and a smaller --num-beams of sdprep caption"}[env.task]
    return (
        f"The model takes {shares['predict']:.0%} of the CPU time: a GPU would help, or {smaller}; "
        "more workers would not."
    )


def _advise_gpu(cores: float, predict: Stage, env: Environment) -> str:
    need = math.ceil(cores)
    if cores > env.cpus:
        return (
            f"Decoding keeps {env.provider} waiting: it could take {predict.rate:.0f} images/s, which needs {need} CPU "
            f"cores to decode, and there are {env.cpus}. More CPU cores or smaller images would help, "
            "a faster GPU would not."
        )
    if env.workers < need:
        return f"--workers {need} would keep {env.provider} busy; {env.workers} do not decode fast enough."
    copy = env.task == "tag" and env.precision == "float32"
    smaller = f", or {env.model}-fp16 (`sdprep models quantize`)" if copy else ""
    return f"The model on {env.provider} is the limit: a larger --batch-size may help{smaller}; more workers would not."


def _advise_whole_run(stages: dict[str, Stage], reached: float | None, env: Environment) -> list[str]:
    advice = []
    if reached is not None and reached < GOOD:
        why = "other running programs, or too few images (--limit), are the usual reasons"
        if env.workers == 0:
            why = "with --workers 0, decoding and the model take turns"
        advice.append(f"A whole run reaches {reached:.0%} of what its stages allow: {why}.")
    if env.startup is not None and "all" in stages and env.startup > stages["all"].seconds:
        advice.append(
            f"Starting took {env.startup:.1f} s, the images {stages['all'].seconds:.1f} s: one run over many images "
            "is faster than many runs."
        )
    return advice
