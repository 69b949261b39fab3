// Colours and patterns of activities, and what is drawn with them: swatches and strips.
//
// Seven colours of Okabe and Ito, which people with each kind of colour blindness can tell apart. The eighth activity
// and further ones have the same colours with a pattern. Hatching is only for UNKNOWN, and the plain ground of a strip
// only for no data. The name always stands beside the colour.

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#f0e442"];
const PATTERNS = ["plain", "dots", "checks", "crosses"];
export const UNKNOWN = "UNKNOWN";
export const NO_DATA = "\0"; // in place of a label, which is never so called

const order = new Map(); // label to its place
const fills = new Map(); // label and theme to a canvas pattern or a colour

export function setLabels(labels) {
  // Give the labels of the model their places; labels of earlier models keep theirs.
  for (const label of labels) placeOf(label);
}

function placeOf(label) {
  if (label === UNKNOWN) return -1;
  if (!order.has(label)) order.set(label, order.size);
  return order.get(label);
}

const dark = matchMedia("(prefers-color-scheme: dark)");

export function onTheme(action) {
  dark.addEventListener("change", action);
}

export function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function colourOf(label) {
  return label === UNKNOWN ? (dark.matches ? "#8b98a5" : "#7a8794") : COLOURS[placeOf(label) % COLOURS.length];
}

export function fillOf(context, label) {
  const key = `${label} ${dark.matches}`;
  if (!fills.has(key)) fills.set(key, makeFill(context, label));
  return fills.get(key);
}

function makeFill(context, label) {
  if (label === NO_DATA) return themed("track");
  const colour = colourOf(label);
  const pattern = label === UNKNOWN ? "hatch" : PATTERNS[Math.floor(placeOf(label) / COLOURS.length) % PATTERNS.length];
  if (pattern === "plain") return colour;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.fillStyle = pattern === "hatch" ? themed("track") : colour;
  pen.fillRect(0, 0, 8, 8);
  pen.strokeStyle = pen.fillStyle = pattern === "hatch" ? colour : "#ffffff";
  pen.lineWidth = 2;
  if (pattern === "dots") {
    pen.fillRect(2, 2, 3, 3);
  } else if (pattern === "checks") {
    pen.fillRect(0, 0, 4, 4);
    pen.fillRect(4, 4, 4, 4);
  } else if (pattern === "crosses") {
    pen.fillRect(0, 3, 7, 1);
    pen.fillRect(3, 0, 1, 7);
  } else {
    for (const x of [-8, 0, 8]) {
      pen.beginPath();
      pen.moveTo(x, 8);
      pen.lineTo(x + 8, 0);
      pen.stroke();
    }
  }
  return context.createPattern(tile, "repeat");
}

export function prepare(canvas) {
  // Fit the bitmap of a canvas to its size on the screen, empty it, and return [context, width, height] in CSS pixels.
  const width = canvas.clientWidth, height = canvas.clientHeight, scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

export function swatch(label) {
  const canvas = document.createElement("canvas");
  canvas.className = label === NO_DATA ? "swatch none" : "swatch";
  canvas.setAttribute("aria-hidden", "true");
  canvas.width = canvas.height = 28;
  paintSwatch(canvas, label);
  return canvas;
}

export function legendItem(label, text) {
  const item = document.createElement("li");
  item.append(swatch(label), text);
  return item;
}

export function paintSwatch(canvas, label) {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!label) return;
  context.fillStyle = fillOf(context, label);
  context.fillRect(0, 0, canvas.width, canvas.height);
}

export function runs(changes, from, to) {
  // Return the stretches [start, end, label] of label changes [time, label] between two times; without a label, none.
  const found = [];
  for (let i = 0; i < changes.length; i++) {
    const [time, label] = changes[i];
    const start = Math.max(time, from), end = Math.min(i + 1 < changes.length ? changes[i + 1][0] : to, to);
    if (label && end > start) found.push([start, end, label]);
  }
  return found;
}

export function paintStrip(canvas, changes, from, to, until) {
  // Draw label changes between two times; the last label lasts until `until`.
  const [context, width, height] = prepare(canvas);
  context.fillStyle = themed("track");
  context.fillRect(0, 0, width, height);
  const scale = width / (to - from);
  for (const [start, end, label] of runs(changes, from, until)) {
    const x = (start - from) * scale;
    context.fillStyle = fillOf(context, label);
    context.fillRect(x, 0, Math.max((end - from) * scale - x, 1), height);
  }
}

export function sayStrip(changes, from, until) {
  // Return the shares of the activities in words, the largest first.
  const shares = new Map();
  let total = 0;
  for (const [start, end, label] of runs(changes, from, until)) {
    shares.set(label, (shares.get(label) || 0) + end - start);
    total += end - start;
  }
  if (!total) return "no labels";
  const sorted = [...shares].sort((a, b) => b[1] - a[1]);
  return sorted.map(([label, span]) => `${label} ${Math.round((100 * span) / total)} %`).join(", ");
}
