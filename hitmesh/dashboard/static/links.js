// The links between datacenters, drawn: datacenters in a row as their cards below, arcs above from left to right, arcs
// below from right to left. What can't be read from a drawing is in the table.

import { cell, el, h, icon, keyed, s, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { byName, delay, duration } from "./words.js";

const RISE = 30;
const STEP = 40;
const LABEL = 22;
const HALF = 15; // of a node's height
const NODE = 116; // and its width at most
let width = 0;
let drawn = "";

const label = (link, room) => {
  if (link.state === "cut") return room > 130 ? `cut, rows ${duration(link.rows_age_s)} old` : "cut";
  const rows = link.rows_age_s == null ? "" : `rows ${duration(link.rows_age_s)} old`;
  if (link.state === "late") return room > 130 ? `late, ${rows}` : `${duration(link.rows_age_s)} late`;
  if (link.delay_s == null) return rows || "up";
  return room > 150 && rows ? `${delay(link.delay_s)}, ${rows}` : delay(link.delay_s);
};

/** From node to node; those that reach farther leave and arrive nearer to a node's middle. */
function arc(from, to, base, rise, above, distance) {
  const y = above ? base - HALF : base + HALF;
  const top = above ? y - rise * 1.34 : y + rise * 1.34;
  const way = Math.sign(to - from);
  const lean = Math.min(90, Math.abs(to - from) / 3) * way;
  const off = (distance > 1 ? 6 : 22) * way;
  return `M${from + off} ${y}C${from + off + lean * 0.6} ${top} ${to - off - lean * 0.6} ${top} ${to - off} ${y}`;
}

function draw(names, links, dcs) {
  const span = Math.max(1, names.length - 1);
  const reach = RISE + STEP * (span - 1) + LABEL;
  const height = 2 * (reach + HALF) + 8;
  const base = height / 2;
  const x = (at) => Math.round(((at + 0.5) * width) / names.length);
  const drawing = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" });
  const defs = s("defs", {});
  for (const state of ["up", "late", "cut"]) {
    const marker = s("marker", { id: `arrow-${state}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse", class: `link-${state}` });
    marker.append(s("path", { d: "M0 0 8 4 0 8z" }));
    defs.append(marker);
  }
  drawing.append(defs);
  const texts = [];
  for (const link of links) {
    const [from, to] = [names.indexOf(link.source), names.indexOf(link.target)];
    if (from < 0 || to < 0 || from === to) continue;
    const state = link.state === "up" || link.state === "late" ? link.state : "cut";
    const above = from < to;
    const distance = Math.abs(to - from);
    const rise = RISE + STEP * (distance - 1);
    drawing.append(s("path", { class: `link link-${state}`, d: arc(x(from), x(to), base, rise, above, distance), "marker-end": `url(#arrow-${state})` }));
    const [middle, y] = [(x(from) + x(to)) / 2, above ? base - HALF - rise : base + HALF + rise];
    const away = state === "cut" ? 11 : 7; // beyond the cross
    const room = (distance * width) / names.length - 20;
    const text = s("text", { class: `link-label link-${state}`, x: middle, y: above ? y - away : y + away + 9, "text-anchor": "middle" }, `${above ? "" : "← "}${label(link, room)}${above ? " →" : ""}`);
    texts.push(text);
    if (state === "cut") texts.push(s("path", { class: "cross", d: `M${middle - 5} ${y - 5}l10 10m0-10l-10 10` }));
  }
  drawing.append(...texts);
  names.forEach((name, at) => {
    const state = dcs[name]?.state ?? "unknown";
    const wide = Math.min(NODE, width / names.length - 8);
    const fits = Math.floor((wide - 30) / 7.4);
    drawing.append(s("rect", { class: "node", "data-is": state, x: x(at) - wide / 2, y: base - HALF, width: wide, height: 2 * HALF, rx: HALF }));
    drawing.append(s("text", { class: "node-name", x: x(at) + 8, y: base + 4.5, "text-anchor": "middle" }, name.length > fits ? `${name.slice(0, fits - 1)}…` : name));
    const shown = s("use", { class: "map-dot", "data-is": state, href: ["up", "silent", "dead", "retired"].includes(state) ? `#s-${state}` : "#s-unknown", x: x(at) - wide / 2 + 7, y: base - 8, width: 16, height: 16 });
    drawing.append(shown);
  });
  el("map").replaceChildren(drawing);
}

const create = () => h("tr", {}, h("th", { scope: "row" }), cell(), h("td", { class: "with-icon" }, icon("up"), h("span", {})), cell("n"), cell("n"), cell("why"));

function update(row, link) {
  const [target, source, state, slow, rows, why] = row.children;
  setText(target, link.target);
  setText(source, link.source);
  setIcon(state.firstChild, { up: "ok", late: "warn" }[link.state] ?? "bad");
  setText(state.lastChild, link.state);
  setText(slow, delay(link.delay_s));
  setText(rows, duration(link.rows_age_s));
  setText(why, link.why ?? "");
}

export function drawLinks(status) {
  const dcs = status.dcs ?? {};
  const names = Object.keys(dcs).sort(byName);
  const links = Object.values(status.links ?? {}).sort((a, b) => byName(`${a.target}>${a.source}`, `${b.target}>${b.source}`));
  setHidden(el("links"), names.length < 2 || names.length > 8);
  setHidden(el("links-details"), !links.length);
  keyed(el("link-rows"), links, (each) => String(each.key), create, update);
  if (!width || names.length < 2 || names.length > 8) return;
  const looks = JSON.stringify([width, names.map((name) => [name, dcs[name].state]), links.map((each) => [each.key, each.state, label(each, 999)])]);
  if (looks === drawn) return;
  drawn = looks;
  draw(names, links, dcs);
}

export function whenWidthChanges(redraw) {
  new ResizeObserver((entries) => {
    const now = Math.floor(entries[0].contentRect.width);
    if (now === width) return;
    width = now;
    redraw();
  }).observe(el("map"));
}
