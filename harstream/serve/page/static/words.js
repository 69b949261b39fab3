// Texts of the page, in the words of docs/glossary.md, and numbers and times for people.

// Of each problem: words for a narrow column, as in core/problems.py; cause; what to do; what it does to the labels.
export const PROBLEMS = {
  gravity: {
    short: "no gravity found",
    cause: "No gravity is found in its acceleration: the unit is not known, or gravity was removed before sending.",
    mend: "Send acceleration with gravity, and name its unit in the message or with --acc-unit.",
    effect: "All its labels are UNKNOWN.",
  },
  overlap: {
    short: "two senders",
    cause: "Its messages overlap in time: two devices publish under this name, or one sends samples twice.",
    mend: "Give each device a name of its own, in topic and client id.",
    effect: "All its labels are UNKNOWN.",
  },
  gyroscope: {
    short: "bad gyroscope",
    cause: "Its gyroscope contradicts its acceleration, or the gyroscope that the model needs is missing.",
    mend: "Name the unit of the gyroscope (rad/s or deg/s), or use a model that needs none.",
    effect: "Its labels are UNKNOWN, or there are none.",
  },
  unfamiliar: {
    short: "unlike training",
    cause: "Most of its signal is unlike everything that the model was trained on.",
    mend: "Wear it as the training data were recorded, check axes and units, or use another model.",
    effect: "All its labels are UNKNOWN.",
  },
  rate: {
    short: "bad sample rate",
    cause: "Its sample rate is not the announced one or cannot be used, or gaps never let a window fill.",
    mend: "Correct rate_hz in its messages, and send without long gaps.",
    effect: "Labels may be missing.",
  },
  stamps: {
    short: "unusable times",
    cause: "The times in its messages cannot be used.",
    mend: "Stamp each message with the time of its first sample, fine enough for its rate, or send no time.",
    effect: "Its samples are counted, or the arrival times are used.",
  },
  clock: {
    short: "clock jumped",
    cause: "Its clock jumped.",
    mend: "Nothing, if it happened once. If it goes on, look at the clock of the device.",
    effect: "Its recognition started over.",
  },
};

// Problems that make every label meaningless, as UNTRUSTED in core/problems.py.
export const UNTRUSTED = ["gravity", "overlap", "gyroscope", "unfamiliar"];

export const UNSURE = "none is likely enough, or the wearer is moving between two postures";
export const UNKNOWN_MEANING = `no activity can be told: ${UNSURE}, or a problem makes every label meaningless`;
export const NO_DATA_MEANING = "no data: nothing usable came from the device then, or harstream was not running";

const BACKENDS = { int8: "8-bit weights", litert: "32-bit weights" };

export function model(name) {
  // A model and its backend, such as "waist@2.0.0 (8-bit weights, int8)".
  return name.replace(/ \((\w+)\)$/, (all, backend) => (BACKENDS[backend] ? ` (${BACKENDS[backend]}, ${backend})` : all));
}

const format = new Intl.NumberFormat("en");

export function whole(value) {
  return value === null || value === undefined ? "none yet" : format.format(Math.round(value));
}

export function seconds(value) {
  // A duration, such as 12 s, 3 min 20 s, 2 h 5 min or 4 d.
  const s = Math.max(0, Math.round(value));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${format.format(Math.floor(s / 86400))} d`;
}

export function ago(value) {
  return value < 2 ? "just now" : `${seconds(value)} ago`;
}

export function clock(time) {
  return new Date(time * 1000).toLocaleTimeString("en-GB");
}

export function plural(number, one, many) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}
