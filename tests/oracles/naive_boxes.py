"""Loop oracles for boxes, one pair of boxes or one box at a time. They share no code with the package."""

import math


def iou(a, b):
    """Intersection over union of two boxes (y1, x1, y2, x2); 0 for two without area."""
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, 0) * max(width, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def decode(box, deltas, std, max_log_scale=None):
    """Move and stretch a box by (dy, dx, log dh, log dw), each times its deviation."""
    y1, x1, y2, x2 = box
    dy, dx, dh, dw = (float(d) * s for d, s in zip(deltas, std))
    if max_log_scale is not None:
        dh, dw = min(dh, max_log_scale), min(dw, max_log_scale)
    cy, cx = (y1 + y2) / 2 + dy * (y2 - y1), (x1 + x2) / 2 + dx * (x2 - x1)
    h, w = (y2 - y1) * math.exp(dh), (x2 - x1) * math.exp(dw)
    return [cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2]


def clip(box, window):
    """Move every corner into the window."""
    return [min(max(v, window[i % 2]), window[2 + i % 2]) for i, v in enumerate(box)]


def anchors(rows, columns, size, stride_y, stride_x, ratios, offset):
    """One anchor at a time: rows, columns, ratios (height over width), without rounding."""
    boxes = []
    for i in range(rows):
        for j in range(columns):
            for ratio in ratios:
                height = size * ratio**0.5
                width = height / ratio
                cy, cx = (i + offset) * stride_y, (j + offset) * stride_x
                boxes.append([cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2])
    return boxes


def match(anchors, objects, crowd, negative_iou, positive_iou, crowd_iou=None):
    """Label each anchor: 1 positive, -1 negative, 0 neutral; ``crowd`` tells which objects are groups."""
    ious = [[iou(a, o) for o in objects] for a in anchors]
    labels = []
    for row in ious:
        best = max([v for v, c in zip(row, crowd) if not c], default=0.0)
        near_crowd = crowd_iou is not None and any(c and v >= crowd_iou for v, c in zip(row, crowd))
        label = 0
        if best < negative_iou and not near_crowd:
            label = -1
        if best >= positive_iou:
            label = 1
        for g, is_crowd in enumerate(crowd):  # an object's best anchor is positive, however bad
            of_object = max(r[g] for r in ious)
            if not is_crowd and of_object > 0 and row[g] == of_object:
                label = 1
        labels.append(label)
    return labels


def nms(boxes, scores, threshold):
    """Greedy non-maximum suppression, one pair of boxes at a time; returns the indices that stay, best first."""
    remaining = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while remaining:
        best = remaining.pop(0)
        kept.append(best)
        survivors = []
        for other in remaining:
            if iou(boxes[best], boxes[other]) <= threshold:
                survivors.append(other)
        remaining = survivors
    return kept
