// The arithmetic of the explorable of chapter 9, without any drawing: tests run it in Node beside NumPy.
// A mask of the image is a list of rows of 0 and 1; boxes are [y1, x1, y2, x2] in its pixels.

// Where the bins of one axis read, with weights: for each of m bins a list of [pixel, weight] that add up to 1.
function axisShares(low, high, m, size) {
  const bin = (high - low) / m, count = Math.max(Math.ceil(bin), 0);
  return Array.from({ length: m }, (_, p) => {
    const shares = new Map();
    const add = (pixel, weight) => { if (weight !== 0) shares.set(pixel, (shares.get(pixel) || 0) + weight); };
    for (let i = 0; i < count; i++) {
      const u = low - 0.5 + bin * (p + (i + 0.5) / count);
      if (!(u >= -1 && u <= size)) continue;
      const c = Math.min(Math.max(u, 0), size - 1), first = Math.floor(c);
      add(first, (1 - (c - first)) / count);
      add(Math.min(first + 1, size - 1), (c - first) / count);
    }
    return [...shares];
  });
}

// The share of each of m x m cells of the box that the mask covers: RoIAlign with as many samples as pixels.
function target(truth, box, m) {
  const down = axisShares(box[0], box[2], m, truth.length), across = axisShares(box[1], box[3], m, truth[0].length);
  return down.map((rows) => across.map((columns) => {
    let total = 0;
    for (const [y, wy] of rows) for (const [x, wx] of columns) total += wy * wx * truth[y][x];
    return total;
  }));
}

// The cells that image pixel i lies between, with their weights: [[cell, weight], ...]; empty far outside of the box.
function cellsOf(i, low, high, m) {
  if (high <= low || i < Math.floor(low) - 1 || i >= Math.ceil(high) + 1) return [];
  const t = (i + 0.5 - low) / (high - low) * m - 0.5, first = Math.floor(t);
  return [[first, 1 - (t - first)], [first + 1, t - first]].filter(([cell]) => cell >= 0 && cell < m);
}

// The four cells (fewer at the border) of one image pixel: [[row, column, weight], ...].
function parents(y, x, box, m) {
  const found = [];
  for (const [row, wy] of cellsOf(y, box[0], box[2], m)) for (const [column, wx] of cellsOf(x, box[1], box[3], m)) found.push([row, column, wy * wx]);
  return found;
}

// The m x m cells brought back to the image: each pixel the weighted mean of its cells, 0 outside of the box.
function paste(cells, box, height, width) {
  const m = cells.length;
  return Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => {
    let total = 0;
    for (const [row, column, weight] of parents(y, x, box, m)) total += weight * cells[row][column];
    return total;
  }));
}

// Pixels in both, pixels in at least one, and their ratio.
function overlap(truth, painted, threshold) {
  let both = 0, any = 0;
  truth.forEach((line, y) => line.forEach((value, x) => {
    const ours = painted[y][x] >= threshold;
    if (value && ours) both++;
    if (value || ours) any++;
  }));
  return [both, any, any ? both / any : 0];
}

if (typeof module !== "undefined") module.exports = { axisShares, target, cellsOf, parents, paste, overlap };
