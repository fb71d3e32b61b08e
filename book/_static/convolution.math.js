// The arithmetic of the explorable of chapter 2, without any drawing: tests run it in Node beside NumPy.
// A map is a list of rows, a kernel too; pads are [[top, bottom], [left, right]]; dy is the gradient of the output.

// What is added before and after a side: "none", "one" on each side, or TensorFlow's "same".
function padding(side, kernel, stride, how) {
  if (how !== "same") return how === "one" ? [1, 1] : [0, 0];
  const total = Math.max((Math.ceil(side / stride) - 1) * stride + kernel - side, 0);
  return [Math.floor(total / 2), total - Math.floor(total / 2)];
}

function outputShape(map, kernel, stride, pads) {
  const side = (size, k, [before, after]) => Math.floor((before + size + after - k) / stride) + 1;
  return [side(map.length, kernel.length, pads[0]), side(map[0].length, kernel[0].length, pads[1])];
}

const inside = (map, row, column) => row >= 0 && row < map.length && column >= 0 && column < map[0].length;

// The products of which output (p, q) is the sum: [[row, column, i, j, x, w], ...]; a padded cell reads 0.
function outputTerms(map, kernel, stride, pads, p, q) {
  const terms = [];
  kernel.forEach((line, i) => line.forEach((w, j) => {
    const row = p * stride + i - pads[0][0], column = q * stride + j - pads[1][0];
    terms.push([row, column, i, j, inside(map, row, column) ? map[row][column] : 0, w]);
  }));
  return terms;
}

// The products of which the gradient of pixel (row, column) is the sum: [[p, q, i, j, dy, w], ...].
function pixelTerms(map, kernel, stride, pads, dy, row, column) {
  const terms = [];
  dy.forEach((line, p) => line.forEach((d, q) => {
    const i = row + pads[0][0] - p * stride, j = column + pads[1][0] - q * stride;
    if (inside(kernel, i, j)) terms.push([p, q, i, j, d, kernel[i][j]]);
  }));
  return terms;
}

// The products of which the gradient of weight (i, j) is the sum: [[p, q, row, column, dy, x], ...].
function weightTerms(map, kernel, stride, pads, dy, i, j) {
  const terms = [];
  dy.forEach((line, p) => line.forEach((d, q) => {
    const row = p * stride + i - pads[0][0], column = q * stride + j - pads[1][0];
    terms.push([p, q, row, column, d, inside(map, row, column) ? map[row][column] : 0]);
  }));
  return terms;
}

const total = (terms) => terms.reduce((sum, term) => sum + term[4] * term[5], 0);
const grid = (rows, columns, value) => Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) => value(y, x)));

function convolve(map, kernel, stride, pads, bias = 0) {
  const [rows, columns] = outputShape(map, kernel, stride, pads);
  return grid(rows, columns, (p, q) => total(outputTerms(map, kernel, stride, pads, p, q)) + bias);
}

// A loss of the outputs, how it may be made of them: each output times a factor, [[p, q, p, q, y, factor], ...].
// "sum" of all, "one" of them (chosen), "squares": half the sum of squares.
function lossTerms(y, how, chosen) {
  const all = y.flatMap((line, p) => line.map((v, q) => [p, q, p, q, v, how === "squares" ? v / 2 : 1]));
  return how === "one" ? all.filter(([p, q]) => p === chosen[0] && q === chosen[1]) : all;
}

// Its derivative by each output.
function lossGradient(y, how, chosen) {
  const factor = { sum: () => 1, one: (v, p, q) => Number(p === chosen[0] && q === chosen[1]), squares: (v) => v }[how];
  return y.map((line, p) => line.map((v, q) => factor(v, p, q)));
}

// [gradient of the map, gradient of the kernel]
function convolveBackward(map, kernel, stride, pads, dy) {
  return [
    grid(map.length, map[0].length, (y, x) => total(pixelTerms(map, kernel, stride, pads, dy, y, x))),
    grid(kernel.length, kernel[0].length, (i, j) => total(weightTerms(map, kernel, stride, pads, dy, i, j))),
  ];
}

if (typeof module !== "undefined") module.exports = { padding, outputShape, outputTerms, pixelTerms, weightTerms, total, grid, convolve, convolveBackward, lossTerms, lossGradient };
