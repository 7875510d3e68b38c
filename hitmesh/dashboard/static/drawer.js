// What is behind one page or one instance, over the page: by the address, #page=site/path or #instance=dc/name, so that
// it can be sent to somebody. Esc, or Back, closes it.

import { el, h, icon, setText } from "./dom.js";
import { age, byName, compact, count, duration, moment, rate, stateOf } from "./words.js";
import { bar, drawBar, history } from "./bars.js";
import { chart } from "./pages.js";
import { now } from "./clock.js";

const AGAIN_MS = 2000;
let view = null; // what the address says
let shown = ""; // the part of the address that says it
let timer = null;
let opener = null;
let status = () => null;

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route() {
  const hash = location.hash;
  if (hash.startsWith("#page=")) return { kind: "page", page: decoded(hash.slice(6)) };
  if (!hash.startsWith("#instance=")) return null;
  const [dc, ...rest] = hash.slice(10).split("/");
  return { kind: "instance", dc: decoded(dc), name: decoded(rest.join("/")) };
}

const facts = (pairs) => h("dl", { class: "facts" }, ...pairs.filter(([, value]) => value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "foreign" }, value))));

const table = (heads, rows) => h("table", { class: "plain" },
  h("thead", {}, h("tr", {}, ...heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))),
  h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((value, at) => h(at ? "td" : "th", { scope: at ? null : "row", class: [heads[at][1], "foreign"].filter(Boolean).join(" ") }, value))))));

function titled(...parts) {
  el("drawer-title").replaceChildren(...parts.map((each) => (each instanceof Node ? each : h("span", { class: "foreign" }, each))));
}

// --- an instance -------------------------------------------------------------------------------

function findInstance() {
  return status()?.dcs?.[view.dc]?.instances?.[view.name] ?? null;
}

async function drawInstance() {
  const asked = view;
  const one = findInstance();
  titled(icon(one ? stateOf(one) : "unknown"), `${view.name} of ${view.dc}`);
  const body = el("drawer-body");
  if (!one) return body.replaceChildren(h("p", {}, "There is no such instance in what the dashboard knows."));
  body.replaceChildren(
    h("p", { class: "lead" }, `${stateOf(one)} since ${moment(one.since, now())}, for ${duration(now() - one.since)}${one.why ? `: ${one.why}` : ""}`),
    facts([
      ["role", one.role], ["node", one.node || "not in the configuration"], ["version", one.version || "not known"], ["process", one.pid == null ? "not known" : String(one.pid)],
      ["up for", duration(one.uptime_s)], ["last heartbeat", one.heartbeat_age_s == null ? "never heard" : `${duration(one.heartbeat_age_s)} ago`], ["heartbeats", count(one.beats)],
    ]),
  );
  for (const [span, title] of [["hour", "The last hour"], ["days", "The last 90 days"]]) {
    const node = bar(span);
    node.dataset.dc = view.dc;
    node.dataset.name = view.name;
    drawBar(node, one[span] ?? "", `${one.name} of ${view.dc}, ${title.toLowerCase()}`);
    body.append(h("h3", {}, title), node);
  }
  const past = h("div", {}, h("p", { class: "muted" }, "asking …"));
  const load = Object.entries(one.load ?? {});
  body.append(h("h3", {}, "What was"), past);
  if (load.length) body.append(h("h3", {}, "Load"), table([["figure"], ["value", "n"]], load.sort((a, b) => byName(a[0], b[0])).map(([name, value]) => [name, Number.isInteger(value) ? count(value) : String(value)])));
  try {
    const told = await history(asked.dc, asked.name);
    if (view !== asked) return;
    past.replaceChildren(told.length
      ? table([["state"], ["from"], ["for", "n"], ["why"]], told.map((each) => [each.state, moment(each.from, now()), each.to ? duration(each.to - each.from) : "on", each.why ?? ""]))
      : h("p", { class: "muted" }, "Nothing but up is known of it."));
  } catch (error) {
    if (view === asked) past.replaceChildren(h("p", { class: "muted" }, error.says || "It can't be had now."));
  }
}

// --- a page ------------------------------------------------------------------------------------

async function drawPage() {
  const asked = view;
  titled(view.page);
  const body = el("drawer-body");
  if (!body.__of || body.__of !== asked) {
    body.replaceChildren(h("p", { class: "muted" }, "asking …"));
    body.__of = asked;
  }
  let told;
  try {
    const got = await fetch(`page.json?${new URLSearchParams({ page: asked.page })}`);
    told = await got.json();
    if (!got.ok) told = { total: null, why: told.description ?? told.title ?? `answer ${got.status}` };
  } catch {
    told = { total: null, why: "the dashboard doesn't answer" };
  }
  if (view !== asked) return;
  const parts = Array.isArray(told.parts) ? told.parts : Object.values(told.parts ?? {});
  body.replaceChildren(
    h("p", { class: "total" }, h("span", { class: "number" }, count(told.total)), " ", h("span", { class: "unit" }, told.total == null ? "its hits aren't known" : "hits")),
  );
  if (told.why) body.append(h("p", { class: "why" }, told.why));
  if (told.dc && told.total != null) body.append(h("p", { class: "muted foreign" }, `answered by ${told.instance ? `${told.instance} of ` : ""}${told.dc}`));
  if ((told.minutes ?? []).length) {
    const drawn = h("div", { class: "big-chart" });
    chart(drawn, told.minutes, 60);
    body.append(h("h3", {}, "The last hour"), drawn, h("p", { class: "muted" }, `at most ${count(Math.max(...told.minutes))} in a minute, ${count(told.minutes.at(-1))} in the last`));
  }
  if (parts.length) body.append(h("h3", {}, "By datacenter"), table([["datacenter"], ["hits", "n"], ["age", "n"]], parts.sort((a, b) => byName(a.key, b.key)).map((each) => [each.key, each.count == null ? "not known" : count(each.count), each.age_s == null ? "–" : duration(each.age_s)])));
}

// --- the drawer --------------------------------------------------------------------------------

function draw() {
  clearTimeout(timer);
  if (!view) return;
  const drawing = view.kind === "page" ? drawPage() : drawInstance();
  const asked = view;
  drawing?.catch?.(() => {});
  if (view.kind === "page") Promise.resolve(drawing).finally(() => view === asked && (timer = setTimeout(() => (document.hidden ? null : draw()), AGAIN_MS)));
}

function follow() {
  const dialog = el("drawer");
  view = route();
  shown = location.hash;
  el("drawer-body").__of = null;
  if (view) {
    if (!dialog.open) {
      opener = document.activeElement;
      dialog.showModal();
    }
    dialog.scrollTop = 0;
    draw();
  } else if (dialog.open) dialog.close();
}

/** The instance that is shown has changed in its state. */
export function refresh() {
  if (view?.kind === "instance" && !el("drawer-body").contains(document.activeElement)) draw();
}

export function begin(current) {
  status = current;
  const dialog = el("drawer");
  el("drawer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // again, with something else
    clearTimeout(timer);
    if (view) {
      view = null;
      // Unless it says already what is to be shown next.
      if (location.hash === shown) window.history.pushState(null, "", location.pathname + location.search);
    }
    if (opener?.isConnected) opener.focus({ preventScroll: true });
  });
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  document.addEventListener("visibilitychange", () => document.hidden || draw());
  follow();
}
