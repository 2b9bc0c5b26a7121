"""Tars are read as tarfile reads them, in chunks of any size, and whatever is wrong with one is a fault of a member."""

import gzip
import io
import tarfile
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.shards.tar import read_tar
from tests.shards.tars import tar

WHOLE = tar({"a/1.jpg": b"one", "a/1.json": b"{}", "a/2.png": b"x" * 700})
NAMES = st.text("ab/é", min_size=1, max_size=120).map(lambda text: f"d{text}x.left.png")


def read(data, limit=10**6, step=700):
    return [
        (each.name, each.fault.code.value if each.fault else each.data)
        for each in read_tar((data[at : at + step] for at in range(0, len(data), step)), limit)
    ]


def with_header(name, **values):
    """A tar of one member, with these values in its header and no bytes."""
    stream, header = io.BytesIO(), tarfile.TarInfo(name)
    for each, value in values.items():
        setattr(header, each, value)
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(header)
    return stream.getvalue()


@given(
    members=st.dictionaries(NAMES, st.binary(max_size=1500), max_size=4),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    mode=st.sampled_from(["w", "w:gz"]),
    step=st.integers(1, 3000),
)
def test_the_images_of_a_tar_come_in_their_order_with_their_bytes(members, form, mode, step):
    data = tar(members, mode, form)

    assert read(data, step=step) == list(members.items())


@given(end=st.integers(1, len(WHOLE) - 1), is_packed=st.booleans())
def test_a_tar_that_is_cut_has_all_images_before_the_cut_and_a_fault_or_is_whole(end, is_packed):
    data = gzip.compress(WHOLE)[:end] if is_packed else WHOLE[:end]
    found = read(data)

    images = [("a/1.jpg", b"one"), ("a/2.png", b"x" * 700)]
    whole = [each for each in found if isinstance(each[1], bytes)]
    assert whole == images[: len(whole)]
    # The end mark is two blocks of zeros, of which one will do.
    assert len(found) > len(whole) or whole == images


@given(st.binary(max_size=2000))
def test_anything_at_all_is_read_without_an_exception(data):
    read(data)
    read(WHOLE[:1024] + data)


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"", "empty_file", "0 bytes"),
        (b"<!DOCTYPE html><p>" + b" " * 600, "corrupt", "not a tar but a web page (HTML)"),
        (b"<html>", "corrupt", "not a tar but a web page (HTML)"),
        (gzip.compress(b"<html>", mtime=0), "corrupt", "not a tar but a web page (HTML)"),
        (b"\x1f\x8b" + b"rubbish" * 9, "corrupt", "gzip"),
    ],
)
def test_what_is_no_tar_is_one_fault_without_a_name(data, code, message):
    (member,) = read_tar(iter([data]), 100)

    assert (member.name, member.fault.code.value) == ("", code)
    assert message in str(member.fault)


@pytest.mark.parametrize("name", ["/a.png", "../a.png", "b/../../a.png", "C:\\a.png", "..\\a.png"])
def test_a_name_that_leads_out_of_the_folder_is_a_fault(name):
    assert read(tar({name: b"one", "b.png": b"two"})) == [(name, "unreadable"), ("b.png", b"two")]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_faults(kind):
    assert read(with_header("a.png", type=kind, linkname="/etc/passwd")) == [("a.png", "unreadable")]


def test_folders_texts_and_hidden_files_are_no_images():
    assert read(with_header("a.png", type=tarfile.DIRTYPE)) == []
    assert read(tar({"a.json": b"", "._a.png": b"", ".git/a.png": b"", "README": b""})) == []


def test_a_name_that_comes_twice_is_a_fault_the_second_time():
    data = tar({"a.png": b"one"})[:1024] + tar({"a.png": b"two"})

    assert read(data) == [("a.png", b"one"), ("a.png", "stem_collision")]


def test_images_before_the_damage_in_gzip_are_read():
    images = {f"{number}.png": Random(number).randbytes(5000) for number in range(4)}
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = tar(images)[:13_000]
    # No packer writes a block of the type that 0xff stands for.
    data = gzip.compress(b"")[:10] + packer.compress(whole) + packer.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 100

    assert read(data, step=len(data)) == [*list(images.items())[:2], ("", "corrupt")]


def test_images_of_one_sample_share_its_key():
    found = read_tar(iter([tar({"x/1.left.png": b"l", "x/1.right.png": b"r"})]), 100)

    assert [(each.key, each.name) for each in found] == [("x/1", "x/1.left.png"), ("x/1", "x/1.right.png")]


def test_members_over_the_limit_have_the_same_message_whatever_their_size():
    found = read_tar(iter([tar({"a.png": bytes(1_000_001), "b.png": bytes(3_000_000)})]), 1_000_000)

    message = "it has more than the 1 MB that are read; --max-pixels and --spool set this limit"
    assert [str(member.fault) for member in found] == [message, message]


def test_a_member_over_the_limit_is_passed_by():
    assert read(tar({"a.png": b"x" * 700, "b.png": b"two"}), limit=699) == [("a.png", "too_large"), ("b.png", b"two")]


def test_formats_that_are_not_read_are_faults():
    assert read(tar({"a.tiff": b"II*\0"})) == [("a.tiff", "not_an_image")]


def test_what_follows_damage_is_not_guessed_at():
    data = tar({"a.png": b"one"})[:1024] + b"rubbish" * 200 + tar({"b.png": b"two"})

    assert read(data) == [("a.png", b"one"), ("", "corrupt")]


def test_sparse_members_are_faults():
    data = bytearray(tar({"a.png": b"x" * 512}))
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])

    assert read(bytes(data)) == [("a.png", "unreadable")]
