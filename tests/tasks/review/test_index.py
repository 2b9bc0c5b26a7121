"""The images of a review in memory: counts that follow changes, and questions that go before reading."""

import threading

import pytest

from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.report import CancelToken, NullListener
from sdprep.rules.where.parse import parse
from sdprep.rules.where.record import Record
from sdprep.tasks.review.index import COUNTED, Index
from sdprep.tasks.texts.records import ImageRecord
from sdprep.tasks.texts.sidecars import SidecarNames
from sdprep.types import ImageItem


@pytest.fixture
def index(tmp_path):
    """An index of three images, none of which has been read."""
    return Index([ImageItem(tmp_path, f"{number}.png", tmp_path) for number in range(3)], lambda _: SidecarNames())


@pytest.fixture
def catalogs(tmp_path):
    with CatalogSession([tmp_path], CatalogAccess("review", AccessMode.DRY_RUN, NullListener().note)) as opened:
        yield opened


def keep(index, tags):
    """The images by their numbers have these tags now."""
    found = [(number, ImageRecord(index.items[number], None, None, Record(f"{number}.png", tags=each)))
             for number, each in tags.items()]  # fmt: skip
    index.keep(found)


def test_the_counts_of_all_images_follow_every_change(index):
    keep(index, {0: ("hat", "hat", "solo"), 1: ("hat",), 2: ("smile",)})
    assert index.counts() == {"hat": 2, "solo": 1, "smile": 1}

    keep(index, {0: ("hat",), 2: ()})

    assert dict(index.counts()) == {"hat": 2}


@pytest.mark.parametrize("where", ["path:1*", "name:1.png", 'folder:"" AND name:1*'])
def test_a_filter_by_path_reads_no_file(index, catalogs, where, monkeypatch):
    def read(*_):
        raise AssertionError("files are read")

    monkeypatch.setattr(Index, "refresh", read)

    assert index.read_for(parse(where), catalogs)
    assert index.view(parse(where)) == [1]


def test_images_that_are_read_while_a_filter_asks_for_more_have_that_too(index, catalogs, put_image, monkeypatch):
    put_image(index.items[0].path)
    read = Index.reading

    def overtaken(self, *given):
        found = list(read(self, *given))
        monkeypatch.setattr(Index, "reading", read)
        self._fields |= {"width"}
        return found

    monkeypatch.setattr(Index, "reading", overtaken)
    index.refresh([0], catalogs)

    assert index.records[0].width > 0


def test_a_tag_counts_once_for_each_image_of_a_selection(index):
    keep(index, {0: ("hat", "hat"), 1: ("hat", "solo"), 2: ("smile",)})

    assert index.counts_of([0, 1], CancelToken()) == {"hat": 2, "solo": 1}


def test_counting_that_nobody_waits_for_ends_early(index):
    keep(index, {0: ("hat",)})
    stop = CancelToken()
    stop.exit_code = 0

    assert index.counts_of([0] * COUNTED, stop) == {}


def test_what_takes_longer_waits_while_a_question_is_open(index):
    waiting = threading.Thread(target=index.questions.wait)

    with index.questions:
        with index.questions:
            waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join()
