// The arithmetic of the explorable of chapter 8, without any drawing: tests run it in Node beside NumPy.
// A map is a list of rows; boxes are [y1, x1, y2, x2] in cells of the map.

// The four pixels of one sample and their weights, by the rules of roi_align: [[row, column, weight], ...].
function taps(map, y, x) {
  const axis = (u, size) => {
    if (!(u >= -1 && u <= size)) return [[0, 0], [0, 0]];
    const c = Math.min(Math.max(u, 0), size - 1);
    const low = Math.floor(c);
    return [[low, 1 - (c - low)], [Math.min(low + 1, size - 1), c - low]];
  };
  const found = [];
  for (const [row, wy] of axis(y, map.length)) for (const [column, wx] of axis(x, map[0].length)) found.push([row, column, wy * wx]);
  return found;
}

// Where the samples of bin (p, q) lie: [[y, x], ...], the centres of the g x g parts of the bin.
function samples(box, bins, g, aligned, p, q) {
  const shift = aligned ? 0.5 : 0;
  const least = aligned ? -Infinity : 1;
  const height = Math.max(box[2] - box[0], least) / bins, width = Math.max(box[3] - box[1], least) / bins;
  const points = [];
  for (let i = 0; i < g; i++) for (let j = 0; j < g; j++) {
    points.push([box[0] - shift + (p + (i + 0.5) / g) * height, box[1] - shift + (q + (j + 0.5) / g) * width]);
  }
  return points;
}

// RoIAlign of one box with the mean of its samples: rows of bins.
function roiAlign(map, box, bins, g, aligned) {
  const read = (p, q) => {
    let total = 0;
    for (const [y, x] of samples(box, bins, g, aligned, p, q)) for (const [row, column, w] of taps(map, y, x)) total += w * map[row][column];
    return total / (g * g);
  };
  return Array.from({ length: bins }, (_, p) => Array.from({ length: bins }, (_, q) => read(p, q)));
}

// The gradient that RoIAlign sends back to the map when the gradient of every bin is dy[p][q].
function roiAlignBackward(map, box, bins, g, aligned, dy) {
  const dmap = map.map((row) => row.map(() => 0));
  for (let p = 0; p < bins; p++) for (let q = 0; q < bins; q++) {
    for (const [y, x] of samples(box, bins, g, aligned, p, q)) {
      for (const [row, column, w] of taps(map, y, x)) dmap[row][column] += w * dy[p][q] / (g * g);
    }
  }
  return dmap;
}

// What one pixel receives: [{ p, q, y, x, weight, sends }, ...], one entry for each sample that has read it.
function received(map, box, bins, g, aligned, dy, row, column) {
  const found = [];
  for (let p = 0; p < bins; p++) for (let q = 0; q < bins; q++) {
    for (const [y, x] of samples(box, bins, g, aligned, p, q)) {
      let weight = 0;
      for (const [r, c, w] of taps(map, y, x)) if (r === row && c === column) weight += w;
      if (weight > 0) found.push({ p, q, y, x, weight, sends: weight * dy[p][q] / (g * g) });
    }
  }
  return found;
}

// Rows (or columns) of bin p of RoIPool as the kernels compute them: first and end, ends inclusive before the split.
function poolEdges(low, high, bins, p, size) {
  const round = (v) => Math.sign(v) * Math.floor(Math.abs(v) + 0.5);
  const first = round(low), side = Math.max(round(high) - first + 1, 1);
  const cut = (v) => Math.min(Math.max(v, 0), size);
  return [cut(first + Math.floor(p * side / bins)), cut(first + Math.ceil((p + 1) * side / bins))];
}

// The cell that wins bin (p, q) of RoIPool, the first of equals: [row, column]; null for a bin without cells.
function poolWinner(map, box, bins, p, q) {
  const [top, bottom] = poolEdges(box[0], box[2], bins, p, map.length);
  const [left, right] = poolEdges(box[1], box[3], bins, q, map[0].length);
  let best = null;
  for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) if (best === null || map[y][x] > map[best[0]][best[1]]) best = [y, x];
  return best;
}

function roiPool(map, box, bins) {
  const read = (p, q) => {
    const best = poolWinner(map, box, bins, p, q);
    return best === null ? 0 : map[best[0]][best[1]];
  };
  return Array.from({ length: bins }, (_, p) => Array.from({ length: bins }, (_, q) => read(p, q)));
}

// RoIPool hands the whole gradient of a bin to the cell that won it.
function roiPoolBackward(map, box, bins, dy) {
  const dmap = map.map((row) => row.map(() => 0));
  for (let p = 0; p < bins; p++) for (let q = 0; q < bins; q++) {
    const best = poolWinner(map, box, bins, p, q);
    if (best !== null) dmap[best[0]][best[1]] += dy[p][q];
  }
  return dmap;
}

if (typeof module !== "undefined") module.exports = { taps, samples, roiAlign, roiAlignBackward, received, poolEdges, poolWinner, roiPool, roiPoolBackward };
