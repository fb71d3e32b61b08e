// Shared by all explorables: SVG elements, things that can be dragged or moved by the arrow keys, sliders.
// Nothing is fetched; whoever asks for less motion gets none.
const SVG = "http://www.w3.org/2000/svg";

function make(parent, tag, attributes = {}, text = "") {
  const svg = parent.namespaceURI === SVG || tag === "svg";
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== "") element.textContent = text;
  parent.appendChild(element);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

// A canvas of width x height units that scales with the page, and the pointer's place in these units.
function canvas(parent, width, height, label) {
  const svg = make(parent, "svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  svg.place = (event) => {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
  };
  return svg;
}

// Let an element be dragged, and moved by the arrow keys (with Shift ten steps): move(dx, dy) in canvas units.
function draggable(svg, element, step, move, label) {
  set(element, { tabindex: 0, role: "slider", "aria-label": label, "aria-valuenow": 0, style: "cursor: move" });
  let last = null;
  element.addEventListener("pointerdown", (event) => {
    last = svg.place(event);
    element.setPointerCapture(event.pointerId);
    element.focus({ preventScroll: true });
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => {
    if (last === null) return;
    const now = svg.place(event);
    move(now[0] - last[0], now[1] - last[1]);
    last = now;
  });
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => { last = null; });
  element.addEventListener("keydown", (event) => {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in arrows)) return;
    const factor = step * (event.shiftKey ? 10 : 1);
    move(arrows[event.key][0] * factor, arrows[event.key][1] * factor);
    event.preventDefault();
  });
}

// A slider with its label and its value; change(value) is called now and whenever it moves.
function slider(parent, label, { min, max, step, value }, change, digits = 2) {
  const frame = make(parent, "label", {}, label);
  const input = make(frame, "input", { type: "range", min, max, step, value });
  const shown = make(frame, "output");
  const update = () => { shown.textContent = Number(input.value).toFixed(digits); change(Number(input.value)); };
  input.addEventListener("input", update);
  update();
  return input;
}

// Buttons of which one is pressed.
function choice(parent, label, options, value, change) {
  const frame = make(parent, "label", {}, label);
  const select = make(frame, "select");
  for (const option of options) make(select, "option", option === value ? { value: option, selected: "" } : { value: option }, option);
  select.addEventListener("change", () => change(select.value));
  return select;
}

// A table of numbers whose cells can be rewritten: fill(rows).
function table(parent, header, name = header[0]) {
  const frame = make(parent, "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `numbers: ${name}` });
  const element = make(frame, "table");
  const head = make(make(element, "thead"), "tr");
  for (const name of header) make(head, "th", { scope: "col" }, name);
  const body = make(element, "tbody");
  return (rows) => {
    body.replaceChildren();
    for (const row of rows) {
      const line = make(body, "tr");
      row.forEach((cell, i) => make(line, i ? "td" : "th", i ? {} : { scope: "row" }, String(cell)));
    }
  };
}
