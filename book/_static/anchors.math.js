// The arithmetic of the explorable of chapter 5, without any drawing: tests run it in Node beside NumPy.
// A box is [y1, x1, y2, x2] in pixels, half-open.

// The anchors of one level in the order of the package: rows, columns, ratios (height over width).
function levelAnchors(rows, columns, size, stride, ratios, offset) {
  const boxes = [];
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) for (const ratio of ratios) {
    const root = Math.sqrt(ratio), h = size * root / 2, w = size / root / 2;
    const y = (i + offset) * stride, x = (j + offset) * stride;
    boxes.push([y - h, x - w, y + h, x + w]);
  }
  return boxes;
}

// Every number on the way to the IoU of two boxes.
function overlap(a, b) {
  const top = Math.max(a[0], b[0]), left = Math.max(a[1], b[1]);
  const height = Math.max(Math.min(a[2], b[2]) - top, 0), width = Math.max(Math.min(a[3], b[3]) - left, 0);
  const areaA = (a[2] - a[0]) * (a[3] - a[1]), areaB = (b[2] - b[0]) * (b[3] - b[1]);
  const shared = height * width, union = areaA + areaB - shared;
  return { top, left, height, width, areaA, areaB, shared, union, iou: union > 0 ? shared / union : 0 };
}

// Labels of the anchors for one object: 1 from the IoU `positive` on and for its best anchors, -1 below `negative`, else 0.
function labels(anchors, box, negative, positive) {
  const ious = anchors.map((a) => overlap(a, box).iou), best = ious.reduce((m, v) => Math.max(m, v), 0);
  return ious.map((v) => (v >= positive || (best > 0 && v === best) ? 1 : v < negative ? -1 : 0));
}

// Indices of the anchors with the largest IoU, best first; the earlier one of equals.
function ranked(anchors, box, count) {
  const ious = anchors.map((a) => overlap(a, box).iou);
  return ious.map((_, i) => i).sort((i, j) => ious[j] - ious[i] || i - j).slice(0, count);
}

if (typeof module !== "undefined") module.exports = { levelAnchors, overlap, labels, ranked };
