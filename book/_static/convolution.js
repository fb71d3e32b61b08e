// Chapter 2: a convolution, a loss and every gradient between them. Choose any number: the numbers it came from are
// framed, their products stand below, and from each product one can go on to its factors.
function view(root, { map, kernels }) {
  const rows = map.length, columns = map[0].length, k = 3, cell = 30, small = 24, edge = 1;
  const names = Object.keys(kernels), copy = (m) => m.map((row) => [...row]);
  const losses = { "the sum of the outputs": "sum", "one output, the last chosen": "one", "half the sum of squares": "squares" };
  const state = { x: copy(map), w: copy(kernels[names[0]]), b: 0, stride: 1, how: "one", loss: "sum", chosen: "y", term: 0, output: [2, 3], said: "" };
  const history = [];
  const controls = make(root, "div", { class: "controls" });
  const change = (step) => { step(); state.said = ""; draw(); };
  choice(controls, "kernel", names, names[0], (v) => change(() => { state.w = copy(kernels[v]); }));
  choice(controls, "stride", ["1", "2"], "1", (v) => change(() => { state.stride = Number(v); }));
  choice(controls, "padding", ["none", "one", "same"], "one", (v) => change(() => { state.how = v; }));
  choice(controls, "loss L", Object.keys(losses), "the sum of the outputs", (v) => change(() => { state.loss = losses[v]; }));

  // Where the arrays lie: forward on top, the kernel and single numbers between, gradients below, products last.
  const right = (columns + 2 * edge + 1) * cell + 1, top = 22, middle = top + (rows + 2 * edge) * cell + 28;
  const under = middle + k * cell + 28, panel = under + rows * cell + 28;
  const width = right + columns * cell + 1, height = panel + rows * small + 2;
  const svg = canvas(root, width, height, "a map, a kernel, the outputs, a loss, and the gradient of each number");
  set(svg, { style: "max-width: 34rem; touch-action: auto" });
  const label = (x, y) => make(svg, "text", { x, y, style: "font-size: 13px" });
  const layer = make(svg, "g"); // of all squares: those that are framed are brought to its front
  const squares = (height, width, x0, y0, side) => grid(height, width, (y, x) => ({
    square: make(layer, "rect", { x: x0 + x * side, y: y0 + y * side, width: side, height: side, fill: "none" }),
    text: make(layer, "text", { x: x0 + (x + 0.5) * side, y: y0 + (y + 0.5) * side + 5, "text-anchor": "middle" }),
    side,
  }));
  const ring = squares(rows + 2 * edge, columns + 2 * edge, 1, top, cell);
  const place = { // in the order of the Tab key: forward, then backward
    x: ["x, the map", 1 + edge * cell, top + edge * cell, rows, columns, "var(--soft)"],
    w: ["w", 1, middle, k, k, "var(--c)"],
    b: ["b", 1 + 4 * cell, middle, 1, 1, "var(--c)"],
    y: ["y, the outputs", right, top + edge * cell, rows, columns, "var(--a)"],
    L: ["L, the loss", right + (columns - 2.5) * cell, middle, 1, 1, "var(--a)"],
    dy: ["dy", right, under, rows, columns, "var(--a)"],
    dx: ["dx", 1 + edge * cell, under, rows, columns, "var(--soft)"],
    dw: ["dw", 1 + 6 * cell, middle, k, k, "var(--c)"],
    db: ["db", 1 + 10 * cell, middle, 1, 1, "var(--c)"],
  };
  const sheets = Object.fromEntries(Object.entries(place).map(([name, [title, x0, y0, height, width, colour]]) => {
    make(svg, "text", { x: name === "x" ? 1 : x0, y: (name === "x" ? top : y0) - 7, style: "font-size: 13px" }, name === "x" ? `${title} (dashed: padding)` : title);
    return [name, { name, x0, y0, height, width, colour, side: cell, cells: squares(height, width, x0, y0, cell), at: name === "y" || name.endsWith("x") || name === "dy" ? [2, 3] : name.endsWith("w") ? [1, 1] : [0, 0] }];
  }));
  const factors = [0, 1, 2].map(() => squares(rows, columns, 0, 0, small)), signs = [label(0, 0), label(0, 0)], heading = label(1, panel - 7);
  const cursor = make(svg, "rect", { fill: "none", stroke: "var(--b)", "stroke-width": 4, "pointer-events": "none" });

  const sum = make(root, "p", { "aria-live": "polite" });
  const buttons = make(root, "div", { class: "controls" });
  const button = (text, act) => { const one = make(buttons, "button", { type: "button" }, text); one.addEventListener("click", act); return one; };
  const follow = [0, 1].map((side) => button(side ? "go to the second factor" : "go to the first factor", () => go(side)));
  const back = button("back", () => { const last = history.pop(); if (last) { state.chosen = last.name; sheets[last.name].at = last.at; change(() => { state.term = last.term; }); } });
  const less = button("− 1", () => nudge(-1)), more = button("+ 1", () => nudge(1));
  const details = make(root, "details");
  make(details, "summary", {}, "the products as a table");
  const traced = table(details, ["first factor", "is", "second factor", "is", "product"]);

  // Something that the keyboard reaches: a sheet of numbers, or the products.
  const movable = (x, y, width, height, name, pick, move) => {
    const area = make(svg, "rect", { x, y, width, height, fill: "transparent", tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": 0, style: "cursor: pointer" });
    area.addEventListener("pointerdown", (event) => { area.focus({ preventScroll: true }); pick(svg.place(event)); });
    area.addEventListener("keydown", (event) => {
      const arrows = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (event.key in arrows) move(...arrows[event.key]);
      else if (event.key === "+" || event.key === "-") nudge(event.key === "+" ? 1 : -1);
      else if (event.key === "Enter") go(event.shiftKey ? 1 : 0);
      else if (event.key === "Backspace") back.click();
      else return;
      event.preventDefault();
    });
    return area;
  };
  const sizeOf = (name) => (name === "y" || name === "dy" ? now.shape : [sheets[name].height, sheets[name].width]);
  function select(name, at) {
    const size = sizeOf(name), sheet = sheets[name];
    sheet.at = at.map((v, axis) => clamp(v, 0, size[axis] - 1));
    if (name === "y" || name === "dy") state.output = [...sheet.at];
    state.chosen = name;
    state.said = "";
    state.term = 0;
    draw();
  }
  for (const sheet of Object.values(sheets)) {
    const { name, x0, y0 } = sheet;
    sheet.area = movable(x0, y0, sheet.width * cell, sheet.height * cell, `numbers of ${place[name][0]}`,
      ([x, y]) => select(name, [Math.floor((y - y0) / cell), Math.floor((x - x0) / cell)]), (dy, dx) => select(name, [sheet.at[0] + dy, sheet.at[1] + dx]));
    sheet.area.addEventListener("focus", () => { if (state.chosen !== name) select(name, sheet.at); });
  }
  const products = movable(1, panel, width - 2, rows * small, "products", ([x, y]) => {
    const left = shown.lefts.findLast((v) => x >= v) ?? 0, row = Math.floor((y - panel) / small), column = Math.floor((x - left) / small);
    const found = shown.terms.findIndex((t) => t.spot[0] === row && t.spot[1] === column);
    if (found >= 0) { state.term = found; draw(); }
  }, (dy, dx) => {
    const n = shown.terms.length;
    if (n) { state.term = (state.term + (dx || dy) + n) % n; draw(); }
  });

  // A step of 1 at a number that is given, and what the loss makes of it.
  function nudge(by) {
    const name = state.chosen, [r, c] = sheets[name].at;
    if (!["x", "w", "b"].includes(name)) { state.said = " Only x, w and b are given; the others follow from them."; draw(); return; }
    const before = now.L, slope = { x: now.dx, w: now.dw, b: [[now.db]] }[name][r][c];
    if (name === "b") state.b += by; else state[name][r][c] += by;
    compute();
    state.said = ` The loss has changed by ${short(now.L - before)}; the gradient, ${short(slope)} times ${short(by)}, had said ${short(slope * by)}.`;
    draw();
  }
  // On to where a factor of the chosen product stands.
  function go(side) {
    const term = shown.terms[state.term], source = term?.[side ? "second" : "first"];
    if (!source || !inside(now[source[0]] ?? [[]], source[1], source[2])) return;
    history.push({ name: state.chosen, at: [...sheets[state.chosen].at], term: state.term });
    select(source[0], [source[1], source[2]]);
  }

  let now = {}, shown = { terms: [], lefts: [1] };
  const short = (v) => String(Number(v.toFixed(2))).replace("-", "−");
  const called = (name, r, c) => (sheets[name].height === 1 ? name : `${name}(${r}, ${c})`);
  function compute() {
    const pads = [padding(rows, k, state.stride, state.how), padding(columns, k, state.stride, state.how)], given = [state.x, state.w, state.stride, pads];
    const y = convolve(...given, state.b), shape = [y.length, y[0].length];
    state.output = state.output.map((v, axis) => Math.min(v, shape[axis] - 1));
    for (const name of ["y", "dy"]) sheets[name].at = sheets[name].at.map((v, axis) => Math.min(v, shape[axis] - 1));
    const dy = lossGradient(y, state.loss, state.output), [dx, dw] = convolveBackward(...given, dy);
    now = { x: state.x, w: state.w, b: [[state.b]], y, dy, dx, dw, given, pads, shape, L: total(lossTerms(y, state.loss, state.output)), db: dy.flat().reduce((a, v) => a + v, 0) };
  }
  const valuesOf = (name) => (name === "L" || name === "db" ? [[now[name]]] : now[name]);

  // The products of the chosen number; first and second say where a factor stands: [sheet, row, column] or null.
  function termsOf(name, [r, c]) {
    const every = (terms, first, second, spot) => terms.map((t) => ({ a: t[4], b: t[5], first: first(t), second: second(t), spot: spot(t) }));
    const tap = (t) => [t[2], t[3]], output = (t) => [t[0], t[1]];
    if (name === "y") return every(outputTerms(...now.given, r, c), (t) => ["x", t[0], t[1]], (t) => ["w", t[2], t[3]], tap);
    if (name === "dx") return every(pixelTerms(...now.given, now.dy, r, c), (t) => ["dy", t[0], t[1]], (t) => ["w", t[2], t[3]], tap);
    if (name === "dw") return every(weightTerms(...now.given, now.dy, r, c), (t) => ["dy", t[0], t[1]], (t) => ["x", t[2], t[3]], output);
    if (name === "L") return every(lossTerms(now.y, state.loss, state.output), (t) => ["y", t[0], t[1]], () => null, output).map((t) => ({ ...t, factor: state.loss === "squares" ? "y/2" : "1" }));
    if (name === "db") return now.dy.flatMap((line, p) => line.map((v, q) => ({ a: v, b: 1, first: ["dy", p, q], second: null, spot: [p, q] })));
    if (name === "dy" && state.loss === "squares") return [{ a: now.y[r][c], b: 1, first: ["y", r, c], second: null, spot: [0, 0] }];
    return [];
  }
  // Where a number that is given goes.
  function goesInto(name, [r, c]) {
    if (name === "x") return pixelTerms(...now.given, now.dy, r, c).map((t) => ["y", t[0], t[1]]);
    return name === "w" || name === "b" ? now.y.flatMap((line, p) => line.map((v, q) => ["y", p, q])) : [];
  }
  function sentence(name, [r, c], terms) {
    const me = `${called(name, r, c)} = ${short(valuesOf(name)[r][c])}`, many = terms.length === 1 ? "one product" : `the sum of ${terms.length} products`;
    const why = { sum: "L is the sum of the outputs: one more here is one more there", one: "L is one output, so only that one counts", squares: "L is half the sum of squares; the derivative of y²/2 is y" }[state.loss];
    if (["x", "w", "b"].includes(name)) return `${me} is given. It is read by ${goesInto(name, [r, c]).length} outputs (framed). Keys + and − change it.`;
    if (name === "dy") return `${me}, because ${why}.`;
    return { y: `${me}: ${many}, plus b = ${short(state.b)}.`, dx: `${me}: ${many}, one for each output that has read x(${r}, ${c}).`, dw: `${me}: ${many}, one for each output, all of which used w(${r}, ${c}).`, db: `${me}: the sum of all dy, since b was added to every output.`, L: `${me}: ${many}.` }[name];
  }

  function paint({ square, text, side }, value, share, colour) {
    const shownText = value === null ? "" : short(value);
    set(square, { fill: share ? colour : "none", "fill-opacity": Math.min(Math.abs(share), 1) * 0.45, stroke: "var(--line)", "stroke-width": 1, "stroke-dasharray": "none", visibility: value === null ? "hidden" : "visible" });
    text.textContent = shownText;
    text.setAttribute("style", `font-size: ${Math.min(side * 0.44, (side * 1.4) / Math.max(shownText.length, 1))}px`);
  }
  function frame({ square, text }, strong) {
    set(square, { stroke: "var(--b)", "stroke-width": strong ? 4 : 2 });
    layer.appendChild(square);
    layer.appendChild(text);
  }
  function cellOf([name, r, c]) {
    return name === "x" ? ring[r + edge]?.[c + edge] : sheets[name].cells[r]?.[c];
  }
  function draw() {
    compute();
    const { pads } = now, largest = (m) => Math.max(...m.flat().map(Math.abs), 1e-9);
    ring.forEach((line, a) => line.forEach((one, b) => {
      const row = a - edge, column = b - edge, real = inside(map, row, column);
      const padded = row >= -pads[0][0] && row < rows + pads[0][1] && column >= -pads[1][0] && column < columns + pads[1][1];
      paint(one, real ? state.x[row][column] : padded ? 0 : null, real ? state.x[row][column] / largest(state.x) : 0, "var(--soft)");
      set(one.square, { "stroke-dasharray": real ? "none" : "3 3" });
    }));
    for (const sheet of Object.values(sheets)) {
      const values = valuesOf(sheet.name);
      if (sheet.name !== "x") sheet.cells.forEach((line, r) => line.forEach((one, c) => {
        const value = values[r]?.[c] ?? null;
        paint(one, value, value === null ? 0 : value / largest(values), sheet.colour);
      }));
      else sheet.cells.forEach((line) => line.forEach((one) => set(one.square, { visibility: "hidden" })));
      const [r, c] = sheet.at;
      set(sheet.area, { "aria-valuemax": values.length * values[0].length - 1, "aria-valuenow": r * values[0].length + c, "aria-valuetext": `${called(sheet.name, r, c)} is ${short(values[r][c])}` });
    }
    const sheet = sheets[state.chosen], terms = termsOf(state.chosen, sheet.at);
    state.term = clamp(state.term, 0, Math.max(terms.length - 1, 0));
    for (const spot of goesInto(state.chosen, sheet.at)) frame(cellOf(spot), false);
    for (const term of terms) for (const spot of [term.first, term.second]) if (spot) frame(cellOf(spot), false);
    const term = terms[state.term];
    for (const spot of [term?.first, term?.second]) if (spot) frame(cellOf(spot), true);
    set(cursor, { x: sheet.x0 + sheet.at[1] * cell - 2, y: sheet.y0 + sheet.at[0] * cell - 2, width: cell + 4, height: cell + 4, rx: 4 });
    drawProducts(terms);
    sum.textContent = sentence(state.chosen, sheet.at, terms) + state.said;
    const given = ["x", "w", "b"].includes(state.chosen);
    [less, more].forEach((one) => { one.disabled = !given; });
    follow.forEach((one, side) => { const spot = term?.[side ? "second" : "first"]; one.disabled = !spot || !inside(now[spot[0]], spot[1], spot[2]); });
    back.disabled = history.length === 0;
  }
  function drawProducts(terms) {
    const high = Math.max(...terms.map((t) => t.spot[0] + 1), 0), wide = Math.max(...terms.map((t) => t.spot[1] + 1), 0);
    const gap = Math.max((width - 2 - 9 * small) / 6, 0), between = wide > k ? (width - 2 - 3 * wide * small) / 2 : gap;
    const lefts = [0, 1, 2].map((i) => 1 + i * (wide * small + between));
    shown = { terms, lefts };
    factors.forEach((sheet) => sheet.forEach((line) => line.forEach((one) => paint(one, null, 0, "none"))));
    const colours = [sheets[terms[0]?.first[0]]?.colour, sheets[terms[0]?.second?.[0]]?.colour ?? "none", "var(--b)"];
    const columnsOf = [(t) => t.a, (t) => t.b, (t) => t.a * t.b], largest = columnsOf.map((f) => Math.max(...terms.map((t) => Math.abs(f(t))), 1e-9));
    terms.forEach((t, n) => factors.forEach((sheet, i) => {
      const one = sheet[t.spot[0]][t.spot[1]], x = lefts[i] + t.spot[1] * small, y = panel + t.spot[0] * small, value = columnsOf[i](t);
      set(one.square, { x, y });
      set(one.text, { x: x + small / 2, y: y + small / 2 + 4 });
      paint(one, value, value / largest[i], colours[i]);
      if (n === state.term) frame(one, true);
    }));
    signs.forEach((sign, i) => {
      set(sign, { x: lefts[i + 1] - between / 2 - 4, y: panel + (high * small) / 2 + 4 });
      sign.textContent = terms.length ? "·="[i] : "";
    });
    const chosen = terms[state.term], second = (t) => (t.second ? name(t.second) : t.factor ?? "1");
    const name = (spot) => (inside(valuesOf(spot[0]), spot[1], spot[2]) ? called(...spot) : "padding");
    heading.textContent = chosen ? `products; framed: ${name(chosen.first)} · ${second(chosen)} = ${short(chosen.a)} · ${short(chosen.b)} = ${short(chosen.a * chosen.b)}` : "no products";
    set(products, { "aria-valuemax": Math.max(terms.length - 1, 0), "aria-valuenow": state.term, "aria-valuetext": heading.textContent });
    traced(terms.map((t) => [name(t.first), short(t.a), second(t), short(t.b), short(t.a * t.b)]));
  }
  draw();
  sheets.y.at = [2, 3];
  select("y", [2, 3]);
}
