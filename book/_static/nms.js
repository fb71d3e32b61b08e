// Chapter 7: non-maximum suppression step by step; every overlap is computed in the table.
function view(root, { boxes, scores, objects = [] }) {
  const side = 128, zoom = 3.2, step = 1, names = "ABCDEFGHIJKL";
  const state = { boxes: boxes.map((b) => [...b]), threshold: 0.5, at: 1, news: "" };
  let ready = false;
  const controls = make(root, "div", { class: "controls" });
  slider(controls, "threshold", { min: 0.05, max: 0.95, step: 0.05, value: 0.5 }, (v) => moved("threshold", "threshold", v, 2));
  slider(controls, "step", { min: 0, max: boxes.length, step: 1, value: 1 }, (v) => moved("at", "step", v, 0), 0);
  const svg = canvas(root, side * zoom + 2, side * zoom + 2, "objects in grey, boxes with scores: the kept, the dropped and those to come");
  make(svg, "rect", { x: 1, y: 1, width: side * zoom, height: side * zoom, fill: "none", stroke: "var(--line)" });
  for (const polygon of objects) {
    const points = polygon.map(([x, y]) => `${(x * zoom + 1).toFixed(1)},${(y * zoom + 1).toFixed(1)}`).join(" ");
    make(svg, "polygon", { points, fill: "var(--soft)", "fill-opacity": 0.22, stroke: "var(--soft)", "stroke-width": 0.5, "pointer-events": "none" });
  }
  const drawn = [], order = paintOrder(boxes);
  for (const i of order) drawn[i] = make(svg, "rect", { fill: "var(--a)", "fill-opacity": 0.04 });
  const labels = boxes.map(() => make(svg, "text", { "pointer-events": "none",
    style: "font-size: 11px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px" }));
  const traced = table(make(root, "div", { style: "white-space: nowrap; font-size: .8em" }), ["box", "score", "shared", "covered together", "IoU", "what happens"]);
  const said = make(root, "p", { "aria-live": "polite" });
  drawn.forEach((shape, i) => draggable(svg, shape, step * zoom, (dx, dy) => {
    const b = state.boxes[i], height = b[2] - b[0], width = b[3] - b[1];
    b[0] = clamp(b[0] + dy / zoom, 0, side - height);
    b[1] = clamp(b[1] + dx / zoom, 0, side - width);
    b[2] = b[0] + height;
    b[3] = b[1] + width;
    draw();
  }, `box ${names[i]}: arrow keys move it`));
  ready = true;

  // What the last movement of a slider did: said below the table
  function moved(field, name, value, digits) {
    const before = nms(state.boxes, scores, state.threshold).length, old = state[field];
    state[field] = value;
    const after = nms(state.boxes, scores, state.threshold).length;
    if (ready) state.news = ` Last change: ${name} ${old.toFixed(digits)} → ${value.toFixed(digits)}, survivors ${before} → ${after}.`;
    draw();
  }

  function draw() {
    if (!ready) return;
    const all = steps(state.boxes, scores, state.threshold);
    const at = Math.min(state.at, all.length), now = at > 0 ? all[at - 1] : null;
    const kept = all.slice(0, at).map((s) => s.best), gone = all.slice(0, at).flatMap((s) => s.dropped);
    const fate = (i) => {
      if (now && i === now.best) return "kept now";
      if (kept.includes(i)) return "kept before";
      if (now && now.dropped.includes(i)) return "dropped now";
      return gone.includes(i) ? "dropped before" : "to come";
    };
    const looks = {
      "kept now": { stroke: "var(--a)", "stroke-width": 4, "stroke-dasharray": "none" },
      "kept before": { stroke: "var(--a)", "stroke-width": 2, "stroke-dasharray": "none" },
      "dropped now": { stroke: "var(--b)", "stroke-width": 2, "stroke-dasharray": "6 4" },
      "dropped before": { stroke: "var(--line)", "stroke-width": 1, "stroke-dasharray": "3 4" },
      "to come": { stroke: "var(--soft)", "stroke-width": 1.5, "stroke-dasharray": "none" },
    };
    state.boxes.forEach((b, i) => {
      set(drawn[i], { x: b[1] * zoom + 1, y: b[0] * zoom + 1, width: (b[3] - b[1]) * zoom, height: (b[2] - b[0]) * zoom, ...looks[fate(i)],
        "aria-valuetext": `${fate(i)}; y ${b[0].toFixed(0)} to ${b[2].toFixed(0)}, x ${b[1].toFixed(0)} to ${b[3].toFixed(0)}` });
      // Each label in a corner of its own, so that boxes of one place can be told apart
      const right = i % 4 % 2 === 1, low = i % 4 > 1;
      set(labels[i], { x: right ? b[3] * zoom - 4 : b[1] * zoom + 5, y: low ? b[2] * zoom - 5 : b[0] * zoom + 14, "text-anchor": right ? "end" : "start" });
      labels[i].textContent = `${names[i]} ${scores[i].toFixed(2)}`;
    });
    traced(ranking(scores).map((i) => {
      const b = state.boxes[i], head = [names[i], scores[i].toFixed(2)];
      if (!now || fate(i) === "kept now" || fate(i).endsWith("before")) return [...head, "", "", "", fate(i)];
      const k = state.boxes[now.best], both = shared(k, b), union = area(k) + area(b) - both;
      return [...head, both.toFixed(0), `${area(k).toFixed(0)} + ${area(b).toFixed(0)} − ${both.toFixed(0)} = ${union.toFixed(0)}`, iou(k, b).toFixed(3),
        fate(i) === "dropped now" ? `> ${state.threshold.toFixed(2)}: dropped` : "stays"];
    }));
    said.textContent = (at === 0
      ? `Step 0: all ${boxes.length} boxes, best score first.`
      : `Step ${at} of ${all.length}: ${names[now.best]} has the best score of those left and is kept; it drops ${now.dropped.length}, ${now.left.length} left. In the end ${all.length} stay.`) + state.news;
  }
  draw();
}
