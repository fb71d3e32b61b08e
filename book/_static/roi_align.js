// Chapter 8: drag the box; see the samples of each bin, the numbers they read, three results, and the gradient.
function view(root, { map, box }) {
  const rows = map.length, columns = map[0].length, bins = 2, g = 2, cell = 46;
  const state = { box: [...box], aligned: true, p: 0, q: 0, gradient: false };
  const controls = make(root, "div", { class: "controls" });
  choice(controls, "half a pixel", ["aligned = True", "aligned = False"], "aligned = True", (v) => { state.aligned = v === "aligned = True"; draw(); });
  choice(controls, "the bin to trace", ["upper left", "upper right", "lower left", "lower right"], "upper left", (v) => {
    state.p = v.startsWith("lower") ? 1 : 0;
    state.q = v.endsWith("right") ? 1 : 0;
    draw();
  });
  choice(controls, "cells show", ["their value", "the gradient that comes back"], "their value", (v) => { state.gradient = v !== "their value"; draw(); });
  const svg = canvas(root, columns * cell + 2, rows * cell + 2, "a feature map, a box on it and the points where RoIAlign reads");
  const cells = map.map((row, y) => row.map((value, x) => ({
    square: make(svg, "rect", { x: x * cell + 1, y: y * cell + 1, width: cell, height: cell, stroke: "var(--line)", fill: "none" }),
    text: make(svg, "text", { x: x * cell + cell / 2, y: y * cell + cell - 6, "text-anchor": "middle", style: "font-size: 10px; fill: var(--soft)" }),
  })));
  const frame = make(svg, "rect", { fill: "var(--a)", "fill-opacity": 0.12, stroke: "var(--a)", "stroke-width": 2 });
  const lines = [make(svg, "line", { stroke: "var(--a)" }), make(svg, "line", { stroke: "var(--a)" })];
  const dots = Array.from({ length: bins * bins * g * g }, () => make(svg, "circle", { r: 3.5, stroke: "var(--paper)", "pointer-events": "none" }));
  const corner = make(svg, "circle", { r: 8, fill: "var(--b)" });
  const traced = table(root, ["sample (y, x)", "upper left", "upper right", "lower left", "lower right", "reads"]);
  const results = table(root, ["the four bins", "upper left", "upper right", "lower left", "lower right"]);
  const said = make(root, "p", { "aria-live": "polite" });

  draggable(svg, frame, 0.05 * cell, (dx, dy) => {
    const height = state.box[2] - state.box[0], width = state.box[3] - state.box[1];
    state.box[0] = clamp(state.box[0] + dy / cell, 0, rows - height);
    state.box[1] = clamp(state.box[1] + dx / cell, 0, columns - width);
    state.box[2] = state.box[0] + height;
    state.box[3] = state.box[1] + width;
    draw();
  }, "the box: arrow keys move it");
  draggable(svg, corner, 0.05 * cell, (dx, dy) => {
    state.box[2] = clamp(state.box[2] + dy / cell, state.box[0] + 0.5, rows);
    state.box[3] = clamp(state.box[3] + dx / cell, state.box[1] + 0.5, columns);
    draw();
  }, "the lower right corner: arrow keys move it");

  function draw() {
    const b = state.box, ones = Array.from({ length: bins }, () => Array(bins).fill(1));
    const back = roiAlignBackward(map, b, bins, g, state.aligned, ones);
    const largest = Math.max(...map.flat()), strongest = Math.max(...back.flat(), 1e-9);
    map.forEach((row, y) => row.forEach((value, x) => {
      const shown = state.gradient ? back[y][x] : value, share = state.gradient ? shown / strongest : shown / largest;
      set(cells[y][x].square, { fill: state.gradient ? "var(--b)" : "var(--soft)", "fill-opacity": (0.75 * share).toFixed(3) });
      cells[y][x].text.textContent = shown === 0 ? "" : shown.toFixed(state.gradient ? 2 : 0);
    }));
    const px = (v) => v * cell + 1;
    set(frame, { x: px(b[1]), y: px(b[0]), width: (b[3] - b[1]) * cell, height: (b[2] - b[0]) * cell, "aria-valuetext": `y ${b[0].toFixed(2)} to ${b[2].toFixed(2)}, x ${b[1].toFixed(2)} to ${b[3].toFixed(2)}` });
    set(lines[0], { x1: px((b[1] + b[3]) / 2), x2: px((b[1] + b[3]) / 2), y1: px(b[0]), y2: px(b[2]) });
    set(lines[1], { y1: px((b[0] + b[2]) / 2), y2: px((b[0] + b[2]) / 2), x1: px(b[1]), x2: px(b[3]) });
    set(corner, { cx: px(b[3]), cy: px(b[2]) });
    // A sample's coordinate is a pixel index; pixel i is drawn as the square from i to i + 1, with its value in the middle
    let k = 0;
    for (let p = 0; p < bins; p++) for (let q = 0; q < bins; q++) for (const [y, x] of samples(b, bins, g, state.aligned, p, q)) {
      const mine = p === state.p && q === state.q;
      set(dots[k++], { cx: px(x + 0.5), cy: px(y + 0.5), fill: mine ? "var(--b)" : "var(--ink)", r: mine ? 4.5 : 3 });
    }
    const points = samples(b, bins, g, state.aligned, state.p, state.q);
    traced(points.map(([y, x]) => {
      const four = taps(map, y, x), value = four.reduce((sum, [r, c, w]) => sum + w * map[r][c], 0);
      return [`(${y.toFixed(2)}, ${x.toFixed(2)})`, ...four.map(([r, c, w]) => `${w.toFixed(2)} · ${map[r][c]}`), value.toFixed(2)];
    }));
    const yes = roiAlign(map, b, bins, g, true), no = roiAlign(map, b, bins, g, false), pooled = roiPool(map, b, bins);
    const line = (name, r) => [name, ...r.flat().map((v) => v.toFixed(2))];
    results([line("RoIAlign, aligned = True", yes), line("RoIAlign, aligned = False", no), line("RoIPool (maximum)", pooled)]);
    said.textContent = `The traced bin is the mean of the four numbers on the right: ${(state.aligned ? yes : no)[state.p][state.q].toFixed(2)}.`;
  }
  draw();
}
