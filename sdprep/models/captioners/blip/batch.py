"""The sequences being written: they are added, take their steps together, and are removed when finished."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sdprep.models.captioners.blip.cuda import RecordedSteps, StepShape, bucket
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.layers import RowOrder
from sdprep.models.captioners.blip.network import Network, Prefilled, Span
from sdprep.models.captioners.blip.search import Search
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, stream_seed

if TYPE_CHECKING:
    import torch


@dataclass(slots=True, eq=False)
class ActiveImage:
    """An image in progress: its pixels (a batch of one), and the captions found so far."""

    source: Images
    captions: dict[int, list[GeneratedCaption]]


class Waiting(NamedTuple):
    """An image without a slot yet, and its row in what was prefilled together."""

    image: ActiveImage
    prefilled: Prefilled
    row: int


class _Group(NamedTuple):
    """One group of the search: which of its image's captions it looks for, and the step at which it was added."""

    image: ActiveImage
    number: int
    born: int


class ActiveBatch:
    """What is decoded now, in the first slots of tensors that are made once, with room for `capacity` images.

    The last group overwrites one that is done, so the used slots stay contiguous and only what moves is copied. The
    memory of images moves in the same way; beams and samples of an image share it.

    A step is a function of these tensors alone, over a part of them (`StepShape`): what is in use, or, where steps are
    recorded, that rounded up. On a CPU, rounding up would only add work on idle slots.
    """

    def __init__(
        self,
        network: Network,
        search: Search,
        prompt: Sequence[int],
        decoding: GenerationConfig,
        capacity: int,
        example: Prefilled,
    ) -> None:
        import torch

        self._network, self._search, self._prompt, self._run_seed = network, search, prompt, decoding.seed
        # Beams belong to one group, each sample is a group of its own.
        self._samples = self._each = decoding.num_return_sequences if decoding.sample else 1
        room, device = capacity * self._samples, network.device
        self.groups: list[_Group] = []
        self.images: list[ActiveImage] = []
        self._capacity, self._now = capacity, 0
        # The decoder never sees the last token of a sequence.
        self._length = len(prompt) + decoding.max_new_tokens - 1
        self._cache = network.decoder.new_cache(room, self._length, search.beams)
        self._memory = example.memory.new_zeros(capacity, *example.memory.shape[1:])
        self._prompts = torch.tensor(prompt, device=device).repeat(room, 1)
        self._state = search.start(self._prompts, [0] * room)
        # Both parts of `RowOrder`, one below the other.
        self._order = torch.zeros(2, room, dtype=torch.long, device=device)
        self.recorded = None if network.capturer is None else RecordedSteps(network.capturer)

    @property
    def free(self) -> int:
        """How many images could be added."""
        return self._capacity - len(self.images)

    def add(self, arrivals: Sequence[Waiting]) -> None:
        """Give images a slot, and write the first token of their sequences."""
        import torch

        start, first = len(self.groups), len(self.images)
        # At once, so that none is lost if memory runs out below.
        self.images += [each.image for each in arrivals]
        with torch.inference_mode():
            logits = []
            for slot, (image, prefilled, row) in enumerate(arrivals, first):
                self._memory[slot] = prefilled.memory[row]
                for number in range(self._samples):
                    self._cache[len(self.groups), :, :, : len(self._prompt), :1] = prefilled.cache[row]
                    self.groups.append(_Group(image, number, self._now))
                logits.append(prefilled.logits[row])
            new = self.groups[start:]
            part = self._state.part(start, len(self.groups))
            seeds = [stream_seed(each.image.source.digests[0], self._run_seed, each.number) for each in new]
            part.assign(self._search.start(self._prompts[: len(new)], seeds))
            rows = self._samples * self._search.beams
            self._search.advance(part, torch.stack(logits).repeat_interleave(rows, dim=0), len(self._prompt))
        self._sort_rows()

    def step(self) -> None:
        """Write one more token in every sequence."""
        import torch

        self._now += 1
        shape = self._shape()
        with torch.inference_mode():
            # Idle slots start again, or they would run out of room.
            self._state.lengths[len(self.groups) : shape.groups] = len(self._prompt)
            write = partial(self.write, shape)
            if self.recorded is None:
                write()
            else:
                self.recorded.run(shape, write)

    def write(self, shape: StepShape) -> None:
        """One step. It depends on the shape and the tensors only, not on other values, and never waits for the GPU."""
        part, beams = self._state.part(0, shape.groups), self._search.beams
        positions = part.lengths - 1
        ids = part.ids.gather(2, positions[:, None, None].expand(-1, beams, 1)).squeeze(2)
        mask = self._search.attention_mask(part, shape.longest).unsqueeze(1)
        span = Span(self._cache[: shape.groups], positions, mask)
        rows, back = self._order
        order = RowOrder(rows[: shape.images * shape.each], back[: shape.groups]) if self._samples > 1 else None
        logits = self._network.decoder.step(ids, span, self._memory[: shape.images], order)
        self._search.advance(part, logits, shape.longest)

    def pop_finished(self) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The images whose captions are all finished; every finished group gives up its slot."""
        done = [index for index, each in enumerate(self._state.done[: len(self.groups)].tolist()) if each]
        if not done:
            return
        finished = self._state.on_cpu(done)
        complete = []
        for number, index in reversed(list(enumerate(done))):
            group = self.groups[index]
            group.image.captions[group.number] = self._search.captions(finished, number)
            _pop_slot(self.groups, index, (self._cache, *self._state.tensors()))
            if len(group.image.captions) == self._samples:
                _pop_slot(self.images, self.images.index(group.image), (self._memory,))
                complete.append(group.image)
        self._sort_rows()
        for image in complete:
            yield image.source.keys[0], [each for number in sorted(image.captions) for each in image.captions[number]]

    def _shape(self) -> StepShape:
        if self.recorded is None:
            longest = len(self._prompt) + self._now - min(group.born for group in self.groups)
            return StepShape(len(self.images), self._each, len(self.groups), longest)
        images = bucket(len(self.images), self._capacity)
        return StepShape(images, self._samples, images * self._samples, self._length)

    def _sort_rows(self) -> None:
        """Update the rows of each image, where groups are not simply in the order of the images."""
        import torch

        if self._samples == 1 or not self.groups:
            return
        rows: dict[ActiveImage, list[int]] = {image: [] for image in self.images}
        for row, group in enumerate(self.groups):
            rows[group.image].append(row)
        if self.recorded is None:
            self._each = max(len(each) for each in rows.values())
        padded = [row for each in rows.values() for row in [*each, *each[:1] * (self._each - len(each))]]
        back = [0] * len(self.groups)
        for index, row in enumerate(padded):
            back[row] = index
        room = self._order.shape[1]
        self._order.copy_(torch.tensor([[*each, *[0] * (room - len(each))] for each in (padded, back)]))


def _pop_slot(slots: list[Any], index: int, tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite one slot with the last, here and in the tensors whose first axis is the slots."""
    import torch

    slots[index] = slots[-1]
    slots.pop()
    if index < len(slots):
        with torch.inference_mode():
            for tensor in tensors:
                tensor[index] = tensor[len(slots)]
