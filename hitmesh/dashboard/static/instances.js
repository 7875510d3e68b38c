// Instances as rows: by datacenter, then by role. A role with more than OPEN_AT in a datacenter is folded to a line that
// counts them and the rows of those that aren't well. A row is drawn when it is in sight, with those of its chunk: a
// browser looks with each frame at where everything is that is observed, and a thousand rows cost it most of its time.

import { cell, el, h, icon, keyed, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { age, byName, byRole, compact, count, duration, moment, one as single, rate, stale, stateOf } from "./words.js";
import { bar, drawBar } from "./bars.js";
import { tally } from "./datacenters.js";
import { isCalm, nextStep, soon } from "./frames.js";
import { now } from "./clock.js";

const OPEN_AT = 30;
const SMOOTH = 24; // rows in sight whose pulses move smoothly: more are shown in steps
const CHUNK = 15; // rows that come into sight together: some seventy chunks of a thousand, half a screen each
const STILL = 2.6; // heartbeats that are missed: its pulse has stopped
const STILL_S = 2.5; // at least: news of them come twice a second, or a little late
const LAG_S = 0.1; // of a hub, from which on it is shown

// What matters of each role's load: its name, the unit that is shown, and how.
const LOADS = {
  collector: [["accepted", "hits/s", "rate"], ["jobs", "jobs", "count"], ["unacked_s", "unacked", "time"]],
  processor: [["hits", "hits/s", "rate"], ["partitions", "partitions", "count"], ["pages", "pages", "count"]],
  nexus: [["instances", "instances", "count"], ["peers", "peers", "count"], ["settings", "settings", "count"]],
  balancer: [["requests", "req/s", "rate"], ["connections", "open", "count"], ["waiting", "waiting", "count"]],
};

const rows = new Map(); // by datacenter and name
const folds = new Map(); // by datacenter and role: whether it was opened or closed by hand
const inSight = new Set();
const touched = new Set();
const rates = new Map();

const id = (dc, name) => `${dc}\n${name}`;
export const isIll = (one) => one.state !== "up" || Boolean(one.failing);
export const hrefOf = (dc, name) => `#instance=${encodeURIComponent(dc)}/${encodeURIComponent(name)}`;

const eye = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const chunk = entry.target;
      chunk.__inSight = entry.isIntersecting;
      for (const row of chunk.__rows) row.see(entry.isIntersecting);
    }
    soon("rows", drawTouched);
  },
  { rootMargin: "150px" },
);

class Row {
  constructor(dc, one) {
    this.one = one;
    this.dc = dc;
    this.icon = icon("unknown");
    this.ring = h("span", { class: "ring", "aria-hidden": "true" });
    this.link = h("a", { href: hrefOf(dc, one.name), class: "foreign" }, one.name);
    this.word = h("span", { class: "word" });
    this.still = h("span", { class: "muted" });
    this.state = h("td", { role: "cell", class: "state" }, this.word, " ", this.still);
    this.version = h("td", { role: "cell", class: "version muted" });
    this.uptime = h("td", { role: "cell", class: "uptime muted" });
    this.load = h("td", { role: "cell", class: "load" });
    this.hour = bar("hour");
    this.days = bar("days");
    this.why = h("td", { role: "cell", class: "why" });
    this.node = h(
      "tr", { role: "row", class: "instance" },
      h("th", { scope: "row", role: "rowheader", class: "who" }, h("span", { class: "pulse" }, this.ring, this.icon), this.link),
      this.state, this.version, this.uptime, this.load,
      h("td", { role: "cell", class: "bars" }, this.hour), h("td", { role: "cell", class: "bars" }, this.days), this.why,
    );
    this.node.__id = id(dc, one.name);
    this.beats = one.beats;
    this.toldAt = performance.now(); // what is known of it
    this.beatAt = this.toldAt - 1000 * (one.heartbeat_age_s ?? 0);
    this.startedAt = null;
    this.drawWords();
  }

  see(isInSight) {
    if (!isInSight) inSight.delete(this);
    else if (!inSight.has(this)) {
      inSight.add(this);
      touched.add(this);
    }
  }

  end() {
    inSight.delete(this);
    touched.delete(this);
  }

  drawWords() {
    const { one } = this;
    const state = stateOf(one);
    setAttribute(this.node, "data-is", state);
    setIcon(this.icon, state);
    setText(this.word, state);
    setText(this.why, one.why ? `${one.why}; since ${moment(one.since, now())}` : "");
    setHidden(this.why, !one.why);
    setText(this.version, one.version || "");
  }

  draw() {
    const { one } = this;
    this.drawWords();
    if (one.beats !== this.beats) {
      this.beats = one.beats;
      this.beatAt = this.toldAt - 1000 * (one.heartbeat_age_s ?? 0);
      if (!isIll(one) || one.failing) this.beat();
    }
    drawBar(this.hour, one.hour ?? "", `${one.name} of ${this.dc}, the last hour`);
    drawBar(this.days, one.days ?? "", `${one.name} of ${this.dc}, the last 90 days`);
    this.drawLoad();
    this.second();
  }

  /** One heartbeat was heard: one pulse. */
  beat() {
    if (isCalm.matches) return this.ring.classList.toggle("odd");
    if (inSight.size > SMOOTH) return flash(this.ring.parentElement);
    this.ring.animate(
      [{ transform: "scale(0.6)", opacity: 0.75 }, { transform: "scale(1.9)", opacity: 0 }],
      { duration: 650, easing: "ease-out" },
    );
  }

  drawLoad() {
    const load = this.one.load ?? {};
    const said = [];
    for (const [name, unit, how] of LOADS[this.one.role] ?? []) {
      if (!(name in load)) continue;
      if (how === "rate") {
        const known = rateOf(this.node.__id, load[name]);
        said.push(known === null ? [compact(load[name]), unit.split("/")[0]] : [rate(known), unit]);
      } else said.push([how === "time" ? duration(load[name]) : compact(load[name]), load[name] === 1 ? single(unit) : unit]);
    }
    if (load.hub_lag_s >= LAG_S) said.push([duration(load.hub_lag_s), "lag"]);
    while (this.load.children.length > said.length) this.load.lastChild.remove();
    said.forEach(([value, unit], at) => {
      const part = this.load.children[at] ?? this.load.appendChild(h("span", { class: "figure" }, h("b", {}, ""), " ", h("span", { class: "unit" })));
      setText(part.firstChild, value);
      setText(part.lastChild, unit);
    });
  }

  /** What moves on by itself. Its state is the dashboard's to say; that its pulse has stopped is seen here. */
  second() {
    const { one } = this;
    const silentS = (performance.now() - this.beatAt) / 1000;
    const stopped = one.beats > 0 && silentS > Math.max(STILL_S, STILL * (one.heartbeat_s || 1));
    setAttribute(this.node, "data-still", stopped || one.state === "dead" ? "yes" : null);
    setText(this.still, isIll(one) ? `for ${age(now() - one.since)}` : "");
    if (one.uptime_s !== this.uptimeS) {
      this.uptimeS = one.uptime_s;
      this.startedAt = one.uptime_s == null ? null : now() - one.uptime_s;
    }
    setText(this.uptime, this.startedAt === null ? "" : duration(now() - this.startedAt));
  }
}

// The pulses of many, in steps: each ring that moves smoothly is a layer of its own, which costs the page more than all else.
const STEPS = 2;
const flashing = new Map(); // pulses, and at which step each is

function flash(pulse) {
  if (!flashing.size) nextStep(step);
  flashing.set(pulse, 0);
  setAttribute(pulse, "data-step", 0);
}

function step() {
  for (const [pulse, at] of flashing) {
    if (at + 1 < STEPS) flashing.set(pulse, at + 1);
    else flashing.delete(pulse);
    setAttribute(pulse, "data-step", at + 1 < STEPS ? at + 1 : null);
  }
  if (flashing.size) nextStep(step);
}

const RATE_MS = 2000;
/** How fast a count rises, or null while that isn't known. */
function rateOf(key, value) {
  const at = performance.now();
  const known = rates.get(key);
  if (!known || value < known.value) {
    rates.set(key, { value, at, rate: null });
    return null;
  }
  if (at - known.at >= RATE_MS) rates.set(key, { value, at, rate: (value - known.value) / ((at - known.at) / 1000) });
  return rates.get(key).rate;
}

function drawTouched() {
  for (const row of touched) if (inSight.has(row)) row.draw();
  touched.clear();
}

/** An instance has changed, but neither its state nor who is there. */
export function touch(dc, name) {
  const row = rows.get(id(dc, name));
  if (!row) return;
  row.toldAt = performance.now();
  if (!inSight.has(row)) return;
  touched.add(row);
  soon("rows", drawTouched);
}

export function eachSecond() {
  for (const row of inSight) row.second();
}

// --- who is shown ------------------------------------------------------------------------------

function fits(dc, one, words, ill) {
  if (ill && !isIll(one)) return false;
  if (!words.length) return true;
  const text = [dc, one.name, one.role, one.node, one.version, stateOf(one), one.why].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

const HEADS = [["name", "who"], ["state", "state"], ["version", "version"], ["up for", "uptime"], ["load", "load"], ["last hour", "bars"], ["90 days", "bars"]];

function createTable(part) {
  const heads = HEADS.map(([text, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, text));
  const table = h(
    "table", { class: "instances", role: "table", "aria-label": `Instances of ${part.dc}` },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row", class: "heads" }, ...heads)),
  );
  return h("div", { class: "dc-instances" }, h("h3", {}, h("span", { class: "foreign" }, part.dc), h("span", { class: "muted tally" }), h("span", { class: "stale" })), table);
}

function createGroup(group) {
  const button = h("button", { type: "button", class: "fold-button" }, icon("open"), h("span", { class: "role" }), h("span", { class: "muted tally" }), h("span", { class: "hint" }));
  button.addEventListener("click", () => {
    folds.set(group.key, !(button.getAttribute("aria-expanded") === "true"));
    redraw();
  });
  const body = h("tbody", { role: "rowgroup" }, h("tr", { role: "row", class: "group" }, h("th", { scope: "rowgroup", role: "rowheader" }, button)));
  createChunk(body);
  return body;
}

function updateGroup(body, group) {
  const button = body.firstChild.firstChild.firstChild;
  const [shape, role, counts, hint] = button.children;
  setAttribute(button, "aria-expanded", String(group.open));
  setIcon(shape, group.open ? "open" : "closed");
  setText(role, group.role);
  setText(counts, group.tally);
  setText(hint, group.open ? "" : group.shown.length ? `show all ${count(group.all)}` : "show");
  const wanted = group.shown.map((one) => rowOf(group.dc, one));
  const keep = new Set(wanted);
  for (const chunk of body.__chunks) for (const row of chunk.__rows) if (!keep.has(row)) row.node.remove();
  const focused = document.activeElement;
  for (let at = 0; at === 0 || at * CHUNK < wanted.length; at++) {
    const chunk = body.__chunks[at] ?? createChunk(body);
    chunk.__rows = wanted.slice(at * CHUNK, (at + 1) * CHUNK);
    let before = at ? null : chunk.firstElementChild;
    for (const row of chunk.__rows) {
      const next = before ? before.nextElementSibling : chunk.firstElementChild;
      if (next !== row.node) before ? before.after(row.node) : chunk.prepend(row.node);
      row.see(chunk.__inSight);
      before = row.node;
    }
  }
  while (body.__chunks.length > 1 && !body.__chunks.at(-1).__rows.length) endChunk(body.__chunks.pop());
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/** A group's first chunk is its body, with the line that counts; the others follow it. */
function createChunk(body) {
  const chunk = body.__chunks ? h("tbody", { role: "rowgroup", class: "chunk" }) : body;
  chunk.__inSight = false;
  chunk.__rows = [];
  (body.__chunks ??= []).push(chunk);
  if (chunk !== body) body.__chunks.at(-2).after(chunk);
  eye.observe(chunk);
  return chunk;
}

function endChunk(chunk) {
  eye.unobserve(chunk);
  chunk.remove();
}

function rowOf(dc, one) {
  const key = id(dc, one.name);
  let row = rows.get(key);
  if (!row) rows.set(key, (row = new Row(dc, one)));
  row.one = one;
  row.drawWords();
  touched.add(row);
  return row;
}

let redraw = () => {};

export function drawInstances(status) {
  const words = el("instance-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const ill = el("instance-ill").checked;
  const alive = new Set();
  const parts = [];
  for (const dc of Object.keys(status.dcs ?? {}).sort(byName)) {
    const instances = Object.values(status.dcs[dc].instances ?? {});
    const roles = new Map();
    for (const one of instances) {
      if (!roles.has(one.role)) roles.set(one.role, []);
      roles.get(one.role).push(one);
    }
    const groups = [];
    for (const role of [...roles.keys()].sort(byRole)) {
      const all = roles.get(role).sort((a, b) => byName(a.name, b.name));
      const key = id(dc, role);
      const asked = words.length > 0 || ill;
      const fitting = all.filter((one) => fits(dc, one, words, ill));
      if (!fitting.length) continue;
      const open = asked ? fitting.length <= OPEN_AT * 4 || folds.get(key) === true : (folds.get(key) ?? all.length <= OPEN_AT);
      const shown = open ? fitting : fitting.filter(isIll).slice(0, OPEN_AT);
      for (const one of shown) alive.add(id(dc, one.name));
      groups.push({ key, dc, role, open, shown, all: fitting.length, tally: tally(all).says });
    }
    if (groups.length) parts.push({ dc, groups, tally: tally(instances).says, stale: stale(status.dcs[dc], now()), state: status.dcs[dc].state });
  }
  keyed(el("instance-tables"), parts, (part) => part.dc, createTable, (node, part) => {
    setAttribute(node, "data-is", part.state);
    setText(node.firstChild.children[1], part.tally);
    setText(node.firstChild.lastChild, part.stale);
    const table = node.lastChild;
    keyedBodies(table, part.groups);
  });
  for (const [key, row] of rows) {
    if (alive.has(key)) continue;
    row.end();
    row.node.remove();
    rows.delete(key);
    rates.delete(key);
  }
  soon("rows", drawTouched);
}

/** As `keyed`, for what follows a table's head. */
function keyedBodies(table, groups) {
  const kept = (table.__bodies ??= new Map());
  const seen = new Set();
  let before = table.tHead;
  for (const group of groups) {
    seen.add(group.key);
    let body = kept.get(group.key);
    if (!body) kept.set(group.key, (body = createGroup(group)));
    updateGroup(body, group);
    if (before.nextElementSibling !== body) before.after(...body.__chunks);
    before = body.__chunks.at(-1);
  }
  for (const [key, body] of kept) {
    if (seen.has(key)) continue;
    kept.delete(key);
    body.__chunks.forEach(endChunk);
  }
}

export function whenFiltered(draw) {
  redraw = draw;
  el("instance-text").addEventListener("input", draw);
  el("instance-ill").addEventListener("change", draw);
}

/** Whose bar that is. */
export function whose(node) {
  const row = rows.get(node.closest("tr")?.__id);
  return { dc: row?.dc ?? node.dataset.dc, name: row?.one.name ?? node.dataset.name };
}

