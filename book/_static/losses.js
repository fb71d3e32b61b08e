// Chapter 11: drag the predicted box; see its four deltas beside those of the truth, the loss and the gradient.
function view(root, { anchor, truth, predicted, std }) {
  const state = { box: [...predicted], beta: 1, std: true };
  const controls = make(root, "div", { class: "controls" });
  const svg = canvas(root, 320, 230, "an anchor, the true box and the predicted box");
  svg.style.maxWidth = "32rem";
  const place = (rect, b) => set(rect, { x: b[1], y: b[0], width: b[3] - b[1], height: b[2] - b[0] });
  const fixed = (b, colour, dash, name, at) => {
    place(make(svg, "rect", { fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }), b);
    make(svg, "text", { x: b[1] + 3, y: at }, name);
  };
  fixed(anchor, "var(--soft)", "5 4", "anchor", anchor[2] - 5);
  fixed(truth, "var(--c)", "none", "truth", truth[2] - 5);
  const frame = make(svg, "rect", { fill: "var(--a)", "fill-opacity": 0.15, stroke: "var(--a)", "stroke-width": 3 });
  const name = make(svg, "text", { "pointer-events": "none" }, "prediction");
  const pull = make(svg, "line", { stroke: "var(--b)", "stroke-width": 4, "pointer-events": "none" });
  const tip = make(svg, "circle", { r: 5, fill: "var(--b)", "pointer-events": "none" });
  const corner = make(svg, "circle", { r: 9, fill: "var(--a)" });
  const traced = table(root, ["delta", "predicted", "target", "difference", "loss", "gradient"]);
  const said = make(root, "p", { "aria-live": "polite" });
  draggable(svg, frame, 1, (dx, dy) => {
    const height = state.box[2] - state.box[0], width = state.box[3] - state.box[1];
    state.box[0] = clamp(state.box[0] + dy, 0, 230 - height);
    state.box[1] = clamp(state.box[1] + dx, 0, 320 - width);
    state.box[2] = state.box[0] + height;
    state.box[3] = state.box[1] + width;
    draw();
  }, "the predicted box: arrow keys move it");
  draggable(svg, corner, 1, (dx, dy) => {
    state.box[2] = clamp(state.box[2] + dy, state.box[0] + 10, 230);
    state.box[3] = clamp(state.box[3] + dx, state.box[1] + 10, 320);
    draw();
  }, "the lower right corner: arrow keys move it");
  const betas = { "1 (Fast R-CNN)": 1, "1/9 (torchvision)": 1 / 9, "0 (detectron2)": 0 };
  choice(controls, "beta", Object.keys(betas), "1 (Fast R-CNN)", (v) => { state.beta = betas[v]; draw(); });
  choice(controls, "deltas", ["divided by std", "as they are"], "divided by std", (v) => { state.std = v === "divided by std"; draw(); });

  function draw() {
    const used = state.std ? std : [1, 1, 1, 1], b = state.box;
    const { rows, loss } = boxLoss(b, truth, anchor, used, state.beta);
    place(frame, b);
    set(frame, { "aria-valuetext": `y ${b[0].toFixed(0)} to ${b[2].toFixed(0)}, x ${b[1].toFixed(0)} to ${b[3].toFixed(0)}, loss ${loss.toFixed(3)}` });
    set(name, { x: b[1] + 5, y: b[0] + 15 });
    set(corner, { cx: b[3], cy: b[2] });
    const [y, x] = [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2], end = [y - 160 * rows[0][4], x - 160 * rows[1][4]];
    set(pull, { x1: x, y1: y, x2: end[1], y2: end[0] });
    set(tip, { cx: end[1], cy: end[0] });
    traced(["dy", "dx", "log dh", "log dw"].map((label, i) => [label, ...rows[i].map((v) => v.toFixed(3))]));
    said.textContent = `The loss is the mean of the four: ${loss.toFixed(3)}. IoU of prediction and truth: ${iou(b, truth).toFixed(3)}. The orange line shows where dy and dx are pulled.`;
  }
  draw();
}
