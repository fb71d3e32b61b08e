"""Chapter 2: convolution, batch norm, pooling."""

from __future__ import annotations

import naive
import numpy as np


def test_1(fn):
    """How many windows read each cell of a row."""
    for side, kernel, stride, before, after in (
        (8, 3, 2, 1, 1), (8, 3, 1, 1, 1), (8, 3, 2, 0, 1), (9, 1, 2, 0, 0), (12, 7, 2, 3, 3),
    ):  # fmt: skip
        want = np.zeros(side, int)
        for start in range(-before, side + after - kernel + 1, stride):
            for cell in range(start, start + kernel):
                if 0 <= cell < side:
                    want[cell] += 1
        got = [int(v) for v in fn(side, kernel, stride, before, after)]
        assert got == want.tolist(), f"{side} cells, kernel {kernel}, stride {stride}: {got}; expected {want.tolist()}"


def test_2(fn):
    """Windows as rows of a matrix."""
    rng = np.random.default_rng(2)
    for shape, kernel, stride in (((5, 6), 3, 1), ((7, 6), 3, 2), ((4, 4), 1, 2), ((5, 5), 2, 3)):
        plane, w = rng.normal(size=shape), rng.normal(size=(kernel, kernel))
        want = naive.conv2d(plane[None, :, :, None], w[:, :, None, None], stride=(stride, stride)).ravel()
        rows = np.asarray(fn(plane, kernel, stride))
        assert rows.shape == (want.size, kernel**2), (
            f"{shape}, kernel {kernel}, stride {stride}: {rows.shape}; expected {(want.size, kernel**2)}"
        )
        assert np.allclose(rows @ w.ravel(), want), f"{shape}, kernel {kernel}, stride {stride}: the windows are others"


def test_3(fn):
    """The gradient of the map: the adjoint of the forward pass."""
    rng = np.random.default_rng(3)
    for shape, kernel, stride in (((5, 6), 3, 1), ((7, 6), 3, 2), ((4, 5), 1, 2)):
        plane, w = rng.normal(size=shape), rng.normal(size=(kernel, kernel))
        y = naive.conv2d(plane[None, :, :, None], w[:, :, None, None], stride=(stride, stride))[0, :, :, 0]
        dy = rng.normal(size=y.shape)
        dx = np.asarray(fn(dy, w, stride, shape))
        assert dx.shape == shape, f"the gradient has shape {dx.shape}; expected {shape}"
        assert np.isclose((dx * plane).sum(), (dy * y).sum()), f"{shape}, stride {stride}: it is not the adjoint"


def test_4(fn):
    """The gradient of a batch norm whose statistics are the batch's."""
    rng = np.random.default_rng(4)
    x, dy, gamma = rng.normal(2, 3, (20, 4)), rng.normal(size=(20, 4)), rng.uniform(0.5, 2, 4)
    got = np.asarray(fn(dy, x, gamma, 1e-5))
    assert got.shape == x.shape, f"the gradient has shape {got.shape}; expected {x.shape}"
    kept = {"training": True, "eps": 1e-5, "momentum": 0.1}
    for _ in range(5):
        step = 1e-5 * rng.normal(size=x.shape)
        ends = [naive.batch_norm(x + s * step, gamma, 0 * gamma, 0 * gamma, gamma, **kept)[0] for s in (1, -1)]
        want = ((ends[0] - ends[1]) * dy).sum() / 2
        assert np.isclose((got * step).sum(), want, rtol=1e-4, atol=1e-9), "a small step changes the loss otherwise"


def test_5(fn):
    """A convolution that does the work of the frozen norm behind it."""
    rng = np.random.default_rng(5)
    x, w, b = rng.normal(size=(30, 6)), rng.normal(size=(1, 1, 6, 4)), rng.normal(size=4)
    gamma, beta, mean, var = rng.uniform(0.5, 2, 4), *rng.normal(size=(2, 4)), rng.uniform(0.5, 2, 4)
    want = (x @ w[0, 0] + b - mean) / np.sqrt(var + 0.1) * gamma + beta
    v, shift = fn(w, b, gamma, beta, mean, var, 0.1)
    assert np.shape(v) == w.shape, f"the weights have shape {np.shape(v)}; expected {w.shape}"
    assert np.allclose(x @ v[0, 0] + shift, want), "convolution and norm together give other numbers"


def test_6(fn):
    """A map that a max pool padded with zeros gets wrong, in its upper left corner and nowhere else."""
    x = np.asarray(fn(), float)
    assert x.shape == (4, 4), f"the map has shape {x.shape}; expected (4, 4)"
    how = {"kernel": (3, 3), "stride": (2, 2)}
    none, one = ((0, 0), (0, 0)), ((1, 1), (1, 1))
    dy = np.zeros((1, 2, 2, 1))
    right = naive.max_pool2d(x[None, :, :, None], dy, padding=one, **how)[0]
    zeros = naive.max_pool2d(np.pad(x, 1)[None, :, :, None], dy, padding=none, **how)[0]
    wrong = (right != zeros)[0, :, :, 0].tolist()
    assert wrong == [[True, False], [False, False]], f"wrong with zeros: {wrong}; expected the first only"


MUTANTS = {
    1: [("range(-before,", "range(0,"), ("count[max(start, 0)", "count[max(start, 1)")],
    2: [("stride * p :", "p :"), ("(rows - kernel) // stride + 1", "rows - kernel + 1")],
    3: [("+= dy[p, q]", "= dy[p, q]"), ("* w", "* w[::-1, ::-1]")],
    4: [(" - dy.mean(axis=0)", ""), ("/ sigma", "")],
    5: [("(b - mean)", "b"), ("np.sqrt(var + eps)", "np.sqrt(var)")],
    6: [("x[:2, :2] = -1", "x[:, :2] = -1"), ("= -1", "= 1")],
}
