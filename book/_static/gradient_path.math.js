// The arithmetic of the explorable of chapter 12, without any drawing: tests run it in Node beside NumPy.
// A small network: image (6 x 6) -> 3 x 3 convolution -> ReLU -> 2 x 2 maximum -> weighted sum -> (score - target)^2 / 2.

// Every number on the way forward; winner[p][q] is the cell of ReLU's map that won its pool. With
// nudge = [board, row, column, by] one number is moved after it has been computed, and all behind it follow.
function forward(image, kernel, head, target, nudge = null) {
  const size = image.length - kernel.length + 1, half = size / 2;
  const moved = (name, board) => {
    if (nudge === null || nudge[0] !== name) return board;
    return board.map((row, p) => row.map((v, q) => (p === nudge[1] && q === nudge[2] ? v + nudge[3] : v)));
  };
  const grid = (n, f) => Array.from({ length: n }, (_, p) => Array.from({ length: n }, (_, q) => f(p, q)));
  const x = moved("image", image), k = moved("kernel", kernel), w = moved("head", head);
  const conv = moved("conv", grid(size, (p, q) => {
    let total = 0;
    k.forEach((row, i) => row.forEach((weight, j) => { total += weight * x[p + i][q + j]; }));
    return total;
  }));
  const relu = moved("relu", conv.map((row) => row.map((v) => Math.max(v, 0))));
  const winner = grid(half, (p, q) => {
    let best = null;
    for (let i = 0; i < 2; i++) for (let j = 0; j < 2; j++) {
      const at = [2 * p + i, 2 * q + j];
      if (best === null || relu[at[0]][at[1]] > relu[best[0]][best[1]]) best = at;
    }
    return best;
  });
  const pool = moved("pool", winner.map((row) => row.map(([r, c]) => relu[r][c])));
  let score = 0;
  pool.forEach((row, p) => row.forEach((v, q) => { score += w[p][q] * v; }));
  score = moved("score", [[score]])[0][0];
  const goal = moved("target", [[target]])[0][0];
  return { conv, relu, winner, pool, score, loss: moved("loss", [[(score - goal) ** 2 / 2]])[0][0] };
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

// Values and gradients of all boards under one set of names; score, target and loss are boards of one number.
function numbers(image, kernel, head, target) {
  const f = forward(image, kernel, head, target), b = backward(image, kernel, head, target);
  return {
    value: { image, kernel, conv: f.conv, relu: f.relu, pool: f.pool, head, score: [[f.score]], target: [[target]], loss: [[f.loss]] },
    gradient: { image: b.dimage, kernel: b.dkernel, conv: b.conv, relu: b.relu, pool: b.pool, head: b.dhead,
      score: [[b.score]], target: [[-b.score]], loss: [[1]] },
    winner: f.winner,
  };
}

// Where one number and its gradient come from. Terms are lists of factors; a factor is [board, row, column, kind] with
// the kind "value" or "gradient", or a bare number. rule says what is done with the terms of the value ("sum", "relu",
// "largest", "square", or "given": then there are none). The gradient is always the sum of its terms' products; terms
// that are 0 because a window is closed or lost are left out and counted in silent.
function trace(image, kernel, head, target, board, p, q) {
  const n = numbers(image, kernel, head, target), size = n.value.conv.length;
  const value = (name, ...at) => [name, ...at, "value"], gradient = (name, ...at) => [name, ...at, "gradient"];
  const each = (rows, columns, f) => Array.from({ length: rows * columns }, (_, i) => f(Math.floor(i / columns), i % columns));
  const up = [Math.floor(p / 2), Math.floor(q / 2)];
  const heard = (terms) => { // only windows with a gradient are written out
    const loud = terms.filter(([[name, r, c]]) => n.gradient[name][r][c] !== 0);
    return { back: loud, silent: terms.length - loud.length };
  };
  const known = {
    image: () => ({ rule: "given", from: [], ...heard(each(size, size, (r, c) => [r, c])
      .filter(([r, c]) => p - r >= 0 && q - c >= 0 && p - r < kernel.length && q - c < kernel.length)
      .map(([r, c]) => [gradient("conv", r, c), value("kernel", p - r, q - c)])) }),
    kernel: () => ({ rule: "given", from: [], ...heard(each(size, size, (r, c) => [gradient("conv", r, c), value("image", r + p, c + q)])) }),
    conv: () => ({ rule: "sum", from: each(kernel.length, kernel.length, (i, j) => [value("image", p + i, q + j), value("kernel", i, j)]),
      back: [[gradient("relu", p, q), n.value.conv[p][q] > 0 ? 1 : 0]] }),
    relu: () => ({ rule: "relu", from: [[value("conv", p, q)]],
      back: [[gradient("pool", ...up), n.winner[up[0]][up[1]][0] === p && n.winner[up[0]][up[1]][1] === q ? 1 : 0]] }),
    pool: () => ({ rule: "largest", from: each(2, 2, (i, j) => [value("relu", 2 * p + i, 2 * q + j)]),
      back: [[gradient("score", 0, 0), value("head", p, q)]] }),
    head: () => ({ rule: "given", from: [], back: [[gradient("score", 0, 0), value("pool", p, q)]] }),
    score: () => ({ rule: "sum", from: each(2, 2, (i, j) => [value("pool", i, j), value("head", i, j)]),
      back: [[gradient("loss", 0, 0), value("score", 0, 0)], [-1, gradient("loss", 0, 0), value("target", 0, 0)]] }),
    target: () => ({ rule: "given", from: [], back: [[-1, gradient("score", 0, 0)]] }),
    loss: () => ({ rule: "square", from: [[value("score", 0, 0)], [value("target", 0, 0)]], back: [[1]] }),
  };
  return { silent: 0, ...known[board](), value: n.value[board][p][q], gradient: n.gradient[board][p][q] };
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

if (typeof module !== "undefined") module.exports = { forward, backward, numbers, trace, paths };
