"""Loops of the keypoint branch, one object and one keypoint at a time; they share no code with ``mrcnn_np``."""

import math

import numpy as np


def labels(keypoints, rois, size):
    """The cell of every keypoint in the map of its RoI, -1 without."""
    out = np.full(keypoints.shape[:2], -1)
    for r, (y1, x1, y2, x2) in enumerate(rois.tolist()):
        for k, (y, x, visible) in enumerate(keypoints[r].tolist()):
            row = size - 1 if y == y2 else math.floor((y - y1) * size / (y2 - y1))
            column = size - 1 if x == x2 else math.floor((x - x1) * size / (x2 - x1))
            if visible > 0 and 0 <= row < size and 0 <= column < size:
                out[r, k] = row * size + column
    return out


def loss(logits, wanted):
    """The sum of the cross entropies, and their number."""
    total, count = 0.0, 0
    for r in range(logits.shape[0]):
        for k in range(logits.shape[3]):
            if wanted[r, k] >= 0:
                cells = [logits[r, i, j, k] for i in range(logits.shape[1]) for j in range(logits.shape[2])]
                top = max(cells)
                total += math.log(sum(math.exp(c - top) for c in cells)) + top - cells[wanted[r, k]]
                count += 1
    return total, count


def cubic(t, a=-0.75):
    """The kernel of cubic convolution."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def enlarge(plane, rows, columns):
    """A plane of another size, each value from sixteen of the old ones."""
    out = np.zeros((rows, columns))
    height, width = plane.shape
    for i in range(rows):
        for j in range(columns):
            y, x = (i + 0.5) * height / rows - 0.5, (j + 0.5) * width / columns - 0.5
            for p in range(math.floor(y) - 1, math.floor(y) + 3):
                for q in range(math.floor(x) - 1, math.floor(x) + 3):
                    value = plane[min(max(p, 0), height - 1), min(max(q, 0), width - 1)]
                    out[i, j] += cubic(y - p) * cubic(x - q) * value
    return out


def peak(plane, box, method):
    """The point (y, x) and the height of one map."""
    y1, x1, y2, x2 = box
    height, width = max(y2 - y1, 1), max(x2 - x1, 1)
    if method == "bicubic":
        plane = enlarge(plane, math.ceil(height), math.ceil(width))
    rows, columns = plane.shape
    best = max(((i, j) for i in range(rows) for j in range(columns)), key=lambda at: (plane[at], (-at[0], -at[1])))
    i, j = best
    y, x = i + 0.5, j + 0.5
    if method == "quarter":
        if 0 < i < rows - 1:
            y += 0.25 * np.sign(plane[i + 1, j] - plane[i - 1, j])
        if 0 < j < columns - 1:
            x += 0.25 * np.sign(plane[i, j + 1] - plane[i, j - 1])
    return (y1 + y * height / rows, x1 + x * width / columns), plane[best]


def oks(found, truth, box, area, sigmas):
    """Object keypoint similarity; ``found`` (K, 2) and ``truth`` (K, 3) y before x, ``box`` as in COCO."""
    annotated = [k for k in range(len(truth)) if truth[k][2] > 0]
    total = 0.0
    for k in annotated or range(len(truth)):
        y, x = found[k]
        if annotated:
            dy, dx = y - truth[k][0], x - truth[k][1]
        else:
            x0, x1 = box[0] - box[2], box[0] + 2 * box[2]
            y0, y1 = box[1] - box[3], box[1] + 2 * box[3]
            dy, dx = max(0, y0 - y) + max(0, y - y1), max(0, x0 - x) + max(0, x - x1)
        total += math.exp(-(dx * dx + dy * dy) / (2 * sigmas[k]) ** 2 / (area + np.spacing(1)) / 2)
    return total / len(annotated or truth)
