"""Florence-2 arranged for the decode loop: transformers' vision tower and encoder, and its BART decoder as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError
from sdprep.models.captioners.blip.cuda import GraphCapturer
from sdprep.models.captioners.blip.layers import linear_layer
from sdprep.models.captioners.blip.network import Prefilled, TextDecoder
from sdprep.models.captioners.blip.weights import Linear, Norm, Text, TextLayer, fused

if TYPE_CHECKING:
    import torch

# BART's table of positions begins with two that no token has.
UNUSED_POSITIONS = 2


class FlorenceNetwork:
    """A `Florence2ForConditionalGeneration` that is asked one thing, `question` [tokens] with the image's tokens in it.

    The question is read beside each image, by the encoder; the decoder's prompt is only how every caption begins.
    """

    capturer: GraphCapturer | None = None

    def __init__(self, model: Any, decoder: TextDecoder, question: torch.Tensor) -> None:
        self.device: torch.device = question.device
        self.decoder, self._question = decoder, question
        self._model = model

    def prefill(self, pixels: torch.Tensor, prompt: torch.Tensor) -> Prefilled:
        """Encode images, normalised [n, 3, H, W], with the question, and read the beginning of every caption."""
        memory = self.decoder.cross.encode(self.encode(pixels))
        cache, logits = self.decoder.read(prompt, memory)
        return Prefilled(memory, cache, logits)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the decoder attends to, [n, tokens, width]."""
        inside = self._model.model
        ids = self._question.repeat(len(pixels), 1)
        words = inside.get_input_embeddings()(ids)
        seen = inside.get_image_features(pixels).pooler_output.to(words.dtype)
        is_image = (ids == self._model.config.image_token_id).unsqueeze(-1)
        words = words.masked_scatter(is_image, seen)
        encoded: torch.Tensor = inside.language_model.encoder(inputs_embeds=words).last_hidden_state
        return encoded


def make_decoder(model: Any, version: str, *, absorbed: bool) -> TextDecoder:
    """The decoder of a loaded `Florence2ForConditionalGeneration` of transformers `version`, sharing its weights.

    Raises ModelError if it is not built as sdprep knows it.
    """
    try:
        return TextDecoder(_text(model), linear_layer, absorbed=absorbed)
    except (AttributeError, ValueError) as error:
        raise ModelError(
            f"the Florence-2 of transformers {version} is not built as sdprep's decoder expects it ({error})\n"
            "Use --decoder reference"
        ) from error


def _text(model: Any) -> Text:
    decoder, config = model.model.language_model.decoder, model.config.text_config
    found = (config.activation_function, config.scale_embedding, decoder.embed_positions.offset)
    if found != ("gelu", False, UNUSED_POSITIONS):
        raise ValueError(f"activation, scale and first position are {found}")
    head = model.lm_head.weight.detach()
    return Text(
        decoder.embed_tokens.weight.detach(),
        decoder.embed_positions.weight.detach()[UNUSED_POSITIONS:],
        _norm(decoder.layernorm_embedding),
        tuple(map(_layer, decoder.layers)),
        None,
        Linear(head, head.new_zeros(len(head))),
        config.decoder_attention_heads,
    )


def _layer(layer: Any) -> TextLayer:
    own, cross = layer.self_attn, layer.encoder_attn
    return TextLayer(
        fused([_linear(each) for each in (own.q_proj, own.k_proj, own.v_proj)]),
        _linear(own.out_proj),
        _norm(layer.self_attn_layer_norm),
        _linear(cross.q_proj),
        _linear(cross.k_proj),
        _linear(cross.v_proj),
        _linear(cross.out_proj),
        _norm(layer.encoder_attn_layer_norm),
        _linear(layer.fc1),
        _linear(layer.fc2),
        _norm(layer.final_layer_norm),
    )


def _linear(module: Any) -> Linear:
    return Linear(module.weight.detach(), module.bias.detach())


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), module.bias.detach(), float(module.eps))
