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
