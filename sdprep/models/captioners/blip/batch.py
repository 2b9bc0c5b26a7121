"""The texts that are being written: they join, take their steps together, and leave."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sdprep.models.captioners.blip.cuda import RecordedSteps, StepShape, bucket
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.layers import Places
from sdprep.models.captioners.blip.network import BlipNetwork, Prefilled, Span
from sdprep.models.captioners.blip.search import Search
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, stream_seed

if TYPE_CHECKING:
    import torch


@dataclass(slots=True, eq=False)
class Image:
    """An image under way, with what it was read from (one image), and the captions that it has so far."""

    picture: Images
    captions: dict[int, list[GeneratedCaption]]


class Waiting(NamedTuple):
    """An image that has no place yet, and what is known of it: one of those that were prefilled together."""

    image: Image
    prefilled: Prefilled
    row: int


class _Group(NamedTuple):
    """One group of the search: which of its image's captions it looks for, and the step at which it came."""

    image: Image
    number: int
    born: int


class ActiveBatch:
    """What decodes now, in the first places of tensors that are made once, with room for `capacity` images.

    A group that is done is overwritten by the last one, so no place between is ever empty, and nothing but what moves
    is copied. An image's memory moves in the same way; beams and samples share it.

    A step is a function of these tensors alone, over an extent of them: what is in use, or, where steps are recorded,
    that rounded up. Rounding up would only have a processor work on idle places.
    """

    def __init__(
        self,
        network: BlipNetwork,
        search: Search,
        prompt: Sequence[int],
        decoding: GenerationConfig,
        capacity: int,
        example: Prefilled,
    ) -> None:
        import torch

        self._network, self._search, self._prompt, self._seed_of_run = network, search, prompt, decoding.seed
        # Beams lie within one group, each sample is a group of its own.
        self._samples = self._each = decoding.num_return_sequences if decoding.sample else 1
        room, device = capacity * self._samples, network.device
        self.groups: list[_Group] = []
        self.images: list[Image] = []
        self._capacity, self._now = capacity, 0
        # The last token of a text is never shown to the decoder.
        self._length = len(prompt) + decoding.max_new_tokens - 1
        self._cache = network.decoder.new_cache(room, self._length, search.beams)
        self._memory = example.memory.new_zeros(capacity, *example.memory.shape[1:])
        self._prompts = torch.tensor(prompt, device=device).repeat(room, 1)
        self._state = search.start(self._prompts, [0] * room)
        # Both parts of `Places`, one below the other.
        self._places = torch.zeros(2, room, dtype=torch.long, device=device)
        self.recorded = None if network.recorder is None else RecordedSteps(network.recorder)

    @property
    def free(self) -> int:
        """How many images could join."""
        return self._capacity - len(self.images)

    def add(self, arrivals: Sequence[Waiting]) -> None:
        """Give images a place, and write the first token of their texts."""
        import torch

        start, first = len(self.groups), len(self.images)
        # At once, so that none is lost if the memory runs out on the way.
        self.images += [each.image for each in arrivals]
        with torch.inference_mode():
            logits = []
            for place, (image, prefilled, row) in enumerate(arrivals, first):
                self._memory[place] = prefilled.memory[row]
                for number in range(self._samples):
                    self._cache[len(self.groups), :, :, : len(self._prompt), :1] = prefilled.cache[row]
                    self.groups.append(_Group(image, number, self._now))
                logits.append(prefilled.logits[row])
            new = self.groups[start:]
            part = self._state.part(start, len(self.groups))
            part.assign(self._search.start(self._prompts[: len(new)], [self._seed(group) for group in new]))
            rows = self._samples * self._search.beams
            self._search.advance(part, torch.stack(logits).repeat_interleave(rows, dim=0), len(self._prompt))
        self._arrange()

    def step(self) -> None:
        """Write one more token in every text."""
        import torch

        self._now += 1
        extent = self._extent()
        with torch.inference_mode():
            # What is idle begins anew, or it would run out of room.
            self._state.lengths[len(self.groups) : extent.groups] = len(self._prompt)
            write = partial(self.write, extent)
            if self.recorded is None:
                write()
            else:
                self.recorded.run(extent, write)

    def write(self, extent: StepShape) -> None:
        """A step, which knows nothing but the extent and the tensors: no number of this moment, and no wait."""
        part, beams = self._state.part(0, extent.groups), self._search.beams
        positions = part.lengths - 1
        ids = part.ids.gather(2, positions[:, None, None].expand(-1, beams, 1)).squeeze(2)
        mask = self._search.attention_mask(part, extent.longest).unsqueeze(1)
        span = Span(self._cache[: extent.groups], positions, mask)
        rows, back = self._places
        places = Places(rows[: extent.images * extent.each], back[: extent.groups]) if self._samples > 1 else None
        logits = self._network.decoder.step(ids, span, self._memory[: extent.images], places)
        self._search.advance(part, logits, extent.longest)

    def pop_finished(self) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The images whose captions are all done; they and every text that is done give up their places."""
        done = [index for index, each in enumerate(self._state.done[: len(self.groups)].tolist()) if each]
        if not done:
            return
        finished = self._state.taken(done)
        left = []
        for number, index in reversed(list(enumerate(done))):
            group = self.groups[index]
            group.image.captions[group.number] = self._search.found(finished, number)
            self._remove_group(index)
            if len(group.image.captions) == self._samples:
                self._remove_image(self.images.index(group.image))
                left.append(group.image)
        self._arrange()
        for image in left:
            yield image.picture.keys[0], [each for number in sorted(image.captions) for each in image.captions[number]]

    def _extent(self) -> StepShape:
        if self.recorded is None:
            longest = len(self._prompt) + self._now - min(group.born for group in self.groups)
            return StepShape(len(self.images), self._each, len(self.groups), longest)
        images = bucket(len(self.images), self._capacity)
        return StepShape(images, self._samples, images * self._samples, self._length)

    def _seed(self, group: _Group) -> int:
        return stream_seed(group.image.picture.digests[0], self._seed_of_run, group.number)

    def _remove_group(self, index: int) -> None:
        last = self.groups.pop()
        if index < len(self.groups):
            self.groups[index] = last
            self._overwrite(index, len(self.groups), (self._cache, *self._state.tensors()))

    def _remove_image(self, index: int) -> None:
        last = self.images.pop()
        if index < len(self.images):
            self.images[index] = last
            self._overwrite(index, len(self.images), (self._memory,))

    def _overwrite(self, index: int, source: int, tensors: Iterable[torch.Tensor]) -> None:
        import torch

        with torch.inference_mode():
            for tensor in tensors:
                tensor[index] = tensor[source]

    def _arrange(self) -> None:
        """Find the rows of each image, where they are not simply in the images' order."""
        import torch

        if self._samples == 1 or not self.groups:
            return
        rows: dict[Image, list[int]] = {image: [] for image in self.images}
        for row, group in enumerate(self.groups):
            rows[group.image].append(row)
        if self.recorded is None:
            self._each = max(len(each) for each in rows.values())
        padded = [row for each in rows.values() for row in [*each, *each[:1] * (self._each - len(each))]]
        back = [0] * len(self.groups)
        for place, row in enumerate(padded):
            back[row] = place
        idle = self._places.shape[1]
        places = [[*each, *[0] * (idle - len(each))] for each in (padded, back)]
        self._places.copy_(torch.tensor(places))
