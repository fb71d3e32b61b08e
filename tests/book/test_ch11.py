"""The arithmetic of the live picture is that of the package: the same inputs through Node and through NumPy."""

import numpy as np

from mrcnn_np.boxes import encode_boxes, iou
from mrcnn_np.ops.losses import smooth_l1, smooth_l1_backward


def boxes(rng, number):
    low = rng.uniform(0, 50, (number, 2))
    return np.concatenate([low, low + rng.uniform(5, 60, (number, 2))], axis=1)


def test_losses(in_node):
    rng = np.random.default_rng(0)
    anchors, truths, predictions = (boxes(rng, 30) for _ in range(3))
    for std, beta in (((0.1, 0.1, 0.2, 0.2), 1.0), ((1, 1, 1, 1), 0.0), ((0.1, 0.1, 0.2, 0.2), 1 / 9)):
        calls = [
            ["boxLoss", [p.tolist(), t.tolist(), a.tolist(), list(std), beta]]
            for p, t, a in zip(predictions, truths, anchors)
        ]
        theirs = in_node("losses.math.js", calls)
        p, t = encode_boxes(predictions, anchors, std=std), encode_boxes(truths, anchors, std=std)
        terms, cache = smooth_l1(p, t, beta=beta)
        slopes = smooth_l1_backward(np.full(terms.shape, 0.25), cache)
        rows = np.stack([p, t, p - t, terms, slopes], axis=-1)
        np.testing.assert_allclose([r["rows"] for r in theirs], rows, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose([r["loss"] for r in theirs], terms.mean(axis=1), rtol=1e-10)


def test_iou(in_node):
    rng = np.random.default_rng(1)
    a, b = boxes(rng, 40), boxes(rng, 40)
    theirs = in_node("losses.math.js", [["iou", [p.tolist(), q.tolist()]] for p, q in zip(a, b)])
    np.testing.assert_allclose(theirs, np.diagonal(iou(a, b)), rtol=1e-12)
