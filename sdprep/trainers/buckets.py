"""The sizes to which trainers scale and crop images, computed as they do.

sd-scripts: `library/model_util.py` makes the list of sizes, `BucketManager` in `library/train_util.py` chooses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from sdprep.errors import UsageError

Size = tuple[int, int]  # width, height


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where an image goes: it is resized, and its centre is cropped to `size`, which may be 0 on one side."""

    size: Size
    resized: Size

    @property
    def crop_loss(self) -> float:
        """The share of the image that the crop takes away, from 0 to 1."""
        kept = min(self.size[0], self.resized[0]) * min(self.size[1], self.resized[1])
        return 1 - kept / (self.resized[0] * self.resized[1])


@dataclass(frozen=True)
class BucketRules:
    """The bucket options of sd-scripts, under its names: the area to fill, limits and multiple of a side.

    Raises UsageError for options with which sd-scripts stops.
    """

    resolution: Size
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bucket_reso_steps <= self.min_bucket_reso:
            raise UsageError(f"the smallest side, {self.min_bucket_reso}, is below the step, {self.bucket_reso_steps}")
        if min(self.resolution) < self.least:
            raise UsageError(f"the shorter side of {_name(self.resolution)} is below the smallest side, {self.least}")
        if max(self.resolution) > self.most:
            raise UsageError(f"the longer side of {_name(self.resolution)} is above the largest side, {self.most}")

    @property
    def least(self) -> int:
        """The smallest side, a multiple of the step."""
        return self.min_bucket_reso - self.min_bucket_reso % self.bucket_reso_steps

    @property
    def most(self) -> int:
        """The largest side, a multiple of the step."""
        return self.max_bucket_reso + -self.max_bucket_reso % self.bucket_reso_steps

    @property
    def area(self) -> int:
        """The most pixels of a bucket."""
        return self.resolution[0] * self.resolution[1]

    @cached_property
    def sizes(self) -> list[Size]:
        """All bucket sizes that are made before the images are known, sorted."""
        step = self.bucket_reso_steps
        side = int(math.sqrt(self.area) // step) * step
        found = {(side, side)}
        for width in range(self.least, self.most + 1, step):
            height = min(self.most, self.area // width // step * step)
            if height >= self.least:
                found |= {(width, height), (height, width)}
        return sorted(found)

    def choose(self, image: Size) -> Bucket:
        """The bucket of an image of this size."""
        return self._without_upscaling(image) if self.bucket_no_upscale else self._nearest(image)

    def _nearest(self, image: Size) -> Bucket:
        """The size itself if it is in the list, else the one of the nearest ratio, on which the image is laid."""
        width, height = image
        ratio = width / height
        # A plain difference, so that landscape and portrait are not treated alike; the first of equals counts.
        size = image if image in self.sizes else min(self.sizes, key=lambda each: abs(each[0] / each[1] - ratio))
        scale = size[1] / height if ratio > size[0] / size[1] else size[0] / width
        return Bucket(size, (int(width * scale + 0.5), int(height * scale + 0.5)))

    def _without_upscaling(self, image: Size) -> Bucket:
        """A size of its own for each image, without regard to the limits of a side."""
        resized = self._shrunk(image) if image[0] * image[1] > self.area else image
        step = self.bucket_reso_steps
        return Bucket((resized[0] // step * step, resized[1] // step * step), resized)

    def _shrunk(self, image: Size) -> Size:
        """The image on the allowed area, with one side a multiple of the step: the side that keeps the ratio better."""
        ratio = image[0] / image[1]
        ideal = math.sqrt(self.area * ratio)
        width, height = self._rounded(ideal), self._rounded(self.area / ideal)
        by_width, by_height = self._rounded(width / ratio), self._rounded(height * ratio)
        # sd-scripts divides by zero where a side has become 0.
        if 0 in (by_width, height):
            return (width, int(width / ratio + 0.5)) if height == 0 else (int(height * ratio + 0.5), height)
        if abs(width / by_width - ratio) < abs(by_height / height - ratio):
            return width, int(width / ratio + 0.5)
        return int(height * ratio + 0.5), height

    def _rounded(self, side: float) -> int:
        whole = int(side + 0.5)
        return whole - whole % self.bucket_reso_steps


def fit_area(image: Size, side: int, step: int) -> Bucket:
    """The bucket of ai-toolkit: the image's own ratio on at most `side` squared, never larger, in whole steps.

    See `get_bucket_for_image_size` in its `toolkit/buckets.py`.
    """
    width, height = image
    most, total = side * side, width * height
    target = min(total, most)
    scale = (target / total) ** 0.5
    across, down = width * scale / step, height * scale / step
    pairs = [(a * step, d * step) for a in (math.floor(across), math.ceil(across)) for d in _around(down)]
    allowed = [pair for pair in pairs if min(pair) > 0 and pair[0] * pair[1] <= most]
    floor = (max(step, math.floor(across) * step), max(step, math.floor(down) * step))
    size = min(allowed or [floor], key=lambda pair: abs(pair[0] * pair[1] - target))
    return cover(image, size)


def _around(number: float) -> tuple[int, int]:
    return math.floor(number), math.ceil(number)


def cover(image: Size, size: Size) -> Bucket:
    """An image scaled so that it covers a size, to which it is then cropped."""
    scale = max(size[0] / image[0], size[1] / image[1])
    return Bucket(size, (int(image[0] * scale + 0.5), int(image[1] * scale + 0.5)))


def _name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
