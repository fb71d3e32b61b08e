"""Chapter 7: proposals."""

from __future__ import annotations

import math

import naive_boxes
import numpy as np


def _boxes(rng, number):
    low = rng.uniform(0, 60, (number, 2))
    return np.concatenate([low, low + rng.uniform(10, 50, (number, 2))], axis=1)


def test_1(fn):
    """The k best, ties by index."""
    rng = np.random.default_rng(1)
    for scores, k in (([0.5, 0.9, 0.5, 0.9, 0.1], 3), (rng.integers(0, 4, 30) / 4, 12), ([0.2, 0.7], 5), ([1.0], 0)):
        want = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
        got = [int(i) for i in fn(np.asarray(scores, float), k)]
        assert got == want, f"the {k} best of {np.round(scores, 2).tolist()[:8]}: {got}; expected {want}"


def test_2(fn):
    """One anchor, moved and stretched."""
    rng = np.random.default_rng(2)
    cases = [([40.0, 40, 50, 60], [1, -1, math.log(2), 0], (1, 1, 1, 1)), ([0.0, 0, 10, 20], [0, 0, 90, 80], (1,) * 4)]
    cases += [(box, rng.normal(size=4) * 3, (0.1, 0.1, 0.2, 0.2)) for box in _boxes(rng, 20)]
    cases += [([0.0, 0, 10, 20], [0, 0, 18, 19], (0.1, 0.1, 0.2, 0.2))]  # beyond the limit only without its deviation
    for anchor, delta, std in cases:
        want = naive_boxes.decode(anchor, delta, std, math.log(1000 / 16))
        got = fn(np.asarray(anchor, float), np.asarray(delta, float), std, math.log(1000 / 16))
        assert np.allclose(got, want), f"{np.round(anchor, 1)} with {np.round(delta, 2)}: {got}; expected {want}"


def test_3(fn):
    """Non-maximum suppression."""
    rng = np.random.default_rng(3)
    chain = [[0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]]
    half = [[0, 0, 2, 1], [0, 0, 1, 1]]
    apart = [[0, 0, 10, 10], [22, 22, 32, 32]]
    cases = [(chain, [3, 2, 1], 0.4), (chain, [2, 3, 1], 0.4), (half, [2, 1], 0.5), (half, [1, 1], 0.4)]
    cases += [(apart, [2, 1], 0.3), (_boxes(rng, 60), rng.integers(0, 20, 60) / 20, 0.3), (np.zeros((0, 4)), [], 0.5)]
    for boxes, scores, threshold in cases:
        boxes, scores = np.asarray(boxes, float), np.asarray(scores, float)
        want = naive_boxes.nms(boxes.tolist(), scores, threshold)
        got = [int(i) for i in fn(boxes, scores, threshold)]
        assert got == want, f"{len(boxes)} boxes at {threshold}: {got[:8]}; expected {want[:8]}"


def test_4(fn):
    """Squares shifted along the diagonal until their overlap is the threshold."""
    for side, threshold in ((34.0, 0.7), (10.0, 0.5), (100.0, 0.3), (7.0, 0.9)):
        d = float(fn(side, threshold))
        assert 0 < d < side, f"side {side}, threshold {threshold}: a shift of {d} is not between 0 and the side"
        got = naive_boxes.iou([0, 0, side, side], [d, d, side + d, side + d])
        assert np.isclose(got, threshold), (
            f"side {side}, threshold {threshold}: shifted by {d:.4f} the IoU is {got:.4f}"
        )


def test_5(fn):
    """The mean of each winner and of what it throws out."""
    rng = np.random.default_rng(5)
    chain = np.array([[0.0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]])
    for boxes, scores, threshold in (
        (chain, np.array([3.0, 2, 1]), 0.4),
        (chain, np.array([2.0, 3, 1]), 0.4),
        (_boxes(rng, 30), rng.permutation(30) / 30, 0.4),
    ):
        remaining, want = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
        while remaining:
            out = [i for i in remaining[1:] if naive_boxes.iou(boxes[remaining[0]], boxes[i]) > threshold]
            want.append(boxes[[remaining[0], *out]].mean(axis=0))
            remaining = [i for i in remaining[1:] if i not in out]
        got = np.asarray(fn(boxes, scores, threshold), float)
        assert got.shape == (len(want), 4), f"{len(boxes)} boxes at {threshold}: {len(got)} means; expected {len(want)}"
        assert np.allclose(got, want), f"{len(boxes)} boxes at {threshold}: {got[0]}; expected {want[0]}"


MUTANTS = {
    1: [("np.argsort(-np.asarray(scores), kind=\"stable\")", "np.argsort(scores, kind=\"stable\")[::-1]")],
    2: [("* np.asarray(std)", "* 1.0"), ("min(dh, most)", "dh"), ("cy - h / 2", "cy - h")],
    3: [("shared <= threshold", "shared < threshold"), ("np.maximum(h, 0) * np.maximum(w, 0)", "h * w")],
    4: [("2 * threshold / (1 + threshold)", "threshold"), ("side * (1 - ", "side * (")],
    5: [("> threshold", "> 1"), ("i not in group", "i != left[0]")],
}  # fmt: skip
