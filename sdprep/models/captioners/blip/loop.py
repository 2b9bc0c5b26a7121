"""The decode loop: texts that are done leave at once, and images that wait take their places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sdprep.errors import ModelError, UsageError
from sdprep.models.captioners.blip.batch import ActiveBatch, Image, Waiting
from sdprep.models.captioners.blip.images import Images, ImageSource
from sdprep.models.captioners.blip.network import BlipNetwork, Prefilled
from sdprep.models.captioners.blip.search import BeamSearch, RowSearch, Search
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig

if TYPE_CHECKING:
    import torch


class CaptionEngine:
    """Captions for any number of images, `capacity` of them decoding together.

    `prompt` are the ids that start every text, `end` the id that ends it. If the device runs out of memory, half of the
    capacity is given up for good, which is told to `note`, and the images under way are decoded again.
    Raises UsageError if prompt and caption are longer than the network knows, and ModelError if the memory does not
    suffice for one image.

    `reads_ahead`: the next batch is read while a device that works by itself looks at the last one.
    """

    def __init__(
        self,
        network: BlipNetwork,
        prompt: Sequence[int],
        end: int,
        decoding: GenerationConfig,
        capacity: int,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        import torch

        self._note, self.reads_ahead = note, network.recorder is not None
        self.network, self.prompt, self.end = network, tuple(prompt), end
        self.decoding, self.capacity = decoding, capacity
        kind = BeamSearch if decoding.num_beams > 1 else RowSearch
        self.search: Search = kind(decoding, len(self.prompt), end, network.device)
        # On the device, for a copy on the way would wait for all that was asked of it before.
        self._prompt_ids = torch.tensor(self.prompt, device=network.device)
        self._kept: ActiveBatch | None = None
        most = network.decoder.longest - len(self.prompt)
        if most < 1:
            raise UsageError(f"--prompt: its {len(self.prompt)} tokens leave the model no room for a caption")
        if decoding.max_new_tokens > most:
            raise UsageError(f"--max-length {decoding.max_new_tokens}: after the prompt the model has room for {most}")

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of every image under its key, as soon as they are there.

        Batches are read as places become free.
        """
        import torch

        source, table = ImageSource(batches), _Scheduler(self)
        while True:
            arrived = source.read(self.capacity) if table.wants_more else None
            if arrived is None and not table.images:
                # What was recorded serves again; else the memory is better free.
                self._kept = None if self.network.recorder is None else table.running
                return
            # What is too large is freed only when its exception is gone.
            short = False
            try:
                table.advance(arrived)
            except torch.OutOfMemoryError:
                short = True
            if short:
                self._give_up_half([*table.images, *([] if arrived is None else [arrived])], source)
                table = _Scheduler(self)
                torch.cuda.empty_cache()
            else:
                if arrived is not None and self.reads_ahead:
                    source.read_ahead()
                yield from table.pop_finished()

    def prefill(self, pixels: torch.Tensor) -> Prefilled:
        """Look at images, and read the prompt."""
        import torch

        with torch.inference_mode():
            return self.network.prefill(pixels, self._prompt_ids)

    def slots(self, example: Prefilled) -> ActiveBatch:
        """Places for texts: those of an earlier call with what was recorded over them, or new ones."""
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        return ActiveBatch(self.network, self.search, self.prompt, self.decoding, self.capacity, example)

    def _give_up_half(self, under_way: Sequence[Images], source: ImageSource) -> None:
        if self.capacity == 1:
            key, device = under_way[0].keys[0], self.network.device
            raise ModelError(
                f"the memory of {device} does not suffice for {key} alone, at batch size 1. "
                "Use --dtype float16, fewer --num-beams, or --device cpu"
            )
        self.capacity //= 2
        self._kept = None
        source.give_back(under_way)
        self._note(f"out of memory on {self.network.device}: going on with --batch-size {self.capacity}")


class _Scheduler:
    """The images under way: those that decode, and those that wait for a place."""

    def __init__(self, engine: CaptionEngine) -> None:
        self._engine, self._waiting = engine, deque[Waiting]()
        self.running: ActiveBatch | None = None

    @property
    def images(self) -> list[Images]:
        """All of them, each by itself."""
        running = [] if self.running is None else self.running.images
        return [each.picture for each in [*running, *(waiting.image for waiting in self._waiting)]]

    @property
    def wants_more(self) -> bool:
        """Whether places would stay free."""
        return len(self._waiting) < self._free

    @property
    def _free(self) -> int:
        return self._engine.capacity if self.running is None else self.running.free

    def advance(self, arrived: Images | None) -> None:
        """Look at images that have arrived; without any, seat those that wait or write one more token in every text."""
        if arrived is not None:
            self._waiting.extend(self._look(arrived))
        elif self._waiting and self._free:
            self.running = self.running or self._engine.slots(self._waiting[0].prefilled)
            chosen = [self._waiting.popleft() for _ in range(min(self._free, len(self._waiting)))]
            self.running.add(chosen)
        elif self.running is not None:
            self.running.step()

    def pop_finished(self) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The images whose captions are all done."""
        if self.running is not None:
            yield from self.running.pop_finished()

    def _look(self, pictures: Images) -> list[Waiting]:
        prefilled = self._engine.prefill(pictures.pixels)
        return [
            Waiting(Image(pictures.part(index, index + 1), {}), prefilled, index) for index in range(len(pictures.keys))
        ]
