// Send the accelerometer of a Bangle.js to a computer over Bluetooth, half a second a line; bridge.py there publishes the
// lines. docs/devices/bangle-js.md says how to load it.

const RATE_HZ = 50;
const SAMPLES = 25; // in a line: half a second
let acc = []; // in milli-g
let first_ms = 0; // time of the first of them

Bangle.on("accel", function (a) {
  if (!acc.length) first_ms = Date.now();
  acc.push([Math.round(a.x * 1000), Math.round(a.y * 1000), Math.round(a.z * 1000)]);
  if (acc.length < SAMPLES) return;
  const line = JSON.stringify({ t_ms: Math.round(first_ms), rate_hz: RATE_HZ, units: { acc: "mg" }, acc: acc });
  acc = [];
  if (NRF.getSecurityStatus().connected) Bluetooth.println(line);
});

// The sensor is read every 80 ms, or 800 ms at rest, unless told otherwise. It measures at 100 Hz here, so that each
// reading is a new one (register ODCNTL of the KX023: 100 Hz, low-pass filter of half of that).
Bangle.accelWr(0x1b, 0x03 | 0x40);
Bangle.setPollInterval(1000 / RATE_HZ);
