"""A loop oracle for average precision. It shares no code with the package."""


def average_precision(curve, method):
    """Return the average precision of (recall, precision) pairs, one for each detection, best first."""
    if method == "voc10":
        area, last = 0.0, 0.0
        for i, (recall, _) in enumerate(curve):
            area += (recall - last) * max(precision for _, precision in curve[i:])
            last = recall
        return area
    points = [i / 10 for i in range(11)] if method == "voc07" else [i * 0.01 for i in range(101)]
    return sum(max([p for r, p in curve if r >= t], default=0.0) for t in points) / len(points)
