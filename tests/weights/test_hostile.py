"""Files made to harm the reader: none takes long, fills the memory or ends in anything but one line or arrays."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hostile_files import CALLS, zipped
from weight_files import dictionary, save_like_torch, tensor_opcodes, text

import mrcnn_np
from mrcnn_np.backbone import ARCHITECTURES
from mrcnn_np.errors import WeightFileError
from mrcnn_np.weights.formats import torch_files, unpickling
from mrcnn_np.weights.formats.files import read
from mrcnn_np.weights.formats.pickled import ARRAYS, TENSORS, Name
from mrcnn_np.weights.load import load_weights

ROOT = Path(mrcnn_np.__file__).parents[1]
#: read in a process of its own, whose memory and time are limited: a reader that fails here takes the machine with it
READER = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from hostile_files import hostile_files, random_programs
from mrcnn_np.backbone import ARCHITECTURES
from mrcnn_np.errors import WeightFileError
from mrcnn_np.weights.formats.files import read

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

kind, amount, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (120,) * 2)
files = hostile_files(amount) if kind == "made" else random_programs(np.random.default_rng(0), amount)
before, rows, seconds = memory(), [], 0.0
for name, content in files:
    path.write_bytes(content)
    print(name, end="", flush=True)
    start = time.process_time()
    try:
        outcome = f"{len(read(path).tensors)} tensors"
    except WeightFileError as error:
        outcome = str(error)
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:500]
    seconds = max(seconds, time.process_time() - start)
    if not outcome.endswith("tensors"):
        good = str(path) in outcome and "\\n" not in outcome and len(outcome) < 700
        outcome = "refused" if good else outcome
    print("\\t", outcome, flush=True)
print(json.dumps({"seconds": seconds, "megabytes": memory() - before}))
"""


def outcomes(kind, amount, tmp_path):
    """Read all files of a kind; return what became of each, and what the slowest and the largest took."""
    pytest.importorskip("resource", reason="limits of memory and time are those of POSIX")
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "oracles")])}
    command = [sys.executable, "-c", READER, kind, str(amount), str(tmp_path / "file")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    *rows, last = done.stdout.splitlines()
    assert done.returncode == 0, f"it ended at: {last}\n{done.stderr[-2000:]}"
    return dict(row.split("\t ", 1) for row in rows), json.loads(last)


def test_no_hostile_file_takes_long_or_fills_the_memory(tmp_path):
    found, took = outcomes("made", 20_000, tmp_path)
    assert len(found) > 4000
    odd = {name: outcome for name, outcome in found.items() if outcome != "refused"}
    # these are odd, but hold what they say
    assert set(odd) <= {
        "one large tensor under many names", "one large tensor under many names, in a pickle", "safetensors of many",
        "an archive of 65535 members",
    }  # fmt: skip
    assert took["seconds"] < 10 and took["megabytes"] < 300


def test_random_programs(tmp_path):
    found, took = outcomes("random", 4000, tmp_path)
    assert {outcome for outcome in found.values() if not outcome.endswith(" tensors")} == {"refused"}
    assert any(outcome.endswith(" tensors") for outcome in found.values())
    assert took["seconds"] < 10 and took["megabytes"] < 300


@pytest.mark.parametrize(
    ("recognised", "pattern"),
    [
        ("backbone.body.conv1.weight", "backbone.body.%x.weight"),
        ("rpn.head.conv.weight", "rpn.conv9%x.weight"),
        ("stem.conv1.weight", "fc1000.%x"),
        ("stem.conv1.weight", "res2.0.%x.weight"),
        ("conv1_w", "lr%x_momentum"),
        ("layer1.0.conv1.weight", "fc.%x"),
        ("backbone.stem.conv.w", "backbone.%x.w"),
    ],
)
def test_many_tensors_of_one_file_do_not_multiply(tmp_path, recognised, pattern):
    """One tensor under as many names as go into a megabyte."""
    tensor = tensor_opcodes("0", 16, [1], [1]) + b"q\x000"
    names = [recognised, "conv1.weight", *(pattern % i for i in range(1_000_000 // (len(pattern) + 10)))]
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(tensor + b"}(" + b"".join(text(name) + b"h\x00" for name in names) + b"u"))
    start = time.process_time()
    with pytest.raises(WeightFileError, match=r"x\.pth") as caught:
        load_weights(path)
    assert "damaged" not in str(caught.value)
    assert time.process_time() - start < 10 and len(str(caught.value)) < 8000


def test_a_number_in_a_name_counts_nothing(tmp_path):
    """It would make a network of a billion convolutions, whose tensors are then missed one by one."""
    tensors = dict.fromkeys(["rpn.head.conv.weight", "rpn.conv1000000000.weight"], tensor_opcodes("0", 16, [1], [1]))
    tiny = ARCHITECTURES["tiny"]
    blocks = [f"backbone.body.layer{i}.{j}.conv2.weight" for i, n in enumerate(tiny.blocks, 1) for j in range(n)]
    kernel = tensor_opcodes("0", 16, [tiny.width[0], tiny.width[0], 3, 3], [0, 0, 0, 0])
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(dictionary(tensors | dict.fromkeys(blocks, kernel))))
    with pytest.raises(WeightFileError, match=r"x\.pth does not fit the network: of 1\d\d tensors"):
        load_weights(path)


def test_a_tensor_without_numbers_does_not_grow(tmp_path):
    """A column for the background beside a trillion empty rows would have a trillion numbers."""
    empty = tensor_opcodes("0", 16, [0, 2**40], [1, 1])
    path = tmp_path / "x.pth"
    path.write_bytes(
        zipped(dictionary({"stem.conv1.weight": empty, "roi_heads.box_predictor.bbox_pred.weight": empty}))
    )
    with pytest.raises(WeightFileError, match="its tensors would take"):
        load_weights(path)


def test_every_function_is_among_those_that_are_tried():
    budget = unpickling.Budget(0)
    functions = {*ARRAYS, *TENSORS, *torch_files.nested(budget)}
    twins = {"numpy._core.multiarray": "numpy.core.multiarray", "numpy._core.numeric": "numpy.core.numeric"}
    twins["__builtin__"] = "builtins"
    assert {Name(twins.get(n.module, n.module), n.name) for n in functions} == {Name(*c.split(" ")) for c in CALLS}


def test_the_budget_is_far_above_what_weights_need(tmp_path, monkeypatch):
    """A network with twice as many tensors as Mask R-CNN's largest, its velocity beside it."""
    left = []

    class Watched(unpickling.Budget):
        def __init__(self, size):
            super().__init__(size)
            left.append(self)

    monkeypatch.setattr(torch_files, "Budget", Watched)
    tensors = {f"backbone.layer{i}.conv.weight": np.zeros((2, 2), np.float32) for i in range(2000)}
    save_like_torch(tmp_path / "x.pth", tensors)
    assert len(read(tmp_path / "x.pth").tensors) == 2000
    assert left[0].steps > 0.9 * unpickling.STEPS


def test_keys_that_are_no_texts_are_no_obstacle(tmp_path):
    """The state of an optimiser has numbers as keys, that of a scheduler maybe tuples."""
    state = {0: {"step": 1}, (1, (2, "a")): 3, None: 4, 2.5: 5, b"x": 6, frozenset: 7}
    del state[frozenset]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(2)}, "optimizer": state, "epoch": 3}))
    contents = read(path)
    assert list(contents.tensors) == ["w"] and contents.metadata == {"epoch": 3}


def test_recursive_containers_beside_tensors_are_no_obstacle(tmp_path):
    inner = []
    inner.append((inner, {"inner": inner}))
    path = tmp_path / "x.pkl"
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps({"model": {"w": np.ones(2)}, "log": inner}, protocol=protocol))
        assert list(read(path).tensors) == ["w"]


def test_tensors_with_attributes_and_of_late_types(tmp_path):
    torch = pytest.importorskip("torch", reason="writes the file of this test")
    tensors = {
        "late": torch.arange(3).to(torch.uint16),
        "plain": torch.ones(3),
        "parameter": torch.nn.Parameter(torch.ones(3)),
    }
    tensors["plain"].note = tensors["parameter"].note = "an attribute"
    torch.save({"model": tensors, "types": [torch.float32, {1, 2}]}, tmp_path / "x.pth")
    found = read(tmp_path / "x.pth").tensors
    assert {name: a.tolist() for name, a in found.items()} == {
        "late": [0, 1, 2], "plain": [1, 1, 1], "parameter": [1, 1, 1],
    }  # fmt: skip
    assert found["late"].dtype == np.uint16


def test_an_archive_of_numpys_every_kind_of_number(tmp_path):
    """The header is read here and not by NumPy; it says the same."""
    rng = np.random.default_rng(0)
    arrays = {
        kind: rng.integers(0, 2, (3, 4)).astype(kind)
        for kind in ("f2", "f4", "f8", "i1", "i8", "u1", "u4", "?", ">f4", ">i2")
    }
    arrays |= {
        "order": np.asfortranarray(arrays["f4"]),
        "number": np.float32(3),
        "row": np.arange(5.0),
        "none": np.zeros((0, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read(tmp_path / "a.npz").tensors
        assert set(found) == set(arrays)
        for name, a in arrays.items():
            assert found[name].dtype == a.dtype and found[name].shape == a.shape
            np.testing.assert_array_equal(found[name], a)
    for strange in (np.array(["a text"]), np.array([1j]), np.array([(1, 2.0)], "i4,f4"), np.array([None])):
        np.savez(tmp_path / "a.npz", strange=strange)
        with pytest.raises(WeightFileError, match=r"strange\.npy (holds arrays of type|has the header)"):
            read(tmp_path / "a.npz")
