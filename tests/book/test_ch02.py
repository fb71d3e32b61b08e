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


@pytest.mark.parametrize("how", ["sum", "one", "squares"])
def test_the_loss_and_its_gradient(in_node, how):
    rng = np.random.default_rng(2)
    x, w, bias, chosen = rng.normal(size=(5, 6)), rng.normal(size=(3, 3)), 0.5, [2, 3]
    y, _ = conv2d(x[None, :, :, None], w[:, :, None, None], np.array([bias]), padding=1)
    y = y[0, :, :, 0]
    want = {"sum": y.sum(), "one": y[2, 3], "squares": (y**2).sum() / 2}[how]
    given = [x.tolist(), w.tolist(), 1, [[1, 1], [1, 1]]]
    made, terms, dy = in_node(
        "convolution.math.js",
        [
            ["convolve", [*given, bias]],
            ["lossTerms", [y.tolist(), how, chosen]],
            ["lossGradient", [y.tolist(), how, chosen]],
        ],
    )
    np.testing.assert_allclose(made, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sum(term[4] * term[5] for term in terms), want, rtol=1e-12)
    assert all(term[4] == y[term[0], term[1]] for term in terms)
    for p, q in ((2, 3), (0, 0)):
        step = np.zeros_like(y)
        step[p, q] = 1e-6
        ends = [{"sum": z.sum(), "one": z[2, 3], "squares": (z**2).sum() / 2}[how] for z in (y + step, y - step)]
        assert dy[p][q] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)
