"""Chapter 9: the heads."""

from __future__ import annotations

import naive
import numpy as np

from mrcnn_np.boxes import decode_boxes


def test_1(fn):
    """The backward pass of a linear layer."""
    rng = np.random.default_rng(1)
    for r, c, o in ((4, 6, 3), (3, 3, 3), (1, 5, 2)):
        dy, x, w = rng.normal(size=(r, o)), rng.normal(size=(r, c)), rng.normal(size=(c, o))
        wanted = (dy @ w.T, x.T @ dy, dy.sum(axis=0))
        for name, got, want in zip(("dx", "dw", "db"), fn(dy, x, w), wanted):
            assert np.shape(got) == want.shape, f"{name} has shape {np.shape(got)}; expected {want.shape}"
            assert np.allclose(got, want), f"{name} is {np.asarray(got)}; expected {want}"


def test_2(fn):
    """Boxes moved by the deltas of their class."""
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 50, (6, 2))
    regions = np.concatenate([low, low + rng.uniform(5, 40, (6, 2))], axis=1)
    deltas, ids, std = rng.normal(size=(6, 4, 4)), rng.integers(0, 4, 6), (0.1, 0.1, 0.2, 0.2)
    want = decode_boxes(deltas[np.arange(6), ids], regions, std=std)
    got = np.asarray(fn(deltas.copy(), regions.copy(), ids, std))
    assert got.shape == (6, 4), f"boxes have shape {got.shape}; expected (6, 4)"
    assert np.allclose(got, want), f"the first box is {got[0]}; expected {want[0]}"


def test_3(fn):
    """A transposed convolution of 2 x 2 with stride 2."""
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(3, 4, 5)), rng.normal(size=(2, 2, 5, 2))
    want = naive.conv2d_transpose(x[None], w)[0]
    got = np.asarray(fn(x, w))
    assert got.shape == want.shape, f"the map has shape {got.shape}; expected {want.shape}"
    assert np.allclose(got, want), (
        f"the upper left cell is {got[0, 0]}, its right neighbour {got[0, 1]}; see figure 9.2"
    )


def test_4(fn):
    """Its backward pass, against the definition of the adjoint."""
    rng = np.random.default_rng(4)
    x, w, dy = rng.normal(size=(3, 4, 5)), rng.normal(size=(2, 2, 5, 2)), rng.normal(size=(6, 8, 2))
    dx, dw = fn(dy, x, w)
    assert np.shape(dx) == x.shape and np.shape(dw) == w.shape, f"shapes {np.shape(dx)} and {np.shape(dw)}"
    for _ in range(5):
        u, v = rng.normal(size=x.shape), rng.normal(size=w.shape)
        want = (naive.conv2d_transpose(u[None], w)[0] * dy).sum()
        assert np.isclose((dx * u).sum(), want), f"dx along a direction: {(dx * u).sum():.6f}; expected {want:.6f}"
        want = (naive.conv2d_transpose(x[None], v)[0] * dy).sum()
        assert np.isclose((dw * v).sum(), want), f"dw along a direction: {(dw * v).sum():.6f}; expected {want:.6f}"


MUTANTS = {
    1: [("dy.sum(axis=0)", "dy.mean(axis=0)"), ("x.T @ dy", "dy.T @ x")],
    2: [("np.exp(own[:, 2:])", "(1 + own[:, 2:])"), (" * np.asarray(std)", ""), ("own[:, :2] * sides", "own[:, :2]")],
    3: [("y[i::2, j::2]", "y[j::2, i::2]"), ("w[i, j]", "w[0, 0]")],
    4: [("w[i, j].T", "w[j, i].T"), ("dx +=", "dx ="), ("dw[i, j]", "dw[j, i]")],
}
