"""The file that says which requests have no stored answer."""

from contextlib import closing

import pytest

from sdprep.errors import CatalogFailed
from sdprep.models.captioners.server.requests import RequestLog, begin_log, finish_log, log_of, request_key

IMAGES = [bytes([number]) * 32 for number in range(3)]
KEYS = [request_key(image, 0, b"What is it?") for image in IMAGES]


@pytest.fixture
def path(tmp_path):
    return log_of(tmp_path / "catalog.sqlite")


def run(path, started=(), ended=(), settled=(), paths=()):
    """Note what a run does."""
    with closing(RequestLog(begin_log([path, *paths]))) as log:
        for key in started:
            log.start(key)
        for key in ended:
            log.end(key)
        for image in settled:
            log.settle(image)


def test_a_request_without_a_stored_answer_is_counted_when_a_later_run_makes_it_again(path):
    run(path, started=KEYS, ended=KEYS[1:2], settled=IMAGES[:1])
    run(path, started=KEYS)
    assert finish_log(path) == 1


def test_a_request_waits_for_the_run_that_makes_it_again(path):
    run(path, started=KEYS[:1])
    run(path, started=KEYS[1:2], settled=IMAGES[:2])
    assert finish_log(path) == 0
    run(path, started=KEYS, settled=IMAGES)
    assert finish_log(path) == 1


def test_a_request_that_is_tried_twice_counts_once(path):
    run(path, started=KEYS[:1])
    run(path, started=KEYS[:1] * 2, settled=IMAGES)
    assert finish_log(path) == 1


def test_another_question_about_the_image_is_another_request(path):
    run(path, started=KEYS[:1])
    run(path, started=[request_key(IMAGES[0], 0, b"Who is it?"), request_key(IMAGES[0], 1, b"What is it?")])
    assert finish_log(path) == 0


def test_nothing_is_left_when_all_is_stored(path):
    run(path, started=KEYS, settled=IMAGES)
    assert finish_log(path) == 0
    assert not path.exists()


def test_a_run_takes_over_what_is_left_beside_all_its_catalogs(path):
    other = path.with_name("other.requests")
    run(other, started=KEYS[:1])
    run(path, started=KEYS[:1], settled=IMAGES, paths=[other])
    assert finish_log(path) == 1
    assert not other.exists()


@pytest.mark.parametrize("content", [b"", b"\xff\x00\n+ \n+ zz\n", b"- 0000000000000000\n", b"+ 0123456789abcdef\n"])
def test_lines_that_sdprep_never_wrote_are_ignored(path, content):
    path.write_bytes(content)
    run(path, started=KEYS[:1])
    run(path, started=KEYS[:1])
    assert finish_log(path) == 1


def test_a_line_that_a_power_cut_has_cut_is_ignored(path):
    path.write_text(f"+ {KEYS[0]}\n+ {KEYS[1][:20]}")
    run(path, started=KEYS[:2], settled=IMAGES)
    assert finish_log(path) == 1


def test_what_cannot_be_read_or_written_is_named(path):
    path.mkdir()
    with pytest.raises(CatalogFailed, match=r"catalog\.sqlite\.requests cannot be used"):
        begin_log([path])
    with pytest.raises(CatalogFailed, match="cannot be used"):
        RequestLog(path)
