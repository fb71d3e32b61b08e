// Chapter 2: a kernel moves over a map; every output, every pixel's gradient and every weight's gradient as its sum.
function view(root, { map, kernels }) {
  const rows = map.length, columns = map[0].length, k = 3, cell = 30, edge = 1, gap = 20;
  const names = Object.keys(kernels), copy = (m) => m.map((row) => [...row]);
  const state = { mode: "an output", kernel: copy(kernels[names[0]]), stride: 1, how: "one", ones: true, output: [2, 3], pixel: [2, 3], weight: [0, 0] };
  const controls = make(root, "div", { class: "controls" });
  choice(controls, "trace", ["an output", "the gradient of a pixel", "the gradient of a weight"], state.mode, (v) => { state.mode = v; at = null; draw(); });
  choice(controls, "kernel", names, names[0], (v) => { state.kernel = copy(kernels[v]); draw(); });
  choice(controls, "stride", ["1", "2"], "1", (v) => { state.stride = Number(v); at = null; draw(); });
  choice(controls, "padding", ["none", "one", "same"], "one", (v) => { state.how = v; at = null; draw(); });
  choice(controls, "gradient of the outputs", ["1 everywhere", "1 at the chosen output"], "1 everywhere", (v) => { state.ones = v === "1 everywhere"; draw(); });

  const width = (columns + 2 * edge) * cell, right = width + gap;
  const svg = canvas(root, right + k * cell + 2, 30 + (rows + 2 * edge) * cell + 34 + rows * cell + 2, "a map of numbers, a kernel over it, and the map of the sums");
  svg.style.maxWidth = "34rem";
  const label = (x, y) => make(svg, "text", { x, y });
  // Squares with a number in them; place(y, x) gives a corner.
  const squares = (height, width, x0, y0) => grid(height, width, (y, x) => ({
    square: make(svg, "rect", { x: x0 + x * cell, y: y0 + y * cell, width: cell, height: cell, stroke: "var(--line)", fill: "none" }),
    text: make(svg, "text", { x: x0 + (x + 0.5) * cell, y: y0 + (y + 0.5) * cell + 4, "text-anchor": "middle" }),
  }));
  const top = 24, under = top + (rows + 2 * edge) * cell + 34;
  const said = [label(1, 16), label(right, 16), label(1, under - 8)];
  const input = squares(rows + 2 * edge, columns + 2 * edge, 1, top), weights = squares(k, k, right, top), output = squares(rows, columns, 1, under);
  const frame = make(svg, "rect", { fill: "none", stroke: "var(--a)", "stroke-width": 3, "pointer-events": "none" });
  const cursor = make(svg, "rect", { width: cell, height: cell, fill: "var(--b)", "fill-opacity": 0.25, stroke: "var(--b)", "stroke-width": 3 });
  const weightChoice = choice(controls, "the chosen weight", ["-2", "-1", "0", "1", "2"], String(kernels[names[0]][0][0]), (v) => { state.kernel[state.weight[0]][state.weight[1]] = Number(v); draw(); });
  const sum = make(root, "p", { "aria-live": "polite" });
  const traced = table(root, ["output", "pixel", "weight", "is multiplied by", "product"]);

  const pads = () => [padding(rows, k, state.stride, state.how), padding(columns, k, state.stride, state.how)];
  const chosen = () => ({ "an output": "output", "the gradient of a pixel": "pixel", "the gradient of a weight": "weight" })[state.mode];
  let at = null; // where the cursor is while it is dragged, in cells and fractions of cells
  draggable(svg, cursor, cell, (dx, dy) => {
    const what = chosen(), size = { output: outputShape(map, state.kernel, state.stride, pads()), pixel: [rows, columns], weight: [k, k] }[what];
    at = (at ?? state[what]).map((v, axis) => clamp(v + (axis ? dx : dy) / cell, 0, size[axis] - 1));
    state[what] = at.map(Math.round);
    draw();
  }, "what is traced: arrow keys choose another");
  svg.addEventListener("pointerup", () => { at = null; });

  const short = (v) => String(Number(v.toFixed(2)));
  function paint({ square, text }, shown, share, colour) {
    set(square, { fill: share === null ? "none" : colour, "fill-opacity": Math.min(Math.abs(share ?? 0), 1) * 0.6, visibility: "visible" });
    text.textContent = shown;
  }
  function draw() {
    const p = pads(), shape = outputShape(map, state.kernel, state.stride, p), what = chosen(), back = what !== "output";
    state.output = state.output.map((v, axis) => Math.min(v, shape[axis] - 1));
    const y = convolve(map, state.kernel, state.stride, p);
    const dy = grid(shape[0], shape[1], (a, b) => (state.ones || (a === state.output[0] && b === state.output[1]) ? 1 : 0));
    const [dmap, dkernel] = convolveBackward(map, state.kernel, state.stride, p, dy);
    const largest = (m) => Math.max(...m.flat().map(Math.abs), 1e-9);
    const shownMap = what === "pixel" ? dmap : map, shownKernel = what === "weight" ? dkernel : state.kernel, shownOutput = back ? dy : y;
    input.forEach((line, a) => line.forEach((one, b) => {
      const row = a - edge, column = b - edge, real = inside(map, row, column);
      const padded = row >= -p[0][0] && row < rows + p[0][1] && column >= -p[1][0] && column < columns + p[1][1];
      paint(one, real ? short(shownMap[row][column]) : padded ? "0" : "", real ? shownMap[row][column] / largest(shownMap) : null, "var(--soft)");
      set(one.square, { visibility: real || padded ? "visible" : "hidden", "stroke-dasharray": real ? "none" : "3 3" });
    }));
    weights.forEach((line, i) => line.forEach((one, j) => paint(one, short(shownKernel[i][j]), shownKernel[i][j] / largest(shownKernel), "var(--c)")));
    output.forEach((line, a) => line.forEach((one, b) => {
      const real = a < shape[0] && b < shape[1];
      paint(one, real ? short(shownOutput[a][b]) : "", real ? shownOutput[a][b] / largest(shownOutput) : null, "var(--a)");
      set(one.square, { visibility: real ? "visible" : "hidden" });
    }));
    said[0].textContent = what === "pixel" ? "gradient of the map" : "map, dashed: padding";
    said[1].textContent = what === "weight" ? "its gradient" : "kernel";
    said[2].textContent = back ? "gradient of the outputs" : "output";

    const [a, b] = state[what], x0 = { output: 1, pixel: 1 + edge * cell, weight: right }[what], y0 = { output: under, pixel: top + edge * cell, weight: top }[what];
    set(cursor, { x: x0 + b * cell, y: y0 + a * cell, "aria-valuetext": `${what}, row ${a}, column ${b}` });
    // The frame: the window of an output; all outputs that read a pixel; all pixels that a weight meets
    const terms = what === "output" ? outputTerms(map, state.kernel, state.stride, p, a, b) : what === "pixel" ? pixelTerms(map, state.kernel, state.stride, p, dy, a, b) : weightTerms(map, state.kernel, state.stride, p, dy, a, b);
    const spots = what === "pixel" ? terms.map((t) => [t[0], t[1]]) : what === "output" ? terms.map((t) => [t[0] + edge, t[1] + edge]) : terms.map((t) => [t[2] + edge, t[3] + edge]);
    if (spots.length) {
      const low = [0, 1].map((axis) => Math.min(...spots.map((s) => s[axis]))), high = [0, 1].map((axis) => Math.max(...spots.map((s) => s[axis])));
      set(frame, { x: 1 + low[1] * cell, y: (what === "pixel" ? under : top) + low[0] * cell, width: (high[1] - low[1] + 1) * cell, height: (high[0] - low[0] + 1) * cell, visibility: "visible" });
    } else set(frame, { visibility: "hidden" });
    const place = (r, c) => `(${r}, ${c})`;
    traced(terms.map((t) => {
      const product = short(t[4] * t[5]);
      if (what === "output") return [place(a, b), `${place(t[0], t[1])}: ${short(t[4])}`, place(t[2], t[3]), short(t[5]), product];
      if (what === "pixel") return [`${place(t[0], t[1])}: ${short(t[4])}`, place(a, b), place(t[2], t[3]), short(t[5]), product];
      return [`${place(t[0], t[1])}: ${short(t[4])}`, place(t[2], t[3]), place(a, b), short(t[5]), product];
    }));
    const name = { output: "Output", pixel: "The gradient of pixel", weight: "The gradient of weight" }[what];
    sum.textContent = `${name} ${place(a, b)} is the sum of ${terms.length} products: ${short(total(terms))}.`;
    weightChoice.value = String(state.kernel[state.weight[0]][state.weight[1]]);
  }
  draw();
}
