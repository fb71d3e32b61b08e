// The arithmetic of the explorable of chapter 11, without any drawing: tests run it in Node beside NumPy.
// Boxes are [y1, x1, y2, x2] in pixels; deltas are [dy, dx, log dh, log dw].

// What has to be said to move an anchor onto a box, divided by std.
function encode(box, anchor, std) {
  const side = (b) => [b[2] - b[0], b[3] - b[1]], centre = (b) => [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2];
  const [h, w] = side(box), [ah, aw] = side(anchor), [y, x] = centre(box), [ay, ax] = centre(anchor);
  return [(y - ay) / ah, (x - ax) / aw, Math.log(h / ah), Math.log(w / aw)].map((d, i) => d / std[i]);
}

// A parabola up to beta, a line beyond; beta = 0 is the absolute value.
function smoothL1(d, beta) {
  const size = Math.abs(d);
  return size < beta ? size * size / (2 * beta) : size - beta / 2;
}

function smoothL1Slope(d, beta) {
  return beta === 0 ? Math.sign(d) : Math.min(Math.max(d / beta, -1), 1);
}

function iou(a, b) {
  const area = (c) => (c[2] - c[0]) * (c[3] - c[1]);
  const both = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0) * Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  return both / (area(a) + area(b) - both);
}

// The loss of one predicted box: of its four deltas [predicted, target, difference, loss, gradient], and their mean.
function boxLoss(predicted, truth, anchor, std, beta) {
  const p = encode(predicted, anchor, std), t = encode(truth, anchor, std);
  const rows = p.map((v, i) => [v, t[i], v - t[i], smoothL1(v - t[i], beta), smoothL1Slope(v - t[i], beta) / 4]);
  return { rows, loss: rows.reduce((sum, row) => sum + row[3], 0) / 4 };
}

if (typeof module !== "undefined") module.exports = { encode, smoothL1, smoothL1Slope, iou, boxLoss };
