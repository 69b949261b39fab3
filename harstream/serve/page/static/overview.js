// Overview: totals, devices by activity, and the table, of which only the rows in view are asked for and drawn.

import { legendItem, NO_DATA, onTheme, paintStrip, paintSwatch, sayStrip, setLabels, swatch, UNKNOWN } from "./colours.js";
import { paintTrend } from "./charts.js";
import { Feed } from "./feed.js";
import { ago, NO_DATA_MEANING, plural, PROBLEMS, seconds, UNKNOWN_MEANING, whole } from "./words.js";

const SPANS_S = [120, 300, 600]; // of the strips; the longest as in table.py
const TREND_MIN = [5, 10, 30]; // the longest as in totals.py
const SPARE = 15; // rows asked for beyond those in view
const MAX_ROWS = 200; // as in table.py
const SETTLE_MS = 120; // after typing
const SCROLL_MS = 200; // between two requests while scrolling
const PARAMETERS = ["search", "activity", "problem", "source", "sort", "descending"];
// What comes first in the order of each column, and turned round.
const ORDERS = {
  device: ["A to Z", "Z to A"],
  source: ["first to last", "last to first"],
  activity: ["A to Z", "Z to A"],
  confidence: ["least sure first", "surest first"],
  since: ["longest first", "shortest first"],
  rate: ["slowest first", "fastest first"],
  last_seen: ["oldest first", "newest first"],
  problem: ["worst first", "none first"],
};
const COLUMNS = [
  { name: "device", title: "Device", sort: "device" },
  { name: "source", title: "Source", sort: "source" },
  { name: "activity", title: "Activity", sort: "activity" },
  { name: "confidence", title: "Confidence", sort: "confidence", number: true },
  { name: "since", title: "For", sort: "since", number: true },
  { name: "strip-cell", title: "Last 10 minutes" },
  { name: "rate", title: "Rate", sort: "rate", number: true },
  { name: "seen", title: "Last seen", sort: "last_seen", number: true },
  { name: "problem", title: "Problem", sort: "problem" },
];

const $ = (id) => document.getElementById(id);

export class Overview {
  constructor(onTotals, onState) {
    this.onTotals = onTotals;
    this.query = {};
    this.totals = null;
    this.trend = null;
    this.span = SPANS_S[2];
    this.matching = 0;
    this.offset = 0; // of the rows that were sent
    this.order = []; // [source, device] of the rows that were sent
    this.rows = new Map();
    this.pool = []; // elements of rows
    this.active = false;
    this.frame = 0;
    this.timer = 0;
    this.asking = 0;
    this.announce = false;
    this.feed = new Feed(
      { trend: (trend) => (this.trend = trend), totals: (totals) => this.takeTotals(totals), view: (view) => this.takeView(view) },
      onState,
    );
    this.build();
  }

  // --- set-up -------------------------------------------------------------------------------

  build() {
    for (const column of COLUMNS) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "columnheader");
      cell.className = `${column.name}${column.number ? " number" : ""}`;
      if (column.sort) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = column.title;
        button.addEventListener("click", () => this.sortBy(column.sort));
        cell.append(button);
        $("sort").append(new Option(column.title, column.sort));
      } else {
        cell.textContent = column.title;
      }
      column.head = cell;
      $("columns").append(cell);
    }
    $("search").addEventListener("input", () => this.filter("search", $("search").value.trim()));
    for (const name of ["activity", "problem", "source"]) $(name).addEventListener("change", () => this.filter(name, $(name).value));
    $("sort").addEventListener("change", () => this.go({ ...this.query, sort: $("sort").value, descending: "" }));
    $("direction").addEventListener("change", () => this.go({ ...this.query, descending: $("direction").value }));
    $("legend").append(legendItem(UNKNOWN, `UNKNOWN: ${UNKNOWN_MEANING}`), legendItem(NO_DATA, NO_DATA_MEANING));
    $("clear").addEventListener("click", () => this.go({ sort: this.query.sort, descending: this.query.descending }));
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("scroll", () => this.moved(), { passive: true });
    addEventListener("resize", () => this.moved());
    onTheme(() => this.paint());
  }

  show(parameters) {
    this.active = true;
    this.query = Object.fromEntries(PARAMETERS.map((name) => [name, parameters.get(name) || ""]));
    if (document.activeElement !== $("search")) $("search").value = this.query.search;
    this.paintFilters();
    this.ask();
  }

  hide() {
    this.active = false;
    clearTimeout(this.timer);
    this.feed.close();
  }

  // --- what the viewer wants ----------------------------------------------------------------

  filter(name, value) {
    clearTimeout(this.timer);
    this.announce = true;
    const query = { ...this.query, [name]: value };
    this.timer = setTimeout(() => this.go(query), name === "search" ? SETTLE_MS : 0);
  }

  sortBy(name) {
    const again = (this.query.sort || "device") === name;
    this.go({ ...this.query, sort: name, descending: again && !this.query.descending ? "1" : "" });
  }

  go(query) {
    // The address holds the filters, so that "back" and a bookmark work.
    const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
    const hash = `#/${parameters.size ? `?${parameters}` : ""}`;
    if (hash === location.hash) return;
    history.replaceState(null, "", hash);
    this.show(parameters);
  }

  get rowHeight() {
    return parseInt(getComputedStyle(document.documentElement).getPropertyValue("--row"), 10);
  }

  inView() {
    // Return the numbers of the first row in view and of the one after the last.
    const top = -$("rows").getBoundingClientRect().top, height = this.rowHeight;
    const first = Math.max(0, Math.floor(top / height));
    return [first, Math.max(first + 1, Math.ceil((top + innerHeight) / height))];
  }

  ask() {
    const [first, end] = this.inView();
    const offset = Math.max(0, first - SPARE), limit = Math.min(end - offset + SPARE, MAX_ROWS);
    const parameters = new URLSearchParams({ offset, limit });
    for (const name of PARAMETERS) if (this.query[name]) parameters.set(name, this.query[name]);
    this.asked = [offset, offset + limit];
    this.feed.open(`api/stream?${parameters}`);
  }

  moved() {
    if (!this.active) return;
    this.draw();
    const [first, end] = this.inView();
    const last = Math.max(0, this.matching);
    const missing = first < this.asked[0] || Math.min(end, last) > this.asked[1];
    if (!missing || this.asking) return;
    // Not at once: whoever scrolls on needs other rows a moment later.
    this.asking = setTimeout(() => {
      this.asking = 0;
      if (this.active) this.ask();
    }, SCROLL_MS);
  }

  // --- what the daemon sends ----------------------------------------------------------------

  takeTotals(totals) {
    this.totals = totals;
    setLabels(totals.labels);
    const { number, counts, time } = totals.point;
    if (this.trend && number > this.trend.number) {
      const length = Math.max(0, ...Object.values(this.trend.counts).map((row) => row.length));
      for (const label of Object.keys(counts)) this.trend.counts[label] ||= new Array(length).fill(0);
      for (const [label, row] of Object.entries(this.trend.counts)) {
        row.push(counts[label] || 0);
        if (row.length > this.trend.points) row.shift();
      }
      this.trend.number = number;
      this.trend.time = time;
    }
    this.onTotals(totals);
    this.draw();
  }

  takeView(view) {
    this.matching = view.matching;
    this.offset = view.offset;
    if (view.order) {
      const before = this.rows;
      this.order = view.order;
      this.rows = new Map();
      for (const key of this.order.map(String)) this.rows.set(key, before.get(key) || {});
    }
    for (const [number, changed] of view.rows) Object.assign(this.rows.get(String(this.order[number])), changed);
    if (this.announce) {
      this.announce = false;
      $("matching").setAttribute("role", "status");
    } else {
      $("matching").removeAttribute("role");
    }
    this.draw();
  }

  // --- drawing ------------------------------------------------------------------------------

  draw() {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        if (this.active && this.totals) this.paint();
      });
    }
  }

  paint() {
    if (!this.active || !this.totals) return;
    const { totals } = this;
    if (this.painted !== totals) {
      this.painted = totals;
      this.paintTiles(totals);
      this.paintActivities(totals);
      this.paintFilters();
      if (this.trend) {
        this.paintTrend(totals);
      }
    }
    const all = totals.devices_known;
    setText($("matching"), this.matching === all ? plural(all, "device", "devices") : `${whole(this.matching)} of ${plural(all, "device", "devices")}`);
    $("empty").hidden = this.matching > 0;
    setText($("empty"), all ? "No device matches." : "No device has sent anything yet.");
    this.paintRows();
  }

  paintTrend(totals) {
    // Chart and strips are as long as the daemon has run, up to their limits.
    const { trend } = this, runs_s = trend.number * trend.step_s;
    const minutes = TREND_MIN.find((m) => 60 * m > runs_s) || TREND_MIN[2];
    const others = Object.keys(trend.counts).filter((label) => !totals.labels.includes(label));
    paintTrend($("trend"), trend, totals.devices_by_label, [...totals.labels, ...others], (60 * minutes) / trend.step_s);
    [`${minutes} min ago`, `${minutes / 2} min ago`, "now"].forEach((text, i) => setText($("trend-times").children[i], text));
    this.span = SPANS_S.find((span) => span > runs_s) || SPANS_S[2];
    setText(COLUMNS.find(({ name }) => name === "strip-cell").head, `Last ${this.span / 60} minutes`);
    setText($("bars"), `Each bar shows the last ${this.span / 60} minutes, up to now at its right end.`);
  }

  paintTiles(totals) {
    const latency = totals.latency_ms, ms = (value) => (value === null ? "none yet" : `${value < 10 ? value : Math.round(value)}\u00a0ms`);
    const tiles = [
      ["Devices", whole(totals.devices_known), totals.without_label ? `${whole(totals.without_label)} without a label` : ""],
      ["With a problem", whole(totals.devices_by_problem.any), "", totals.devices_by_problem.any > 0],
      ["Labels a second", totals.labels_per_s === null ? "none yet" : totals.labels_per_s < 100 ? String(totals.labels_per_s) : whole(totals.labels_per_s), ""],
      ["Samples a second", whole(totals.samples_per_s), ""],
      ["Latency, median", ms(latency.p50), latency.p50 === null ? "" : `95\u00a0%: ${ms(latency.p95)}, 99\u00a0%: ${ms(latency.p99)}`],
    ];
    const list = $("tiles");
    while (list.children.length < tiles.length) {
      const tile = document.createElement("div");
      tile.append(document.createElement("dt"), document.createElement("dd"));
      tile.lastChild.append(document.createElement("span"), " ", document.createElement("small"));
      list.append(tile);
    }
    tiles.forEach(([title, value, note, bad], i) => {
      const [dt, dd] = list.children[i].children;
      setText(dt, title);
      if (title.startsWith("Latency")) setAttribute(dt, "title", "Time from the arrival of a message to the label");
      setText(dd.firstChild, value);
      setText(dd.lastChild, note);
      dd.classList.toggle("bad", Boolean(bad));
    });
  }

  paintActivities(totals) {
    const list = $("activities");
    const labels = [...totals.labels, ...Object.keys(totals.devices_by_label).filter((label) => !totals.labels.includes(label) && totals.devices_by_label[label])];
    if (list.dataset.labels !== String(labels)) {
      list.dataset.labels = String(labels);
      list.replaceChildren(
        ...labels.map((label) => {
          const item = document.createElement("li"), button = document.createElement("button");
          const name = document.createElement("span"), count = document.createElement("span");
          button.type = "button";
          name.textContent = label;
          count.className = "count";
          if (label === UNKNOWN) button.title = UNKNOWN_MEANING;
          button.append(swatch(label), name, count);
          button.addEventListener("click", () => this.filter("activity", this.query.activity === label ? "" : label));
          item.append(button);
          return item;
        }),
      );
    }
    [...list.children].forEach((item, i) => {
      const button = item.firstChild;
      setText(button.lastChild, whole(totals.devices_by_label[labels[i]] || 0));
      setAttribute(button, "aria-pressed", String(this.query.activity === labels[i]));
    });
  }

  paintFilters() {
    const { query, totals } = this;
    const labels = totals ? totals.labels : [], problems = totals ? totals.devices_by_problem : {};
    fill($("activity"), [["", "all"], ...labels.map((label) => [label, label]), ["none", "no label yet"]], query.activity);
    fill($("problem"), [
      ["", "all"],
      ["any", `any problem (${whole(problems.any || 0)})`],
      ...Object.entries(PROBLEMS).map(([name, { short }]) => [name, `${short} (${whole(problems[name] || 0)})`]),
      ["none", "no problem"],
    ], query.problem);
    const sources = totals ? totals.sources : [];
    $("source-label").hidden = sources.length < 2;
    $("table").classList.toggle("sources", sources.length > 1);
    fill($("source"), [["", "all"], ...sources.map((name) => [name, name])], query.source);
    $("sort").value = query.sort || "device";
    const [forward, back] = ORDERS[$("sort").value] || ORDERS.device;
    fill($("direction"), [["", forward], ["1", back]], query.descending ? "1" : "");
    $("clear").hidden = !(query.search || query.activity || query.problem || query.source);
    for (const column of COLUMNS) {
      if (!column.sort) continue;
      const sorted = (query.sort || "device") === column.sort;
      setAttribute(column.head, "aria-sort", sorted ? (query.descending ? "descending" : "ascending") : "none");
    }
  }

  paintRows() {
    const holder = $("rows"), height = this.rowHeight;
    const wanted = `${this.matching * height}px`;
    if (holder.style.height !== wanted) holder.style.height = wanted;
    setAttribute($("table"), "aria-rowcount", String(this.matching + 1));
    const [first, end] = this.inView();
    const from = Math.max(0, first - 2), to = Math.min(this.matching, end + 2);
    // A row keeps its element while it stays in view, so that the focus stays too.
    const free = [], used = new Map();
    for (const row of this.pool) {
      if (row.number >= from && row.number < to) used.set(row.number, row);
      else free.push(row);
    }
    for (let number = from; number < to; number++) {
      const row = used.get(number) || free.pop() || this.addRow();
      row.place(number, height);
      const key = this.order[number - this.offset];
      row.paint(key && this.rows.get(String(key)), this.totals.time, this.span);
    }
    for (const row of free) row.remove();
    this.pool = this.pool.filter((row) => row.number >= 0);
    this.pool.sort((a, b) => a.number - b.number);
  }

  addRow() {
    const row = new Row($("rows"));
    this.pool.push(row);
    return row;
  }
}

class Row {
  // Element of one row. Only what has changed is written to it.
  constructor(holder) {
    this.number = -1;
    this.element = document.createElement("div");
    this.element.setAttribute("role", "row");
    this.cells = {};
    for (const { name, number } of COLUMNS) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "cell");
      cell.className = `${name}${number ? " number" : ""}`;
      this.cells[name] = cell;
      this.element.append(cell);
    }
    this.link = document.createElement("a");
    this.cells.device.append(this.link);
    this.swatch = swatch("");
    this.label = document.createElement("b");
    this.cells.activity.append(this.swatch, this.label);
    this.strip = document.createElement("canvas");
    this.strip.className = "strip";
    this.strip.setAttribute("role", "img");
    this.strip.setAttribute("aria-label", "no labels");
    this.cells["strip-cell"].append(this.strip);
    this.shown = null;
    holder.append(this.element);
  }

  place(number, height) {
    if (this.number === number && this.height === height) return;
    this.number = number;
    this.height = height;
    this.element.style.transform = `translateY(${number * height}px)`;
    setAttribute(this.element, "aria-rowindex", String(number + 2));
  }

  remove() {
    this.number = -1;
    this.element.remove();
  }

  paint(row, now, span) {
    const waits = !row || !row.device;
    this.element.classList.toggle("waiting", waits);
    if (waits) {
      if (this.shown === null && this.link.textContent === "…") return;
      this.shown = null;
      for (const [name, cell] of Object.entries(this.cells)) if (!["device", "activity", "strip-cell"].includes(name)) setText(cell, "");
      setText(this.link, "…");
      this.link.removeAttribute("href");
      setText(this.label, "");
      paintSwatch(this.swatch, "");
      this.strip.hidden = true;
      return;
    }
    setText(this.link, row.device);
    setAttribute(this.link, "href", `#/device/${encodeURIComponent(row.source)}/${encodeURIComponent(row.device)}`);
    setText(this.cells.source, row.source);
    setText(this.label, row.label || "no label yet");
    if (this.shown !== row || this.painted !== row.label) {
      paintSwatch(this.swatch, row.label);
      this.painted = row.label;
    }
    const age = now - row.last_seen;
    const isUnknown = row.label === UNKNOWN;
    setAttribute(this.label, "title", isUnknown ? UNKNOWN_MEANING : "");
    // Of UNKNOWN there is nothing to be sure of.
    setText(this.cells.confidence, row.confidence === null ? "" : isUnknown ? "–" : row.confidence.toFixed(2));
    setText(this.cells.since, row.duration_s === null ? "" : seconds(row.duration_s));
    setText(this.cells.rate, row.rate_hz === null ? "" : `${Math.round(row.rate_hz)} Hz`);
    setText(this.cells.seen, ago(age));
    const problem = row.problem && PROBLEMS[row.problem];
    setText(this.cells.problem, problem ? problem.short : "");
    setAttribute(this.cells.problem, "title", problem ? problem.cause : "");
    this.strip.hidden = false;
    if (this.shown !== row || this.said !== row.strip) {
      setAttribute(this.strip, "aria-label", sayStrip(row.strip, now - span, now));
      this.said = row.strip;
    }
    if (this.shown !== row || this.paintedAt !== now) {
      paintStrip(this.strip, row.strip, now - span, now, age > 30 ? row.last_seen : now);
      this.paintedAt = now;
    }
    this.shown = row;
  }
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function fill(select, options, value) {
  // Give a select its options without closing it while somebody chooses.
  if (value && !options.some(([name]) => name === value)) options.push([value, value]);
  const texts = JSON.stringify(options);
  if (select.dataset.options !== texts) {
    select.dataset.options = texts;
    if (select.options.length === options.length) options.forEach(([, text], i) => setText(select.options[i], text));
    else select.replaceChildren(...options.map(([name, text]) => new Option(text, name)));
    options.forEach(([name], i) => (select.options[i].value = name));
  }
  if (select.value !== value) select.value = value;
}
