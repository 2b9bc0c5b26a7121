"""ONNX files that lean on other files or foreign operators, and bytes that are made to harm their reader."""

import contextlib
import os
import sys
import tracemalloc

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sdprep.errors import ModelError
from sdprep.models.taggers.onnx_check import MOST_FIELDS, check_graph


def tensor(outside):
    value = numpy_helper.from_array(np.arange(3, dtype=np.float32), "weight")
    if outside:
        value.ClearField("raw_data")
        value.data_location = TensorProto.EXTERNAL
        value.external_data.add(key="location", value="../../secret")
    return value


def graph(nodes=(), tensors=(), sparse=()):
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])]
    return helper.make_graph(list(nodes), "g", [], made, list(tensors), sparse_initializer=list(sparse))


def initializer(outside):
    return helper.make_model(graph(tensors=[tensor(False), tensor(outside)]))


def constant(outside):
    return helper.make_model(graph([helper.make_node("Constant", [], ["y"], value=tensor(outside))]))


def list_of_tensors(outside):
    node = helper.make_node("Odd", [], ["y"])
    node.attribute.append(helper.make_attribute("values", [tensor(False), tensor(outside)]))
    return helper.make_model(graph([node]))


def branch(outside):
    inner = graph([helper.make_node("Constant", [], ["y"], value=tensor(outside))])
    return helper.make_model(graph([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph())]))


def function(outside):
    node = helper.make_node("Constant", [], ["y"], value=tensor(outside))
    made = helper.make_function("own", "F", [], ["y"], [node], [helper.make_opsetid("", 18)])
    return helper.make_model(graph(), functions=[made])


def sparse(outside):
    indices = numpy_helper.from_array(np.arange(3, dtype=np.int64), "indices")
    return helper.make_model(graph(sparse=[helper.make_sparse_tensor(tensor(outside), indices, [9])]))


def training(outside):
    model = helper.make_model(graph())
    model.training_info.add().initialization.CopyFrom(graph(tensors=[tensor(outside)]))
    return model


PLACES = [initializer, constant, list_of_tensors, branch, function, sparse, training]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_in_other_files_are_refused_wherever_they_are_named(place, tmp_path):
    (tmp_path / "model.onnx").write_bytes(place(True).SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx keeps its weights in other files"):
        check_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_in_the_file_itself_are_fine(place, tmp_path):
    (tmp_path / "model.onnx").write_bytes(place(False).SerializeToString())
    check_graph(tmp_path / "model.onnx")


def test_the_advice_makes_one_file_of_it(tmp_path):
    path, weights = str(tmp_path / "model.onnx"), "weights.bin"
    onnx.save_model(initializer(False), path, save_as_external_data=True, location=weights, size_threshold=0)
    with pytest.raises(ModelError, match="save_as_external_data=False"):
        check_graph(tmp_path / "model.onnx")
    onnx.save_model(onnx.load(path), path, save_as_external_data=False)
    (tmp_path / weights).unlink()
    check_graph(tmp_path / "model.onnx")


def is_refused(path):
    try:
        check_graph(path)
    except ModelError:
        return True
    return False


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    data = initializer(False).SerializeToString()
    passed = []
    for length in range(len(data)):
        (tmp_path / "model.onnx").write_bytes(data[:length])
        if not is_refused(tmp_path / "model.onnx"):
            passed.append(length)
    # Between two fields of the model itself nothing tells that more should follow; there are few such places.
    assert len(passed) <= 3


@pytest.mark.parametrize("data", [b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"\x0b\x0c"], ids=repr)
def test_bytes_that_are_no_message_are_refused(data, tmp_path):
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="truncated or not an ONNX file"):
        check_graph(tmp_path / "model.onnx")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"model\.onnx: No such file"):
        check_graph(tmp_path / "model.onnx")


# Weights in a file beside the graph


def split(folder, *entries, data=b"\0" * 100):
    """A graph whose tensors say these things of their external data, beside 100 bytes of weights."""
    tensors = []
    for entry in entries:
        value = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
        for key, said in entry:
            value.external_data.add(key=key, value=str(said))
        tensors.append(value)
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(data)
    (folder / "model.onnx").write_bytes(helper.make_model(graph(tensors=tensors)).SerializeToString())
    return folder / "model.onnx"


def place(location="weights.bin", offset=0, length=12):
    return [("location", location), ("offset", offset), ("length", length)]


def test_weights_in_a_named_file_beside_the_graph_are_fine(tmp_path):
    path = split(tmp_path / "m", place(), place(offset=12), [*place(offset=88), ("checksum", "x" * 40)])
    check_graph(path, ["weights.bin"])


def test_a_file_of_weights_has_to_be_named_by_the_description(tmp_path):
    with pytest.raises(ModelError, match=r"does not name\nAdd weights\.bin to files in its \.toml file"):
        check_graph(split(tmp_path / "m", place()), ["model.onnx"])


ELSEWHERE = {
    "above": place("../weights.bin"),
    "absolute": place("/etc/passwd"),
    "below": place("sub/weights.bin"),
    "backslash": place("..\\weights.bin"),
    "drive": place("C:weights.bin"),
    "memory": place("*/_ORT_MEM_ADDR_/*"),
    "the folder itself": place("."),
    "empty": place(""),
    "a long name": place("w" * 300),
    "device": place("nul"),
    "no location": place()[1:],
    "no offset": [place()[0], place()[2]],
    "no length": place()[:2],
    "a length twice": [*place(), ("length", 4)],
    "two locations": [("location", "weights.bin"), *place("../weights.bin")],
    "another key": [*place(), ("basepath", "/")],
    "negative": place(offset=-4),
    "hexadecimal": place(length="0x10"),
    "other digits": place(length="\u0661\u0662"),
    "huge": place(length=10**40),
}


@pytest.mark.parametrize("entry", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_leads_elsewhere_or_is_half_said_is_refused(entry, tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    named = ["weights.bin", "../weights.bin", "w" * 300, ".", "", "nul", dict(entry).get("location", "")]
    with pytest.raises(ModelError, match="keeps its weights in other files"):
        check_graph(split(tmp_path / "m", place(offset=40), entry), named)


@pytest.mark.parametrize(("offset", "length"), [(0, 101), (100, 1), (10**17, 1), (96, 8), (0, 10**17)])
def test_a_range_beyond_the_end_of_the_file_is_refused(offset, length, tmp_path):
    with pytest.raises(ModelError, match="but that has only 100\n"):
        check_graph(split(tmp_path / "m", place(offset=offset, length=length)), ["weights.bin"])


@pytest.mark.parametrize("offset", [0, 4, 11])
def test_weights_that_share_bytes_are_refused(offset, tmp_path):
    path = split(tmp_path / "m", place(), place(offset=offset))
    with pytest.raises(ModelError, match="several weights in the same bytes"):
        check_graph(path, ["weights.bin"])


def test_a_missing_file_of_weights_is_named(tmp_path):
    path = split(tmp_path / "m", place())
    (tmp_path / "m" / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin, which is missing beside it"):
        check_graph(path, ["weights.bin"])


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are others there")
@pytest.mark.parametrize("kind", ["hard link", "link", "link beside", "folder", "pipe"])
def test_weights_that_are_no_file_of_their_own_are_refused(kind, tmp_path):
    path = split(tmp_path / "m", place())
    weights, other = tmp_path / "m" / "weights.bin", tmp_path / "m" / "other.bin"
    weights.rename(tmp_path / "secret" if kind == "link" else other)
    made = {
        "hard link": lambda: weights.hardlink_to(other),
        "link": lambda: weights.symlink_to(tmp_path / "secret"),
        "link beside": lambda: weights.symlink_to(other),
        "folder": weights.mkdir,
        "pipe": lambda: os.mkfifo(weights),
    }
    made[kind]()
    with pytest.raises(ModelError, match="keeps its weights in other files"):
        check_graph(path, ["weights.bin"])


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_only_a_link_into_the_folder_of_the_cache_is_followed(tmp_path):
    path = split(tmp_path / "m", place())
    (tmp_path / "blobs").mkdir()
    (tmp_path / "m" / "weights.bin").rename(tmp_path / "blobs" / "abc")
    (tmp_path / "m" / "weights.bin").symlink_to("../blobs/abc")
    check_graph(path, ["weights.bin"], blobs=tmp_path / "blobs")
    with pytest.raises(ModelError, match="keeps its weights in other files"):
        check_graph(path, ["weights.bin"], blobs=tmp_path)


# Operators


def foreign(domain):
    return helper.make_node("Odd", [], ["y"], domain=domain)


def in_graph(domain):
    return helper.make_model(graph([foreign(domain)]))


def in_branch(domain):
    node = helper.make_node("If", ["c"], ["y"], then_branch=graph([foreign(domain)]), else_branch=graph())
    return helper.make_model(graph([node]))


def in_function(domain):
    made = helper.make_function("own", "F", [], ["y"], [foreign(domain)], [helper.make_opsetid("", 18)])
    return helper.make_model(graph([helper.make_node("F", [], ["y"], domain="own")]), functions=[made])


def in_training(domain):
    model = helper.make_model(graph())
    model.training_info.add().algorithm.CopyFrom(graph([foreign(domain)]))
    return model


@pytest.mark.parametrize("domain", ["ai.onnx.contrib", "somebodys.library", "com.microsoft\0", "x" * 5000])
@pytest.mark.parametrize("place", [in_graph, in_branch, in_function, in_training], ids=lambda place: place.__name__)
def test_operators_that_onnxruntime_does_not_bring_are_refused_wherever_they_stand(place, domain, tmp_path):
    (tmp_path / "model.onnx").write_bytes(place(domain).SerializeToString())
    with pytest.raises(ModelError, match="which onnxruntime does not have; sdprep loads no library"):
        check_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_of_onnx_and_of_onnxruntime_are_fine(domain, tmp_path):
    (tmp_path / "model.onnx").write_bytes(in_branch(domain).SerializeToString())
    check_graph(tmp_path / "model.onnx")


def test_functions_that_the_file_brings_itself_are_fine(tmp_path):
    (tmp_path / "model.onnx").write_bytes(in_function("ai.onnx.ml").SerializeToString())
    check_graph(tmp_path / "model.onnx")


def test_code_compiled_for_a_machine_is_refused(tmp_path):
    node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="x.engine")
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph([node])).SerializeToString())
    with pytest.raises(ModelError, match="holds code compiled for one machine"):
        check_graph(tmp_path / "model.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
def test_weights_behind_a_link_to_a_file_elsewhere_are_refused(link, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    getattr(tmp_path / "model" / "weights.bin", link)(tmp_path / "secret")
    value = tensor(True)
    value.external_data[0].value = "weights.bin"
    path = tmp_path / "model" / "model.onnx"
    path.write_bytes(helper.make_model(graph(tensors=[value])).SerializeToString())
    with pytest.raises(ModelError, match="keeps its weights in other files"):
        check_graph(path)


# Hostile bytes


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def message(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def nested(depth):
    """A branch in a branch in a branch."""
    inner = b""
    for _ in range(depth):
        inner = message(1, message(5, message(6, inner)))
    return message(7, inner)


def without_end():
    return b"\x3a" + varint(2**63) + b"\x00" * 100


def with_a_key_beyond_32_bits():
    """Readers that cut a key to 32 bits find a graph here, others nothing."""
    inner = message(5, b"\x70\x01")
    return varint((7 << 3 | 2) + (1 << 32)) + varint(len(inner)) + inner


def of_many_fields():
    return message(7, b"\x10\x00" * (MOST_FIELDS + 1))


def of_many_domains():
    return message(7, b"".join(message(1, message(7, str(number).encode())) for number in range(1000)))


HOSTILE = [lambda: nested(5000), without_end, with_a_key_beyond_32_bits, of_many_fields, of_many_domains]


@pytest.mark.parametrize("make", HOSTILE, ids=["nested", *(each.__name__ for each in HOSTILE[1:])])
def test_bytes_that_are_made_to_harm_their_reader_are_refused(make, tmp_path):
    (tmp_path / "model.onnx").write_bytes(make())
    with pytest.raises(ModelError, match="truncated or not an ONNX file"):
        check_graph(tmp_path / "model.onnx")


def test_a_name_of_many_megabytes_is_not_copied(tmp_path):
    data = message(7, message(1, message(7, b"x" * 50_000_000)))
    (tmp_path / "model.onnx").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ModelError, match="which onnxruntime does not have"):
        check_graph(tmp_path / "model.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


PARTS = st.recursive(
    st.one_of(
        st.binary(max_size=20),
        st.integers(0, 2**64).map(varint),
        st.builds(lambda field, value: varint(field << 3) + varint(value), st.integers(0, 30), st.integers(0, 2**64)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(b"".join),
        st.builds(message, st.sampled_from([1, 2, 5, 6, 7, 10, 11, 14, 15, 20, 22, 25]), inner),
        st.builds(lambda data, cut: data[:cut], inner, st.integers(0, 40)),
    ),
    max_leaves=30,
)


@given(data=PARTS)
def test_any_bytes_are_passed_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        check_graph(path)


def messages_of(message):
    """A message of protobuf and all that it holds, whatever its kind."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from messages_of(inner)


def leans_on_files(data):
    """Whether the reader of the onnx package finds a tensor in another file in these bytes."""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return False
    tensors = [each for each in messages_of(model) if isinstance(each, TensorProto)]
    return any(each.data_location == TensorProto.EXTERNAL for each in tensors)


@given(place=st.sampled_from(PLACES), damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255))))
def test_no_damage_hides_weights_in_other_files(place, damage, tmp_path_factory):
    data = bytearray(place(True).SerializeToString())
    for where, byte in damage:
        data[where % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(data)
    try:
        check_graph(path)
    except ModelError:
        return
    assert not leans_on_files(bytes(data))
