// Numbers, durations and moments in words. Pure.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minuteTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const utcDay = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const UNKNOWN = "–";

export const count = (value) => (isNumber(value) ? whole.format(value) : UNKNOWN);
export const compact = (value) => (!isNumber(value) ? UNKNOWN : Math.abs(value) < 10_000 ? whole.format(value) : short.format(value));

export function rate(value) {
  if (!isNumber(value)) return UNKNOWN;
  return value < 9.95 && value !== 0 ? value.toFixed(1) : compact(Math.round(value));
}

/** "0.4 s", "12 s", "5 min", "2 h 13 min", "3 d 4 h". */
export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  const s = Math.max(0, seconds);
  if (s === 0) return "0 s";
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 99.5) return `${Math.round(s)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 10 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** The same without tenths, for what is read again each second. */
export const age = (seconds) => (isNumber(seconds) && seconds < 9.95 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds));

/** How old something is, without tenths: a number that flickers isn't read. */
export const old = (seconds) => (isNumber(seconds) && seconds < 1 ? "less than 1 s old" : `${age(seconds)} old`);

/** "70 ms", "1.2 s". */
export const delay = (seconds) => (!isNumber(seconds) ? UNKNOWN : seconds < 0.9995 ? `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms` : duration(seconds));

const date = (moment) => new Date(isNumber(moment) ? Math.min(Math.max(moment, 0), 8e12) * 1000 : 0);

/** "14:02:11", and the day where it isn't today's. */
export function moment(at, now) {
  const when = date(at);
  return when.toDateString() === date(now).toDateString() ? clockTime.format(when) : `${day.format(when)} ${minuteTime.format(when)}`;
}
export const clock = (at) => clockTime.format(date(at));
export const minute = (at) => minuteTime.format(date(at));
export const dayOf = (at) => utcDay.format(date(at));
export const iso = (at) => date(at).toISOString();

export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

export const one = (unit) => unit.replace(/s$/, "");

/** Of a datacenter that isn't heard: of when all is that is shown of it. */
export function stale(dc, now) {
  if (dc.state === "up" || dc.state == null) return "";
  return `${dc.state === "silent" ? "not heard" : dc.state}: this is as of ${moment(now - (dc.age_s ?? 0), now)}`;
}

const ROLES = ["nexus", "processor", "collector", "balancer", "dashboard", "recorder"];
const natural = new Intl.Collator("en", { numeric: true });
const role = (name) => (ROLES.indexOf(name) + ROLES.length + 1) % (ROLES.length + 1);

export const byName = (a, b) => natural.compare(a, b);
export const byRole = (a, b) => role(a) - role(b) || natural.compare(a, b);

export const STATES = { u: "up", f: "failing", d: "starting or draining", s: "silent", x: "dead", " ": "not known" };
export const stateOf = (one) => (one.failing && one.state === "up" ? "failing" : String(one.state ?? "unknown"));
