// What has happened, the newest first, by datacenter, kind and text.

import { el, h, keyed, setAttribute, setHidden, setText } from "./dom.js";
import { byName, count, iso, many, moment } from "./words.js";
import { now } from "./clock.js";

const SHOWN = 60; // until all are asked for
const GRAVE = new Set(["died", "failed", "alert"]);
let all = false;

const create = () => h("tr", { class: "event" }, h("td", { class: "when" }, h("time", {})), h("td", { class: "foreign where" }), h("td", { class: "kind" }), h("td", { class: "foreign what" }), h("td", { class: "foreign cause" }));

function update(row, event) {
  if (row.__event === event && row.__today === today) return;
  row.__event = event;
  row.__today = today;
  const [when, where, kind, what, cause] = row.children;
  setText(when.firstChild, moment(event.at, now()));
  setAttribute(when.firstChild, "datetime", iso(event.at));
  setText(where, event.dc);
  setText(kind, event.kind);
  setText(what, event.who && !String(event.says).includes(event.who) ? `${event.says} (${event.who})` : event.says);
  setText(cause, event.cause ?? "");
  setAttribute(row, "data-grave", GRAVE.has(event.kind) ? "yes" : null);
}

let today = "";

function options(select, values) {
  const wanted = [...new Set(values)].sort(byName);
  const kept = [...select.options].slice(1).map((each) => each.__value);
  if (JSON.stringify(wanted) === JSON.stringify(kept)) return;
  const chosen = select.selectedOptions[0]?.__value;
  while (select.options.length > 1) select.lastChild.remove();
  for (const value of wanted) {
    const option = h("option", {}, value);
    option.value = value;
    option.__value = value;
    option.selected = value === chosen;
    select.append(option);
  }
}

export function drawEvents(status) {
  const events = Object.values(status.events ?? {}).sort((a, b) => b.at - a.at || byName(String(b.key), String(a.key)));
  today = new Date(now() * 1000).toDateString();
  options(el("event-dc"), events.map((each) => each.dc));
  options(el("event-kind"), events.map((each) => each.kind));
  const dc = el("event-dc").selectedOptions[0]?.__value;
  const kind = el("event-kind").selectedOptions[0]?.__value;
  const words = el("event-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = events.filter((each) => {
    if ((dc && each.dc !== dc) || (kind && each.kind !== kind)) return false;
    const text = words.length ? [each.dc, each.kind, each.who, each.says, each.cause].join(" ").toLowerCase() : "";
    return words.every((word) => text.includes(word));
  });
  setText(el("event-count"), fitting.length === events.length ? many(events.length, "event") : `${count(fitting.length)} of ${many(events.length, "event")}`);
  keyed(el("event-rows"), all ? fitting : fitting.slice(0, SHOWN), (each) => String(each.key), create, update);
  const more = el("events-all");
  setHidden(more, fitting.length <= SHOWN);
  setText(more, all ? "Show only the newest" : `Show all ${count(fitting.length)}`);
  setAttribute(more, "aria-expanded", String(all));
}

export function whenFiltered(redraw) {
  for (const id of ["event-dc", "event-kind"]) el(id).addEventListener("change", redraw);
  el("event-text").addEventListener("input", redraw);
  el("events-all").addEventListener("click", () => {
    all = !all;
    redraw();
  });
}
