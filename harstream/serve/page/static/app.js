// Entry of the page: chooses between overview and one device by the address, and shows the state of the daemon.

import { DevicePage } from "./device.js";
import { Overview, setText } from "./overview.js";
import { clock, model, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
let connected = null;
let totals = null;
let heard = 0; // time of the last message, ms
const STALE_S = 3; // messages come once a second
const MAX_TOPICS = 3; // named

function paintState() {
  const state = $("state");
  const good = connected && (!totals || totals.ready);
  state.className = `state ${good ? "good" : "bad"}`;
  if (connected === null) state.className = "state";
  const text = connected === null ? "connecting" : connected ? (totals ? totals.state : "connected") : "no connection to the daemon, trying again";
  setText(state, text);
}

function onState(now) {
  if (now) heard = Date.now();
  paintAge();
  if (connected === now) return;
  connected = now;
  paintState();
}

function onTotals(now) {
  totals = now;
  paintState();
  setText($("model"), now.models.map((name) => `model ${model(name)}`).join(", "));
  paintInput(now);
  setText($("version"), `harstream ${now.version}`);
}

function paintInput({ broker, topics }) {
  const named = topics.slice(0, MAX_TOPICS).join(" and ") + (topics.length > MAX_TOPICS ? ` and ${topics.length - MAX_TOPICS} more` : "");
  setText($("input"), `Samples come from ${broker || "a broker that is not connected yet"}, topic ${named}.`);
}

function paintAge() {
  const age = (Date.now() - heard) / 1000;
  setText($("age"), !heard ? "" : age < STALE_S ? "Up to date." : `As of ${clock(heard / 1000)}, ${seconds(age)} ago.`);
}

setInterval(paintAge, 1000);

const overview = new Overview(onTotals, onState);
const device = new DevicePage(onTotals, onState);
let overviewAddress = "#/"; // with the filters, for the way back

function route() {
  const [path, parameters] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/");
  const isDevice = parts[0] === "device" && parts.length === 3;
  $("overview").hidden = isDevice;
  $("device").hidden = !isDevice;
  if (isDevice) {
    overview.hide();
    $("back").href = overviewAddress;
    device.show(decodeURIComponent(parts[1]), decodeURIComponent(parts[2]));
  } else {
    device.hide();
    overviewAddress = location.hash || "#/";
    document.title = "harstream";
    overview.show(new URLSearchParams(parameters || ""));
  }
}

addEventListener("hashchange", () => {
  route();
  scrollTo(0, 0);
  $(location.hash.startsWith("#/device/") ? "device-name" : "devices-heading").focus();
});
for (const id of ["device-name", "devices-heading"]) $(id).tabIndex = -1;
route();
