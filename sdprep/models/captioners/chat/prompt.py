"""From a prompt and an image to the tokens of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError
from sdprep.models.base import PromptSpec
from sdprep.models.parse import cause

if TYPE_CHECKING:
    from sdprep.types import Pixels


class PromptBuilder:
    """Puts prompts into the chat template of a model, and gives them to its processor together with the images.

    Raises ModelError if the template is missing, fails, or leaves out the image, and for a doubled start token.
    """

    def __init__(self, processor: Any, spec: PromptSpec, system: str) -> None:
        self._processor, self._spec = processor, spec
        self._marker = str(processor.image_token)
        self._control = control_tokens(processor)
        self._system = self.plain(system)
        self._template = _chat_template(processor)
        if spec.form != "plain" and self._template is None:
            raise ModelError('the model has no chat template\nState form = "plain" in [prompt] if it needs none')

    def plain(self, text: str) -> str:
        """A text without the control tokens of the model: as a part of a prompt they would end it, or hold images."""
        before = None
        while text != before:
            before = text
            for token in self._control:
                text = text.replace(token, "")
        return text

    def render(self, prompt: str) -> str:
        """The text that the model continues, with one marker for the image."""
        asked = self.plain(prompt)
        if self._spec.form == "plain":
            text = f"{self._marker}{asked}"
        elif self._spec.form == "parts":
            text = self._templated([{"type": "image"}, {"type": "text", "text": asked}])
        else:
            text = self._templated(asked)
            if self._marker not in text:
                text = self._templated(f"{self._marker}\n{asked}")
        if text.count(self._marker) != 1:
            raise ModelError(
                f"the chat template has {text.count(self._marker)} markers {self._marker} for one image\n"
                'Try form = "parts" or form = "string" in [prompt]'
            )
        return text + self._spec.prefill

    def inputs(self, prompts: Sequence[str], images: Sequence[Pixels]) -> Any:
        """The tensors of a batch, padded on the left."""
        from PIL import Image

        texts = [self.render(prompt) for prompt in prompts]
        tokenizer = self._processor.tokenizer
        has_start = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
        made = self._processor(
            text=texts,
            images=[[Image.fromarray(pixels)] for pixels in images],
            padding=True,
            padding_side="left",
            add_special_tokens=not has_start,
            return_tensors="pt",
        )
        self._check_start(made["input_ids"], made["attention_mask"])
        return made

    def _templated(self, content: Any) -> str:
        """The conversation as text. Raises ModelError if the template cannot be used."""
        system: Any = self._system
        if self._spec.form == "parts":
            system = [{"type": "text", "text": system}]
        first = [{"role": "system", "content": system}] if self._system else []
        try:
            # The tokenizer's method, as some processors look at their part for videos.
            text: str = self._processor.tokenizer.apply_chat_template(
                [*first, {"role": "user", "content": content}],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
                **self._spec.template,
            )
        except Exception as error:  # a template is a program of its own
            raise ModelError(f"the chat template cannot be used: {cause(error)}") from error
        return text

    def _check_start(self, ids: Any, mask: Any) -> None:
        tokenizer = self._processor.tokenizer
        start = tokenizer.bos_token_id
        if start is not None and int(((ids == start) & (mask == 1)).sum(-1).max()) > 1:
            raise ModelError(f"the prompt begins with more than one start token ({tokenizer.bos_token})")


def _chat_template(processor: Any) -> str | None:
    """The chat template of a processor or its tokenizer, of several the one that is named "default"."""
    found = processor.chat_template or processor.tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def control_tokens(processor: Any) -> tuple[str, ...]:
    """The strings that stand for control tokens, the longest first."""
    tokenizer = processor.tokenizer
    added = (str(each) for each in tokenizer.added_tokens_decoder.values() if each.special)
    found = {*tokenizer.all_special_tokens, *added, str(processor.image_token)}
    return tuple(sorted(filter(None, found), key=lambda token: (-len(token), token)))
