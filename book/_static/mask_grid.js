// Chapter 9: m x m cells against the true outline; drag the box, change m, follow one pixel.
function view(root, { truth, box, m }) {
  const height = truth.length, width = truth[0].length, cell = 9;
  const state = { box: [...box], m, y: Math.floor(height / 3), x: Math.floor(width / 2) };
  const controls = make(root, "div", { class: "controls" });
  const svg = canvas(root, width * cell + 2, height * cell + 2, "a star, the box, the cells of its mask and the outline that they paint");
  const pixels = truth.map((row, y) => row.map((inside, x) => make(svg, "rect", { x: x * cell + 1, y: y * cell + 1, width: cell, height: cell })));
  const grid = make(svg, "g", { "pointer-events": "none" });
  const frame = make(svg, "rect", { fill: "var(--a)", "fill-opacity": 0, stroke: "var(--a)", "stroke-width": 2 });
  const corner = make(svg, "circle", { r: 8, fill: "var(--b)" });
  const cursor = make(svg, "rect", { width: cell + 2, height: cell + 2, fill: "var(--paper)", "fill-opacity": 0, stroke: "var(--b)", "stroke-width": 3 });
  const traced = table(root, ["cell (row, column)", "share covered", "weight", "product"]);
  const said = make(root, "p", { "aria-live": "polite" });
  slider(controls, "m, cells along a side", { min: 2, max: 28, step: 1, value: m }, (v) => { state.m = v; if (said) draw(); }, 0);

  draggable(svg, frame, cell / 2, (dx, dy) => {
    const h = state.box[2] - state.box[0], w = state.box[3] - state.box[1];
    state.box[0] = clamp(state.box[0] + dy / cell, 0, height - h);
    state.box[1] = clamp(state.box[1] + dx / cell, 0, width - w);
    state.box[2] = state.box[0] + h;
    state.box[3] = state.box[1] + w;
    draw();
  }, "the box: arrow keys move it");
  draggable(svg, corner, cell / 2, (dx, dy) => {
    state.box[2] = clamp(state.box[2] + dy / cell, state.box[0] + 4, height);
    state.box[3] = clamp(state.box[3] + dx / cell, state.box[1] + 4, width);
    draw();
  }, "the lower right corner: arrow keys move it");
  draggable(svg, cursor, cell, (dx, dy) => {
    state.y = clamp(state.y + dy / cell, 0, height - 1);
    state.x = clamp(state.x + dx / cell, 0, width - 1);
    draw();
  }, "the pixel to trace: arrow keys move it");

  function draw() {
    const b = state.box, cells = target(truth, b, state.m), painted = paste(cells, b, height, width);
    truth.forEach((row, y) => row.forEach((inside, x) => {
      const ours = painted[y][x] >= 0.5;
      const fill = inside ? (ours ? "var(--c)" : "var(--a)") : ours ? "var(--b)" : "var(--paper)";
      set(pixels[y][x], { fill, "fill-opacity": inside && ours ? 0.45 : 0.9 });
    }));
    const px = (v) => v * cell + 1, lines = [];
    for (let i = 1; i < state.m; i++) {
      const y = px(b[0] + (b[2] - b[0]) * i / state.m), x = px(b[1] + (b[3] - b[1]) * i / state.m);
      lines.push(`M${px(b[1])} ${y}H${px(b[3])}M${x} ${px(b[0])}V${px(b[2])}`);
    }
    grid.replaceChildren();
    make(grid, "path", { d: lines.join(""), stroke: "var(--line)", "stroke-width": 0.8, fill: "none" });
    const y = Math.round(state.y), x = Math.round(state.x), four = parents(y, x, b, state.m);
    for (const [row, column] of four) {
      make(grid, "circle", { cx: px(b[1] + (b[3] - b[1]) * (column + 0.5) / state.m), cy: px(b[0] + (b[2] - b[0]) * (row + 0.5) / state.m), r: 3.5, fill: "var(--b)" });
    }
    set(frame, { x: px(b[1]), y: px(b[0]), width: (b[3] - b[1]) * cell, height: (b[2] - b[0]) * cell, "aria-valuetext": `y ${b[0].toFixed(1)} to ${b[2].toFixed(1)}, x ${b[1].toFixed(1)} to ${b[3].toFixed(1)}` });
    set(corner, { cx: px(b[3]), cy: px(b[2]) });
    set(cursor, { x: px(x) - 1, y: px(y) - 1, "aria-valuetext": `row ${y}, column ${x}` });
    const rows = four.map(([r, c, w]) => [`(${r}, ${c})`, cells[r][c].toFixed(3), w.toFixed(3), (w * cells[r][c]).toFixed(3)]);
    traced([...rows, ["the pixel: their sum", "", "", painted[y][x].toFixed(3)]]);
    const [both, any, ratio] = overlap(truth, painted, 0.5);
    said.textContent = `Pixel (${y}, ${x}) has ${painted[y][x].toFixed(3)} and is ${painted[y][x] >= 0.5 ? "" : "not "}painted; the truth says ${truth[y][x] ? "yes" : "no"}. Painted and true ${both}, painted or true ${any}: IoU ${ratio.toFixed(3)}. Blue pixels were lost, orange ones invented.`;
  }
  draw();
}
