// Chapter 12: choose a pixel; see every way on which its value reaches the loss, and the gradient that comes back.
function view(root, { image, kernel, head, target }) {
  const cell = 44, top = 18, gap = 46;
  const state = { image: image.map((row) => [...row]), target, at: [...[2, 2]], gradient: false };
  const controls = make(root, "div", { class: "controls" });
  choice(controls, "cells show", ["their value", "the gradient that comes back"], "their value", (v) => { state.gradient = v !== "their value"; draw(); });
  const svg = canvas(root, 6 * cell + 4, top + 6 * cell + gap + 4 * cell + 4, "a small network: image, convolution, pool");
  svg.style.maxWidth = "27rem";
  const board = (x0, y0, n, name) => {
    make(svg, "text", { x: x0, y: y0 - 5 }, name);
    return Array.from({ length: n }, (_, p) => Array.from({ length: n }, (_, q) => ({
      square: make(svg, "rect", { x: x0 + q * cell, y: y0 + p * cell, width: cell, height: cell }),
      text: make(svg, "text", { x: x0 + (q + 0.5) * cell, y: y0 + (p + 0.5) * cell + 4, "text-anchor": "middle", "pointer-events": "none" }),
    })));
  };
  const low = top + 6 * cell + gap;
  const boards = { image: board(2, top, 6, "image"), conv: board(2, low, 4, "convolution, before ReLU"), pool: board(4.5 * cell - 18, low, 2, "") };
  make(svg, "text", { x: 4.5 * cell - 18, y: low + 2 * cell + 16 }, "largest of 2 × 2");
  const scored = make(svg, "text", { x: 4.5 * cell - 18, y: low + 2 * cell + 46 }), lost = make(svg, "text", { x: 4.5 * cell - 18, y: low + 2 * cell + 66 });
  const marker = make(svg, "rect", { width: cell, height: cell, fill: "transparent", stroke: "var(--b)", "stroke-width": 4 });
  const traced = table(root, ["window (row, column)", "kernel weight", "ReLU open", "wins its pool", "head weight", "score − target", "product"]);
  const sum = make(root, "p", { "aria-live": "polite" });
  const weights = table(root, ["kernel, and its gradient", "column 0", "column 1", "column 2"]);
  let place = [...state.at], knob = null;

  draggable(svg, marker, cell, (dx, dy) => {
    place = [clamp(place[0] + dy / cell, 0, 5), clamp(place[1] + dx / cell, 0, 5)];
    const now = place.map(Math.round);
    if (now[0] === state.at[0] && now[1] === state.at[1]) return;
    state.at = now;
    if (knob) { knob.value = state.image[now[0]][now[1]]; knob.dispatchEvent(new Event("input")); }
    draw();
  }, "the pixel: arrow keys choose another one");
  knob = slider(controls, "value of the pixel", { min: 0, max: 9, step: 0.1, value: state.image[2][2] }, (v) => { state.image[state.at[0]][state.at[1]] = v; draw(); }, 1);
  choice(controls, "target", [String(target), "3", "0", "20"], String(target), (v) => { state.target = Number(v); draw(); });

  function draw() {
    const f = forward(state.image, kernel, head, state.target), b = backward(state.image, kernel, head, state.target);
    const ways = paths(state.image, kernel, head, state.target, ...state.at), [y, x] = state.at;
    const values = state.gradient ? { image: b.dimage, conv: b.conv, pool: b.pool } : { image: state.image, conv: f.conv, pool: f.pool };
    for (const [name, cells] of Object.entries(boards)) {
      const largest = Math.max(...values[name].flat().map(Math.abs), 1e-9);
      cells.forEach((row, p) => row.forEach((c, q) => {
        const v = values[name][p][q];
        set(c.square, { fill: v < 0 ? "var(--a)" : "var(--b)", "fill-opacity": (0.45 * Math.abs(v) / largest).toFixed(3), stroke: "var(--line)", "stroke-width": 1 });
        c.text.textContent = Number(v.toFixed(1));
      }));
    }
    for (const [p, q, , open, wins] of ways) {
      set(boards.conv[p][q].square, { stroke: open && wins ? "var(--b)" : "var(--soft)", "stroke-width": open && wins ? 4 : 2 });
      if (open && wins) set(boards.pool[Math.floor(p / 2)][Math.floor(q / 2)].square, { stroke: "var(--b)", "stroke-width": 4 });
    }
    set(marker, { x: 2 + x * cell, y: top + y * cell, "aria-valuetext": `row ${y}, column ${x}: gradient ${b.dimage[y][x].toFixed(2)}` });
    scored.textContent = `score ${f.score.toFixed(1)}`;
    lost.textContent = `loss ${f.loss.toFixed(1)}`;
    const yes = (v) => (v ? "1 yes" : "0 no");
    traced(ways.map(([p, q, w, open, wins, h, product]) => [`(${p}, ${q})`, w, yes(open), yes(wins), h, b.score.toFixed(1), product.toFixed(2)]));
    const moved = (d) => forward(state.image.map((row, p) => row.map((v, q) => (p === y && q === x ? v + d : v))), kernel, head, state.target).loss;
    const total = ways.reduce((s, way) => s + way[6], 0), numeric = (moved(1e-4) - moved(-1e-4)) / 2e-4;
    sum.textContent = `Pixel (${y}, ${x}): the ${ways.length} products add up to ${total.toFixed(2)}. Moving the pixel by ± 0.0001 and dividing says ${numeric.toFixed(2)}.`;
    weights(kernel.map((row, i) => [`row ${i}`, ...row.map((w, j) => `${w} : ${b.dkernel[i][j].toFixed(1)}`)]));
  }
  draw();
}
