"""The arithmetic of chapter 2's live picture is that of the package."""

import numpy as np
import pytest

from mrcnn_np.backbone import _same_padding
from mrcnn_np.ops.conv import conv2d, conv2d_backward

CASES = [(7, 8, 1, "none"), (7, 8, 1, "one"), (7, 8, 2, "none"), (7, 8, 2, "one"), (7, 8, 2, "same"), (6, 5, 1, "same")]


def pads_of(rows, columns, stride, how):
    if how == "same":
        return _same_padding((1, rows, columns, 1), kernel=3, stride=stride)
    return (((1, 1),) * 2) if how == "one" else ((0, 0),) * 2


@pytest.mark.parametrize("case", CASES)
def test_convolution(in_node, case):
    rows, columns, stride, how = case
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(rows, columns)), rng.normal(size=(3, 3))
    pads = pads_of(*case)
    y, cache = conv2d(x[None, :, :, None], w[:, :, None, None], stride=stride, padding=pads)
    dy = rng.normal(size=y.shape)
    dx, dw, _ = conv2d_backward(dy, cache)
    given = [x.tolist(), w.tolist(), stride, pads]
    sides = [["padding", [size, 3, stride, how]] for size in (rows, columns)]
    theirs = in_node(
        "convolution.math.js",
        [*sides, ["outputShape", given], ["convolve", given], ["convolveBackward", [*given, dy[0, :, :, 0].tolist()]]],
    )
    assert [tuple(side) for side in theirs[:2]] == [tuple(side) for side in pads]
    assert tuple(theirs[2]) == y.shape[1:3]
    np.testing.assert_allclose(theirs[3], y[0, :, :, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(theirs[4][0], dx[0, :, :, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(theirs[4][1], dw[:, :, 0, 0], rtol=1e-12, atol=1e-12)


def test_the_products_that_are_shown_add_up(in_node):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(6, 7)), rng.normal(size=(3, 3))
    y, cache = conv2d(x[None, :, :, None], w[:, :, None, None], stride=2, padding=1)
    dy = rng.normal(size=y.shape)
    dx, dw, _ = conv2d_backward(dy, cache)
    given = [x.tolist(), w.tolist(), 2, [[1, 1], [1, 1]]]
    back = [*given, dy[0, :, :, 0].tolist()]
    calls = [["outputTerms", [*given, 1, 2]], ["pixelTerms", [*back, 3, 4]], ["weightTerms", [*back, 2, 0]]]
    sums = [sum(term[4] * term[5] for term in terms) for terms in in_node("convolution.math.js", calls)]
    np.testing.assert_allclose(sums, [y[0, 1, 2, 0], dx[0, 3, 4, 0], dw[2, 0, 0, 0]], rtol=1e-12)
