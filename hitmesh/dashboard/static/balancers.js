// Balancers, by datacenter; each one's backends with HAProxy's columns one click away, and those that are out at once.

import { cell, el, h, icon, keyed, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { byName, compact, count, delay, duration, many, rate, stale } from "./words.js";
import { now } from "./clock.js";

const CLASSES = ["2xx", "3xx", "4xx", "5xx"];
const HEADS = ["balancer", "requests/s", ...CLASSES, "connections", "waiting", "held", "backends", "virtual IP"];
const BACKEND_HEADS = ["backend", "address", "status", "sessions", "queue", "requests/s", ...CLASSES, "retries", "mean", "weight", "down for", "last check"];
const TEXT = new Set(["balancer", "backend", "address", "status", "virtual IP", "last check", "backends"]);

const headRow = (names) => h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col", class: TEXT.has(name) ? null : "n" }, name))));
const cells = (names) => names.slice(1).map((name) => cell(TEXT.has(name) ? null : "n"));
let redraw = () => {};

function createDc(dc) {
  return h("div", { class: "dc-balancers" },
    h("h3", {}, h("span", { class: "foreign" }, dc.key), h("span", { class: "muted" }), h("span", { class: "stale" })),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Balancers of ${dc.key}` }, h("table", { class: "plain" }, headRow(HEADS), h("tbody", {}))),
    h("ul", { class: "out problems" }),
    h("div", { class: "backends" }));
}

const create = () => h("tr", {}, h("th", { scope: "row", class: "with-icon foreign" }, icon("ok"), h("span", {}), h("p", { class: "why" })), ...cells(HEADS));

function update(row, one) {
  const backends = Object.values(one.backends ?? {});
  const out = backends.filter((each) => each.status === "DOWN").length;
  const [name, ...rest] = row.children;
  setIcon(name.children[0], one.why ? "bad" : out ? "warn" : "ok");
  setText(name.children[1], one.name);
  setText(name.children[2], one.why ?? "");
  setHidden(name.children[2], !one.why);
  const held = one.has_virtual_ip == null ? "" : one.has_virtual_ip ? "has it" : "–";
  const values = one.why && !backends.length
    ? HEADS.slice(1).map(() => "–")
    : [rate(one.requests_per_s), ...CLASSES.map((each) => compact(one.classes?.[each] ?? 0)), count(one.connections), count(one.waiting), count(one.held), out ? `${out} of ${backends.length} out` : `${backends.length} up`, held];
  values.forEach((value, at) => setText(rest[at], value));
}

const createOut = () => h("li", { "data-level": "warn" }, icon("warn"), h("span", { class: "level" }, "out"), h("span", { class: "says" }));

function updateOut(line, { balancer, backend }) {
  setText(line.lastChild, `${backend.name || backend.address} (${backend.service}, ${backend.address}) is ${backend.status} for ${balancer.name}${backend.downtime_s ? `, down for ${duration(backend.downtime_s)} in all` : ""}${backend.why ? `: ${backend.why}` : ""}`);
}

function createFold(one) {
  const fold = h("details", { class: "fold" }, h("summary", {}),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Backends of ${one.name}` }, h("table", { class: "plain dense" }, headRow(BACKEND_HEADS), h("tbody", {}))));
  fold.addEventListener("toggle", () => redraw());
  return fold;
}

const createBackend = () => h("tr", {}, h("th", { scope: "row", class: "with-icon foreign" }, icon("ok"), h("span", {})), ...cells(BACKEND_HEADS));
const SHAPES = { UP: "ok", DOWN: "bad", DRAIN: "draining", MAINT: "retired" };

function updateBackend(row, one) {
  const [name, ...rest] = row.children;
  setIcon(name.children[0], SHAPES[one.status] ?? "unknown");
  setText(name.children[1], one.name ? `${one.service}/${one.name}` : one.service);
  const values = [
    one.address, one.status, count(one.sessions ?? 0), count(one.queue ?? 0), rate(one.requests_per_s ?? 0), ...CLASSES.map((each) => compact(one.classes?.[each] ?? 0)),
    count(one.retries ?? 0), delay(one.mean_s), String(one.weight ?? 1), one.downtime_s ? duration(one.downtime_s) : "–", one.why ?? "",
  ];
  values.forEach((value, at) => setText(rest[at], value));
}

function updateDc(node, dc) {
  const [title, scroll, out, folds] = node.children;
  const balancers = Object.values(dc.balancers ?? {}).sort((a, b) => byName(a.name, b.name));
  const holder = balancers.find((each) => each.has_virtual_ip);
  setAttribute(node, "data-is", dc.state);
  setText(title.lastChild, stale(dc, now()));
  setText(title.children[1], dc.virtual_ip ? `virtual IP ${dc.virtual_ip}, ${holder ? `${holder.name} has it` : "nobody is known to have it"}` : "");
  keyed(scroll.firstChild.tBodies[0], balancers, (each) => String(each.key), create, update);
  const missing = balancers.flatMap((balancer) => Object.values(balancer.backends ?? {}).filter((each) => each.status === "DOWN").map((backend) => ({ balancer, backend })));
  keyed(out, missing.slice(0, 20), (each) => `${each.balancer.key}\n${each.backend.key}`, createOut, updateOut);
  setHidden(out, !missing.length);
  keyed(folds, balancers.filter((each) => Object.keys(each.backends ?? {}).length), (each) => String(each.key), createFold, (fold, one) => {
    const backends = Object.values(one.backends);
    setText(fold.firstChild, `${many(backends.length, "backend")} of ${one.name}`);
    if (!fold.open) return;
    backends.sort((a, b) => byName(a.service, b.service) || byName(a.name || a.address, b.name || b.address));
    keyed(fold.lastChild.firstChild.tBodies[0], backends, (each) => String(each.key), createBackend, updateBackend);
  });
}

export function drawBalancers(status) {
  const dcs = Object.keys(status.dcs ?? {}).sort(byName).map((key) => ({ ...status.dcs[key], key })).filter((each) => Object.keys(each.balancers ?? {}).length);
  setHidden(el("balancers"), !dcs.length);
  keyed(el("balancer-tables"), dcs, (each) => each.key, createDc, updateDc);
}

export function whenOpened(draw) {
  redraw = draw;
}
