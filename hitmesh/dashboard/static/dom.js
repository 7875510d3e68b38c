// Elements, and their text: whatever is shown goes through `visible` and textContent, here and nowhere else.

import { visible } from "./visible.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`class`, `scope`, ...) and children: elements, or texts. */
export function h(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const name in attributes) if (attributes[name] != null) made.setAttribute(name, attributes[name]);
  for (const child of children) if (child != null) made.append(child instanceof Node ? child : visible(child));
  return made;
}

export function s(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  if (text != null) made.textContent = visible(text);
  return made;
}

export const el = (id) => document.getElementById(id);

/** Its text, written only when it is another. */
export function setText(node, text) {
  const shown = visible(text);
  const first = node.firstChild;
  if (first && first === node.lastChild && first.nodeType === Node.TEXT_NODE) {
    if (first.data !== shown) first.data = shown;
  } else if (first || shown) node.textContent = shown;
}

export function setAttribute(node, name, value) {
  if (value == null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export const setHidden = (node, hidden) => {
  if (node.hidden !== hidden) node.hidden = hidden;
};

const SHAPES = new Set(["up", "starting", "draining", "failing", "silent", "dead", "retired", "ok", "warn", "bad", "open", "closed"]);
const shape = (name) => `#s-${SHAPES.has(name) ? name : "unknown"}`;

/** The shape of a state or a level. */
export function icon(name) {
  const made = s("svg", { class: "icon", "aria-hidden": "true", focusable: "false" });
  made.append(s("use", {}));
  setIcon(made, name);
  return made;
}

export function setIcon(node, name) {
  setAttribute(node.firstElementChild, "href", shape(name));
  setAttribute(node, "data-is", name);
}

/**
 * The children of `parent` made the `items`, in their order: kept by `key`, made by `create`, brought up to date by
 * `update`. Whoever has the focus keeps it, though its place be another.
 */
export function keyed(parent, items, key, create, update) {
  const kept = (parent.__kept ??= new Map());
  const wanted = new Map();
  for (const item of items) if (!wanted.has(key(item))) wanted.set(key(item), item);
  for (const [name, node] of kept) {
    if (wanted.has(name)) continue;
    kept.delete(name);
    node.remove(); // first, or all that stay would be moved past it
  }
  const focused = document.activeElement;
  let at = parent.firstElementChild;
  for (const [name, item] of wanted) {
    let node = kept.get(name);
    if (!node) kept.set(name, (node = create(item)));
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
    update(node, item);
  }
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** A table's cell; `n` for numbers. */
export const cell = (kind) => h("td", kind && { class: kind });
export const head = (scope, kind) => h("th", { scope, class: kind });
