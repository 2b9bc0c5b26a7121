"""Images are read ahead of whoever works on them, no further than the spool has room, and each once."""

import threading
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import ImageError, StoreError
from sdprep.report import CancelToken
from sdprep.shards import ahead as module
from sdprep.shards.ahead import ReadAhead
from sdprep.shards.members import Member
from sdprep.shards.results import Shard
from sdprep.shards.spool import open_spool
from sdprep.types import FailureCode

# What takes longer than this does not come.
LONG = 30.0


class Source:
    """Shards of images of these sizes by name; `reached` is set when an image is read. A held one waits for `go`."""

    def __init__(self, hold=(), **shards):
        self.shards, self._hold = shards, hold
        self.read, self.done = [], set()
        self.reached, self.go = {}, threading.Event()
        for name, sizes in shards.items():
            self.reached |= {f"{name}{number}": threading.Event() for number in range(len(sizes))}

    def __call__(self, shard):
        for number, size in enumerate(self.shards[shard.id]):
            name = f"{shard.id}{number}"
            self.reached[name].set()
            if name in self._hold and not self.go.wait(LONG):
                return
            self.read.append(name)
            if isinstance(size, Exception):
                raise size
            yield Member(name, f"{name}.png", bytes(size))


def shard(name):
    return Shard(name, f"{name}.tar")


@contextmanager
def reading(source, place, size=10, least=1):
    with open_spool(size, (place,)) as spool:
        ahead = ReadAhead(spool, source, source.done.__contains__, least=least, prompt="")
        with closing(ahead):
            yield ahead


def names(chunk):
    return [row.key for row in chunk.rows]


def finish(ahead, chunks):
    """The names of the images that are left, whose files are released."""
    found = []
    for chunk in chunks:
        for item in chunk.places:
            ahead.release(item)
        found += names(chunk)
    return found


def files(place):
    return sorted(path.stat().st_size for folder in place.iterdir() if folder.is_dir() for path in folder.iterdir())


def test_images_are_read_while_those_before_them_are_in_hand(tmp_path):
    source = Source(a=[1, 1], hold=("a1",))
    with reading(source, tmp_path) as ahead:
        chunks = ahead.chunks(shard("a"), None, CancelToken())
        first = next(chunks)
        assert (names(first), source.reached["a1"].wait(LONG)) == (["a0"], True)
        source.go.set()
        assert finish(ahead, chunks) == ["a1"]


def test_the_shard_that_follows_is_read_while_one_is_in_hand(tmp_path):
    source = Source(a=[1], b=[1])
    with reading(source, tmp_path) as ahead:
        chunks = ahead.chunks(shard("a"), shard("b"), CancelToken())
        next(chunks)
        assert source.reached["b0"].wait(LONG)
        chunks.close()
        assert finish(ahead, ahead.chunks(shard("b"), None, CancelToken())) == ["b0"]
    assert source.read == ["a0", "b0"]


def test_a_chunk_has_all_that_was_read_meanwhile(tmp_path):
    source = Source(a=[1] * 5, b=[1], hold=("a1",))
    with reading(source, tmp_path) as ahead:
        chunks = ahead.chunks(shard("a"), shard("b"), CancelToken())
        first = next(chunks)
        source.go.set()
        assert source.reached["b0"].wait(LONG)
        assert [names(first), names(next(chunks))] == [["a0"], ["a1", "a2", "a3", "a4"]]


def test_an_image_without_room_waits_for_those_in_hand(tmp_path):
    source = Source(a=[6, 4, 3], b=[1])
    with reading(source, tmp_path, least=2) as ahead:
        chunks = ahead.chunks(shard("a"), shard("b"), CancelToken())
        first = next(chunks)
        assert source.reached["a2"].wait(LONG)
        assert (names(first), files(tmp_path)) == (["a0", "a1"], [4, 6])
        assert ahead.release(next(iter(first.places))) == 6
        assert source.reached["b0"].wait(LONG)
        assert finish(ahead, chunks) == ["a2"]


@given(
    sizes=st.lists(st.lists(st.integers(0, 10), max_size=12), min_size=1, max_size=4),
    least=st.integers(1, 8),
)
def test_each_image_comes_once_in_its_order_and_the_spool_never_holds_more_than_it_has_room_for(
    tmp_path_factory, sizes, least
):
    place = tmp_path_factory.mktemp("spool")
    source = Source(**{f"s{number}_": each for number, each in enumerate(sizes)})
    plan = [shard(name) for name in source.shards]
    with reading(source, place, least=least) as ahead:
        for each, following in zip(plan, [*plan[1:], None], strict=True):
            found = []
            for chunk in ahead.chunks(each, following, CancelToken()):
                assert sum(files(place)) <= 10
                for item in chunk.places:
                    ahead.release(item)
                found += names(chunk)
            assert found == [f"{each.id}{number}" for number in range(len(source.shards[each.id]))]
        assert files(place) == []


def test_an_image_with_a_fault_is_a_row_without_a_file(tmp_path):
    def read(_):
        yield Member("a", "a.png", fault=ImageError(FailureCode.UNREADABLE, "why"))

    with open_spool(10, (tmp_path,)) as spool, closing(ReadAhead(spool, read, bool, least=1, prompt="")) as ahead:
        (chunk,) = ahead.chunks(shard("a"), None, CancelToken())
    assert ([(row.outcome, row.message) for row in chunk.rows], chunk.places) == ([("unreadable", "why")], {})


def test_a_shard_that_is_done_meanwhile_is_not_read_ahead(tmp_path):
    source = Source(a=[1], b=[1], c=[1])
    source.done.add("b")
    with reading(source, tmp_path) as ahead:
        finish(ahead, ahead.chunks(shard("a"), shard("b"), CancelToken()))
        assert finish(ahead, ahead.chunks(shard("c"), None, CancelToken())) == ["c0"]
    assert source.read == ["a0", "c0"]


def test_a_shard_that_is_asked_for_is_read_even_if_it_was_left_out_before(tmp_path):
    source = Source(a=[1], b=[1])
    source.done.add("b")
    with reading(source, tmp_path) as ahead:
        finish(ahead, ahead.chunks(shard("a"), shard("b"), CancelToken()))
        assert finish(ahead, ahead.chunks(shard("b"), None, CancelToken())) == ["b0"]


def test_what_was_read_ahead_in_vain_is_dropped(tmp_path):
    source = Source(a=[1], b=[9, 9], c=[5])
    with reading(source, tmp_path) as ahead:
        finish(ahead, ahead.chunks(shard("a"), shard("b"), CancelToken()))
        assert source.reached["b1"].wait(LONG)
        (chunk,) = ahead.chunks(shard("c"), None, CancelToken())
        assert (names(chunk), source.read) == (["c0"], ["a0", "b0", "b1", "c0"])
    assert list(tmp_path.iterdir()) == []


def test_what_reading_raises_is_told_of_its_own_shard(tmp_path):
    source = Source(a=[1, 1], b=[StoreError("gone")], hold=("a1",))
    with reading(source, tmp_path) as ahead:
        chunks = ahead.chunks(shard("a"), shard("b"), CancelToken())
        next(chunks)
        source.go.set()
        assert source.reached["b0"].wait(LONG)
        assert finish(ahead, chunks) == ["a1"]
        with pytest.raises(StoreError, match="gone"):
            next(ahead.chunks(shard("b"), None, CancelToken()))


def test_a_file_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    source = Source(a=[1])
    with open_spool(10, (tmp_path,)) as spool:
        monkeypatch.setattr(spool, "add", lambda *_: (_ for _ in ()).throw(OSError("full")))
        ahead = ReadAhead(spool, source, bool, least=1, prompt="")
        with closing(ahead), pytest.raises(OSError, match="full"):
            next(ahead.chunks(shard("a"), None, CancelToken()))


def test_a_store_that_does_not_answer_keeps_nobody_who_cancels(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TICK", 0.0)
    monkeypatch.setattr(module, "GRACE", 0.0)
    source, stop = Source(a=[1, 1], hold=("a1",)), CancelToken()
    with reading(source, tmp_path) as ahead:
        chunks = ahead.chunks(shard("a"), None, stop)
        next(chunks)
        assert source.reached["a1"].wait(LONG)
        stop.exit_code = 130
        assert list(chunks) == []
        assert files(tmp_path) == []
    source.go.set()
