// Spools, totals store and books of each datacenter. Who owns which partition is drawn as a map.

import { cell, el, h, icon, keyed, s, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { age, byName, compact, count, duration, many, stale } from "./words.js";
import { now } from "./clock.js";

const HUES = 6;
const NUMBERED = 128; // partitions: with more the map has no numbers

function create(dc) {
  const spools = h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "spool"), h("th", { scope: "col", class: "n" }, "jobs"), h("th", { scope: "col", class: "n" }, "oldest"), h("th", { scope: "col", class: "n" }, "buried"))),
    h("tbody", {}));
  const map = h("div", { class: "partitions" });
  const legend = h("ul", { class: "owners" });
  const books = h("div", { class: "books" }, h("p", { class: "verdict" }, icon("ok"), h("span", {})), h("dl", { class: "equation" }), h("ul", { class: "faults" }));
  const terms = books.children[1];
  for (const [sign, term] of [["", "accepted"], ["=", "committed"], ["+", "spooled"], ["+", "in flight"]])
    terms.append(h("div", {}, h("dt", {}, h("span", { class: "sign" }, sign), term), h("dd", {})));
  return h("article", { class: "card" },
    h("h3", {}, h("span", { class: "foreign" }, dc.key), h("span", { class: "stale" })),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Spools of ${dc.key}` }, spools),
    h("h4", {}, "Totals store"), h("p", { class: "verdict" }, icon("ok"), h("span", {})), map, legend,
    h("h4", {}, "Books"), books);
}

const createSpool = () => h("tr", {}, h("th", { scope: "row", class: "with-icon foreign" }, icon("ok"), h("span", {}), h("p", { class: "why" })), cell("n"), cell("n"), cell("n"));

function updateSpool(row, spool) {
  const [name, jobs, oldest, buried] = row.children;
  const broken = spool.usable === false;
  setIcon(name.children[0], broken ? "bad" : "ok");
  setText(name.children[1], spool.name);
  setText(name.children[2], broken ? `unusable${spool.why ? `: ${spool.why}` : ""}` : "");
  setHidden(name.children[2], !broken);
  setText(jobs, count(spool.depth));
  setText(oldest, spool.oldest_s == null ? "–" : duration(spool.oldest_s));
  setText(buried, count(spool.buried ?? 0));
}

const sign = (owner, at) => /\d+$/.exec(owner)?.[0].slice(-3) ?? String(at + 1);

function drawMap(card, store) {
  const owners = store.owners ?? [];
  const broken = new Set(store.unreadable ?? []);
  const looks = JSON.stringify([owners, [...broken]]);
  if (card.__map === looks) return;
  card.__map = looks;
  const names = [...new Set(owners.filter((each) => each != null))].sort(byName);
  const place = new Map(names.map((name, at) => [name, at]));
  const numbered = owners.length <= NUMBERED;
  const size = numbered ? 22 : 8;
  const columns = numbered ? 16 : 48;
  const lines = Math.ceil(owners.length / columns);
  const drawing = s("svg", { viewBox: `0 0 ${columns * size} ${Math.max(1, lines) * size}`, role: "img", "aria-label": `${many(owners.length, "partition")} and who owns them: ${inWords(names, owners, broken)}` });
  const kinds = { orphan: 0, unreadable: 0 };
  owners.forEach((owner, number) => {
    const [x, y] = [(number % columns) * size, Math.floor(number / columns) * size];
    const kind = broken.has(number) ? "unreadable" : owner == null ? "orphan" : `own-${place.get(owner) % HUES}`;
    if (kind in kinds) kinds[kind]++;
    const one = s("g", { class: `partition ${kind}` });
    one.append(s("title", {}, `partition ${number}: ${broken.has(number) ? "can't be read" : (owner ?? "nobody owns it")}`));
    one.append(s("rect", { x: x + 1, y: y + 1, width: size - 2, height: size - 2, rx: numbered ? 4 : 1.5 }));
    if (numbered) one.append(s("text", { x: x + size / 2, y: y + size / 2 + 4, "text-anchor": "middle" }, broken.has(number) ? "!" : owner == null ? "?" : sign(owner, place.get(owner))));
    drawing.append(one);
  });
  card.querySelector(".partitions").replaceChildren(drawing);
  const counts = new Map(names.map((name) => [name, 0]));
  for (const owner of owners) if (owner != null) counts.set(owner, counts.get(owner) + 1);
  const item = (kind, mark, says, much) => h("li", {}, h("span", { class: `mark ${kind}`, "aria-hidden": "true" }, mark), h("span", { class: "foreign" }, says), h("span", { class: "muted" }, much));
  const items = names.slice(0, 12).map((name) => item(`own-${place.get(name) % HUES}`, sign(name, place.get(name)), name, count(counts.get(name))));
  if (names.length > 12) items.push(h("li", { class: "muted" }, `and ${names.length - 12} more`));
  if (kinds.orphan) items.unshift(item("orphan", "?", "nobody", count(kinds.orphan)));
  if (kinds.unreadable) items.unshift(item("unreadable", "!", "can't be read", count(kinds.unreadable)));
  card.querySelector(".owners").replaceChildren(...items);
}

function inWords(names, owners, broken) {
  const said = names.slice(0, 12).map((name) => `${name} ${owners.flatMap((each, number) => (each === name ? [number] : [])).join(" ")}`);
  const orphans = owners.flatMap((each, number) => (each == null && !broken.has(number) ? [number] : []));
  if (orphans.length) said.push(`nobody ${orphans.join(" ")}`);
  if (broken.size) said.push(`unreadable ${[...broken].join(" ")}`);
  return said.join("; ");
}

function storeInWords(store) {
  if (store.reachable === false && store.absent) return ["nobody has made it yet", "warn"];
  if (store.reachable === false) return [`out of reach${store.why ? `: ${store.why}` : ""}${store.restoring ? `; ${many(store.restoring, "partition")} being brought back` : ""}`, "bad"];
  const said = [store.commit_lag_s == null ? "commit lag not known" : `commits are ${duration(store.commit_lag_s)} behind`];
  if (store.pages != null) said.push(`${compact(store.pages)} pages`);
  said.push(many(store.conflicts ?? 0, "conflict"));
  if (store.restoring) said.push(`${many(store.restoring, "partition")} being brought back`);
  const bad = (store.unreadable ?? []).length || (store.orphans ?? []).length;
  return [said.join(", "), bad ? "bad" : store.restoring || store.commit_lag_s > 5 ? "warn" : "ok"];
}

function drawBooks(node, books) {
  const [verdict, terms, faults] = node.children;
  setHidden(terms, !books);
  setIcon(verdict.firstChild, !books ? "unknown" : books.balanced ? "ok" : "bad");
  if (!books) return setText(verdict.lastChild, "not looked at yet");
  const more = [books.unknown ? `${count(books.unknown)} unknown` : "", books.lost ? `${count(books.lost)} lost` : ""].filter(Boolean);
  setText(verdict.lastChild, `${books.balanced ? "in balance" : `off by ${many(books.off ?? 0, "hit")}`}${more.length ? `, ${more.join(", ")}` : ""}; looked at ${age(books.age_s)} ago`);
  [books.accepted, books.committed, books.spooled, books.in_flight].forEach((value, at) => setText(terms.children[at].lastChild, count(value ?? 0)));
  keyed(faults, (books.problems ?? []).slice(0, 10), (each) => each, () => h("li", {}), (line, each) => setText(line, each));
}

function update(card, dc) {
  const [title, scroll, , verdict] = card.children;
  setText(title.lastChild, stale(dc, now()));
  const spools = Object.values(dc.spools ?? {}).sort((a, b) => byName(a.name, b.name));
  keyed(scroll.firstChild.tBodies[0], spools, (each) => String(each.key), createSpool, updateSpool);
  setHidden(scroll, !spools.length);
  const [says, is] = storeInWords(dc.store ?? {});
  setIcon(verdict.firstChild, is);
  setText(verdict.lastChild, says);
  drawMap(card, dc.store ?? {});
  drawBooks(card.lastChild, dc.books);
  setAttribute(card, "data-is", dc.state);
}

export function drawStores(status) {
  const dcs = Object.keys(status.dcs ?? {}).sort(byName).map((key) => ({ ...status.dcs[key], key }));
  keyed(el("store-cards"), dcs, (each) => each.key, create, update);
}
