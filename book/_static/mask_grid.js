// Chapter 9: m x m cells against the true outline; drag the box, change m, follow one pixel.
function view(root, { truth, box, m }) {
  const height = truth.length, width = truth[0].length, cell = 9;
  const state = { box: [...box], m, y: Math.floor(height / 3), x: Math.floor(width / 2) };
  let ready = false;
  const controls = make(root, "div", { class: "controls" });
  slider(controls, "m, cells along a side", { min: 2, max: 28, step: 1, value: m }, (v) => { state.m = v; draw(); }, 0);
  const both = make(root, "div", { style: "display: flex; flex-wrap: wrap; gap: .75rem" });
  const picture = (label) => {
    const svg = canvas(both, width * cell + 2, height * cell + 2, label);
    set(svg, { style: "flex: 1 1 280px; min-width: 0; width: auto" });
    const pixels = truth.map((row, y) => row.map((inside, x) => make(svg, "rect", { x: x * cell + 1, y: y * cell + 1, width: cell, height: cell, fill: inside ? "var(--a)" : "var(--paper)", "fill-opacity": 0.5 })));
    make(svg, "rect", { x: 1, y: 1, width: width * cell, height: height * cell, fill: "none", stroke: "var(--line)" });
    return [svg, pixels];
  };
  const [left] = picture("a star, the box and the cells of its mask, each with the share that the star covers");
  const [right, pixels] = picture("the pixels that the cells paint: right, lost or invented");
  const grid = make(left, "g", { "pointer-events": "none" });
  const frame = make(left, "rect", { fill: "var(--a)", "fill-opacity": 0, stroke: "var(--a)", "stroke-width": 2 });
  const corner = make(left, "circle", { r: 8, fill: "var(--b)" });
  const cursor = make(left, "rect", { width: cell + 2, height: cell + 2, fill: "var(--paper)", "fill-opacity": 0, stroke: "var(--b)", "stroke-width": 3 });
  const around = make(right, "g");
  const traced = table(root, ["cell (row, column)", "share covered", "weight", "product"]);
  const said = make(root, "p", { "aria-live": "polite" });

  draggable(left, frame, cell / 2, (dx, dy) => {
    const h = state.box[2] - state.box[0], w = state.box[3] - state.box[1];
    state.box[0] = clamp(state.box[0] + dy / cell, 0, height - h);
    state.box[1] = clamp(state.box[1] + dx / cell, 0, width - w);
    state.box[2] = state.box[0] + h;
    state.box[3] = state.box[1] + w;
    draw();
  }, "the box: arrow keys move it");
  draggable(left, corner, cell / 2, (dx, dy) => {
    state.box[2] = clamp(state.box[2] + dy / cell, state.box[0] + 4, height);
    state.box[3] = clamp(state.box[3] + dx / cell, state.box[1] + 4, width);
    draw();
  }, "the lower right corner: arrow keys move it");
  draggable(left, cursor, cell, (dx, dy) => {
    state.y = clamp(state.y + dy / cell, 0, height - 1);
    state.x = clamp(state.x + dx / cell, 0, width - 1);
    draw();
  }, "the pixel to trace: arrow keys move it");
  ready = true;

  function draw() {
    if (!ready) return;
    const b = state.box, cells = target(truth, b, state.m), painted = paste(cells, b, height, width), px = (v) => v * cell + 1;
    truth.forEach((row, y) => row.forEach((inside, x) => {
      const ours = painted[y][x] >= 0.5;
      const fill = inside ? (ours ? "var(--c)" : "var(--a)") : ours ? "var(--b)" : "var(--paper)";
      set(pixels[y][x], { fill, "fill-opacity": inside && ours ? 0.45 : 0.9 });
    }));
    const y = Math.round(state.y), x = Math.round(state.x), four = parents(y, x, b, state.m);
    drawCells(cells, four);
    set(frame, { x: px(b[1]), y: px(b[0]), width: (b[3] - b[1]) * cell, height: (b[2] - b[0]) * cell, "aria-valuetext": `y ${b[0].toFixed(1)} to ${b[2].toFixed(1)}, x ${b[1].toFixed(1)} to ${b[3].toFixed(1)}` });
    set(corner, { cx: px(b[3]), cy: px(b[2]), "aria-valuetext": `y ${b[2].toFixed(1)}, x ${b[3].toFixed(1)}` });
    set(cursor, { x: px(x) - 1, y: px(y) - 1, "aria-valuetext": `row ${y}, column ${x}` });
    around.replaceChildren();
    make(around, "rect", { x: px(b[1]), y: px(b[0]), width: (b[3] - b[1]) * cell, height: (b[2] - b[0]) * cell, fill: "none", stroke: "var(--a)", "stroke-width": 1.5 });
    make(around, "rect", { x: px(x) - 1, y: px(y) - 1, width: cell + 2, height: cell + 2, fill: "none", stroke: "var(--b)", "stroke-width": 3 });
    const rows = four.map(([r, c, w]) => [`(${r}, ${c})`, cells[r][c].toFixed(3), w.toFixed(3), (w * cells[r][c]).toFixed(3)]);
    traced([...rows, ["the pixel: their sum", "", "", painted[y][x].toFixed(3)]]);
    const [shared, any, ratio] = overlap(truth, painted, 0.5);
    said.textContent = `Pixel (${y}, ${x}) has ${painted[y][x].toFixed(3)} and is ${painted[y][x] >= 0.5 ? "" : "not "}painted; the truth says ${truth[y][x] ? "yes" : "no"}. Painted and true ${shared}, painted or true ${any}: IoU ${ratio.toFixed(3)}.`;
  }

  // The cells with their shares, as shades and, where there is room, as numbers; the four of the traced pixel have a dot
  function drawCells(cells, four) {
    const b = state.box, px = (v) => v * cell + 1, h = (b[2] - b[0]) / state.m, w = (b[3] - b[1]) / state.m;
    const room = w * cell >= 30 && h * cell >= 16;
    grid.replaceChildren();
    cells.forEach((row, i) => row.forEach((share, j) => {
      const x = px(b[1] + j * w), y = px(b[0] + i * h);
      make(grid, "rect", { x, y, width: w * cell, height: h * cell, fill: "var(--paper)", "fill-opacity": 0.55, stroke: "var(--line)", "stroke-width": 0.8 });
      make(grid, "rect", { x, y, width: w * cell, height: h * cell, fill: "var(--soft)", "fill-opacity": (0.6 * share).toFixed(3) });
      if (room) make(grid, "text", { x: x + w * cell / 2, y: y + h * cell / 2 + 4, "text-anchor": "middle", style: "font-size: 11px" }, share.toFixed(2));
    }));
    for (const [row, column] of four) {
      make(grid, "circle", { cx: px(b[1] + (column + 0.5) * w), cy: px(b[0] + (row + 0.5) * h) - (room ? 10 : 0), r: 3.5, fill: "var(--b)" });
    }
  }
  draw();
}
