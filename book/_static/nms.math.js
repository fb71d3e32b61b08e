// The arithmetic of the explorable of chapter 7, without any drawing: tests run it in Node beside NumPy.
// Boxes are [y1, x1, y2, x2].

const area = (b) => Math.max(b[2] - b[0], 0) * Math.max(b[3] - b[1], 0);

// The area that two boxes share.
function shared(a, b) {
  const height = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), width = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(height, 0) * Math.max(width, 0);
}

// Intersection over union; 0 for two boxes without area.
function iou(a, b) {
  const both = shared(a, b), union = area(a) + area(b) - both;
  return union > 0 ? both / union : 0;
}

// All indices, best score first, equal scores by index.
function ranking(scores) {
  return scores.map((_, i) => i).sort((i, j) => scores[j] - scores[i] || i - j);
}

// The steps of greedy suppression: [{ best, dropped, left }, ...], indices of boxes in the order of their scores.
function steps(boxes, scores, threshold) {
  const found = [];
  let left = ranking(scores);
  while (left.length) {
    const best = left[0], rest = left.slice(1);
    const dropped = rest.filter((i) => iou(boxes[best], boxes[i]) > threshold);
    left = rest.filter((i) => !dropped.includes(i));
    found.push({ best, dropped, left });
  }
  return found;
}

// Which boxes survive, best first.
function nms(boxes, scores, threshold) {
  return steps(boxes, scores, threshold).map((step) => step.best);
}

// In which order boxes are drawn: a small one after (so on top of) a large one, or nobody could take hold of it.
function paintOrder(boxes) {
  return boxes.map((_, i) => i).sort((i, j) => area(boxes[j]) - area(boxes[i]) || i - j);
}

if (typeof module !== "undefined") module.exports = { area, shared, iou, ranking, steps, nms, paintOrder };
