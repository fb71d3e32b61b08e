"""A graph, or a part of one, run in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mrcnn_np import MaskRCNN
from mrcnn_np.onnx.export import onnx_file
from mrcnn_np.onnx.graph import Graph

REASON = "onnx and onnxruntime are not installed: pip install -e '.[onnx]'"


def session(data: bytes) -> Any:
    """Open a file of ONNX on one thread."""
    onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def computed(
    add: Callable[..., list[tuple[str, type, int]]], inputs: Mapping[str, np.ndarray], params: Any = None
) -> list[np.ndarray]:
    """Return what nodes compute that ``add(g, *names of inputs)`` adds; it returns (output, type, rank) of each."""
    pytest.importorskip("onnx", reason=REASON)
    g = Graph(params or {})
    for name, x in inputs.items():
        g.input(name, x.dtype.type, tuple(f"{name}{axis}" for axis in range(x.ndim)))
    for k, (y, dtype, rank) in enumerate(add(g, *inputs)):
        g.output(y, f"result{k}", dtype, tuple(f"result{k}.{axis}" for axis in range(rank)))
    return session(g.to_bytes("test", "", {})).run(None, dict(inputs))


class Exported:
    """A network as ONNX, which is called with an image."""

    def __init__(self, model: MaskRCNN) -> None:
        pytest.importorskip("onnx", reason=REASON)
        self.session = session(onnx_file(model))

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return its outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {"image": image})))
