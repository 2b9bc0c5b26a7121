"""The decode loop: texts that are done leave at once, and images that wait take their places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sdprep.errors import ModelError, UsageError
from sdprep.models.blip_attention import Places
from sdprep.models.blip_network import BlipNetwork, Prefilled, Span
from sdprep.models.blip_pictures import Pictures, PictureSource
from sdprep.models.blip_search import BeamSearch, RowSearch, Search
from sdprep.models.decoding import Decoding, Hypothesis, stream_seed

if TYPE_CHECKING:
    import torch


@dataclass(slots=True, eq=False)
class _Image:
    """An image under way, with what it was read from (one picture), and the captions that it has so far."""

    picture: Pictures
    captions: dict[int, list[Hypothesis]]


class _Waiting(NamedTuple):
    """An image that has no place yet, and what is known of it: one of those that were prefilled together."""

    image: _Image
    prefilled: Prefilled
    row: int


class _Group(NamedTuple):
    """One group of the search: which of its image's captions it looks for, and the step at which it came."""

    image: _Image
    number: int
    born: int


class CaptionEngine:
    """Captions for any number of images, `capacity` of them decoding together.

    `prompt` are the ids that start every text, `end` the id that ends it. If the device runs out of memory, half of the
    capacity is given up for good, which is told to `note`, and the images under way are decoded again.
    Raises UsageError if prompt and caption are longer than the network knows, and ModelError if the memory does not
    suffice for one image.
    """

    def __init__(
        self,
        network: BlipNetwork,
        prompt: Sequence[int],
        end: int,
        decoding: Decoding,
        capacity: int,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._note = note
        self.network, self.prompt, self.decoding, self.capacity = network, tuple(prompt), decoding, capacity
        kind = BeamSearch if decoding.num_beams > 1 else RowSearch
        self.search: Search = kind(decoding, len(self.prompt), end, network.device)
        most = network.decoder.longest - len(self.prompt)
        if most < 1:
            raise UsageError(f"--prompt: its {len(self.prompt)} tokens leave the model no room for a caption")
        if decoding.max_new_tokens > most:
            raise UsageError(f"--max-length {decoding.max_new_tokens}: after the prompt the model has room for {most}")

    def captions(self, batches: Iterable[Pictures]) -> Iterator[tuple[Hashable, list[Hypothesis]]]:
        """The captions of every image under its key, as soon as they are there.

        Batches are read as places become free.
        """
        import torch

        source, table = PictureSource(batches), _Table(self)
        while True:
            arrived = source.read(self.capacity) if table.wants_more else None
            if arrived is None and not table.images:
                return
            # What is too large is freed only when its exception is gone.
            short = False
            try:
                table.advance(arrived)
            except torch.OutOfMemoryError:
                short = True
            if short:
                self._give_up_half([*table.images, *([] if arrived is None else [arrived])], source)
                table = _Table(self)
                torch.cuda.empty_cache()
            else:
                yield from table.leave()

    def _give_up_half(self, under_way: Sequence[Pictures], source: PictureSource) -> None:
        if self.capacity == 1:
            key, device = under_way[0].keys[0], self.network.device
            raise ModelError(
                f"the memory of {device} does not suffice for {key} alone, at batch size 1. "
                "Use --dtype float16, fewer --num-beams, or --device cpu"
            )
        self.capacity //= 2
        source.give_back(under_way)
        self._note(f"out of memory on {self.network.device}: going on with --batch-size {self.capacity}")


class _Table:
    """The images under way: those that decode, and those that wait for a place."""

    def __init__(self, engine: CaptionEngine) -> None:
        self._engine, self._waiting = engine, deque[_Waiting]()
        self._running: _Running | None = None

    @property
    def images(self) -> list[Pictures]:
        """All of them, each by itself."""
        running = [] if self._running is None else self._running.images
        return [each.picture for each in [*running, *(waiting.image for waiting in self._waiting)]]

    @property
    def wants_more(self) -> bool:
        """Whether places would stay free."""
        return len(self._waiting) < self._free

    @property
    def _free(self) -> int:
        return self._engine.capacity if self._running is None else self._running.free

    def advance(self, arrived: Pictures | None) -> None:
        """Look at images that have arrived; without any, seat those that wait or write one more token in every text."""
        if arrived is not None:
            self._waiting.extend(self._look(arrived))
        elif self._waiting and self._free:
            self._running = self._running or _Running(self._engine, self._waiting[0].prefilled)
            chosen = [self._waiting.popleft() for _ in range(min(self._free, len(self._waiting)))]
            self._running.admit(chosen)
        elif self._running is not None:
            self._running.step()

    def leave(self) -> Iterator[tuple[Hashable, list[Hypothesis]]]:
        """The images whose captions are all done."""
        if self._running is not None:
            yield from self._running.leave()

    def _look(self, pictures: Pictures) -> list[_Waiting]:
        import torch

        engine = self._engine
        with torch.inference_mode():
            prefilled = engine.network.prefill(pictures.pixels, engine.prompt)
        return [
            _Waiting(_Image(pictures.part(index, index + 1), {}), prefilled, index)
            for index in range(len(pictures.keys))
        ]


class _Running:
    """What decodes now, in the first places of tensors that are made once.

    A group that is done is overwritten by the last one, so no place between is ever empty, and nothing but what moves
    is copied. An image's memory moves in the same way; beams and samples share it.
    """

    def __init__(self, engine: CaptionEngine, example: Prefilled) -> None:
        import torch

        decoding, prompt, search = engine.decoding, engine.prompt, engine.search
        self._network, self._search, self._prompt, self._seed_of_run = engine.network, search, prompt, decoding.seed
        # Beams lie within one group, each sample is a group of its own.
        self._samples = decoding.num_return_sequences if decoding.sample else 1
        room, device = engine.capacity * self._samples, engine.network.device
        self.groups: list[_Group] = []
        self.images: list[_Image] = []
        self._capacity, self._now = engine.capacity, 0
        # The last token of a text is never shown to the decoder.
        length = len(prompt) + decoding.max_new_tokens - 1
        self._cache = engine.network.decoder.new_cache(room, length, search.beams)
        self._memory = example.memory.new_empty(engine.capacity, *example.memory.shape[1:])
        self._prompts = torch.tensor(prompt, device=device).repeat(room, 1)
        self._state = search.start(self._prompts, [0] * room)
        self._places: Places | None = None

    @property
    def free(self) -> int:
        """How many images could join."""
        return self._capacity - len(self.images)

    def admit(self, arrivals: Sequence[_Waiting]) -> None:
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
        longest = len(self._prompt) + self._now - min(group.born for group in self.groups)
        n, beams = len(self.groups), self._search.beams
        with torch.inference_mode():
            part = self._state.part(0, n)
            positions = part.lengths - 1
            ids = part.ids.gather(2, positions[:, None, None].expand(n, beams, 1)).squeeze(2)
            mask = self._search.own_past(part, longest).unsqueeze(1)
            memory = self._memory[: len(self.images)]
            span = Span(self._cache[:n], positions, mask)
            logits = self._network.decoder.step(ids, span, memory, self._places)
            self._search.advance(part, logits, longest)

    def leave(self) -> Iterator[tuple[Hashable, list[Hypothesis]]]:
        """The images whose captions are all done; they and every text that is done give up their places."""
        done = [index for index, each in enumerate(self._state.done[: len(self.groups)].tolist()) if each]
        for index in reversed(done):
            group = self.groups[index]
            group.image.captions[group.number] = self._search.found(self._state, index)
            self._remove_group(index)
            if len(group.image.captions) == self._samples:
                self._remove_image(self.images.index(group.image))
                captions = group.image.captions
                yield group.image.picture.keys[0], [each for number in sorted(captions) for each in captions[number]]
        if done:
            self._arrange()

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
        rows: dict[_Image, list[int]] = {image: [] for image in self.images}
        for row, group in enumerate(self.groups):
            rows[group.image].append(row)
        most = max(len(each) for each in rows.values())
        padded = [row for each in rows.values() for row in [*each, *each[:1] * (most - len(each))]]
        back = [0] * len(self.groups)
        for place, row in enumerate(padded):
            back[row] = place
        self._places = Places(*(torch.tensor(each, device=self._memory.device) for each in (padded, back)))
