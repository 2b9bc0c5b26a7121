"""Tries what a captioner needs of transformers and safetensors."""

from __future__ import annotations

from sdprep.doctor.probes.probe import Emitter


def probe(tell: Emitter) -> None:
    """Import BLIP with its tokenizer, which leads to torch, and the reader of weights."""
    tell.step("import safetensors")
    import safetensors.torch

    tell.step("import transformers")
    import transformers

    tell.about(version=transformers.__version__)
    tell.step("import BLIP")
    tell.about(
        model=transformers.BlipForConditionalGeneration.__name__,
        tokenizer=transformers.BertTokenizer.__name__,
        weights=safetensors.torch.load_file.__name__,
    )
