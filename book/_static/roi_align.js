// Chapter 8: drag the box; follow every number forward (samples, weights, bins) and backward (what a pixel receives).
function view(root, { map, box }) {
  const rows = map.length, columns = map[0].length, bins = 2, g = 2, cell = 46, small = 30, top = 62;
  const rules = ["RoIAlign, aligned = True", "RoIAlign, aligned = False", "RoIPool"];
  const corners = ["upper left", "upper right", "lower left", "lower right"];
  const shows = ["values", "weights of the traced bin", "gradient received"], gradients = ["1 each", "1 for the traced bin, else 0"];
  const state = { box: [...box], rule: 0, bin: 0, shown: 0, only: false, y: 2, x: 3 };
  const controls = make(root, "div", { class: "controls" });
  const pick = (label, options, field) => choice(controls, label, options, options[0], (v) => { state[field] = options.indexOf(v); draw(); });
  pick("rule", rules, "rule");
  pick("bin to trace", corners, "bin");
  pick("cells show", shows, "shown");
  choice(controls, "gradient of the bins", gradients, gradients[0], (v) => { state.only = v === gradients[1]; draw(); });

  const svg = canvas(root, columns * cell + 2, rows * cell + 2, "a feature map, a box on it and the points where the rule reads");
  set(svg, { style: "max-width: 32rem; margin: 0 auto" });
  const number = (parent, size) => make(parent, "text", { "text-anchor": "middle", style: `font-size: ${size}px`, "pointer-events": "none" });
  const cells = map.map((row, y) => row.map((_, x) => {
    const square = make(svg, "rect", { x: x * cell + 1, y: y * cell + 1, width: cell, height: cell, stroke: "var(--line)" });
    const text = number(svg, 11);
    set(text, { x: x * cell + cell / 2 + 1, y: y * cell + cell - 5 });
    return { square, text };
  }));
  const frame = make(svg, "rect", { fill: "var(--a)", "fill-opacity": 0.1, stroke: "var(--a)", "stroke-width": 2 });
  const marks = make(svg, "g", { "pointer-events": "none" });
  const corner = make(svg, "circle", { r: 8, fill: "var(--b)" });
  const cursor = make(svg, "rect", { width: cell - 4, height: cell - 4, fill: "var(--c)", "fill-opacity": 0.01, stroke: "var(--c)", "stroke-width": 3 });

  const title = (text) => make(root, "p", { style: "font-weight: 600; margin: .75rem 0 .25rem" }, text);
  const forward = title("");
  const close = { style: "white-space: nowrap; font-size: .8em" };
  const holders = [make(root, "div", close), make(root, "div", close)];
  const aligned = table(holders[0], ["sample (y, x)", ...corners, "reads"], "the traced bin of RoIAlign");
  const pooled = table(holders[1], ["row of the map", "its cells in the bin", "largest"], "the traced bin of RoIPool");
  const sum = make(root, "p", { style: "margin: .25rem 0" });
  title("Three results, and the gradient that each sends back");
  const panels = make(root, "div", { style: "display: flex; flex-wrap: wrap; gap: .5rem" });
  const pictures = rules.map((name) => panel(name));
  const backward = title("");
  const received_table = table(make(root, "div", close), ["bin", "read at (y, x)", "weight", "gradient of the bin", "sends"], "what the pixel receives");
  const said = make(root, "p", { "aria-live": "polite" });

  // One rule: the four bins above, the gradient of the map below
  function panel(name) {
    const picture = make(panels, "svg", { viewBox: `0 0 ${columns * small + 2} ${rows * small + top + 2}`, role: "img", style: "flex: 1 1 200px; min-width: 200px; width: auto" });
    const heading = number(picture, 12);
    set(heading, { x: columns * small / 2, y: 12 });
    heading.textContent = name;
    const box_of = (x, y, w, h, size) => {
      const square = make(picture, "rect", { x, y, width: w, height: h, fill: "none", stroke: "var(--line)" }), text = number(picture, size);
      set(text, { x: x + w / 2, y: y + h / 2 + 4 });
      return { square, text };
    };
    const four = corners.map((_, i) => box_of(columns * small / 2 - 60 + 60 * (i % 2), 18 + 18 * Math.floor(i / 2), 60, 18, 12));
    const grid = map.map((row, y) => row.map((_, x) => box_of(x * small + 1, y * small + top, small, small, 11)));
    return { picture, four, grid };
  }

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
  draggable(svg, cursor, cell, (dx, dy) => {
    state.y = clamp(state.y + dy / cell, 0, rows - 1);
    state.x = clamp(state.x + dx / cell, 0, columns - 1);
    draw();
  }, "the pixel to trace: arrow keys move it");

  function draw() {
    const b = state.box, p = Math.floor(state.bin / 2), q = state.bin % 2, row = Math.round(state.y), column = Math.round(state.x);
    const alone = [[0, 0], [0, 0]], dy = state.only ? alone : [[1, 1], [1, 1]];
    alone[p][q] = 1;
    const back = (rule, d) => (rule === 2 ? roiPoolBackward(map, b, bins, d) : roiAlignBackward(map, b, bins, g, rule === 0, d));
    const results = rules.map((_, rule) => (rule === 2 ? roiPool(map, b, bins) : roiAlign(map, b, bins, g, rule === 0)));
    const sent = rules.map((_, rule) => back(rule, dy));
    const shown = state.shown === 0 ? map : state.shown === 1 ? back(state.rule, alone) : sent[state.rule];
    fill(cells, shown, state.shown === 0 ? "var(--soft)" : "var(--b)", state.shown === 0 ? 0 : 3, 0.6);
    const px = (v) => v * cell + 1, two = (v) => v.toFixed(2);
    set(frame, { x: px(b[1]), y: px(b[0]), width: (b[3] - b[1]) * cell, height: (b[2] - b[0]) * cell, "aria-valuetext": `y ${two(b[0])} to ${two(b[2])}, x ${two(b[1])} to ${two(b[3])}` });
    set(corner, { cx: px(b[3]), cy: px(b[2]), "aria-valuetext": `y ${two(b[2])}, x ${two(b[3])}` });
    set(cursor, { x: px(column) + 2, y: px(row) + 2, "aria-valuetext": `row ${row}, column ${column}` });
    marks.replaceChildren();
    holders[0].hidden = state.rule === 2;
    holders[1].hidden = state.rule !== 2;
    if (state.rule === 2) tracePool(p, q); else traceAlign(p, q);
    forward.textContent = `Forward: bin ${corners[state.bin]} by ${rules[state.rule]}`;
    pictures.forEach(({ picture, four, grid }, rule) => {
      set(picture, { "aria-label": `${rules[rule]}: bins ${results[rule].flat().map(two).join(", ")}; the gradient adds up to ${two(sent[rule].flat().reduce((s, v) => s + v, 0))}` });
      four.forEach(({ square, text }, i) => {
        text.textContent = two(results[rule].flat()[i]);
        set(square, { stroke: i === state.bin ? "var(--b)" : "var(--line)", "stroke-width": i === state.bin ? 2 : 1 });
      });
      fill(grid, sent[rule], "var(--b)", 2, 0.6);
      set(grid[row][column].square, { stroke: "var(--c)", "stroke-width": 3 });
    });
    traceBack(dy, row, column, sent[state.rule][row][column]);
    said.textContent = `By ${rules[state.rule]} the bin ${corners[state.bin]} is ${two(results[state.rule][p][q])}, and pixel (${row}, ${column}), which holds ${map[row][column]}, receives ${sent[state.rule][row][column].toFixed(3)}.`;
  }

  // Numbers and shades of a grid; zeros of a gradient stay empty
  function fill(grid, values, colour, digits, strength) {
    const largest = Math.max(...values.flat(), 1e-9);
    grid.forEach((line, y) => line.forEach(({ square, text }, x) => {
      const value = values[y][x];
      set(square, { fill: colour, "fill-opacity": (strength * value / largest).toFixed(3), stroke: "var(--line)", "stroke-width": 1 });
      text.textContent = digits && value === 0 ? "" : value.toFixed(digits);
    }));
  }

  // A sample's coordinate is a pixel index; pixel i is drawn as the square from i to i + 1, with its value in the middle
  function traceAlign(p, q) {
    const b = state.box, yes = state.rule === 0, px = (v) => v * cell + 1, middle = (v) => px(v + 0.5);
    const line = (x1, y1, x2, y2, look) => make(marks, "line", { x1, y1, x2, y2, stroke: "var(--a)", ...look });
    const my = (b[0] + b[2]) / 2, mx = (b[1] + b[3]) / 2;
    line(px(mx), px(b[0]), px(mx), px(b[2]));
    line(px(b[1]), px(my), px(b[3]), px(my));
    const points = samples(b, bins, g, yes, p, q);
    for (const [y, x] of points) for (const [r, c, w] of taps(map, y, x)) {
      if (w > 0) line(middle(x), middle(y), middle(c), middle(r), { stroke: "var(--b)", "stroke-width": 1, "stroke-opacity": 0.6 });
    }
    for (let i = 0; i < bins; i++) for (let j = 0; j < bins; j++) if (i !== p || j !== q) {
      for (const [y, x] of samples(b, bins, g, yes, i, j)) make(marks, "circle", { cx: middle(x), cy: middle(y), r: 3, fill: "var(--ink)" });
    }
    points.forEach(([y, x], i) => {
      make(marks, "circle", { cx: middle(x), cy: middle(y), r: 8, fill: "var(--paper)", stroke: "var(--b)", "stroke-width": 2 });
      make(marks, "text", { x: middle(x), y: middle(y) + 4, "text-anchor": "middle", style: "font-size: 11px" }, String(i + 1));
    });
    const reads = points.map(([y, x]) => taps(map, y, x).reduce((sum, [r, c, w]) => sum + w * map[r][c], 0));
    aligned(points.map(([y, x], i) => [`${i + 1} (${y.toFixed(2)}, ${x.toFixed(2)})`, ...taps(map, y, x).map(([r, c, w]) => `(${r},${c}) ${w.toFixed(2)} × ${map[r][c]}`), reads[i].toFixed(2)]));
    sum.textContent = `The bin is their mean: (${reads.map((v) => v.toFixed(2)).join(" + ")}) / 4 = ${(reads.reduce((s, v) => s + v, 0) / 4).toFixed(2)}.`;
  }

  function tracePool(p, q) {
    const b = state.box, px = (v) => v * cell + 1;
    const span = (i, j) => [...poolEdges(b[0], b[2], bins, i, rows), ...poolEdges(b[1], b[3], bins, j, columns)];
    for (let i = 0; i < bins; i++) for (let j = 0; j < bins; j++) {
      const [y1, y2, x1, x2] = span(i, j), mine = i === p && j === q, shift = 2 + 2 * (2 * i + j);
      if (y2 > y1 && x2 > x1) make(marks, "rect", { x: px(x1) + shift, y: px(y1) + shift, width: (x2 - x1) * cell - 10, height: (y2 - y1) * cell - 10, fill: "none", stroke: mine ? "var(--b)" : "var(--ink)", "stroke-width": mine ? 3 : 1, "stroke-dasharray": mine ? "none" : "5 4" });
    }
    const [y1, y2, x1, x2] = span(p, q), best = poolWinner(map, b, bins, p, q), lines = [];
    for (let y = y1; y < y2 && x2 > x1; y++) {
      const line = map[y].slice(x1, x2);
      lines.push([`row ${y}, columns ${x1} to ${x2 - 1}`, line.join(", "), Math.max(...line)]);
    }
    if (best) make(marks, "circle", { cx: px(best[1] + 0.5), cy: px(best[0] + 0.5), r: 12, fill: "none", stroke: "var(--b)", "stroke-width": 2 });
    pooled(lines);
    sum.textContent = best ? `The bin is the largest: ${map[best[0]][best[1]]}, at (${best[0]}, ${best[1]}).` : "The bin has no cells: 0.";
  }

  function traceBack(dy, row, column, total) {
    const lines = [], name = (i, j) => corners[2 * i + j];
    if (state.rule === 2) {
      for (let i = 0; i < bins; i++) for (let j = 0; j < bins; j++) {
        const best = poolWinner(map, state.box, bins, i, j);
        if (best && best[0] === row && best[1] === column) lines.push([name(i, j), `(${row}, ${column}), its largest`, "1", dy[i][j], dy[i][j].toFixed(3)]);
      }
    } else {
      for (const { p, q, y, x, weight, sends } of received(map, state.box, bins, g, state.rule === 0, dy, row, column)) {
        lines.push([name(p, q), `(${y.toFixed(2)}, ${x.toFixed(2)})`, `${weight.toFixed(3)} / 4`, dy[p][q], sends.toFixed(3)]);
      }
    }
    backward.textContent = `Backward: what pixel (${row}, ${column}) receives`;
    received_table([...lines, [lines.length ? "the sum" : "nobody has read it", "", "", "", total.toFixed(3)]]);
  }
  draw();
}
