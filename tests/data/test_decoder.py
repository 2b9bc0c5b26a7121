"""The bytes of a picture, what else they may be, and what a failure to decode depends on."""

from importlib import metadata
from pathlib import Path

import pytest

from sdprep.config import Work
from sdprep.data import decoder
from sdprep.data.decoder import DECODER, decoder_of, read_file, what_it_is
from sdprep.errors import ImageError
from sdprep.types import FailureCode


def test_a_file_at_rest_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    real, reads = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or real(path))
    assert (read_file(tmp_path / "a"), len(reads)) == (b"bytes", 1)


def test_a_file_that_was_replaced_while_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").write_bytes(b"newer")
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        data = real(path)
        if (tmp_path / "b").exists():
            (tmp_path / "b").replace(path)
        return data

    monkeypatch.setattr(Path, "read_bytes", read)
    assert read_file(tmp_path / "a") == b"newer"


def test_a_file_that_keeps_changing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"")
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        data = real(path)
        path.write_bytes(data + b"more")
        return data

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(ImageError, match="another program changes it") as caught:
        read_file(tmp_path / "a")
    assert caught.value.code is FailureCode.CHANGING


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0", b"plain text", b"<?xml version='1.0'?><note/>"])
def test_what_is_not_known_has_no_name(data: bytes) -> None:
    assert what_it_is(data) is None


def test_a_drawing_behind_the_head_of_its_xml_has_a_name() -> None:
    assert what_it_is(b"<?xml version='1.0'?>\n<!-- x -->\n<svg/>") == "an SVG drawing"


def test_usual_settings_do_not_make_another_decoder() -> None:
    assert decoder_of(Work(), DECODER) == DECODER


@pytest.mark.parametrize("work", [Work(max_pixels=5), Work(allow_truncated=True)])
def test_a_setting_that_lets_other_pictures_in_does(work: Work) -> None:
    assert decoder_of(work, DECODER).startswith(f"{DECODER} ")


def test_a_decoder_that_is_added_makes_another_one() -> None:
    assert decoder._installed("pillow") == f"/pillow-{metadata.version('pillow')}"
    assert decoder._installed("no-such-distribution") == ""
