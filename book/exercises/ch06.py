"""Chapter 6: the region proposal network and its targets."""

from __future__ import annotations

import math

import naive_boxes
import numpy as np


def test_1(fn):
    """From a map of channels to a row for each anchor."""
    rng = np.random.default_rng(1)
    for shape, numbers in (((2, 3, 4, 12), 4), ((1, 2, 5, 6), 2), ((1, 1, 1, 3), 1)):
        level = rng.normal(size=shape)
        got = np.asarray(fn(level, numbers))
        anchors = shape[3] // numbers
        want = (shape[0], shape[1] * shape[2] * anchors, numbers)
        assert got.shape == want, f"a map {shape}: {got.shape}; expected {want}"
        for n, i, j, a in np.ndindex(*shape[:3], anchors):
            row = (i * shape[2] + j) * anchors + a
            assert np.array_equal(got[n, row], level[n, i, j, a * numbers : (a + 1) * numbers]), (
                f"row {row} should be anchor {a} of cell ({i}, {j})"
            )


def test_2(fn):
    """The gradient of a 1 x 1 convolution that several levels share."""
    rng = np.random.default_rng(2)
    xs, dys = ([rng.normal(size=(n, n, c)) for n in (4, 2, 1)] for c in (3, 5))
    got = np.asarray(fn(xs, dys))
    assert got.shape == (3, 5), f"3 channels in, 5 out: shape {got.shape}; expected (3, 5)"
    want = np.zeros((3, 5))
    for x, dy in zip(xs, dys):
        for i, j in np.ndindex(x.shape[:2]):
            want += np.outer(x[i, j], dy[i, j])
    assert np.allclose(got, want), f"the first number is {got[0, 0]:.4f}; expected {want[0, 0]:.4f}"


def test_3(fn):
    """The four numbers that turn an anchor into a box."""
    rng = np.random.default_rng(3)
    for std in ((1, 1, 1, 1), (0.1, 0.1, 0.2, 0.2)):
        for _ in range(20):
            low, far = rng.uniform(0, 50, (2, 2)), rng.uniform(2, 40, (2, 2))
            anchor, box = np.concatenate([low, low + far], axis=1)
            back = naive_boxes.decode(anchor, np.asarray(fn(box, anchor, std), float), std)
            assert np.allclose(back, box), (
                f"anchor {anchor.round(1)}, box {box.round(1)}: your deltas lead to {np.round(back, 1)}"
            )


def test_4(fn):
    """Labels from a table of overlaps."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        overlaps = rng.uniform(0, rng.uniform(0.2, 1), (8, 3)).round(3)
        overlaps[0, 0], overlaps[1, 0], overlaps[:, 2] = 0.3, 0.7, overlaps[:, 2] * rng.integers(0, 2)
        got = np.asarray(fn(overlaps, 0.3, 0.7)).tolist()
        for i, row in enumerate(overlaps):
            best = any(v > 0 and v == overlaps[:, g].max() for g, v in enumerate(row))
            want = 1 if row.max() >= 0.7 or best else -1 if row.max() < 0.3 else 0
            assert got[i] == want, f"overlaps {row.tolist()}, an object's best: {best}: {got[i]}; expected {want}"


def test_5(fn):
    """How many labels stay."""
    for positives, negatives, count, want in (
        (6, 3966, 128, (6, 122)), (300, 9000, 256, (128, 128)), (0, 5000, 256, (0, 256)), (40, 10, 256, (40, 10)),
    ):  # fmt: skip
        got = tuple(fn(positives, negatives, count, 0.5))
        assert got == want, f"{positives} positive, {negatives} negative, {count} in all: {got}; expected {want}"
    assert math.isclose(sum(fn(128, 500, 256, 0.25)), 256), "with another share the negatives still fill up"


MUTANTS = {
    1: [(".reshape(len(level), -1, numbers)", ".reshape(len(level), numbers, -1).swapaxes(1, 2)")],
    2: [("+=", "="), ("x.reshape", "2 * x.reshape")],
    3: [("/ side_a", "/ side_b"), ("/ np.asarray(std)", "* np.asarray(std)")],
    4: [("(best > 0)", "True"), ("| is_best", ""), ("< low", "<= low")],
    5: [("count - kept", "count // 2"), ("int(count * share)", "count")],
}
