"""How closely an operation must agree with PyTorch's, forward and backward, in both precisions.

In float64 the two differ by the order of their sums; measured: 4e-15 of the largest magnitude (RoIAlign), mostly below
2e-15, forward and backward; the bounds leave room for other processors. In float32 no two correct implementations
agree to a fixed number of digits, so both are held against the float64 result: ours may be off by at most four times
what PyTorch is off (measured: 1.1 times), plus a few units in the last place where PyTorch is exact.

Tensors keep the layout of this project (NHWC, HWIO); ``nchw`` and ``oihw`` permute inside PyTorch's graph, so its
gradients come back in our layout too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import kernels
from mrcnn_np.compare.operations.case import nchw as nchw
from mrcnn_np.compare.operations.case import nhwc as nhwc
from mrcnn_np.compare.operations.case import oihw as oihw

torch.set_num_threads(1)  # the sums of a thread pool depend on the machine

FORWARD, BACKWARD = 1e-13, 1e-13
FLOOR = 8 * float(np.finfo(np.float32).eps)


def xyxy(boxes: np.ndarray) -> torch.Tensor:
    """(y1, x1, y2, x2) as PyTorch's (x1, y1, x2, y2)."""
    return torch.from_numpy(np.ascontiguousarray(boxes[..., [1, 0, 3, 2]]))


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest magnitude."""
    assert found.shape == expected.shape
    if expected.size == 0:
        return 0.0
    worst = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    return float(worst / max(float(np.abs(expected).max()), 1e-300))


def check_float64(name: str, ours: np.ndarray, theirs: np.ndarray, bound: float) -> None:
    assert ours.dtype == theirs.dtype == np.float64, name
    e = error(ours, theirs)
    assert e <= bound, f"{name}: {e:.1e} apart in float64, bound {bound:.0e}"


def check_float32(name: str, ours: np.ndarray, theirs: np.ndarray, exact: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype == np.float32 and exact.dtype == np.float64, name
    mine, its = error(ours, exact), error(theirs, exact)
    assert its <= 1e-4, f"{name}: PyTorch's own float32 is off by {its:.1e}: the case is badly chosen"
    assert mine <= 4 * its + FLOOR, f"{name}: off by {mine:.1e} in float32, PyTorch by {its:.1e}"


def check_op(
    name: str,
    ours: Callable[..., tuple[np.ndarray, Callable[[np.ndarray], Any]]],
    theirs: Callable[..., torch.Tensor],
    *inputs: np.ndarray,
) -> None:
    """Compare ``y`` and the gradient of every input.

    ``ours(*arrays)`` returns ``(y, backward)``; ``backward(dy)`` one gradient per input. ``theirs(*tensors)`` returns
    ``y``. What has no gradient (labels, RoIs) both know already. In float32 both backends are compared; in float64
    the compiled one leaves everything to NumPy.
    """
    rng = np.random.default_rng(99)
    # Numbers that both precisions can hold: the float64 result is then exact for both.
    inputs = tuple(x.astype(np.float32) for x in inputs)
    results: dict[tuple[type, str], list[np.ndarray]] = {}
    dy = None
    for dtype, backend in ((np.float64, "numpy"), (np.float32, "numpy"), (np.float32, "cpu")):
        with kernels.use(backend):
            y, backward = ours(*(x.astype(dtype) for x in inputs))
            dy = rng.standard_normal(y.shape).astype(np.float32) if dy is None else dy
            gradients = backward(dy.astype(dtype))
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        assert len(gradients) == len(inputs), name
        results[dtype, backend] = [y, *gradients]
    for dtype in (np.float64, np.float32):
        tensors = [torch.from_numpy(x.astype(dtype)).requires_grad_() for x in inputs]
        expected = theirs(*tensors)
        expected.backward(torch.from_numpy(dy.astype(dtype)))
        results[dtype, "torch"] = [expected.detach().numpy(), *(t.grad.numpy() for t in tensors)]
    for i, part in enumerate(["y"] + [f"gradient of input {i}" for i in range(len(inputs))]):
        exact = results[np.float64, "torch"][i]
        bound = FORWARD if i == 0 else BACKWARD
        check_float64(f"{name}, {part}", results[np.float64, "numpy"][i], exact, bound)
        for backend in ("numpy", "cpu"):
            theirs32 = results[np.float32, "torch"][i]
            check_float32(f"{name}, {part}, {backend} backend", results[np.float32, backend][i], theirs32, exact)
