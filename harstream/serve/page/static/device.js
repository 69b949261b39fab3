// Page of one device: signals, probabilities, the last hour, health and settings.

import { AXES, axisColour, paintProbability, paintSignal } from "./charts.js";
import { legendItem, NO_DATA, onTheme, paintStrip, runs, sayStrip, setLabels, swatch, UNKNOWN } from "./colours.js";
import { Feed } from "./feed.js";
import { setText } from "./overview.js";
import { ago, clock, NO_DATA_MEANING, plural, PROBLEMS, seconds, UNKNOWN_MEANING, UNSURE, UNTRUSTED } from "./words.js";

const HOUR_S = 3600; // as in label_history.py
const SIGNAL_S = 10; // as in one_device.py
const MAX_WINDOWS = 120; // drawn
const CHARTS = [
  { title: "Gravity (slow part)", unit: "g", first: 0, least: 0.2, range: [-1, 1] },
  { title: "Body acceleration (the rest)", unit: "g", first: 3, least: 0.1 },
  { title: "Angular velocity", unit: "rad/s", first: 6, least: 0.2, gyro: true },
];

const $ = (id) => document.getElementById(id);

export class DevicePage {
  constructor(onDaemon, onState) {
    this.active = false;
    this.frame = 0;
    this.feed = new Feed({ daemon: onDaemon, device: (content) => this.take(content) }, onState);
    for (const chart of CHARTS) this.addChart(chart);
    addEventListener("resize", () => this.active && this.draw(true));
    onTheme(() => this.active && this.draw(true));
  }

  addChart(chart) {
    const figure = document.createElement("figure"), title = document.createElement("h4"), times = document.createElement("figcaption");
    chart.canvas = document.createElement("canvas");
    chart.canvas.setAttribute("role", "img");
    title.textContent = `${chart.title}, ${chart.unit}`;
    chart.note = document.createElement("p");
    chart.note.className = "notice";
    chart.note.hidden = true;
    for (const text of ["10 s ago", "5 s ago", "now"]) times.append(Object.assign(document.createElement("span"), { textContent: text }));
    chart.legend = document.createElement("p");
    chart.legend.className = "axes-legend";
    chart.legend.setAttribute("aria-hidden", "true");
    for (const axis of AXES) {
      const pair = document.createElement("span");
      pair.append(lineSample(axis), axis.name);
      chart.legend.append(pair);
    }
    chart.titleElement = title;
    figure.append(title, chart.canvas, chart.note, times, chart.legend);
    $("signals").append(figure);
  }

  show(source, name) {
    this.active = true;
    this.source = source;
    this.name = name;
    this.settings = null;
    this.row = undefined;
    this.time = 0;
    this.strip = [];
    this.events = [];
    this.windows = [];
    this.values = Array.from({ length: 9 }, () => []);
    this.isInG = false;
    document.title = `${name} · harstream`;
    setText($("device-name"), name);
    for (const id of ["device-now", "device-problems", "probabilities", "health", "settings", "events", "hour-legend"]) $(id).replaceChildren();
    this.feed.open(`api/stream?${new URLSearchParams({ device: name, source })}`);
  }

  hide() {
    this.active = false;
    this.feed.close();
  }

  take(content) {
    if (content.settings) {
      // The first message of a stream.
      this.settings = content.settings;
      this.windows = [];
      setLabels(this.settings.outputs);
      this.paintSettings();
      this.buildProbabilities();
    }
    if (content.time) this.time = content.time;
    if ("device" in content) {
      this.row = content.device;
      this.duration = content.duration_s;
    }
    if (content.strip) {
      this.strip = content.strip;
      this.events = content.events;
      this.paintEvents();
    }
    if (content.windows) this.windows = [...this.windows, ...content.windows].slice(-MAX_WINDOWS);
    if (content.signal) this.takeSignal(content.signal);
    this.draw("device" in content);
  }

  takeSignal({ begins, is_in_g: isInG, values }) {
    const size = Math.round(SIGNAL_S * this.settings.sample_rate_hz);
    this.isInG = isInG;
    this.values = this.values.map((row, i) => (begins ? values[i] : [...row, ...values[i]]).slice(-size));
  }

  draw(whole) {
    this.whole ||= whole;
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.active || !this.settings) return;
      this.paintSignals();
      this.paintProbabilities();
      if (this.whole) {
        this.whole = false;
        this.paintNow();
        this.paintHour();
        this.paintHealth();
      }
    });
  }

  paintNow() {
    const { row } = this;
    const key = JSON.stringify([row && row.label, row && row.confidence, row && row.problems, this.duration]);
    if (this.nowKey !== key || !$("device-now").firstChild) {
      this.nowKey = key;
      const parts = [];
      if (!row) parts.push("Nothing is known of this device: none of its messages arrived, or it was idle for long.");
      else if (!row.label) parts.push("No label yet: the first window is not complete.");
      else {
        const name = document.createElement("strong");
        name.textContent = row.label;
        const why = row.problems.some((problem) => UNTRUSTED.includes(problem)) ? "see the problem below" : UNSURE;
        const sure = row.label === UNKNOWN ? `no activity can be told: ${why}` : `confidence ${row.confidence.toFixed(2)}`;
        parts.push(swatch(row.label), name, `for ${seconds(this.duration)}`, sure);
      }
      $("device-now").replaceChildren(...parts.map((part) => (typeof part === "string" ? Object.assign(document.createElement("span"), { textContent: part }) : part)));
    }
    const details = row ? row.details : [];
    const faults = (row ? row.problems : []).map((name) => [name, details.find((detail) => detail.problem === name)]);
    const text = JSON.stringify(faults);
    if (this.faultsKey === text && $("device-problems").children.length === faults.length) return;
    this.faultsKey = text;
    $("device-problems").replaceChildren(
      ...faults.map(([name, detail]) => {
        const box = document.createElement("section"), title = document.createElement("h3");
        box.className = "fault";
        const { cause, effect, mend } = PROBLEMS[name];
        title.textContent = cause;
        box.setAttribute("aria-label", `Problem: ${cause}`);
        const found = detail && detail.detail ? `Found at ${clock(detail.since)}: ${detail.detail}.` : "";
        const lines = [`What to do: ${mend}`, [effect, found].filter(Boolean).join(" "), `Name of this problem in messages, metrics and documents: ${name}`];
        box.append(title, ...lines.map((textContent) => Object.assign(document.createElement("p"), { textContent })));
        box.children[1].className = "mend";
        box.lastChild.className = "quiet";
        return box;
      }),
    );
  }

  paintSignals() {
    const size = Math.round(SIGNAL_S * this.settings.sample_rate_hz);
    for (const chart of CHARTS) {
      const rows = this.values.slice(chart.first, chart.first + 3);
      const unused = chart.gyro && !this.settings.uses_gyro;
      const empty = !rows[0].length;
      chart.canvas.hidden = chart.legend.hidden = Boolean(unused || empty);
      chart.canvas.parentElement.querySelector("figcaption").hidden = chart.canvas.hidden;
      chart.note.hidden = !chart.canvas.hidden;
      setText(chart.note, unused ? "The model uses no gyroscope." : "No samples yet.");
      if (!chart.gyro) setText(chart.titleElement, `${chart.title}, ${this.isInG || empty ? "g" : "unit as sent"}`);
      if (chart.canvas.hidden) continue;
      paintSignal(chart.canvas, rows, size, chart.least, this.isInG && chart.range);
      const newest = rows.map((row, i) => `${AXES[i].name} ${row[row.length - 1].toFixed(2)}`).join(", ");
      chart.canvas.setAttribute("aria-label", `${chart.title}, newest sample: ${newest} ${this.isInG || chart.gyro ? chart.unit : ""}`);
    }
  }

  buildProbabilities() {
    const { outputs, states, stride_s: stride, window_s: span } = this.settings;
    setText(
      $("probabilities-note"),
      `A bar each ${stride} s since this page was opened, from the last ${span} s of signal alone; the label above takes earlier ones into account too. There is no bar where the signal cannot be trusted.`,
    );
    this.bars = outputs.map((label) => {
      const row = document.createElement("div"), name = document.createElement("span"), value = document.createElement("span");
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      row.className = "probability";
      name.textContent = label;
      value.className = "number";
      row.append(name, canvas, value);
      return { label, row, canvas, value };
    });
    const rows = this.bars.map(({ row }) => row), first = outputs.findIndex((label) => states.includes(label));
    const title = Object.assign(document.createElement("h4"), { textContent: "Movements between two postures; the label is UNKNOWN meanwhile" });
    $("probabilities").replaceChildren(...(first < 0 ? rows : [...rows.slice(0, first), title, ...rows.slice(first)]));
  }

  paintProbabilities() {
    if (this.paintedWindows === this.windows && !this.whole) return;
    this.paintedWindows = this.windows;
    for (const { label, canvas, value } of this.bars) {
      const values = this.windows.map(({ probabilities }) => (probabilities ? probabilities[label] || 0 : null));
      const newest = values.length ? values[values.length - 1] : undefined;
      paintProbability(canvas, label, values, MAX_WINDOWS);
      setText(value, newest === undefined ? "" : newest === null ? "cannot tell" : `${Math.round(100 * newest)} %`);
    }
  }

  paintHour() {
    // The strip is as long as what there is to see, up to an hour.
    const begun = this.strip.length ? this.time - this.strip[0][0] : 0;
    const span = [600, 1800].find((s) => begun < s) || HOUR_S;
    const to = this.time, from = to - span, minutes = span / 60;
    setText($("hour-heading"), span === HOUR_S ? "Last hour" : `Last ${minutes} minutes`);
    [...$("hour-times").children].forEach((time, i) => setText(time, i === 4 ? "now" : `${(minutes * (4 - i)) / 4} min ago`));
    const silent = this.row && to - this.row.last_seen > 30;
    const until = silent ? this.row.last_seen : to;
    paintStrip($("hour"), this.strip, from, to, until);
    const words = sayStrip(this.strip, from, until);
    $("hour").setAttribute("aria-label", `Activities of the last ${minutes} minutes: ${words}`);
    const found = runs(this.strip, from, until), seen = [...new Set(found.map(([, , label]) => label))];
    const isFull = found.reduce((sum, [start, end]) => sum + end - start, 0) > span - 1;
    const moves = this.settings.states.filter((state) => this.events.some(([time, , label]) => label === state && time >= from));
    const key = JSON.stringify([words, isFull, moves]);
    if ($("hour-legend").dataset.seen === key && $("hour-legend").children.length) return;
    $("hour-legend").dataset.seen = key;
    const shares = words.split(", ");
    const items = seen.map((label) => [label, shares.find((share) => share.startsWith(`${label} `)) || label]);
    for (const item of items) if (item[0] === UNKNOWN) item[1] += `, ${moves.length ? `with movements between postures (${moves.join(", ")})` : UNKNOWN_MEANING}`;
    if (!isFull) items.push([NO_DATA, NO_DATA_MEANING]);
    $("hour-legend").replaceChildren(...items.map(([label, text]) => legendItem(label, text)));
  }

  paintEvents() {
    const head = document.createElement("thead"), body = document.createElement("tbody");
    head.append(tableRow("th", ["time", "event", "activity or movement", "confidence", "duration"]));
    for (const [time, kind, label, confidence, duration] of [...this.events].reverse()) {
      body.append(tableRow("td", [clock(time), kind === "exit" ? "ends" : "begins", label, confidence.toFixed(2), kind === "exit" ? seconds(duration) : ""]));
    }
    if (!this.events.length) body.append(tableRow("td", ["none yet", "", "", "", ""]));
    $("events").replaceChildren(head, body);
  }

  paintHealth() {
    const { row } = this, lines = [];
    if (row) {
      lines.push(`Its last message came ${ago(this.time - row.last_seen)}.`);
      lines.push(row.rate_hz === null ? "Its sample rate is not known." : `It sends ${+row.rate_hz.toFixed(2)} samples a second.`);
      lines.push(row.gaps ? `${plural(row.gaps, "gap", "gaps")} in its samples so far.` : "No gap in its samples so far.");
      lines.push(row.late ? `${plural(row.late, "sample", "samples")} came too late and ${row.late === 1 ? "was" : "were"} dropped.` : "No sample came too late.");
      lines.push(
        row.restarts
          ? `Its recognition started over ${plural(row.restarts, "time", "times")}, such as after a long gap; a label then takes ${this.settings.window_s} s.`
          : "Its recognition never had to start over.",
      );
      for (const detail of row.details) {
        if (detail.problem === null || !row.problems.includes(detail.problem)) {
          lines.push(`At ${clock(detail.since)}, ${detail.problem ? `problem ${detail.problem}, over now` : "a message"}: ${detail.detail}`);
        }
      }
      if (!row.problems.length) lines.push("No problem now.");
      setText(this.unit, unitOf(this.settings.acc_unit, row.acc_unit));
    }
    const list = $("health");
    while (list.children.length < lines.length) list.append(document.createElement("li"));
    while (list.children.length > lines.length) list.lastChild.remove();
    lines.forEach((line, i) => setText(list.children[i], line));
  }

  paintSettings() {
    const s = this.settings;
    const entries = [
      ["Source", s.source],
      ["Topic", s.topic],
      ["Payload", s.payload],
      ["Unit of acceleration", unitOf(s.acc_unit, null)],
      ["Unit of gyroscope", s.uses_gyro ? s.gyro_unit : `${s.gyro_unit}, not used by the model`],
      ["Axes of the model", s.axes],
      ["Model", s.placement ? `${s.model}, ${s.placement}` : s.model],
      ["Rate of the model", `${s.sample_rate_hz} Hz`],
      ["Window and stride", `${s.window_s} s, ${s.stride_s} s`],
    ];
    $("settings").replaceChildren(
      ...entries.flatMap(([term, value]) => [
        Object.assign(document.createElement("dt"), { textContent: term }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      ]),
    );
    this.unit = $("settings").children[7];
  }
}

function unitOf(setting, found) {
  if (setting !== "auto") return `${setting}, or as the message states`;
  return found ? `${found}, found in the signal` : "as the message states, else found in the signal";
}

function tableRow(kind, texts) {
  const row = document.createElement("tr");
  for (const text of texts) {
    const cell = Object.assign(document.createElement(kind), { textContent: text });
    if (kind === "th") cell.scope = "col";
    row.append(cell);
  }
  return row;
}

function lineSample(axis) {
  // A short line in the colour and dash of an axis.
  const canvas = document.createElement("canvas");
  canvas.width = 52;
  canvas.height = 16;
  canvas.style.width = "26px";
  canvas.style.height = "8px";
  const paint = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, 52, 16);
    context.strokeStyle = axisColour(axis);
    context.setLineDash(axis.dash.map((length) => 2 * length));
    context.lineWidth = 4;
    context.beginPath();
    context.moveTo(0, 8);
    context.lineTo(52, 8);
    context.stroke();
  };
  paint();
  onTheme(paint);
  return canvas;
}
