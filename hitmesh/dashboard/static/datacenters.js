// The datacenters side by side: each one's part of the one total, its age, and each of its things in a line.

import { el, h, icon, keyed, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { age, byName, compact, count, duration, many, old, rate, stateOf } from "./words.js";
import { Counter } from "./counter.js";

const counters = new Map();
let total = null;

const LATE_SPOOL_S = 60;
const LATE_COMMIT_S = 5;
const joined = (parts) => parts.filter(Boolean).join(", ");

const LINES = ["instances", "spool", "store", "books", "balancers"];

function create(dc) {
  const number = h("span", { class: "number" });
  counters.set(dc.key, new Counter(number));
  const lines = h("dl", { class: "lines" });
  for (const line of LINES) lines.append(h("div", {}, h("dt", {}, line), h("dd", {}, icon("ok"), h("p", {}, h("strong", {}), h("span", {})))));
  return h(
    "article", { class: "card" },
    h("h3", {}, icon("up"), h("span", { class: "foreign" }, dc.key), h("span", { class: "word" })),
    h("p", { class: "part" }, number, h("span", { class: "unit" })),
    h("p", { class: "age muted" }),
    lines,
  );
}

/** "12 up", "2 dead, 1 silent, 9 up", and whether that is well. */
export function tally(instances) {
  const counts = {};
  for (const one of instances) counts[stateOf(one)] = (counts[stateOf(one)] ?? 0) + 1;
  const order = ["dead", "failing", "silent", "draining", "starting", "up"];
  const said = Object.keys(counts).sort((a, b) => order.indexOf(a) - order.indexOf(b)).map((state) => `${count(counts[state])} ${state}`);
  const well = counts.up ? `${count(counts.up)} up` : "";
  return { says: said.join(", ") || "none", ill: said.filter((each) => each !== well).join(", "), well: well || (said.length ? "" : "none"), is: counts.dead || counts.failing ? "bad" : counts.silent ? "warn" : "ok" };
}

// Each says what is wrong, what is otherwise, and how that is.

function instances(told) {
  return [told.ill, told.well, told.is];
}

function spool(spools) {
  if (!spools.length) return ["", "none is known", "unknown"];
  const broken = spools.filter((each) => each.usable === false).length;
  const depths = spools.map((each) => each.depth).filter((each) => each != null);
  const oldest = Math.max(...spools.map((each) => each.oldest_s ?? 0));
  const jobs = depths.length ? `${many(Math.max(...depths), "job")}${oldest > 0 ? `, the oldest ${duration(oldest)}` : ""}` : "how many jobs isn't known";
  const late = oldest > LATE_SPOOL_S;
  const wrong = [broken ? `${broken} of ${many(spools.length, "copy", "copies")} unusable` : "", late ? jobs : ""];
  return [joined(wrong), late ? "" : jobs, broken ? "bad" : late ? "warn" : "ok"];
}

function store(store) {
  if (store.reachable === false) return store.absent ? ["not made yet", "", "warn"] : ["out of reach", "", "bad"];
  const orphans = (store.orphans ?? []).length;
  const unreadable = (store.unreadable ?? []).length;
  const lag = store.commit_lag_s == null ? "commit lag not known" : `commits ${duration(store.commit_lag_s)} behind`;
  const late = store.commit_lag_s > LATE_COMMIT_S;
  const wrong = [unreadable ? `${many(unreadable, "partition")} unreadable` : "", orphans ? `${many(orphans, "partition")} without owner` : "", store.restoring ? `${store.restoring} restoring` : "", late ? lag : ""];
  return [joined(wrong), late ? "" : lag, orphans || unreadable ? "bad" : late || store.restoring ? "warn" : "ok"];
}

function books(books) {
  if (!books) return ["", "not looked at yet", "unknown"];
  return books.balanced ? ["", `balance, ${compact(books.accepted)} accepted`, "ok"] : [`off by ${many(books.off ?? 0, "hit")}`, "", "bad"];
}

function balancers(all) {
  if (!all.length) return ["", "none", "unknown"];
  const mute = all.filter((each) => each.why).length;
  const out = all.flatMap((each) => Object.values(each.backends ?? {})).filter((each) => each.status === "DOWN").length;
  const sum = all.reduce((so, each) => so + (each.requests_per_s ?? 0), 0);
  const waiting = all.reduce((so, each) => so + (each.waiting ?? 0), 0);
  const wrong = [mute ? `${mute} of ${all.length} can't be asked` : "", out ? `${many(out, "backend")} out` : "", waiting ? `${count(waiting)} waiting` : ""];
  return [joined(wrong), `${rate(sum)} requests/s`, mute || out || waiting ? "warn" : "ok"];
}

const WORDS = { up: "up", silent: "not heard", dead: "dead", retired: "retired" };

function update(card, dc) {
  const [title, part, since, lines] = card.children;
  setAttribute(card, "data-is", dc.state);
  setIcon(title.firstChild, dc.state);
  setText(title.lastChild, WORDS[dc.state] ?? "not known");
  counters.get(dc.key).tell(dc.hits?.count ?? null);
  setText(part.lastChild, dc.hits?.count == null ? " hits, not known yet" : " hits");
  const stale = dc.state !== "up";
  setText(since, `${rate(dc.hits?.per_s)} a second, ${old(dc.hits?.age_s)}${stale ? `; what is below is ${old(dc.age_s)}` : ""}`);
  const said = [
    instances(tally(Object.values(dc.instances ?? {}))),
    spool(Object.values(dc.spools ?? {})),
    store(dc.store ?? {}),
    books(dc.books),
    balancers(Object.values(dc.balancers ?? {})),
  ];
  said.forEach(([wrong, right, is], at) => {
    const value = lines.children[at].lastChild;
    setAttribute(lines.children[at], "data-is", is);
    setIcon(value.firstChild, is);
    setText(value.lastChild.firstChild, wrong);
    setText(value.lastChild.lastChild, wrong && right ? `, ${right}` : right);
  });
}

export function drawDatacenters(status) {
  total ??= new Counter(el("total"));
  total.tell(status.total?.hits ?? null);
  setText(el("rate"), rate(status.total?.per_s));
  setText(el("pages"), compact(status.total?.pages));
  const dcs = Object.keys(status.dcs ?? {}).sort(byName).map((key) => ({ ...status.dcs[key], key }));
  keyed(el("dcs"), dcs, (each) => each.key, create, update);
  for (const [key, counter] of counters) {
    if (key in (status.dcs ?? {})) continue;
    counter.end();
    counters.delete(key);
  }
}
