"""The decode loop: finished sequences leave at once, and waiting images take their slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sdprep.errors import ModelError, UsageError
from sdprep.models.captioners.blip.batch import ActiveBatch, ActiveImage, Waiting
from sdprep.models.captioners.blip.images import Images, ImageSource
from sdprep.models.captioners.blip.network import Network, Prefilled
from sdprep.models.captioners.blip.search import BeamSearch, RowSearch, Search
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig

if TYPE_CHECKING:
    import torch


class CaptionEngine:
    """Captions for any number of images, `capacity` of them decoded together.

    `prompt` is the ids that start every sequence, `end` the id that ends it. If the device runs out of memory, the
    capacity is halved for good, which is passed to `note`, and the images in progress are decoded again.
    `reads_ahead`: the next batch is fetched while the device still works on the current one.
    Raises UsageError if prompt and caption are longer than the network allows, and ModelError if memory runs out for a
    single image.
    """

    def __init__(
        self,
        network: Network,
        prompt: Sequence[int],
        end: int,
        decoding: GenerationConfig,
        capacity: int,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        import torch

        self._note, self.reads_ahead = note, network.capturer is not None
        self.network, self.prompt, self.end = network, tuple(prompt), end
        self.decoding, self.capacity = decoding, capacity
        kind = BeamSearch if decoding.num_beams > 1 else RowSearch
        self.search: Search = kind(decoding, len(self.prompt), end, network.device)
        # On the device: a copy from the host would wait for all queued work.
        self._prompt_ids = torch.tensor(self.prompt, device=network.device)
        self._kept: ActiveBatch | None = None
        most = network.decoder.longest - len(self.prompt)
        if most < 1:
            raise UsageError(f"--prompt: its {len(self.prompt)} tokens leave the model no room for a caption")
        if decoding.max_new_tokens > most:
            raise UsageError(f"--max-length {decoding.max_new_tokens}: after the prompt the model has room for {most}")

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of every image under its key, as soon as they are finished.

        Batches are read as slots become free.
        """
        import torch

        source, scheduler = ImageSource(batches), _Scheduler(self)
        while True:
            arrived = source.read(self.capacity) if scheduler.wants_more else None
            if arrived is None and not scheduler.images:
                # Recorded steps can be replayed later; otherwise the memory is better free.
                self._kept = None if self.network.capturer is None else scheduler.active
                return
            # The exception must be gone before what is too large can be freed.
            out_of_memory = False
            try:
                scheduler.advance(arrived)
            except torch.OutOfMemoryError:
                out_of_memory = True
            if out_of_memory:
                self._halve_capacity([*scheduler.images, *([] if arrived is None else [arrived])], source)
                scheduler = _Scheduler(self)
                torch.cuda.empty_cache()
            else:
                if arrived is not None and self.reads_ahead:
                    source.read_ahead()
                yield from scheduler.pop_finished()

    def prefill(self, pixels: torch.Tensor) -> Prefilled:
        """Encode images, and read the prompt."""
        import torch

        with torch.inference_mode():
            return self.network.prefill(pixels, self._prompt_ids)

    def take_batch(self, example: Prefilled) -> ActiveBatch:
        """The batch of an earlier call with its recorded steps, or a new one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        return ActiveBatch(self.network, self.search, self.prompt, self.decoding, self.capacity, example)

    def _halve_capacity(self, in_progress: Sequence[Images], source: ImageSource) -> None:
        if self.capacity == 1:
            key, device = in_progress[0].keys[0], self.network.device
            raise ModelError(
                f"{device} does not have enough memory for {key} alone, at batch size 1. "
                "Use --dtype float16, fewer --num-beams, or --device cpu"
            )
        self.capacity //= 2
        self._kept = None
        source.give_back(in_progress)
        self._note(f"out of memory on {self.network.device}: continuing with --batch-size {self.capacity}")


class _Scheduler:
    """The images in progress: those being decoded, and those that wait for a slot."""

    def __init__(self, engine: CaptionEngine) -> None:
        self._engine, self._waiting = engine, deque[Waiting]()
        self.active: ActiveBatch | None = None

    @property
    def images(self) -> list[Images]:
        """All of them, each as a batch of one."""
        active = [] if self.active is None else self.active.images
        return [each.source for each in [*active, *(waiting.image for waiting in self._waiting)]]

    @property
    def wants_more(self) -> bool:
        """Whether slots would stay free."""
        return len(self._waiting) < self._free

    @property
    def _free(self) -> int:
        return self._engine.capacity if self.active is None else self.active.free

    def advance(self, arrived: Images | None) -> None:
        """Encode images that have arrived; if there are none, add waiting ones, or else do one step."""
        if arrived is not None:
            prefilled = self._engine.prefill(arrived.pixels)
            rows = range(len(arrived.keys))
            self._waiting.extend(Waiting(ActiveImage(arrived.part(row, row + 1), {}), prefilled, row) for row in rows)
        elif self._waiting and self._free:
            self.active = self.active or self._engine.take_batch(self._waiting[0].prefilled)
            self.active.add([self._waiting.popleft() for _ in range(min(self._free, len(self._waiting)))])
        elif self.active is not None:
            self.active.step()

    def pop_finished(self) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The images whose captions are all finished."""
        if self.active is not None:
            yield from self.active.pop_finished()
