"""Chapter 1: the input."""

from __future__ import annotations

import numpy as np

from mrcnn_np.config import presets
from mrcnn_np.data.voc import colour_map
from mrcnn_np.molding import minimise_masks, plan
from mrcnn_np.ops.resize import resize_bilinear


def test_1(fn):
    """The colour of an index in VOC's palette."""
    for index, want in enumerate(colour_map().tolist()):
        got = [int(v) for v in fn(index)]
        assert got == want, f"index {index}: {got}; expected {want}"


def test_2(fn):
    """The box of a mask."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        y1, x1 = rng.integers(0, 20, 2)
        h, w = rng.integers(1, 10, 2)
        mask = np.zeros((30, 40), bool)
        mask[y1 : y1 + h, x1 : x1 + w] = True
        got = [int(v) for v in fn(mask)]
        want = [int(v) for v in (y1, x1, y1 + h, x1 + w)]
        assert got == want, f"rows {y1} to {y1 + h - 1}, columns {x1} to {x1 + w - 1}: {got}; expected {want}"


def test_3(fn):
    """The resized shape and the window on a square canvas."""
    config = presets.matterport()
    for shape in ((375, 500), (500, 375), (900, 900), (2048, 1000), (2048, 1025), (1, 1), (801, 834), (5000, 900)):
        molding = plan(shape, config)
        size, window = fn(*shape)
        assert tuple(size) == molding.resized_shape, f"{shape}: resized {size}; expected {molding.resized_shape}"
        assert tuple(window) == molding.window, f"{shape}: window {window}; expected {molding.window}"


def test_4(fn):
    """One line of numbers, resized."""
    rng = np.random.default_rng(4)
    for n, m in ((3, 6), (6, 3), (5, 5), (1, 4), (7, 2), (2, 9), (16, 4)):
        line = rng.normal(size=n)
        got = np.asarray(fn(line, m), float)
        want = resize_bilinear(line.reshape(1, n, 1), (1, m))[0].ravel()
        assert got.shape == (m,), f"from {n} to {m} numbers: shape {got.shape}"
        assert np.allclose(got, want), f"from {n} to {m} numbers: {got.round(3)}; expected {want.round(3)}"


def test_5(fn):
    """A mask that its mini mask loses."""
    mask = np.asarray(fn())
    assert mask.ndim == 2 and mask.dtype == bool, f"expected an array (H, W) of bool, not {mask.dtype} {mask.shape}"
    assert max(mask.shape) <= 600, f"the mask is {mask.shape}; keep it within 600 x 600"
    assert mask.sum() >= 300, f"the object has {mask.sum()} pixels; expected at least 300"
    box = np.array([[0, 0, *mask.shape]], float)
    left = minimise_masks(box, mask[None], (56, 56)).sum()
    assert left == 0, f"{left} cells of the mini mask are still set; expected none"


MUTANTS = {
    1: [("7 - place", "place"), ("3 * place + channel", "place + 3 * channel")],
    2: [("rows[-1] + 1", "rows[-1]"), ("rows[0], columns[0]", "columns[0], rows[0]")],
    3: [("max(1.0, 800 / min(height, width))", "800 / min(height, width)"), ("(1024 - h) // 2", "0")],
    4: [("(i + 0.5) * n / m - 0.5", "i * n / m"), ("(1 - (u - left))", "(u - left)")],
    5: [("mask[302]", "mask[304:306]"), ("(560, 560)", "(56, 560)")],
}
