"""Average precision by loops that share no code with the package, and scenes to try them on."""

from __future__ import annotations

import math

import naive_metrics
import numpy as np
from scenes import detections_of, sample_of

from mrcnn_np.evaluate.coco import AREA_RANGES

NAMES = ("background", "cat", "dog", "cow")
METHODS = ("voc07", "voc10", "coco")
# Sums of fewer than 200 doubles in [0, 1] in another order: measured 4e-16.
EXACT = 1e-12
#: three boxes that do not meet
THREE = [(0, 0, 4, 4), (0, 10, 4, 14), (10, 0, 14, 4)]


def random_scene(rng, *, images=5, shape=(40, 40), ties=False):
    """Objects, and detections that often lie near one of them."""
    samples, detections = [], []
    for i in range(images):
        corners = np.sort(rng.integers(0, shape[0] + 1, (int(rng.integers(0, 6)), 2, 2)), axis=1)
        gt = np.concatenate([corners[:, 0], np.maximum(corners[:, 1], corners[:, 0] + 1)], axis=1)
        classes = rng.integers(1, len(NAMES), len(gt))
        flags = rng.random((2, len(gt))) < 0.2
        boxes, ids = [], []
        for _ in range(int(rng.integers(0, 12))):
            if len(gt) and rng.random() < 0.8:
                g = int(rng.integers(len(gt)))
                boxes.append(gt[g] + rng.integers(-2, 3, 4))
                ids.append(classes[g])
            else:
                boxes.append(np.array([0, 0, *rng.integers(1, shape[0], 2)]))
                ids.append(rng.integers(1, len(NAMES)))
            boxes[-1] = np.clip(boxes[-1], 0, shape[0])
            boxes[-1][2:] = np.maximum(boxes[-1][2:], boxes[-1][:2])
        scores = rng.integers(0, 4, len(boxes)) / 4 if ties else rng.random(len(boxes))
        samples.append(sample_of(gt, classes, name=str(i), shape=shape, crowd=flags[0], difficult=flags[1]))
        detections.append(detections_of(boxes, scores, ids, shape=shape))
    return detections, samples


def loop_iou(kind, detections, sample, d, g, crowd):
    if kind == "mask":
        one, other = detections.masks[d], sample.gt_masks[g]
        both = int(np.sum(one & other))
        area_d, area_g = int(one.sum()), int(other.sum())
    else:
        a, b = [float(v) for v in detections.boxes[d]], [float(v) for v in sample.gt_boxes[g]]
        both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        area_d, area_g = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    whole = area_d if crowd else area_d + area_g - both
    return both / whole if whole > 0 else 0.0


def loop_area(kind, detections, d):
    if kind == "mask":
        return int(detections.masks[d].sum())
    y1, x1, y2, x2 = (float(v) for v in detections.boxes[d])
    return (y2 - y1) * (x2 - x1)


def loop_voc(detections, samples, k, kind, threshold):
    """Rank all detections of a class, then walk down the list as VOCevaldet does; crowds absorb the rest."""
    everything = [(i, d) for i, found in enumerate(detections) for d in range(len(found.scores))]
    everything = [(i, d) for i, d in everything if detections[i].class_ids[d] == k]
    everything.sort(key=lambda e: -float(detections[e[0]].scores[e[1]]))
    npos = sum(
        int(s.gt_class_ids[g] == k and not s.gt_difficult[g] and not s.gt_crowd[g])
        for s in samples
        for g in range(len(s.gt_boxes))
    )
    taken, tp, fp, curve = set(), 0, 0, []
    for i, d in everything:
        sample, best, where, in_crowd = samples[i], -1.0, None, False
        for g in range(len(sample.gt_boxes)):
            if sample.gt_class_ids[g] != k:
                continue
            overlap = loop_iou(kind, detections[i], sample, d, g, sample.gt_crowd[g])
            if sample.gt_crowd[g]:
                in_crowd = in_crowd or overlap >= threshold
            elif overlap > best:
                best, where = overlap, g
        if best >= threshold:
            if sample.gt_difficult[where]:
                continue
            if (i, where) in taken:
                fp += 1
            else:
                taken.add((i, where))
                tp += 1
        elif in_crowd:
            continue
        else:
            fp += 1
        curve.append((tp / npos if npos else math.nan, tp / (tp + fp)))
    return npos, curve


def loop_coco_outcomes(detections, sample, k, kind, threshold, low, high, limit):
    """One image and class: (score, right, ignored) per detection, and how many objects are demanded."""
    gts = [g for g in range(len(sample.gt_boxes)) if sample.gt_class_ids[g] == k]
    ignore = {}
    for g in gts:
        area = int(sample.gt_masks[g].sum())
        ignore[g] = bool(sample.gt_crowd[g] or sample.gt_difficult[g] or area < low or area > high)
    gts.sort(key=lambda g: ignore[g])
    ds = [d for d in range(len(detections.scores)) if detections.class_ids[d] == k]
    ds.sort(key=lambda d: -float(detections.scores[d]))
    used, rows = set(), []
    for d in ds[:limit]:
        bar, match = min(threshold, 1 - 1e-10), None
        for g in gts:
            if g in used and not sample.gt_crowd[g]:
                continue
            if match is not None and not ignore[match] and ignore[g]:
                break
            overlap = loop_iou(kind, detections, sample, d, g, sample.gt_crowd[g])
            if overlap < bar:
                continue
            bar, match = overlap, g
        if match is not None:
            used.add(match)
            rows.append((float(detections.scores[d]), True, ignore[match]))
        else:
            area = loop_area(kind, detections, d)
            rows.append((float(detections.scores[d]), False, area < low or area > high))
    return rows, sum(not v for v in ignore.values())


def loop_coco(detections, samples, kind):
    thresholds = [0.5 + 0.05 * i for i in range(10)]
    ap, ar = {}, {}
    for name, (low, high) in AREA_RANGES.items():
        for limit in (1, 10, 100):
            for threshold in thresholds:
                for k in range(1, len(NAMES)):
                    rows, npos = [], 0
                    for found, sample in zip(detections, samples):
                        more, count = loop_coco_outcomes(found, sample, k, kind, threshold, low, high, limit)
                        rows, npos = rows + more, npos + count
                    if not npos:
                        continue
                    tp, n, curve = 0, 0, []
                    for _, right, ignored in sorted(rows, key=lambda r: -r[0]):
                        if not ignored:
                            tp, n = tp + right, n + 1
                            curve.append((tp / npos, tp / n))
                    ap[name, limit, round(threshold, 2), k] = naive_metrics.average_precision(curve, "coco")
                    ar[name, limit, round(threshold, 2), k] = curve[-1][0] if curve else 0.0

    def mean(table, name, limit, threshold=None):
        values = [v for (n, m, t, _), v in table.items() if (n, m) == (name, limit) and threshold in (None, t)]
        return sum(values) / len(values) if values else -1.0

    return [
        mean(ap, "all", 100),
        mean(ap, "all", 100, 0.5),
        mean(ap, "all", 100, 0.75),
        *(mean(ap, name, 100) for name in ("small", "medium", "large")),
        *(mean(ar, "all", limit) for limit in (1, 10, 100)),
        *(mean(ar, name, 100) for name in ("small", "medium", "large")),
    ]


def counted_mask_iou(a, b, crowd=None, void=None):
    """Overlaps (D, G) of arrays of masks, pixel by pixel: the oracle of what is computed from run lengths."""
    labelled = True if void is None else ~void
    crowd = [False] * len(b) if crowd is None else crowd
    overlaps = np.zeros((len(a), len(b)))
    for d, g in np.ndindex(overlaps.shape):
        mine, its = a[d] & labelled, b[g] & labelled
        whole = np.count_nonzero(mine) if crowd[g] else np.count_nonzero(mine | its)
        overlaps[d, g] = np.count_nonzero(mine & its) / whole if whole else 0.0
    return overlaps
