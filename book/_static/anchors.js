// Chapter 5: drag a box over the image's anchors; see which match, and how the IoU of one of them comes about.
function view(root, { side, sizes, strides, ratios, box, objects }) {
  const scale = 3.4, margin = 34, shownRows = 6;
  const state = { box: [...box], offset: 0.5, positive: 0.6, rank: 1, level: "all" };
  const grids = () => sizes.map((size, k) => levelAnchors(Math.ceil(side / strides[k]), Math.ceil(side / strides[k]), size, strides[k], ratios, state.offset));
  let levels = grids(), ready = false;
  const controls = make(root, "div", { class: "controls" });
  const again = () => { if (ready) draw(); };
  slider(controls, "positive from IoU", { min: 0.3, max: 0.9, step: 0.05, value: state.positive }, (v) => { state.positive = v; again(); });
  slider(controls, "trace the anchor of rank", { min: 1, max: shownRows, step: 1, value: 1 }, (v) => { state.rank = v; again(); }, 0);
  choice(controls, "levels", ["all", ...sizes.map((_, k) => `P${k + 2}`)], "all", (v) => { state.level = v; draw(); });
  choice(controls, "an anchor's centre is", ["the cell's centre", "the cell's corner"], "the cell's centre", (v) => { state.offset = v === "the cell's centre" ? 0.5 : 0; levels = grids(); draw(); });
  const whole = side * scale + 2 * margin, px = (v) => v * scale + margin;
  const svg = canvas(root, whole, whole, "the image's frame, a box in it and the anchors that overlap it most");
  make(svg, "rect", { x: px(0), y: px(0), width: side * scale, height: side * scale, fill: "none", stroke: "var(--soft)" });
  for (const [y1, x1, y2, x2] of objects) {
    make(svg, "rect", { x: px(x1), y: px(y1), width: (x2 - x1) * scale, height: (y2 - y1) * scale, fill: "var(--soft)", "fill-opacity": 0.14, stroke: "var(--line)" });
  }
  const dots = make(svg, "g"), drawn = make(svg, "g", { "pointer-events": "none" });
  const shared = make(svg, "rect", { fill: "var(--c)", "fill-opacity": 0.35, "pointer-events": "none" });
  const frame = make(svg, "rect", { fill: "var(--a)", "fill-opacity": 0.08, stroke: "var(--a)", "stroke-width": 3 });
  const corner = make(svg, "circle", { r: 8, fill: "var(--a)" });
  const said = make(root, "p", { "aria-live": "polite" });
  const best = table(root, ["anchor", "row, column", "height : width", "shared", "covered together", "IoU", "label"]);
  const perLevel = table(root, ["level", "size", "cells", "best IoU", "positive", "neutral", "negative"]);

  draggable(svg, frame, scale, (dx, dy) => {
    const height = state.box[2] - state.box[0], width = state.box[3] - state.box[1];
    state.box[0] = clamp(state.box[0] + dy / scale, 0, side - height);
    state.box[1] = clamp(state.box[1] + dx / scale, 0, side - width);
    state.box[2] = state.box[0] + height;
    state.box[3] = state.box[1] + width;
    draw();
  }, "the object: arrow keys move it");
  draggable(svg, corner, scale, (dx, dy) => {
    state.box[2] = clamp(state.box[2] + dy / scale, state.box[0] + 4, side);
    state.box[3] = clamp(state.box[3] + dx / scale, state.box[1] + 4, side);
    draw();
  }, "the object's lower right corner: arrow keys move it");

  function draw() {
    const b = state.box, one = state.level === "all" ? null : Number(state.level[1]) - 2;
    const all = [], where = [];
    levels.forEach((anchors, k) => {
      if (one !== null && one !== k) return;
      const columns = Math.ceil(side / strides[k]);
      anchors.forEach((a, i) => {
        const cell = Math.floor(i / ratios.length);
        all.push(a);
        where.push({ k, row: Math.floor(cell / columns), column: cell % columns, ratio: ratios[i % ratios.length] });
      });
    });
    const marks = labels(all, b, 0.3, state.positive), top = ranked(all, b, shownRows);
    const words = { 1: "positive", 0: "neutral", "-1": "negative" };
    drawn.replaceChildren();
    dots.replaceChildren();
    const rectangle = ([y1, x1, y2, x2], attributes) => make(drawn, "rect", { x: px(x1), y: px(y1), width: (x2 - x1) * scale, height: (y2 - y1) * scale, fill: "none", ...attributes });
    top.filter((i) => marks[i] !== 1).forEach((i) => rectangle(all[i], { stroke: "var(--soft)", "stroke-dasharray": "4 3" }));
    all.forEach((a, i) => { if (marks[i] === 1) rectangle(a, { stroke: "var(--c)", "stroke-width": 1.5 }); });
    const traced = top[state.rank - 1], t = where[traced], o = overlap(all[traced], b);
    const step = strides[t.k], count = Math.ceil(side / step);
    for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
      const mine = i === t.row && j === t.column;
      make(dots, "circle", { cx: px((j + state.offset) * step), cy: px((i + state.offset) * step), r: mine ? 4 : 1.2, fill: mine ? "var(--b)" : "var(--soft)" });
    }
    rectangle(all[traced], { stroke: "var(--b)", "stroke-width": 3 });
    set(shared, { x: px(o.left), y: px(o.top), width: o.width * scale, height: o.height * scale });
    set(frame, { x: px(b[1]), y: px(b[0]), width: (b[3] - b[1]) * scale, height: (b[2] - b[0]) * scale, "aria-valuetext": `y ${b[0].toFixed(0)} to ${b[2].toFixed(0)}, x ${b[1].toFixed(0)} to ${b[3].toFixed(0)}` });
    set(corner, { cx: px(b[3]), cy: px(b[2]), "aria-valuetext": `y ${b[2].toFixed(0)}, x ${b[3].toFixed(0)}` });
    const n = (v) => v.toFixed(1), a = all[traced];
    said.textContent = `Traced, orange: cell (${t.row}, ${t.column}) of P${t.k + 2}. Its centre is (${t.row} + ${state.offset}) × ${step} = ${n((t.row + state.offset) * step)} down, (${t.column} + ${state.offset}) × ${step} = ${n((t.column + state.offset) * step)} across. `
      + `Rows shared: ${n(o.top)} to ${n(Math.min(a[2], b[2]))}, that is ${n(o.height)}; columns: ${n(o.left)} to ${n(Math.min(a[3], b[3]))}, that is ${n(o.width)}. `
      + `Shared ${n(o.height)} × ${n(o.width)} = ${n(o.shared)}. Together ${n(o.areaA)} + ${n(o.areaB)} − ${n(o.shared)} = ${n(o.union)}. IoU ${n(o.shared)} / ${n(o.union)} = ${o.iou.toFixed(3)}: ${words[marks[traced]]}.`;
    best(top.map((i, r) => {
      const v = overlap(all[i], b), w = where[i];
      return [`${r + 1}. P${w.k + 2}`, `${w.row}, ${w.column}`, w.ratio, n(v.shared), n(v.union), v.iou.toFixed(3), words[marks[i]]];
    }));
    perLevel(levels.map((anchors, k) => {
      const own = where.map((w, i) => (w.k === k ? i : -1)).filter((i) => i >= 0), cells = Math.ceil(side / strides[k]);
      const number = (label) => own.filter((i) => marks[i] === label).length;
      const highest = own.reduce((m, i) => Math.max(m, overlap(all[i], b).iou), 0);
      return own.length ? [`P${k + 2}`, sizes[k], `${cells} × ${cells}`, highest.toFixed(3), number(1), number(0), number(-1)] : [`P${k + 2}`, sizes[k], `${cells} × ${cells}`, "–", "–", "–", "–"];
    }));
  }
  ready = true;
  draw();
}
