// Charts: devices by activity over time, signals, and probabilities.

import { fillOf, prepare, themed } from "./colours.js";
import { whole } from "./words.js";

export const AXES = [
  { name: "x", colour: ["#0072b2", "#56b4e9"], dash: [] },
  { name: "y", colour: ["#b34700", "#ff9a57"], dash: [6, 3] },
  { name: "z", colour: ["#00704f", "#3fd0a4"], dash: [2, 2] },
];

const LEFT = 34; // room for the numbers of an axis, in CSS pixels
const NOW_WIDTH = 16, NOW_GAP = 4; // of the bar of now, in CSS pixels

export function axisColour(axis) {
  return axis.colour[matchMedia("(prefers-color-scheme: dark)").matches ? 1 : 0];
}

export function paintTrend(canvas, trend, now, labels, points) {
  // Draw the devices by activity over time as bars on top of each other: one for each of the newest points, at its
  // end, and set apart on the right the counts of now.
  const [context, width, height] = prepare(canvas);
  const shown = labels.filter((label) => trend.counts[label] || now[label]);
  const length = Math.max(1, ...shown.map((label) => (trend.counts[label] || []).length));
  const n = Math.min(points, length); // bars: all points but the first, which ends none, and now
  const older = (label) => (trend.counts[label] || new Array(length).fill(0)).slice(length - n + 1);
  const bars = new Map(shown.map((label) => [label, [...older(label), now[label] || 0]]));
  const totals = Array.from({ length: n }, (_, i) => shown.reduce((sum, label) => sum + bars.get(label)[i], 0));
  const top = niceTop(Math.max(1, ...totals));
  const bottom = height - 1, marks = [0, top / 2, top];
  const name = (value) => (value >= 10000 ? `${value / 1000}k` : whole(value));
  context.font = axisFont();
  const left = Math.ceil(Math.max(LEFT, ...marks.map((value) => context.measureText(name(value)).width + 8)));
  const step = (width - left - NOW_GAP - NOW_WIDTH) / (points - 1);
  const x = (i) => (i === n - 1 ? width - NOW_WIDTH : width - NOW_WIDTH - NOW_GAP - (n - 1 - i) * step);
  const y = (value) => bottom - (bottom - 6) * (value / top);
  grid(context, width, left, marks, y, name);
  const base = new Array(n).fill(0);
  for (const label of shown) {
    const counts = bars.get(label);
    context.fillStyle = fillOf(context, label);
    for (let i = 0; i < n; i++) {
      const barWidth = i === n - 1 ? NOW_WIDTH : step + 0.3;
      if (counts[i]) context.fillRect(x(i), y(base[i] + counts[i]), barWidth, y(base[i]) - y(base[i] + counts[i]));
      base[i] += counts[i];
    }
  }
}

export function paintSignal(canvas, rows, size, least, range) {
  // Draw three axes: rows is a list of three lists of samples, the newest last; size is how many fit.
  // The scale fits the samples, but spans at least `least`, or is `range`.
  const [context, width, height] = prepare(canvas);
  const left = LEFT, bottom = height - 4;
  let low = Infinity, high = -Infinity;
  for (const row of rows) {
    for (const value of row) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (!(low <= high)) low = high = 0;
  if (range) [low, high] = range;
  const middle = (low + high) / 2, half = Math.max((high - low) / 2, least / 2) * 1.08;
  const y = (value) => bottom - ((value - middle + half) / (2 * half)) * (bottom - 4);
  grid(context, width, left, ticks(middle - half, middle + half), y, (value) => String(+value.toFixed(2)));
  const step = (width - left) / (size - 1);
  rows.forEach((row, axis) => {
    context.beginPath();
    context.strokeStyle = axisColour(AXES[axis]);
    context.setLineDash(AXES[axis].dash);
    context.lineWidth = 1.6;
    const first = size - row.length;
    for (let i = 0; i < row.length; i++) context.lineTo(left + (first + i) * step, y(row[i]));
    context.stroke();
  });
  context.setLineDash([]);
}

export function paintProbability(canvas, label, values, size) {
  // Draw the probability of one label in the last windows as bars; null: the window cannot be trusted, so none.
  const [context, width, height] = prepare(canvas);
  context.fillStyle = themed("track");
  context.fillRect(0, height - 1, width, 1);
  const step = width / size;
  context.fillStyle = fillOf(context, label);
  values.forEach((value, i) => {
    if (value === null) return;
    const bar = value * (height - 1);
    context.fillRect(width - (values.length - i) * step, height - 1 - bar, Math.max(step - 0.5, 1), bar);
  });
}

function grid(context, width, left, values, y, name) {
  context.font = axisFont();
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of values) {
    context.fillStyle = themed("line");
    context.fillRect(left, Math.round(y(value)), width - left, 1);
    context.fillStyle = themed("quiet");
    context.fillText(name(value), left - 5, Math.max(7, y(value) - 2));
  }
}

function axisFont() {
  return `11px ${getComputedStyle(document.body).fontFamily}`;
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 3, 4, 5, 6, 8, 10].map((f) => f * power).find((top) => top >= value && Number.isInteger(top / 2)) || 2;
}

function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(+value.toFixed(6));
  return found;
}
