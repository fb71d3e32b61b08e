"""Chapter 8: from RoIPool to RoIAlign."""

from __future__ import annotations

import naive_roi
import numpy as np


def test_1(fn):
    """Edges of bins along one axis, as the kernels cut them."""
    for first, last, bins in ((0, 6, 2), (3, 7, 2), (2, 22, 7), (5, 5, 3), (0, 1, 7)):
        side = last - first + 1
        want = [
            (first + int(np.floor(p * side / bins)), first + int(np.ceil((p + 1) * side / bins))) for p in range(bins)
        ]
        got = [tuple(int(v) for v in pair) for pair in fn(first, last, bins)]
        assert got == want, f"cells {first} to {last} in {bins} bins: {got}; expected {want}"


def test_2(fn):
    """Bilinear interpolation inside the map."""
    rng = np.random.default_rng(2)
    plane = rng.normal(size=(5, 7))
    points = [(1.7, 1.4), (0.0, 0.0), (4.0, 6.0), (3.2, 6.0), *rng.uniform(0, (4, 6), (40, 2))]
    for y, x in points:
        want = naive_roi.bilinear(plane.tolist(), y, x)
        assert np.isclose(fn(plane, y, x), want), f"at y = {y:.3f}, x = {x:.3f}: {fn(plane, y, x)}; expected {want}"


def test_3(fn):
    """Where the samples of one axis lie."""
    for low, high, bins, g, scale, aligned in (
        (2, 10, 4, 2, 1.0, True), (2, 10, 4, 2, 1.0, False), (0.95, 4.15, 2, 2, 1.0, False),
        (7, 9, 7, 2, 1 / 16, False), (7, 9, 7, 2, 1 / 16, True), (33, 300, 7, 3, 1 / 8, True),
    ):  # fmt: skip
        got = np.asarray(fn(low, high, bins, g, scale, aligned), float)
        start, side = low * scale - 0.5 * aligned, (high - low) * scale
        side = side if aligned else max(side, 1.0)
        want = [start + p * side / bins + (i + 0.5) * side / bins / g for p in range(bins) for i in range(g)]
        assert got.shape == (bins * g,), f"{bins} bins of {g} samples: {got.shape}; expected {(bins * g,)}"
        assert np.allclose(got, want), (
            f"from {low} to {high}, scale {scale:g}, aligned={aligned}: {got}; expected {want}"
        )


def test_4(fn):
    """RoIAlign of one box and one channel."""
    rng = np.random.default_rng(5)
    plane = rng.normal(size=(9, 11))
    cases = [([4, 3, 50, 61], 3, 2, 1 / 8), ([0, 0, 72, 88], 7, 2, 1 / 8), ([-14, 60, 30, 110], 2, 3, 1 / 8)]
    cases += [([1.3, 1.6, 4.5, 5.2], 2, 2, 1.0), ([3, 3, 3.4, 3.3], 2, 1, 1.0)]
    for box, bins, g, scale in cases:
        rois = np.array([box], float)
        want = naive_roi.roi_align(plane[None, :, :, None], rois, [0], (bins, bins), scale, g, True, "mean")[0, :, :, 0]
        got = np.asarray(fn(plane.copy(), np.array(box, float), bins, g, scale), float)
        assert got.shape == (bins, bins), f"{bins} bins: shape {got.shape}; expected {(bins, bins)}"
        p, q = np.unravel_index(np.abs(got - want).argmax(), want.shape)
        assert np.allclose(got, want), (
            f"box {box}, scale {scale:g}, bin ({p}, {q}) is {got[p, q]:.5f}; expected {want[p, q]:.5f}"
        )


def test_5(fn):
    """What one point sends back to the map: the adjoint of reading it."""
    rng = np.random.default_rng(4)
    plane = rng.normal(size=(5, 7))
    for y, x in [(4.0, 6.0), (2.0, 6.0), (1.7, 1.4), *rng.uniform(0, (4, 6), (40, 2))]:
        dplane = np.ones_like(plane)  # something is there already
        fn(0.7, dplane, y, x)
        sent = ((dplane - 1) * plane).sum()
        want = 0.7 * naive_roi.bilinear(plane.tolist(), y, x)
        assert np.isclose(sent, want), (
            f"at y = {y:.3f}, x = {x:.3f} the map's change is off: {sent:.6f}; expected {want:.6f}"
        )
        assert np.isclose((dplane - 1).sum(), 0.7), f"at y = {y:.3f}, x = {x:.3f} the weights do not add up to 1"


MUTANTS = {
    1: [("last - first + 1", "last - first"), ("-(-(p + 1) * side // bins)", "(p + 1) * side // bins")],
    2: [("(1 - ly) * above", "ly * above"), ("lx * plane[top, right]", "ly * plane[top, right]")],
    3: [("0.5 if aligned", "0.0 if aligned"), ("max(side, 1.0)", "side")],
    4: [("* scale - 0.5, np", "* scale, np"), ("< -1)", "< 0)"), (" / (g * g)", ""), ("(end - start)", "(end - 0)")],
    5: [("dplane[bottom, right] +=", "dplane[bottom, right] ="), ("ly * (1 - lx) * dy", "(1 - ly) * (1 - lx) * dy")],
}
