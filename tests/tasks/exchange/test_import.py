"""Texts of other tools' files become sidecars, through the journal; what was there stays unless it is to go."""

import json
from pathlib import Path
from typing import Any

import pytest

from sdprep.errors import NoImages, UsageError
from sdprep.report import NullListener
from sdprep.tasks.exchange.export import export
from sdprep.tasks.exchange.import_ import import_
from sdprep.tasks.exchange.settings import ExportSettings, ImportSettings
from sdprep.tasks.history.undo import undo
from sdprep.texts.exchange.targets import TargetName
from tests.tasks.exchange.conftest import TEXTS, files_in, write_dataset

# The targets whose files hold captions and tags apart from each other.
LOSSLESS: list[TargetName] = ["sd-scripts-0.9", "sd-scripts-0.10", "sd-scripts", "imagefolder", "webdataset", "parquet"]


class Ear(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def without_texts(folder: Path, texts: Any) -> Path:
    return write_dataset(folder, dict.fromkeys(texts, (None, None)))


def imported(source: Path, **options: Any) -> Any:
    return import_(source, ImportSettings(**options))


def table(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(value), "utf-8")
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Images without sidecars."""
    return without_texts(tmp_path / "plain", ["a.jpg", "b.png", "sub/a.jpg"])


@pytest.mark.parametrize("target", LOSSLESS)
def test_what_was_exported_comes_back(imgs: Path, tmp_path: Path, target: TargetName) -> None:
    export(imgs, ExportSettings(target=target, output=tmp_path / "out"))
    before = files_in(imgs)
    for path in [*imgs.rglob("*.txt"), *imgs.rglob("*.caption")]:
        path.unlink()
    assert imported(tmp_path / "out", into=imgs).written == 6
    assert files_in(imgs) == before


@pytest.mark.parametrize("target", [*LOSSLESS, "simpletuner", "diffusion-pipe"])
def test_what_was_exported_comes_back_at_another_place(imgs: Path, tmp_path: Path, target: TargetName) -> None:
    options: dict[str, Any] = {"images": "link"} if target not in ("webdataset", "parquet") else {}
    export(imgs, ExportSettings(target=target, output=tmp_path / "out", text="both", **options))
    other = without_texts(tmp_path / "other", TEXTS)
    imported(tmp_path / "out", into=other)
    assert (other / "b.caption").read_text().splitlines()[0].startswith("one")
    assert (other / "sub" / "näme.caption").read_text("utf-8") == "日本語 🎨\n"


def test_importing_what_is_there_changes_nothing_and_is_no_run(imgs: Path, tmp_path: Path) -> None:
    export(imgs, ExportSettings(target="imagefolder", output=tmp_path / "out"))
    before = files_in(imgs)
    report = imported(tmp_path / "out", into=imgs)
    assert (report.written, report.current, report.run) == (0, 6, None)
    assert files_in(imgs) == before


def test_tags_may_be_a_list(plain: Path) -> None:
    imported(table(plain, "metadata.json", {"b": {"caption": "a girl", "tags": ["1girl", "blue hair"]}}))
    assert (plain / "b.caption").read_text() == "a girl\n"
    assert (plain / "b.txt").read_text() == "1girl, blue hair\n"


@pytest.mark.parametrize("key", ["sub/a.jpg", "sub/a", "sub\\a.jpg", "/old/place/sub/a.jpg", "C:\\data\\sub\\a.jpg"])
def test_an_image_is_known_by_any_key_that_tools_write(plain: Path, key: str) -> None:
    imported(table(plain, "metadata.json", {key: {"caption": "one"}}))
    assert files_in(plain)["sub/a.caption"] == b"one\n"


def test_the_names_of_captions_json_count_from_its_own_folder(plain: Path) -> None:
    table(plain / "sub", "captions.json", {"a.jpg": ["one", "two"]})
    imported(plain)
    assert (plain / "sub" / "a.caption").read_text() == "one\ntwo\n"
    assert not (plain / "a.caption").exists()


def test_a_stem_that_two_images_have_names_neither(plain: Path) -> None:
    with pytest.raises(NoImages):
        imported(table(plain, "metadata.json", {"a": {"caption": "a girl"}}))


def test_names_without_an_image_are_named(plain: Path) -> None:
    ear = Ear()
    import_(table(plain, "m.json", {"b": {"caption": "one"}, "gone": {"caption": "two"}}), listener=ear)
    assert ear.notes == [f"1 of 2 entries name no image in {plain}: gone"]


def test_a_file_of_other_images_is_not_imported(plain: Path) -> None:
    with pytest.raises(NoImages, match=r"none of the 1 entries names an image in .*: gone\nGive the folder"):
        imported(table(plain, "m.json", {"gone": {"caption": "two"}}))


def test_a_sidecar_with_another_text_is_kept_and_named(plain: Path) -> None:
    (plain / "b.caption").write_text("mine")
    source = table(plain, "m.json", {"b": {"caption": "theirs", "tags": "1girl"}})
    report = imported(source)
    assert (report.written, report.kept_reasons) == (1, {"different": ["b.png"]})
    assert (plain / "b.caption").read_text() == "mine"
    assert imported(source, existing="overwrite").written == 1
    assert (plain / "b.caption").read_text() == "theirs\n"


def test_an_empty_sidecar_is_filled(plain: Path) -> None:
    (plain / "b.caption").write_bytes(b"")
    assert imported(table(plain, "m.json", {"b": {"caption": "one"}})).written == 1


def test_an_import_can_be_undone(plain: Path) -> None:
    (plain / "b.caption").write_bytes(b"mine\r\n")
    before = files_in(plain)
    source = table(plain.parent, "m.json", {"b.png": {"caption": "theirs", "tags": "1girl"}})
    imported(source, into=plain, existing="overwrite")
    assert files_in(plain) != before
    undo(plain)
    assert files_in(plain) == before


def test_a_dry_run_writes_nothing(plain: Path) -> None:
    report = imported(table(plain, "m.json", {"b": {"caption": "one"}}), dry_run=True)
    assert (report.remaining, report.written) == (1, 0)
    assert not (plain / "b.caption").exists()
    assert not (plain / ".sdprep").exists()


def test_sidecars_are_named_as_their_options_say(plain: Path) -> None:
    imported(
        table(plain, "m.json", {"b": {"caption": "one", "tags": "x"}}), caption_extension=".txt", tag_extension="tags"
    )
    assert ((plain / "b.txt").read_text(), (plain / "b.tags").read_text()) == ("one\n", "x\n")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_no_file_can_hold_fails(plain: Path, text: str) -> None:
    report = imported(table(plain, "m.json", {"b": {"caption": text, "tags": "x"}}))
    assert (report.written, [each["code"] for each in report.failures]) == (1, ["bad_text"])


# Sidecars in other forms


def test_a_tag_per_line_becomes_a_list(plain: Path) -> None:
    (plain / "a.txt").write_bytes(b"1girl\r\nblue hair,\r\n\r\nsolo\r\n")
    (plain / "b.txt").write_bytes(b"1girl,  solo")
    (plain / "b.caption").write_bytes(b"one\ntwo\n")
    report = imported(plain, format="lines")
    assert (plain / "a.txt").read_bytes() == b"1girl, blue hair, solo\n"
    # What is no list of lines stays, to the byte.
    assert (plain / "b.txt").read_bytes() == b"1girl,  solo"
    assert (plain / "b.caption").read_bytes() == b"one\ntwo\n"
    assert (report.written, report.current) == (1, 2)


def test_sidecars_in_a_legacy_encoding_become_utf_8_and_others_stay(plain: Path) -> None:
    (plain / "a.caption").write_bytes("你好\r\n".encode("gb18030"))
    (plain / "b.caption").write_bytes("日本".encode("utf-16"))
    before = (plain / "b.caption").read_bytes()
    assert imported(plain, encoding="gb18030").written == 1
    assert (plain / "a.caption").read_bytes() == "你好\n".encode()
    assert (plain / "b.caption").read_bytes() == before


def test_a_sidecar_that_is_not_in_that_encoding_fails_with_the_byte(plain: Path) -> None:
    (plain / "b.caption").write_bytes(b"abc\xff\xff")
    [failure] = imported(plain, encoding="gb18030").failures
    assert failure["message"] == "b.caption is not gb18030: byte 3 cannot be read"


def test_without_an_encoding_such_a_sidecar_fails_with_the_option_that_reads_it(plain: Path) -> None:
    (plain / "b.txt").write_bytes("你\n好".encode("gb18030"))
    [failure] = imported(plain, format="lines").failures
    assert "--encoding gb18030" in failure["message"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "klingon"}, "--encoding klingon is not known"),
        ({"encoding": "base64"}, "--encoding base64 is not known"),
        ({"existing": "append"}, "--existing takes keep or overwrite"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ImportSettings(**options)


def test_a_folder_without_any_such_file_is_refused(plain: Path) -> None:
    with pytest.raises(UsageError, match="nothing to import in"):
        imported(plain)
    with pytest.raises(UsageError, match="there is no file or folder"):
        imported(plain / "gone.json")
    with pytest.raises(UsageError, match="--format lines is for a folder"):
        imported(table(plain, "m.json", {}), format="lines")


def test_a_tag_file_whose_lines_are_lists_stays_when_lines_become_lists(plain: Path) -> None:
    (plain / "a.txt").write_text("a, b\nc, d\n")
    imported(plain, format="lines")
    assert (plain / "a.txt").read_text() == "a, b\nc, d\n"
