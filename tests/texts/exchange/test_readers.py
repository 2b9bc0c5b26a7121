"""What is found in the files of other tools."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sdprep.errors import MetadataError
from sdprep.texts.exchange.readers import Field, is_table, read_table


def read(path: Path, content: str | bytes, *, encoding: str | None = None, lone: Field = "caption") -> dict[str, Any]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, encoding, lone)


def tar_of(members: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(text.encode())
            tar.addfile(header, io.BytesIO(text.encode()))
    return stream.getvalue()


def test_a_metadata_json_has_tags_as_a_text_or_as_a_list(tmp_path: Path) -> None:
    content = '{"a": {"caption": "a girl", "tags": "1girl, solo", "image_size": [1, 2]}, "b": {"tags": ["x", "y z"]}}'
    assert read(tmp_path / "m.json", content) == {
        "a": {"caption": "a girl", "tags": "1girl, solo"},
        "b": {"tags": "x, y z"},
    }


def test_json_lines_name_their_image_as_their_tool_does(tmp_path: Path) -> None:
    content = '{"image_path": "/x/a.jpg", "caption": "one"}\n\n{"file_name": "b.jpg", "text": "two"}\n'
    assert read(tmp_path / "m.jsonl", content) == {"/x/a.jpg": {"caption": "one"}, "b.jpg": {"caption": "two"}}


def test_a_text_that_is_not_called_a_caption_may_be_tags(tmp_path: Path) -> None:
    assert read(tmp_path / "m.jsonl", '{"file_name": "a.jpg", "text": "1girl"}', lone="tags") == {
        "a.jpg": {"tags": "1girl"}
    }


def test_a_text_counts_only_where_there_is_neither_a_caption_nor_tags(tmp_path: Path) -> None:
    content = '{"file_name": "a.jpg", "text": "a girl, 1girl", "caption": "a girl", "tags": null}'
    assert read(tmp_path / "m.jsonl", content) == {"a.jpg": {"caption": "a girl"}}


def test_the_captions_of_diffusion_pipe_are_lines(tmp_path: Path) -> None:
    assert read(tmp_path / "captions.json", '{"a.jpg": ["one", "two"], "b.jpg": "three"}') == {
        "a.jpg": {"caption": "one\ntwo"},
        "b.jpg": {"caption": "three"},
    }


def test_texts_of_captions_json_are_tags_if_you_say_so(tmp_path: Path) -> None:
    assert read(tmp_path / "captions.json", '{"a.jpg": ["1girl, hat"], "b.jpg": "solo"}', lone="tags") == {
        "a.jpg": {"tags": "1girl, hat"},
        "b.jpg": {"tags": "solo"},
    }


def test_a_csv_may_have_line_breaks_quotes_and_long_texts_in_its_cells(tmp_path: Path) -> None:
    content = 'file_name,text,tags\na.jpg,"one\n""two"", three",\nb.jpg,' + "x" * 200_000 + ',"1girl, solo"\n'
    assert read(tmp_path / "metadata.csv", content) == {
        "a.jpg": {"caption": 'one\n"two", three'},
        "b.jpg": {"tags": "1girl, solo"},
    }


def test_a_file_in_a_legacy_encoding_is_read_as_told(tmp_path: Path) -> None:
    content = "file_name,text\na.jpg,你好\n".encode("gb18030")
    assert read(tmp_path / "metadata.csv", content, encoding="gb18030") == {"a.jpg": {"caption": "你好"}}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_not_text(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path / "m.json", '{"a": {"caption": "日本"}}'.encode(encoding)) == {"a": {"caption": "日本"}}


def test_a_tar_has_texts_by_the_name_of_each_sample(tmp_path: Path) -> None:
    members = {
        "sub/1.jpg": "an image", "sub/1.txt": "one", "2.json": '{"file_name": "b.png", "caption": "two", "tags": "x"}',
        "2.txt": "two, x", "3.caption": "three", "3.tag.webp": "an image", ".hidden": "no sample",
    }  # fmt: skip
    assert read(tmp_path / "m.tar", tar_of(members)) == {
        "sub/1.jpg": {"caption": "one"},
        "b.png": {"caption": "two", "tags": "x"},
        "3.tag.webp": {"caption": "three"},
    }


def test_parquet_is_read_without_its_images(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"image": {"bytes": b"\x89PNG", "path": "a.png"}, "file_name": "a.png", "caption": "one", "tags": ["x", "y"]}
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert read_table(tmp_path / "train.parquet", None, "caption") == {"a.png": {"caption": "one", "tags": "x, y"}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", "{", "cannot be imported: "),
        ("m.json", "3", "an object with an entry for each image is expected"),
        ("m.json", '{"a": {"caption": 5}}', "the caption of 'a' is not a text"),
        ("m.json", '{"a": {"tags": [1]}}', "the tags of 'a' is not a text"),
        ("m.jsonl", '{"caption": "one"}', "row 1 does not name its image"),
        ("m.jsonl", "[]", "row 1 does not name its image"),
        ("m.csv", 'file_name,text\n"a.jpg', "cannot be imported: "),
        ("m.csv", b"file_name,text\na.jpg,\xc4\xe3\n", "cannot be imported: "),
        ("m.tar", b"no tar", "cannot be imported: "),
        ("m.parquet", b"no parquet", "cannot be imported: "),
        ("m.zip", b"", "texts are imported from .csv, .json, .jsonl, .parquet, .tar files and from folders"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(MetadataError, match=message) as caught:
        read(tmp_path / name, content)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metadata.json", True), ("metadata-several-captions.json", True), ("meta_cap.json", True),
        ("captions.json", True), ("Metadata.CSV", True), ("00000.tar", True), ("train.parquet", True),
        ("concepts.json", False), ("multidatabackend.json", False), ("package.json", False), ("a.jpg", False),
    ],
)  # fmt: skip
def test_the_files_of_a_folder_that_are_read(name: str, expected: bool) -> None:
    assert is_table(name) is expected


def test_a_tar_is_not_extracted(tmp_path: Path) -> None:
    path = tmp_path / "in" / "m.tar"
    path.parent.mkdir()
    read(path, tar_of({"../../escaped.txt": "one", "/absolute.txt": "two"}))
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["m.tar"]
    assert sorted(read_table(path, None, "caption")) == ["../../escaped", "absolute"]
