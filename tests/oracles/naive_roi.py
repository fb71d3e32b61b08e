"""Loop oracles for the region operations: one output number at a time, sharing no code with them."""

import math

import numpy as np


def bilinear(plane, y, x):
    """Value of a (H, W) list of lists at a continuous pixel-index coordinate, by torchvision's border rules."""
    height, width = len(plane), len(plane[0])
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y_low, x_low = math.floor(y), math.floor(x)
    y_high, x_high = min(y_low + 1, height - 1), min(x_low + 1, width - 1)
    top = plane[y_low][x_low] + (x - x_low) * (plane[y_low][x_high] - plane[y_low][x_low])
    bottom = plane[y_high][x_low] + (x - x_low) * (plane[y_high][x_high] - plane[y_high][x_low])
    return top + (y - y_low) * (bottom - top)


def roi_align(features, rois, batch_index, bins, scale, sampling_ratio, aligned, reduce):
    """RoIAlign, sample by sample."""
    out = np.zeros((len(rois), *bins, features.shape[3]))
    shift = 0.5 if aligned else 0.0
    for r, (y1, x1, y2, x2) in enumerate(rois):
        top, left = y1 * scale - shift, x1 * scale - shift
        height, width = (y2 - y1) * scale, (x2 - x1) * scale
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        count_y = sampling_ratio or max(math.ceil(height / bins[0]), 0)
        count_x = sampling_ratio or max(math.ceil(width / bins[1]), 0)
        for c in range(features.shape[3]):
            plane = features[batch_index[r], :, :, c].tolist()
            for p in range(bins[0]):
                for q in range(bins[1]):
                    samples = []
                    for i in range(count_y):
                        for j in range(count_x):
                            y = top + height / bins[0] * (p + (i + 0.5) / count_y)
                            x = left + width / bins[1] * (q + (j + 0.5) / count_x)
                            samples.append(bilinear(plane, y, x))
                    if samples:
                        out[r, p, q, c] = max(samples) if reduce == "max" else sum(samples) / len(samples)
    return out


def round_half_away(value):
    """C's round(): halves go away from zero."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def roi_pool(features, rois, batch_index, bins, scale, split):
    """RoIPool, cell by cell: returns values and the flat index (row * W + column) of each winner, -1 if empty."""
    _, height, width, channels = features.shape
    out = np.zeros((len(rois), *bins, channels))
    winner = np.full(out.shape, -1)
    for r, roi in enumerate(rois):
        edges = []
        for axis, size in ((0, height), (1, width)):
            n = bins[axis]
            if split == "caffe":
                first, last = round_half_away(roi[axis] * scale), round_half_away(roi[axis + 2] * scale)
                side = max(last - first + 1, 1)
                pieces = [(first + math.floor(i * side / n), first + math.ceil((i + 1) * side / n)) for i in range(n)]
            else:
                first, end = math.floor(roi[axis] * scale), math.floor(roi[axis + 2] * scale)
                side = max(end - first, 0)
                pieces = [(first + i * side // n, first + (i + 1) * side // n) for i in range(n)]
            edges.append([(min(max(a, 0), size), min(max(b, 0), size)) for a, b in pieces])
        for p, (y_from, y_to) in enumerate(edges[0]):
            for q, (x_from, x_to) in enumerate(edges[1]):
                for c in range(channels):
                    best = None
                    for y in range(y_from, y_to):
                        for x in range(x_from, x_to):
                            value = features[batch_index[r], y, x, c]
                            if best is None or value > best:
                                best, winner[r, p, q, c] = value, y * width + x
                    if best is not None:
                        out[r, p, q, c] = best
    return out, winner


def crop_and_resize(image, boxes, box_index, bins, extrapolation_value):
    """TensorFlow's crop_and_resize, one output pixel at a time."""
    _, height, width, channels = image.shape
    out = np.zeros((len(boxes), *bins, channels))
    for r, (y1, x1, y2, x2) in enumerate(boxes):
        for p in range(bins[0]):
            y = 0.5 * (y1 + y2) * (height - 1)
            if bins[0] > 1:
                y = y1 * (height - 1) + p * (y2 - y1) * (height - 1) / (bins[0] - 1)
            for q in range(bins[1]):
                x = 0.5 * (x1 + x2) * (width - 1)
                if bins[1] > 1:
                    x = x1 * (width - 1) + q * (x2 - x1) * (width - 1) / (bins[1] - 1)
                for c in range(channels):
                    if y < 0 or y > height - 1 or x < 0 or x > width - 1:
                        out[r, p, q, c] = extrapolation_value
                        continue
                    top, left = math.floor(y), math.floor(x)
                    bottom, right = math.ceil(y), math.ceil(x)
                    plane = image[box_index[r], :, :, c]
                    upper = plane[top, left] + (x - left) * (plane[top, right] - plane[top, left])
                    lower = plane[bottom, left] + (x - left) * (plane[bottom, right] - plane[bottom, left])
                    out[r, p, q, c] = upper + (y - top) * (lower - upper)
    return out
