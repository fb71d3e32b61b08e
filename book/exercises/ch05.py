"""Chapter 5: anchors and IoU."""

from __future__ import annotations

import naive_boxes
import numpy as np


def test_1(fn):
    """IoU of all pairs of boxes."""
    rng = np.random.default_rng(1)
    low_a, low_b = rng.uniform(0, 20, (7, 2)), rng.uniform(0, 20, (5, 2))
    a = np.concatenate([low_a, low_a + rng.uniform(1, 9, (7, 2))], axis=1)
    b = np.concatenate([low_b, low_b + rng.uniform(1, 9, (5, 2))], axis=1)
    a = np.concatenate([a, [[0.0, 0, 2, 2], b[0]]])
    b = np.concatenate([b, [[30.0, 30, 34, 34]]])  # apart from all others, in both directions
    got = np.asarray(fn(a, b), float)
    assert got.shape == (9, 6), f"9 and 6 boxes: shape {got.shape}; expected (9, 6)"
    for i, j in np.ndindex(9, 6):
        want = naive_boxes.iou(a[i], b[j])
        assert np.isclose(got[i, j], want), f"{a[i].round(2)} and {b[j].round(2)}: {got[i, j]:.4f}; expected {want:.4f}"


def test_2(fn):
    """How far a square may move."""
    for u in (0.3, 0.5, 0.6, 0.7, 0.9):
        t = float(fn(u))
        got = naive_boxes.iou([0, 0, 1, 1], [0, t, 1, 1 + t])
        assert np.isclose(got, u), f"for u = {u} you say {t:.4f} of a side; the IoU is then {got:.4f}"


def test_3(fn):
    """The anchors of one level."""
    for rows, columns, size, stride, ratios, offset in (
        (2, 3, 32, 4, (0.5, 1, 2), 0.0), (3, 2, 20, 8, (0.5, 1, 2), 0.5), (1, 4, 7, 16, (0.25, 3), 0.5),
    ):  # fmt: skip
        want = np.array(naive_boxes.anchors(rows, columns, size, stride, stride, ratios, offset))
        got = np.asarray(fn(rows, columns, size, stride, ratios, offset), float)
        assert got.shape == want.shape, f"{rows} x {columns} cells, {len(ratios)} ratios: {got.shape}; {want.shape}"
        bad = np.flatnonzero(~np.isclose(got, want).all(axis=1))
        assert not len(bad), f"row {bad[0]} is {got[bad[0]].round(2)}; expected {want[bad[0]].round(2)}"


def test_4(fn):
    """How many anchors an image has."""
    strides = (4, 8, 16, 32, 64)
    for height, width, want in (
        (1024, 1024, 261888), (640, 640, 102300), (128, 128, 4092), (800, 800, 159882), (800, 1344, 268569),
    ):  # fmt: skip
        got = fn(height, width, strides, 3)
        assert got == want, f"{height} x {width}: {got}; expected {want}"


def test_5(fn):
    """How far apart the sizes of neighbouring levels may be."""
    for u in (0.4, 0.5, 0.6, 0.7):
        f = float(fn(u))
        sides = np.geomspace(1, f, 2001)
        worst = np.maximum(1 / sides**2, sides**2 / f**2).min()
        assert f > 1 and np.isclose(worst, u, atol=2e-3), f"u = {u}: with factor {f:.3f} the worst is {worst:.3f}"


MUTANTS = {
    1: [("np.maximum(sides, 0)", "sides"), ("- shared)", ")")],
    2: [("(1 + u)", "1"), ("(1 - u)", "u")],
    3: [("size * ratio**0.5", "size / ratio**0.5"), ("(j + offset)", "j")],
    4: [("-(-height // s)", "(height // s)"), ("* ratios", "")],
    5: [("1 / u", "1 / u**2")],
}
