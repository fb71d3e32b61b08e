"""Kinds of files, damage, and files that want to do harm: nothing may be executed, and every message is clear."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from weight_files import (
    Attack,
    attack,
    dictionary,
    name,
    number,
    save_like_torch,
    tensor_opcodes,
    text,
    write_torch_zip,
)

from mrcnn_np.errors import WeightFileError
from mrcnn_np.weights.formats import torch_files
from mrcnn_np.weights.formats.files import read, sniff
from mrcnn_np.weights.formats.unpickling import Refused

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2.0], np.float16),
    "double": np.array([np.pi]),
    "count": np.array(7),
}


def check(contents, expected=ARRAYS):
    assert set(contents.tensors) == set(expected)
    for key, a in expected.items():
        assert contents.tensors[key].dtype == a.dtype
        np.testing.assert_array_equal(contents.tensors[key], a)


# --- kinds ----------------------------------------------------------------------------------------------------------


def test_every_kind_whatever_its_name(tmp_path):
    path = tmp_path / "weights.txt"
    save_like_torch(path, ARRAYS)
    assert sniff(path) == "torch"
    check(read(path))
    path.write_bytes(safetensors.numpy.save(ARRAYS, {"a": "b"}))
    assert sniff(path) == "safetensors" and read(path).metadata == {"a": "b"}
    check(read(path))
    with open(path, "wb") as file:
        np.savez(file, **ARRAYS)
    assert sniff(path) == "npz"
    check(read(path))
    path.write_bytes(pickle.dumps({"model": ARRAYS, "__author__": "someone"}))
    assert sniff(path) == "pickle" and read(path).metadata == {"__author__": "someone"}
    check(read(path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_arrays_of_every_protocol(tmp_path, protocol):
    arrays = ARRAYS | {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "empty": np.zeros((0, 3), "f4")}
    arrays |= {"big endian": np.arange(3, dtype=">f4"), "flags": np.array([True, False])}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "lr": np.float64(0.1)}, protocol=protocol))
    contents = read(path)
    check(contents, arrays)
    assert contents.metadata == {"lr": 0.1}


def test_pickles_of_numpy_1_and_python_2(tmp_path):
    """numpy.core became numpy._core in NumPy 2; Python 2 wrote bytes as text."""
    path = tmp_path / "x.pkl"
    two = pickle.dumps({"w": np.arange(3.0)}, protocol=3)
    one = two.replace(b"numpy._core", b"numpy.core")
    assert one != two
    path.write_bytes(one)
    check(read(path), {"w": np.arange(3.0)})
    dtype = name("numpy", "dtype") + b"(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = np.array([1.0, -2.0], "<f4").tobytes()
    array = name("numpy.core.multiarray", "_reconstruct") + b"(cnumpy\nndarray\n(K\x00tU\x01btR"
    array += b"(K\x01(K\x02t" + dtype + b"\x89U" + bytes([len(data)]) + data + b"tb"
    path.write_bytes(b"\x80\x02}(U\x05blobs}(U\x01w" + array + b"uu.")
    check(read(path), {"w": np.array([1.0, -2.0], np.float32)})


def test_wrappers_and_prefixes_are_taken_off(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": {f"module.{k}": a for k, a in ARRAYS.items()}, "epoch": 3}))
    contents = read(path)
    check(contents)
    assert contents.metadata == {"epoch": 3}
    path.write_bytes(pickle.dumps({"state_dict": {"module.a": np.ones(1), "b": np.ones(1)}}))
    assert set(read(path).tensors) == {"module.a", "b"}  # not all have it


# --- what torch.save writes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_save_and_our_reader_agree_with_torch(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="writes the files of this test")
    import argparse
    import collections

    base = torch.arange(24, dtype=torch.float32)
    tensors = {
        "view": base.view(4, 6).t(),
        "part": base[3:9:2],
        "half": torch.randn(3, 2).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "number": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(3)),
    }
    # As torchvision's reference scripts do, with the options of the run beside the weights
    whole = {"model": collections.OrderedDict(tensors), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    whole["scheduler"] = {"milestones": collections.Counter([3, 4])}
    path = tmp_path / "x.pth"
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    ours = read(path)
    assert ours.metadata == {"epoch": 3} and set(ours.tensors) == set(tensors)
    with torch.serialization.safe_globals([argparse.Namespace]):
        theirs = torch.load(path, weights_only=True)["model"]
    assert ours.tensors["bfloat"].dtype == np.float32 and ours.tensors["half"].dtype == np.float16
    for key, t in theirs.items():
        expected = t.detach().float() if t.dtype == torch.bfloat16 else t.detach()
        np.testing.assert_array_equal(ours.tensors[key], expected.numpy())
    shared = ours.tensors["part"]
    assert np.shares_memory(shared, ours.tensors["view"]) and shared.tolist() == [3, 5, 7]


def test_tensors_in_a_plain_pickle(tmp_path):
    torch = pytest.importorskip("torch", reason="writes the file of this test")
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": torch.arange(6.0).view(2, 3).t()}}))
    check(read(path), {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T})


def test_big_endian_storages(tmp_path):
    path = tmp_path / "x.pth"
    write_torch_zip(
        path, dictionary({"w": tensor_opcodes("0", 3, [3], [1])}), {"0": np.arange(3, dtype=">f4").tobytes()}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", b"big")
    check(read(path), {"w": np.arange(3, dtype=np.float32)})


# --- damage ---------------------------------------------------------------------------------------------------------


def broken(tmp_path, content, message=None):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightFileError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is a text file\n" * 40, "is no file of weights; expected a file of torch.save"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
        (b"PK\x03\x04 but no archive", "zip archive that is cut short or damaged"),
        (struct.pack("<Q", 2**62) + b"{}", "its header of 4611686018427387904 bytes does not fit"),
        (struct.pack("<Q", 40) + b'{"a": {"dtype": "F32", "shape": [2' + b" " * 30, "cut short or damaged"),
        (b"\x80\x04nonsense", "cut short or damaged"),
        (b"\x80\x04.", "cut short or damaged"),
        (pickle.dumps([1, 2]), "holds a list; expected a state_dict"),
        (pickle.dumps({"a": 1, "b": "x"}), "holds a dictionary of 'a', 'b'; expected a state_dict"),
        (pickle.dumps({"model": {}}), "expected a state_dict"),
        (pickle.dumps({"w": np.array([object()])}), "cut short or damaged: arrays of type 'O8'"),
    ],
)
def test_what_is_no_weights(tmp_path, content, message):
    broken(tmp_path, content, message)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(WeightFileError, match="is a folder; expected"):
        read(tmp_path)
    with pytest.raises(WeightFileError, match=r"cannot read .*none: No such file"):
        read(tmp_path / "none")


@pytest.mark.parametrize("kind", ["torch", "stream", "safetensors", "pickle", "npz"])
def test_a_file_cut_anywhere(tmp_path, kind):
    """Whatever is left of a file, reading it ends in one line."""
    whole = io.BytesIO()
    if kind == "torch":
        save_like_torch(tmp_path / "whole", ARRAYS)
        whole.write((tmp_path / "whole").read_bytes())
    elif kind == "stream":
        torch = pytest.importorskip("torch", reason="writes the file of this test")
        torch.save({"w": torch.arange(300.0)}, whole, _use_new_zipfile_serialization=False)
    elif kind == "safetensors":
        whole.write(safetensors.numpy.save(ARRAYS))
    elif kind == "pickle":
        pickle.dump(ARRAYS, whole)
    else:
        np.savez(whole, **ARRAYS)
    content = whole.getvalue()
    for length in [*range(0, len(content), max(1, len(content) // 25)), len(content) - 1]:
        broken(tmp_path, content[:length])


def test_a_flipped_bit_in_the_numbers_is_noticed(tmp_path):
    """zip archives keep a checksum of every member."""
    path = tmp_path / "whole"
    save_like_torch(path, {"w": np.arange(100, dtype=np.float32)})
    content = bytearray(path.read_bytes())
    at = content.index(np.float32(50).tobytes())
    content[at] ^= 1
    broken(tmp_path, bytes(content), "the checksum of archive/data/0 is wrong; copy or download the file again")


# --- harm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_in_a_pickle_is_not_run(tmp_path, protocol):
    marker, path = tmp_path / "executed", tmp_path / "x.pkl"
    attack(path, marker, protocol=protocol)
    with pytest.raises(
        WeightFileError, match=r"asks for (posix|nt)\.system" if protocol > 1 else "is no file of weights"
    ):
        read(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # the attack is a real one


def test_code_in_a_torch_file_is_not_run(tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Attack(f"touch {marker}"), protocol=2))
        archive.writestr("archive/version", b"3\n")
    asks = r"x\.pth: it asks for (posix|nt)\.system, and only arrays are read from it; nothing was run$"
    with pytest.raises(WeightFileError, match=asks):
        read(path)
    stream = torch_files.MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    path.write_bytes(stream + pickle.dumps(Attack(f"touch {marker}"), protocol=2) + pickle.dumps([], 2))
    with pytest.raises(WeightFileError, match=asks):
        read(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        name("builtins", "eval") + b"(" + text("1") + b"tR",
        name("builtins", "getattr") + b"(" + name("numpy", "ndarray") + text("tofile") + b"tR",
        b"(" + text("touch x") + b"ios\nsystem\n",  # INST
        b"(" + name("os", "system") + text("touch x") + b"o",  # OBJ
        name("numpy", "dtype") + b")\x81" + name("builtins", "exec") + b"b",
        text("os") + text("system") + b"\x93" + b"(" + text("touch x") + b"tR",  # STACK_GLOBAL
        b"\x82\x01",  # EXT1, copyreg's registry
        b"Pname\n",  # PERSID
        text("numpy.ndarray") + b")R",  # a call of something that is no name
    ],
)
def test_every_way_to_call_is_closed(tmp_path, opcodes):
    broken(tmp_path, b"\x80\x04" + opcodes + b".")
    with pytest.raises((Refused, WeightFileError)):
        read(tmp_path / "weights.pth")


def test_a_state_changes_nothing_of_ours(tmp_path):
    """BUILD on a function or a class would change it for the whole process."""
    from mrcnn_np.weights.formats import pickled

    path = tmp_path / "x.pkl"
    slots = b"(N}" + text("__defaults__") + b"Nst"
    path.write_bytes(b"\x80\x02}" + text("w") + name("torch._utils", "_rebuild_tensor_v2") + slots + b"bs.")
    before = vars(pickled.Array).copy(), pickled.tensor.__defaults__
    with pytest.raises(WeightFileError, match="expected a state_dict"):
        read(path)
    assert (vars(pickled.Array).copy(), pickled.tensor.__defaults__) == before


TENSOR_LIES = {
    "beyond the end": tensor_opcodes("0", 4, [5], [1]),
    "offset": tensor_opcodes("0", 4, [2], [1], offset=3),
    "stride": tensor_opcodes("0", 4, [2, 2], [1, 4]),
    "negative": tensor_opcodes("0", 4, [2], [-1]),
    "ranks": tensor_opcodes("0", 4, [2, 2], [1]),
    "huge": tensor_opcodes("0", 4, [2**40, 2**40], [0, 0]),
    "expanded": tensor_opcodes("0", 4, [2**28], [0]),
    "count": tensor_opcodes("0", 400, [4], [1]),
    "no storage": tensor_opcodes("7", 4, [4], [1]),
    "type": tensor_opcodes("0", 4, [4], [1], storage="QUInt8Storage"),
}


@pytest.mark.parametrize("lie", TENSOR_LIES)
def test_tensors_that_claim_what_is_not_there(tmp_path, lie):
    path = tmp_path / "x.pth"
    write_torch_zip(path, dictionary({"w": TENSOR_LIES[lie]}), {"0": np.arange(4, dtype="<f4").tobytes()})
    with pytest.raises(WeightFileError, match=r"x\.pth"):
        read(path)


def test_archives_that_claim_more_than_their_size(tmp_path):
    path = tmp_path / "x.pth"
    opcodes = dictionary({"w": tensor_opcodes("0", 10**6, [10**6], [1])})
    write_torch_zip(path, opcodes, {"0": bytes(4 * 10**6)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightFileError, match="compressed"):
        read(path)
    save_like_torch(path, ARRAYS)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")  # the table of contents: bytes 20 to 28 are the sizes
    content[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    with pytest.raises(WeightFileError, match="claims to hold more"):
        read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(10**8))
    with pytest.raises(WeightFileError, match="unpacks to far more"):
        read(path)


def test_arrays_that_announce_more_than_there_is(tmp_path):
    """NumPy would set the terabyte aside before it reads the first number."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (2**38,)})
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", out.getvalue() + bytes(16))
    with pytest.raises(WeightFileError, match=r"a\.npy announces 1099511627776 bytes and has 16"):
        read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightFileError, match="is no regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("kind", ["torch", "safetensors", "pickle", "npz", "stream"])
def test_damaged_bytes_end_in_one_message_or_in_arrays(tmp_path, kind):
    """400 files with one to four wrong bytes each; what cannot be noticed (a number changed) is read."""
    whole, path = tmp_path / "whole", tmp_path / "x"
    if kind == "torch":
        save_like_torch(whole, ARRAYS)
    elif kind == "stream":
        reference = tensor_opcodes("0", 4, [4], [1]).replace(b"tQ", b"NtQ")
        head = torch_files.MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + np.arange(4, dtype="<f4").tobytes()
        whole.write_bytes(head + b"\x80\x02" + dictionary({"w": reference}) + b"." + tail)
        np.testing.assert_array_equal(read(whole).tensors["w"], np.arange(4))
    elif kind == "safetensors":
        whole.write_bytes(safetensors.numpy.save(ARRAYS))
    elif kind == "pickle":
        whole.write_bytes(pickle.dumps({"model": ARRAYS}, protocol=4))
    else:
        with open(whole, "wb") as file:
            np.savez(file, **ARRAYS)
    content, rng, read_anyway = whole.read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 5)):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_anyway += len(read(path).tensors) > 0
        except WeightFileError as error:
            assert str(path) in str(error)
    assert read_anyway < 300


def test_pickles_that_copy_over_and_over(tmp_path):
    """A small file that asks for much memory: one text of 100 kB, encoded 10,000 times, would be a gigabyte."""
    path = tmp_path / "x.pkl"
    body = text("x" * 100_000) + b"q\x00" + text("latin1") + b"q\x01"
    call = name("_codecs", "encode") + b"(h\x00h\x01tR"
    path.write_bytes(b"\x80\x02(" + body + call * 10_000 + b"t.")
    with pytest.raises(WeightFileError, match="over and over"):
        read(path)


@pytest.mark.parametrize(
    "opcodes",
    [
        b"N" + b"r" + struct.pack("<I", 2**32 - 1),  # LONG_BINPUT: a table of 4 billion entries, somewhere else
        b"\x96" + struct.pack("<Q", 2**60),  # BYTEARRAY8 of an exabyte
        b"\x8e" + struct.pack("<Q", 2**60),  # BINBYTES8
        b"\x8b" + struct.pack("<i", 2**31 - 1),  # LONG4 of 2 GB
        b"(" * 100_000,
        b"]q\x00" + b"h\x00a" * 10,  # a list within itself
        b"(" + b"N" * 10 + b"d",
        b"." * 3,
        b"h\x05",
        b"t",
        b"(" + number(10**9) + b"l" + name("torch", "Size") + b"(" + number(3) + b"tR",
    ],
)
def test_nonsense_that_wants_memory(tmp_path, opcodes):
    tracemalloc.start()
    broken(tmp_path, b"\x80\x05" + opcodes + b".")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_streams_within_streams_do_not_multiply(tmp_path):
    """Each level is read twice, so 40 levels would take 2**40 readings."""
    stream = b"N"
    for _ in range(40):
        head = torch_files.MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
        inner = head + b"\x80\x02" + stream + b"." + pickle.dumps([], 2)
        stream = name("torch.storage", "_load_from_bytes") + b"(B" + struct.pack("<I", len(inner)) + inner + b"tR"
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x03" + stream + b".")
    with pytest.raises(WeightFileError, match="_load_from_bytes"):
        read(path)


def test_an_endless_dictionary(tmp_path):
    """OrderedDict of a tensor of a trillion equal rows would not end."""
    path = tmp_path / "x.pth"
    rows = tensor_opcodes("0", 4, [2**40, 2], [0, 0])
    write_torch_zip(path, name("collections", "OrderedDict") + b"(" + rows + b"tR", {"0": bytes(16)})
    with pytest.raises(WeightFileError, match="instead of a container"):
        read(path)


def test_torchscript_and_foreign_archives(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/constants.pkl", b"")
    with pytest.raises(WeightFileError, match="TorchScript"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    with pytest.raises(WeightFileError, match=r"not one of torch\.save"):
        read(path)


def test_a_whole_model_is_refused_by_name(tmp_path):
    path = tmp_path / "x.pth"
    write_torch_zip(path, name("torch.nn.modules.linear", "Linear") + b")\x81", {})
    with pytest.raises(WeightFileError, match=r"asks for torch\.nn\.modules\.linear\.Linear, and"):
        read(path)
    torch = pytest.importorskip("torch", reason="writes the file of the rest of this test")
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightFileError, match=r"asks for torch\.nn\.modules\.linear\.Linear, and"):
        read(path)


def test_safetensors_that_lie(tmp_path):
    good = safetensors.numpy.save({"a": np.zeros(4, np.float32)})
    broken(tmp_path, good.replace(b"[4]", b"[9]"), "cut short or damaged")
    broken(tmp_path, good.replace(b"[0,16]", b"[0,99]"), "cut short or damaged")
    broken(tmp_path, good.replace(b"F32", b"Q99"), "cut short or damaged")
    broken(tmp_path, good.replace(b"F32", b"U99"), "cut short or damaged")
    path = tmp_path / "b.safetensors"
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(WeightFileError, match="bfloat16"):
        read(path)
