// Chapter 1: choose a new length and a new pixel; see where it reads in the old line, and every number of its value.
function view(root, { line, length }) {
  const n = line.length, wide = 480, high = 46, most = 16;
  const state = { m: length, x: 1.5 * wide / length, half: true };
  const controls = make(root, "div", { class: "controls" });
  const svg = canvas(root, wide + 2, 192, "the old line above, the new line below, and where the traced new pixel reads");
  const cells = (y, count) => Array.from({ length: count }, () => ({
    square: make(svg, "rect", { y, height: high, stroke: "var(--line)", fill: "var(--soft)" }),
    text: make(svg, "text", { y: y + high / 2 + 4, "text-anchor": "middle" }),
  }));
  const above = cells(16, n), below = cells(128, most);
  const ray = make(svg, "line", { stroke: "var(--b)", "stroke-width": 2 });
  const point = make(svg, "circle", { r: 5, fill: "var(--b)", stroke: "var(--paper)" });
  make(svg, "text", { x: 2, y: 11 }, "old");
  make(svg, "text", { x: 2, y: 122 }, "new");
  const handle = make(svg, "circle", { r: 8, cy: 180, fill: "var(--b)" });
  // An arrow key is told from the mouse by its tiny step: it goes on by a whole pixel
  draggable(svg, handle, 1e-3, (dx) => {
    const w = wide / state.m;
    state.x = Math.abs(dx) > 0.02 ? state.x + dx : (Math.floor(state.x / w) + 0.5 + Math.round(dx * 1e3)) * w;
    draw();
  }, "the traced new pixel: arrow keys move it");
  const fill = table(root, ["new pixel", "index u", "kept inside", "left · weight", "right · weight", "value"]);
  const said = make(root, "p", { "aria-live": "polite" });
  choice(controls, "new length", ["1", "2", "3", "4", "5", "6", "8", "10", "12", "16"], String(length), (v) => { state.m = Number(v); draw(); });
  choice(controls, "the half pixel", ["kept", "forgotten"], "kept", (v) => { state.half = v === "kept"; draw(); });

  function put(cell, index, count, value, chosen, shown) {
    const w = wide / count;
    set(cell.square, { x: 1 + index * w, width: w, "fill-opacity": (0.1 + 0.5 * value / Math.max(...line)).toFixed(3), display: shown ? "inline" : "none" });
    set(cell.square, chosen ? { stroke: "var(--b)", "stroke-width": 3 } : { stroke: "var(--line)", "stroke-width": 1 });
    set(cell.text, { x: 1 + (index + 0.5) * w, display: shown ? "inline" : "none" });
    cell.text.textContent = Number(value.toFixed(1)).toString();
  }

  function draw() {
    state.x = clamp(state.x, 0.001, wide - 0.001);
    const { m, half } = state, i = Math.min(Math.floor(state.x * m / wide), m - 1), now = readAt(n, m, i, half), values = resizeLine(line, m, half);
    line.forEach((value, k) => put(above[k], k, n, value, k === now.left || (k === now.right && now.weight > 0), true));
    below.forEach((cell, k) => put(cell, k, m, k < m ? values[k] : 0, k === i, k < m));
    const x = 1 + (now.u + 0.5) * wide / n;
    set(ray, { x1: 1 + (i + 0.5) * wide / m, y1: 128, x2: x, y2: 39 });
    set(handle, { cx: 1 + state.x, "aria-valuemin": 0, "aria-valuemax": m - 1, "aria-valuenow": i, "aria-valuetext": `new pixel ${i} of ${m}` });
    set(point, { cx: x, cy: 39 });
    fill(values.map((value, k) => {
      const r = readAt(n, m, k, half);
      return [k === i ? `${k} (traced)` : k, r.wanted.toFixed(2), r.u.toFixed(2), `${line[r.left]} · ${(1 - r.weight).toFixed(2)}`, `${line[r.right]} · ${r.weight.toFixed(2)}`, value.toFixed(2)];
    }));
    const read = new Set(values.flatMap((_, k) => { const r = readAt(n, m, k, half); return r.weight > 0 ? [r.left, r.right] : [r.left]; }));
    said.textContent = `New pixel ${i} is ${values[i].toFixed(2)}. Of ${n} old pixels, ${n - read.size} are read by nobody.`;
  }
  draw();
}
