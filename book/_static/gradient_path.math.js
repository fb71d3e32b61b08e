// The arithmetic of the explorable of chapter 12, without any drawing: tests run it in Node beside NumPy.
// A small network: image (6 x 6) -> 3 x 3 convolution -> ReLU -> 2 x 2 maximum -> weighted sum -> (score - target)^2 / 2.

// Every number on the way forward; winner[p][q] is the cell of the convolution's map that won its pool.
function forward(image, kernel, head, target) {
  const size = image.length - kernel.length + 1, half = size / 2;
  const grid = (n, f) => Array.from({ length: n }, (_, p) => Array.from({ length: n }, (_, q) => f(p, q)));
  const conv = grid(size, (p, q) => {
    let total = 0;
    kernel.forEach((row, i) => row.forEach((w, j) => { total += w * image[p + i][q + j]; }));
    return total;
  });
  const relu = conv.map((row) => row.map((v) => Math.max(v, 0)));
  const winner = grid(half, (p, q) => {
    let best = null;
    for (let i = 0; i < 2; i++) for (let j = 0; j < 2; j++) {
      const at = [2 * p + i, 2 * q + j];
      if (best === null || relu[at[0]][at[1]] > relu[best[0]][best[1]]) best = at;
    }
    return best;
  });
  const pool = winner.map((row) => row.map(([r, c]) => relu[r][c]));
  let score = 0;
  pool.forEach((row, p) => row.forEach((v, q) => { score += head[p][q] * v; }));
  return { conv, relu, winner, pool, score, loss: (score - target) ** 2 / 2 };
}

// The gradient of the loss with respect to every number, station by station, from the last to the first.
function backward(image, kernel, head, target) {
  const f = forward(image, kernel, head, target), zeros = (like) => like.map((row) => row.map(() => 0));
  const score = f.score - target;
  const dhead = f.pool.map((row) => row.map((v) => score * v));
  const pool = head.map((row) => row.map((w) => score * w));
  const relu = zeros(f.relu);
  f.winner.forEach((row, p) => row.forEach(([r, c], q) => { relu[r][c] += pool[p][q]; }));
  const conv = relu.map((row, p) => row.map((d, q) => (f.conv[p][q] > 0 ? d : 0)));
  const dimage = zeros(image), dkernel = zeros(kernel);
  conv.forEach((row, p) => row.forEach((d, q) => kernel.forEach((line, i) => line.forEach((w, j) => {
    dimage[p + i][q + j] += d * w;
    dkernel[i][j] += d * image[p + i][q + j];
  }))));
  return { score, dhead, pool, relu, conv, dimage, dkernel };
}

// All ways from one pixel to the loss: one for each window that reads it, as
// [row, column, weight, open, wins, head weight, product]; the products add up to the pixel's gradient.
function paths(image, kernel, head, target, y, x) {
  const f = forward(image, kernel, head, target), found = [];
  f.conv.forEach((row, p) => row.forEach((value, q) => {
    const i = y - p, j = x - q;
    if (i < 0 || j < 0 || i >= kernel.length || j >= kernel.length) return;
    const above = [Math.floor(p / 2), Math.floor(q / 2)], won = f.winner[above[0]][above[1]];
    const open = value > 0 ? 1 : 0, wins = won[0] === p && won[1] === q ? 1 : 0, w = head[above[0]][above[1]];
    found.push([p, q, kernel[i][j], open, wins, w, (f.score - target) * w * wins * open * kernel[i][j]]);
  }));
  return found;
}

if (typeof module !== "undefined") module.exports = { forward, backward, paths };
