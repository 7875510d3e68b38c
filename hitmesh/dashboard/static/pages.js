// The pages with the most hits, and a chart of a page's last hour.

import { cell, el, h, keyed, s, setAttribute, setHidden, setText } from "./dom.js";
import { byName, count, many } from "./words.js";

const [WIDTH, HEIGHT] = [180, 24];

export const hrefOf = (page) => `#page=${encodeURIComponent(page)}`;

export function chart(node, minutes, high = HEIGHT) {
  const values = (minutes ?? []).map((each) => Math.max(0, Number(each) || 0));
  const looks = values.join(" ");
  if (node.__looks === looks) return;
  node.__looks = looks;
  const top = Math.max(1, ...values);
  const drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${high}`, preserveAspectRatio: "none", role: "img", class: "chart" });
  const last = values.at(-1) ?? 0;
  setAttribute(drawing, "aria-label", values.length ? `${values.length} minutes: at most ${many(top, "hit")} in one, ${count(last)} in the last` : "the last hour isn't known");
  if (values.length > 1) {
    const points = values.map((value, at) => `${((at * WIDTH) / (values.length - 1)).toFixed(1)} ${(high - 1 - (value / top) * (high - 3)).toFixed(1)}`);
    drawing.append(s("path", { class: "area", d: `M0 ${high}L${points.join("L")}L${WIDTH} ${high}z` }), s("path", { class: "curve", d: `M${points.join("L")}` }));
  }
  node.replaceChildren(drawing);
}

const create = (top) => h("tr", {}, h("th", { scope: "row" }, h("a", { class: "foreign long", href: hrefOf(top.page) }, top.page)), cell("n"), cell("chart-cell"));

function update(row, top) {
  setText(row.children[1], count(top.total));
  chart(row.children[2], top.minutes);
}

export function drawTop(status) {
  const top = Object.values(status.top ?? {}).sort((a, b) => (b.total ?? 0) - (a.total ?? 0) || byName(a.page, b.page));
  setHidden(document.querySelector(".tops"), !top.length);
  keyed(el("top-rows"), top, (each) => String(each.key), create, update);
}

export function whenPageIsAsked() {
  el("page-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const page = el("page-name").value.trim();
    if (page) location.hash = hrefOf(page);
  });
}
