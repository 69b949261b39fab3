// Entry of the page: chooses between overview and one device by the address, and shows the state of the daemon.

import { DevicePage } from "./device.js";
import { Overview, setText } from "./overview.js";

const $ = (id) => document.getElementById(id);
let connected = null;
let totals = null;

function paintState() {
  const state = $("state");
  const good = connected && (!totals || totals.ready);
  state.className = `state ${good ? "good" : "bad"}`;
  if (connected === null) state.className = "state";
  const text = connected === null ? "connecting" : connected ? (totals ? totals.state : "connected") : "no connection to the daemon, trying again";
  setText(state, text);
}

function onState(now) {
  if (connected === now) return;
  connected = now;
  paintState();
}

function onTotals(now) {
  totals = now;
  paintState();
  setText($("model"), now.models.join(", "));
  setText($("version"), `harstream ${now.version}`);
}

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
