"""All trainers that `sdprep check` knows, by name."""

from __future__ import annotations

from sdprep.trainers.ai_toolkit import AiToolkit
from sdprep.trainers.diffusion_pipe import DiffusionPipe
from sdprep.trainers.dreambooth import DreamBooth
from sdprep.trainers.imagefolder import ImageFolder
from sdprep.trainers.onetrainer import OneTrainer
from sdprep.trainers.sd_scripts import GENERATIONS
from sdprep.trainers.simpletuner import SimpleTuner
from sdprep.trainers.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *GENERATIONS, DreamBooth(), OneTrainer(), SimpleTuner(), AiToolkit(), DiffusionPipe(), ImageFolder(),
    )
}  # fmt: skip
