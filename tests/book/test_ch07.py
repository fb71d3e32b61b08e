"""The arithmetic of the live picture of suppression is that of the package."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from mrcnn_np.boxes import iou
from mrcnn_np.nms import nms

SCENE = [[49, 22, 96, 69], [54, 23, 94, 63], [48, 16, 98, 65], [2, 36, 34, 68], [5, 5, 5, 5], [5, 5, 5, 5]]


def boxes_of(rng, number):
    low = rng.uniform(0, 60, (number, 2))
    return np.concatenate([low, low + rng.uniform(5, 50, (number, 2))], axis=1)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_nms(in_node, threshold):
    rng = np.random.default_rng(0)
    cases = [(boxes_of(rng, n), rng.integers(0, 20, n) / 20) for n in (1, 2, 9, 40)]
    cases.append((np.array(SCENE, float), np.array([0.9, 0.8, 0.9, 0.1, 0.5, 0.5])))
    calls = [["nms", [boxes.tolist(), scores.tolist(), threshold]] for boxes, scores in cases]
    theirs = in_node("nms.math.js", calls)
    assert theirs == [nms(boxes, scores, threshold).tolist() for boxes, scores in cases]


def test_overlaps(in_node):
    rng = np.random.default_rng(1)
    a, b = boxes_of(rng, 60), boxes_of(rng, 60)
    theirs = in_node("nms.math.js", [["iou", [x.tolist(), y.tolist()]] for x, y in zip(a, b)])
    np.testing.assert_allclose(theirs, np.diagonal(iou(a, b)), rtol=1e-12)
    assert in_node("nms.math.js", [["iou", [[5, 5, 5, 5], [5, 5, 5, 5]]]]) == [0]


def test_every_box_is_kept_or_dropped_once(in_node):
    rng = np.random.default_rng(2)
    boxes, scores = boxes_of(rng, 30), rng.random(30)
    (steps,) = in_node("nms.math.js", [["steps", [boxes.tolist(), scores.tolist(), 0.3]]])
    seen = sorted(i for step in steps for i in (step["best"], *step["dropped"]))
    assert seen == list(range(30)) and steps[-1]["left"] == []


def test_every_box_can_be_taken_hold_of(in_node):
    """Painted in this order, each box of the chapter has a pixel that no later one covers."""
    text = (Path(__file__).parents[2] / "book" / "text" / "07_proposals.py").read_text(encoding="utf-8")
    rows = re.search(r"places = np\.array\((\[\[.*?\]\])", text, re.S)
    boxes = ast.literal_eval(rows.group(1))
    (order,) = in_node("nms.math.js", [["paintOrder", [boxes]]])
    assert sorted(order) == list(range(len(boxes)))
    owner = np.full((128, 128), -1)
    for i in order:
        y1, x1, y2, x2 = boxes[i]
        owner[y1:y2, x1:x2] = i
    assert set(range(len(boxes))) <= set(owner.ravel().tolist())
