"""The progress of a run over shards: it moves within a shard, and ends where all shards have."""

import pytest

from sdprep.report import NullListener
from sdprep.shards.results import Shard
from sdprep.tasks.shards.progress import Progress


class Seen(NullListener):
    """A listener that knows the total of the stage and how far it has come at each step."""

    def __init__(self):
        self.name, self.total, self.unit, self.steps = "", 0, "", [0]

    def stage(self, name, total=None, unit="images"):
        self.name, self.total, self.unit = name, total, unit

    def advance(self, count=1):
        self.steps.append(self.steps[-1] + count)


@pytest.mark.parametrize(
    ("shards", "unit", "steps"),
    [
        ([Shard("a", "a.tar", size=1000), Shard("b", "b.tar", size=500)], "bytes", [0, 400, 800, 1000, 1500]),
        ([Shard("a", "a/", count=2), Shard("b", "b/", count=1)], "images", [0, 1, 2, 2, 3]),
        ([Shard("a", "a.tar", size=1000), Shard("b", "b/")], "shards", [0, 0, 0, 1, 2]),
    ],
)
def test_it_moves_with_each_image_and_ends_with_the_last_shard(shards, unit, steps):
    seen = Seen()
    progress = Progress(seen, shards)
    progress.begin("tagging")
    progress.see(400)
    progress.see(400)
    progress.end(shards[0])
    progress.end(shards[1])

    assert (seen.name, seen.unit, seen.steps, seen.total) == ("tagging", unit, steps, steps[-1])


def test_a_packed_tar_whose_images_are_larger_than_it_counts_as_what_it_is():
    seen, shard = Seen(), Shard("a", "a.tar.gz", size=1000)
    progress = Progress(seen, [shard])
    progress.begin("tagging")
    progress.see(1200)
    progress.end(shard)

    assert seen.steps[-1] == seen.total == 1000
