// Texts of the page, in the words of docs/glossary.md, and numbers and times for people.

export const PROBLEMS = {
  gravity: {
    meaning: "Its acceleration has no plausible gravity: the unit is not known, or gravity was removed before sending. All its labels are UNKNOWN.",
    mend: "Send acceleration with gravity, and name its unit in the message or with --acc-unit.",
  },
  overlap: {
    meaning: "Its messages overlap in time: two devices publish under this name, or one sends samples twice. All its labels are UNKNOWN.",
    mend: "Give each device a name of its own, in topic and client id.",
  },
  gyroscope: {
    meaning: "Its angular velocity contradicts its acceleration, or the gyroscope that the model needs is missing.",
    mend: "Name the unit of the gyroscope (rad/s or deg/s), or use a model that needs none.",
  },
  unfamiliar: {
    meaning: "Most of its windows are unlike everything that the model was trained on. All its labels are UNKNOWN.",
    mend: "Wear it as the training data were recorded, check axes and units, or use another model.",
  },
  rate: {
    meaning: "Its sample rate is not the announced one or cannot be used, or gaps never let a window fill.",
    mend: "Correct rate_hz in its messages, and send without long gaps.",
  },
  stamps: {
    meaning: "The stamps of its messages cannot be used. Samples are counted, or the arrival times are used.",
    mend: "Stamp each message with the time of its first sample, fine enough for its rate, or send no time.",
  },
  clock: {
    meaning: "Its clock jumped, and its windows began again.",
    mend: "Nothing, if it happened once. If it goes on, look at the clock of the device.",
  },
};

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
