// Bars of an instance's past: one SVG path for each state in it. Letters as in hitmesh/dashboard/status.py.
// What isn't well stands out by its height, besides its colour: up is half as high as dead.

import { h, s, setAttribute, setText } from "./dom.js";
import { dayOf, minute, moment, duration, STATES } from "./words.js";
import { now } from "./clock.js";

const PITCH = 4;
const HEIGHT = 20;
// Of each letter: from where to where, and once more, from the top.
const SHAPES = {
  u: [[10, 20]],
  d: [[14, 20]],
  s: [[6, 10], [14, 20]],
  f: [[2, 9], [11, 20]],
  x: [[0, 20]],
  " ": [[18, 20]],
};
const WORST = "xfsdu ";

function paths(letters) {
  const found = {};
  for (let at = 0; at < letters.length; at++) {
    const letter = letters[at] in SHAPES ? letters[at] : " ";
    for (const [top, bottom] of SHAPES[letter]) (found[letter] ??= []).push(`M${at * PITCH} ${top}h3v${bottom - top}h-3z`);
  }
  return found;
}

/** In words: "60 minutes: 57 up, 2 silent, 1 dead". */
export function inWords(letters, unit) {
  const counts = {};
  for (const letter of letters) counts[letter in SHAPES ? letter : " "] = (counts[letter in SHAPES ? letter : " "] ?? 0) + 1;
  const said = [...WORST].filter((letter) => counts[letter]).map((letter) => `${counts[letter]} ${STATES[letter]}`);
  return said.length ? `${letters.length} ${unit}: ${said.join(", ")}` : `nothing is known of its ${unit}`;
}

/** A bar that can be hovered and focused; its span is `hour` or `days`. */
export function bar(span) {
  return h("button", { class: `bar ${span}`, type: "button", "data-span": span });
}

export function drawBar(node, letters, who) {
  if (node.__letters === letters && node.__who === who) return;
  node.__letters = letters;
  node.__who = who;
  const drawing = s("svg", { viewBox: `0 0 ${Math.max(1, letters.length) * PITCH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" });
  const found = paths(letters);
  for (const letter in found) drawing.append(s("path", { class: `b-${letter === " " ? "n" : letter}`, d: found[letter].join("") }));
  node.replaceChildren(drawing);
  setAttribute(node, "aria-label", `${who}, ${inWords(letters, node.dataset.span === "hour" ? "minutes" : "days")}`);
}

// --- the reasons behind a bar: one tip for all -------------------------------------------------

const FRESH_MS = 15_000;
const histories = new Map();

/** `/history.json` of an instance: asked once within FRESH_MS. What the dashboard says of it that it hasn't is the error's. */
export async function history(dc, name) {
  const key = JSON.stringify([dc, name]);
  const kept = histories.get(key);
  if (kept && performance.now() - kept.at < FRESH_MS) return kept.answer;
  if (histories.size > 50) histories.clear();
  const answer = fetch(`history.json?${new URLSearchParams({ dc, name })}`).then(async (got) => {
    if (!got.ok) throw Object.assign(new Error(), { says: got.status === 404 ? (await got.json()).description : "" });
    return got.json();
  });
  histories.set(key, { at: performance.now(), answer });
  answer.catch(() => histories.delete(key));
  return answer;
}

function spanOf(which, at, many) {
  const width = which === "hour" ? 60 : 86_400;
  const from = (Math.floor(now() / width) - (many - 1 - at)) * width;
  return [from, from + width];
}

export function tips(root, tip, whose) {
  let shown = null; // the bar, and which of its letters
  let at = 0;

  const hide = () => {
    shown?.removeAttribute("aria-describedby");
    shown = null;
    if (tip.matches(":popover-open")) tip.hidePopover();
  };

  const show = async (node, index) => {
    const letters = node.__letters ?? "";
    if (!letters) return;
    at = Math.max(0, Math.min(letters.length - 1, index));
    if (shown !== node) shown?.removeAttribute("aria-describedby");
    shown = node;
    const [from, to] = spanOf(node.dataset.span, at, letters.length);
    const when = node.dataset.span === "hour" ? `${minute(from)} to ${minute(to)}` : dayOf(from);
    const state = STATES[letters[at]] ?? STATES[" "];
    const place = () => {
      const box = node.getBoundingClientRect();
      const x = box.left + ((at + 0.5) / letters.length) * box.width;
      const width = tip.offsetWidth;
      tip.style.left = `${Math.max(8, Math.min(innerWidth - width - 8, x - width / 2))}px`;
      const above = box.top - tip.offsetHeight - 6;
      tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
    };
    const write = (reasons) => {
      tip.replaceChildren(h("strong", {}, `${when}: ${state}`), ...reasons.map((each) => h("p", {}, each)));
      if (!tip.matches(":popover-open")) tip.showPopover();
      place();
    };
    write([]);
    setAttribute(node, "aria-describedby", tip.id);
    if (letters[at] === "u" || letters[at] === " ") return;
    const { dc, name } = whose(node);
    const asked = at;
    try {
      const past = await history(dc, name);
      if (shown !== node || asked !== at) return;
      const fits = past.filter((each) => each.from < to && (each.to ?? Infinity) > from).slice(0, 4);
      write(fits.map((each) => `${each.state} from ${moment(each.from, now())}${each.to ? ` for ${duration(each.to - each.from)}` : " on"}${each.why ? `: ${each.why}` : ""}`));
    } catch (error) {
      if (shown === node && asked === at) write([error.says || "its reasons can't be had now"]);
    }
  };

  const under = (event) => {
    const node = event.target.closest?.(".bar");
    if (!node) return hide();
    const box = node.getBoundingClientRect();
    const many = (node.__letters ?? "").length;
    const index = Math.floor(((event.clientX - box.left) / box.width) * many);
    if (node !== shown || index !== at) show(node, index);
  };
  const last = (node) => {
    const letters = node.__letters ?? "";
    for (let index = letters.length - 1; index >= 0; index--) if (letters[index] !== "u" && letters[index] !== " ") return index;
    return letters.length - 1;
  };
  root.addEventListener("pointermove", under);
  root.addEventListener("pointerdown", under);
  root.addEventListener("pointerleave", hide);
  root.addEventListener("focusin", (event) => {
    const node = event.target.closest?.(".bar");
    if (!node) hide();
    else if (node.matches(":focus-visible")) show(node, last(node));
  });
  root.addEventListener("focusout", hide);
  root.addEventListener("keydown", (event) => {
    const node = event.target.closest?.(".bar");
    if (event.key === "Escape") hide();
    if (!node) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(node, at + step);
  });
  addEventListener("scroll", hide, { passive: true });
}
