"""The arithmetic of the live picture of chapter 5 is that of the package: the same inputs through Node and NumPy."""

import numpy as np

from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.boxes import iou
from mrcnn_np.targets import label_anchors

SIZES, STRIDES, RATIOS = (12, 20, 32, 52, 84), (4, 8, 16, 32, 64), (0.5, 1, 2)


def anchors(offset):
    return pyramid_anchors(
        (128, 128), sizes=SIZES, strides=STRIDES, aspect_ratios=RATIOS, offset=offset, dtype=np.float64
    )


def test_anchors_of_every_level(in_node):
    for offset in (0, 0.5):
        cells = [128 // stride for stride in STRIDES]
        calls = [["levelAnchors", [n, n, s, t, RATIOS, offset]] for n, s, t in zip(cells, SIZES, STRIDES)]
        for ours, theirs in zip(anchors(offset), in_node("anchors.math.js", calls)):
            np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12)


def test_overlaps_labels_and_ranks(in_node):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 100, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 60, (20, 2))], axis=1)
    boxes[0] = [40, 40, 44, 44]  # inside many anchors, which overlap it equally
    some = np.concatenate(anchors(0.5))[3000:]
    ious = iou(some, boxes)
    pairs = [["overlap", [a.tolist(), boxes[0].tolist()]] for a in some[:200]]
    np.testing.assert_allclose([o["iou"] for o in in_node("anchors.math.js", pairs)], ious[:200, 0], rtol=1e-12)
    calls = [["labels", [some.tolist(), box.tolist(), 0.3, 0.6]] for box in boxes]
    calls += [["ranked", [some.tolist(), box.tolist(), 6]] for box in boxes]
    theirs = in_node("anchors.math.js", calls)
    for g, box in enumerate(boxes):
        ours, _ = label_anchors(some, box[None], negative_iou=0.3, positive_iou=0.6, match_best=True, tie=0.0)
        assert theirs[g] == ours.tolist()
        np.testing.assert_array_equal(theirs[20 + g], np.argsort(-ious[:, g], kind="stable")[:6])
