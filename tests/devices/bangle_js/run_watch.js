// Run a program for the Bangle.js in node, with stand-ins for the parts of Espruino that it uses.
// Arguments: program, start in ms since 1970. Standard input: accelerations in g, a JSON list of [x, y, z]. Standard
// output: what the watch sends over Bluetooth, with the console's prompts between the lines.
"use strict";
const fs = require("fs");
const vm = require("vm");
const assert = require("assert");

const [program, start] = process.argv.slice(2);
const listeners = [];
const registers = {};
let now = Number(start);
let interval = 80;

class WatchDate extends Date {
  static now() {
    return now;
  }
}

const context = {
  Bangle: {
    on: (event, listener) => {
      assert.equal(event, "accel");
      listeners.push(listener);
    },
    accelWr: (register, value) => (registers[register] = value),
    setPollInterval: (ms) => (interval = ms),
  },
  NRF: { getSecurityStatus: () => ({ connected: now - start > 3000 }) },
  Bluetooth: { println: (line) => process.stdout.write("\r\x1b[J" + line + "\r\n>") },
  Date: WatchDate,
};
vm.runInNewContext(fs.readFileSync(program, "utf8"), context);
assert.equal(interval, 20);
assert.equal(registers[0x1b] & 0x0f, 3);
for (const [x, y, z] of JSON.parse(fs.readFileSync(0, "utf8"))) {
  for (const listener of listeners) listener({ x, y, z, mag: Math.hypot(x, y, z), diff: 0 });
  now += interval;
}
