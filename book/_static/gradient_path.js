// Chapter 12: choose any number of a small network; see the numbers that it was made from, the numbers that its gradient
// was made from, and go on to any of them. For a pixel: every way on which it reaches the loss.
function view(root, { image, kernel, head, target }) {
  const cell = 40, low = 14; // each cell has its value above and its gradient in a strip below
  const titles = { image: "image", kernel: "kernel", conv: "convolution", relu: "ReLU", pool: "largest of 2 × 2", head: "weights",
    score: "score", target: "target", loss: "loss" };
  const state = { image: image.map((row) => [...row]), target, at: ["image", 2, 2], pixel: [2, 2] };
  const network = () => [state.image, kernel, head, state.target];
  const short = (v, digits = 2) => String(Number(v.toFixed(digits))).replace("-", "−");
  const name = ([board, p, q]) => (["score", "target", "loss"].includes(board) ? titles[board] : `${titles[board]} (${p}, ${q})`);

  const controls = make(root, "div", { class: "controls" });
  const svg = canvas(root, 780, 340, "a small network; each cell holds a value and, below it, the gradient of the loss with respect to it");
  svg.style.touchAction = "pan-y";
  const lines = make(svg, "g", { "pointer-events": "none" }), boards = {};
  const legend = [make(svg, "text", {}, "above: the value"), make(svg, "text", {}, "tinted: its gradient")];
  const frames = make(svg, "g", { "pointer-events": "none" });
  for (const [board, rows] of Object.entries(numbers(...network()).value)) {
    const group = make(svg, "g"), label = make(group, "text", {}, titles[board]);
    const cells = rows.map((row) => row.map(() => ({
      square: make(group, "rect", { width: cell, height: cell, stroke: "var(--line)" }),
      strip: make(group, "rect", { width: cell, height: low }),
      value: make(group, "text", { "text-anchor": "middle" }),
      gradient: make(group, "text", { "text-anchor": "middle", style: "font-size: 11px; font-style: italic" }),
    })));
    const cover = make(group, "rect", { width: cell * rows[0].length, height: cell * rows.length, fill: "transparent", tabindex: 0,
      role: "slider", "aria-valuenow": 0, "aria-label": `${titles[board]}: arrow keys choose a number`, style: "cursor: pointer" });
    boards[board] = { label, cells, cover, x: 0, y: 0, last: [0, 0] };
    const under = (event) => svg.place(event).map((v, i) => Math.floor((v - boards[board][i ? "y" : "x"]) / cell)).reverse();
    const pick = (event) => {
      const [p, q] = under(event);
      choose([board, clamp(p, 0, rows.length - 1), clamp(q, 0, rows[0].length - 1)]);
    };
    cover.addEventListener("pointerdown", (event) => { cover.focus({ preventScroll: true }); pick(event); });
    cover.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
    cover.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Enter: [0, 0], " ": [0, 0] }[event.key];
      if (step === undefined) return;
      const [p, q] = boards[board].last;
      choose([board, clamp(p + step[0], 0, rows.length - 1), clamp(q + step[1], 0, rows[0].length - 1)]);
      event.preventDefault();
    });
  }
  const title = make(root, "p", { "aria-live": "polite", style: "margin: .5rem 0 .25rem" });
  const made = make(root, "p", { class: "trace" }), sent = make(root, "p", { class: "trace" }), proof = make(root, "p", { class: "trace" });
  const ways = make(root, "div"), traced = table(ways, ["window (row, column)", "kernel weight", "ReLU open", "wins its pool", "head weight", "score − target", "product"]);

  const knob = slider(controls, "value of the pixel", { min: 0, max: 9, step: 0.1, value: image[2][2] }, (v) => { state.image[state.pixel[0]][state.pixel[1]] = v; draw(); }, 1);
  choice(controls, "target", [String(target), "3", "0", "20"], String(target), (v) => { state.target = Number(v); draw(); });

  function choose(at) {
    state.at = at;
    boards[at[0]].last = at.slice(1);
    if (at[0] === "image" && String(at.slice(1)) !== String(state.pixel)) {
      state.pixel = at.slice(1);
      knob.value = state.image[at[1]][at[2]];
      knob.dispatchEvent(new Event("input"));
    }
    draw();
  }

  // A frame round a cell: chosen, read by its value, read by its gradient, or pointed at in the formulas.
  function frame([board, p, q], colour, dash = "none", width = 3, parent = frames) {
    const { x, y } = boards[board];
    return make(parent, "rect", { x: x + q * cell + 1, y: y + p * cell + 1, width: cell - 2, height: cell - 2, fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": dash });
  }

  // One factor of a formula: a button that shows where its number is and leads there.
  function factor(parent, f, shown) {
    if (typeof f === "number") { make(parent, "span", {}, f < 0 ? `(${short(f)})` : short(f)); return; }
    const kind = f[3], number = shown[kind][f[0]][f[1]][f[2]];
    const button = make(parent, "button", { type: "button", class: kind, "aria-label": `${kind} of ${name(f)}: ${short(number)}` }, number < 0 ? `(${short(number)})` : short(number));
    let mark = null;
    const off = () => { if (mark) mark.remove(); mark = null; }, on = () => { off(); mark = frame(f, "var(--c)", "none", 5); };
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, on);
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, off);
    button.addEventListener("click", () => {
      const line = parent === made ? made : sent;
      choose(f.slice(0, 3));
      (line.querySelector("button") || boards[f[0]].cover).focus({ preventScroll: true });
    });
  }

  function formula(parent, terms, shown) {
    terms.forEach((term, n) => {
      if (n) make(parent, "span", {}, " + ");
      term.forEach((f, i) => { if (i) make(parent, "span", {}, " × "); factor(parent, f, shown); });
    });
  }

  function draw() {
    const shown = numbers(...network()), found = trace(...network(), ...state.at), [board, p, q] = state.at;
    for (const [key, { cells }] of Object.entries(boards)) {
      const most = (grid) => Math.max(...grid.flat().map(Math.abs), 1e-9);
      const largest = most(shown.value[key]), steepest = most(shown.gradient[key]);
      const tint = (v, top) => ({ fill: v < 0 ? "var(--a)" : "var(--b)", "fill-opacity": (0.45 * Math.abs(v) / top).toFixed(3) });
      cells.forEach((row, r) => row.forEach((c, s) => {
        const v = shown.value[key][r][s], d = shown.gradient[key][r][s];
        set(c.square, tint(v, 2.5 * largest));
        set(c.strip, tint(d, steepest));
        c.value.textContent = short(v, 1);
        c.gradient.textContent = short(d, 1);
      }));
      const [r, s] = boards[key].last;
      set(boards[key].cover, { "aria-valuetext": `${name([key, r, s])}: value ${short(shown.value[key][r][s])}, gradient ${short(shown.gradient[key][r][s])}` });
    }
    frames.replaceChildren();
    lines.replaceChildren();
    const centre = ([key, r, s]) => [boards[key].x + (s + 0.5) * cell, boards[key].y + (r + 0.5) * cell];
    const link = (f, colour, dash) => {
      if (typeof f === "number" || f[0] === board) return;
      const [[x1, y1], [x2, y2]] = [centre(f), centre(state.at)];
      make(lines, "line", { x1, y1, x2, y2, stroke: colour, "stroke-width": 1.5, "stroke-dasharray": dash, opacity: 0.55 });
      frame(f, colour, dash);
    };
    found.from.flat().forEach((f) => link(f, "var(--b)", "none"));
    found.back.flat().filter((f) => f[3] === "gradient").forEach((f) => link(f, "var(--a)", "5 3"));
    frame(state.at, "var(--ink)", "none", 4);

    title.textContent = `${name(state.at)}: value ${short(found.value)}, gradient ${short(found.gradient)}`;
    made.replaceChildren();
    make(made, "b", {}, "value ");
    if (found.rule === "given") make(made, "span", {}, board === "image" ? "is given; the slider moves it" : "is given");
    if (found.rule === "relu") { make(made, "span", {}, "the larger of 0 and "); factor(made, found.from[0][0], shown); }
    if (found.rule === "largest") {
      make(made, "span", {}, "the largest of ");
      found.from.forEach(([f], i) => { if (i) make(made, "span", {}, ", "); factor(made, f, shown); });
    }
    if (found.rule === "square") {
      make(made, "span", {}, "½ (");
      factor(made, found.from[0][0], shown);
      make(made, "span", {}, " − ");
      factor(made, found.from[1][0], shown);
      make(made, "span", {}, ")²");
    }
    if (found.rule === "sum") formula(made, found.from, shown);
    if (found.rule !== "given") make(made, "span", {}, ` = ${short(found.value)}`);
    sent.replaceChildren();
    make(sent, "b", {}, "gradient ");
    formula(sent, found.back, shown);
    if (!found.back.length) make(sent, "span", {}, "nothing arrives");
    const why = { conv: found.value > 0 ? ": ReLU is open" : ": ReLU is closed", relu: shown.winner[p >> 1]?.[q >> 1]?.join() === `${p},${q}` ? ": it wins its pool" : ": it does not win its pool" }[board] || "";
    make(sent, "span", {}, ` = ${short(found.gradient)}${why}${found.silent ? `; windows that read it and send 0: ${found.silent}` : ""}`);
    const moved = (by) => forward(...network(), [board, p, q, by]).loss;
    proof.replaceChildren();
    make(proof, "b", {}, "check ");
    const slope = (moved(1e-4) - moved(-1e-4)) / 2e-4, kink = Math.abs(slope - found.gradient) > 0.01;
    make(proof, "span", {}, `moving this number by ± 0.0001 changes the loss ${short(slope)} times as much${kink ? ": a kink, where several numbers of a pool are equal or a ReLU is at 0" : ""}`);
    ways.hidden = board !== "image";
    const yes = (v) => (v ? "1 yes" : "0 no"), b = shown.gradient.score[0][0];
    traced(paths(...network(), ...state.pixel).map(([r, s, w, open, wins, h, product]) => [`(${r}, ${s})`, short(w), yes(open), yes(wins), short(h), short(b), short(product)]));
  }

  function arrange() {
    const wide = !(root.clientWidth && root.clientWidth < 560);
    const at = wide
      ? { image: [2, 18], conv: [264, 18], kernel: [264, 214], relu: [446, 18], pool: [628, 18], head: [628, 128], score: [734, 18], target: [734, 84], loss: [734, 150], legend: [446, 226] }
      : { image: [2, 18], score: [290, 18], target: [290, 84], loss: [290, 150], conv: [2, 286], relu: [174, 286], kernel: [2, 474], pool: [134, 474], head: [236, 474], legend: [134, 576] };
    svg.setAttribute("viewBox", wide ? "0 0 780 340" : "0 0 338 598");
    svg.place = (event) => {
      const box = svg.getBoundingClientRect(), width = wide ? 780 : 338;
      return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * width / box.width];
    };
    for (const [key, b] of Object.entries(boards)) {
      [b.x, b.y] = at[key];
      set(b.label, { x: b.x, y: b.y - 5 });
      set(b.cover, { x: b.x, y: b.y });
      b.cells.forEach((row, r) => row.forEach((c, s) => {
        const x = b.x + s * cell, y = b.y + r * cell;
        set(c.square, { x, y });
        set(c.strip, { x, y: y + cell - low });
        set(c.value, { x: x + cell / 2, y: y + 17 });
        set(c.gradient, { x: x + cell / 2, y: y + cell - 3 });
      }));
    }
    legend.forEach((text, i) => set(text, { x: at.legend[0], y: at.legend[1] + 16 * i }));
    draw();
  }
  boards.image.last = [...state.pixel];
  arrange();
  if (window.ResizeObserver) {
    let before = root.clientWidth < 560;
    new ResizeObserver(() => { const now = root.clientWidth < 560; if (now !== before) { before = now; arrange(); } }).observe(root);
  }
}
