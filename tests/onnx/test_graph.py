"""The builder of graphs: names, constants, what is refused."""

import sys

import numpy as np
import pytest
from onnx_run import REASON, computed

from mrcnn_np.errors import UserError
from mrcnn_np.onnx import graph
from mrcnn_np.onnx.graph import Graph, require_onnx


def test_a_missing_package_is_one_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs the package onnx.*pip install 'mrcnn-np\[onnx\]'"):
        require_onnx()


def test_constants_have_types_and_stand_once():
    pytest.importorskip("onnx", reason=REASON)
    g = Graph({})
    names = [g.tensor(x) for x in (1, 1.0, [1], np.float64(1), np.array(1, np.float32), [0.5, 2])]
    assert names[4] == names[1] and len(set(names)) == 5
    types = [g.onnx.numpy_helper.to_array(g.initializers[name]).dtype.name for name in names]
    assert types == ["int64", "float32", "int64", "float64", "float32", "float32"]
    assert g.tensor("x") == "x"
    with pytest.raises(AttributeError):
        g.conv  # noqa: B018


def test_only_the_last_node_gets_a_name():
    pytest.importorskip("onnx", reason=REASON)
    g = Graph({})
    first = g.Add(1, 2)
    assert g.named(g.Add(first, 3), "sum") == "sum"
    with pytest.raises(ValueError, match="not the output of the last node"):
        g.named(first, "other")


def test_rows_one_after_the_other():
    def add(g, x):
        return [(g.for_each(lambda row: g.Mul(row, g.ReduceMax(row)), [(x, np.float32)], np.float32), np.float32, 2)]

    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    (y,) = computed(add, {"x": x})
    np.testing.assert_array_equal(y, x * x.max(axis=1, keepdims=True))


def test_a_file_of_two_gigabytes_is_refused(monkeypatch):
    pytest.importorskip("onnx", reason=REASON)
    monkeypatch.setattr(graph, "MOST_BYTES", 2**24 + 15)
    g = Graph({"w": np.zeros(4, np.float32)})
    g.parameter("w")
    with pytest.raises(UserError, match="the weights have 16 bytes; a file of ONNX holds at most"):
        g.to_bytes("x", "", {})
