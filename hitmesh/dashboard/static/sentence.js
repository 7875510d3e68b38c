// The sentence at the top, what isn't well, and the page's own connection.

import { el, h, icon, keyed, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { age, byName, clock, iso, many, moment } from "./words.js";
import { now } from "./clock.js";

const SHOWN = 6; // problems, until all are asked for
const KINDS = ["datacenter", "store", "partition", "books", "spool", "link", "instance", "disk", "balancer", "settings", "dashboard"];
const rank = (problem) => (problem.level === "bad" ? 0 : 100) + ((KINDS.indexOf(problem.kind) + KINDS.length + 1) % (KINDS.length + 1));

let all = false;

export function sorted(status) {
  const says = String(status.says ?? "");
  const first = (one) => (one.says && says.startsWith(one.says) ? 0 : 1);
  return Object.values(status.problems ?? {}).sort((a, b) => first(a) - first(b) || rank(a) - rank(b) || a.since - b.since || byName(String(a.key), String(b.key)));
}

export function health(status) {
  if (status.ok) return "ok";
  return Object.values(status.problems ?? {}).some((each) => each.level !== "warn") ? "bad" : "warn";
}

// A sentence begins with a capital, a name as it is written.
const beginsWithName = (problem) => Boolean(problem?.who) && String(problem.says).startsWith(problem.who);

function create(problem) {
  const who = h("span", { class: "says" });
  const line = h("li", {}, icon("warn"), h("span", { class: "level" }), who, h("span", { class: "since muted" }, h("time", {}), h("span", { class: "for" })));
  if (problem.kind === "instance" && problem.who) {
    const link = h("a", { class: "says", href: `#instance=${encodeURIComponent(problem.dc)}/${encodeURIComponent(problem.who)}` });
    who.replaceWith(link);
  }
  return line;
}

function update(line, problem) {
  const [shape, level, says, since] = line.children;
  const is = problem.level === "warn" ? "warn" : "bad";
  setIcon(shape, is);
  setText(level, is === "warn" ? "look" : "bad");
  setAttribute(line, "data-level", is);
  setText(says, problem.says ?? "");
  setAttribute(says, "data-capital", beginsWithName(problem) ? null : "yes");
  setText(since.firstChild, `since ${moment(problem.since, now())}`);
  setAttribute(since.firstChild, "datetime", iso(problem.since));
  setText(since.lastChild, `, for ${age(now() - problem.since)}`);
}

export function drawSentence(status) {
  const is = health(status);
  const problems = sorted(status);
  document.body.dataset.health = is;
  setIcon(el("health-icon").parentNode, is);
  setText(el("says"), status.says ?? "");
  setAttribute(el("says"), "data-capital", beginsWithName(problems[0]) ? null : "yes");
  const oldest = problems.length ? Math.min(...problems.map((each) => each.since)) : null;
  const bad = problems.filter((each) => each.level !== "warn").length;
  const parts = [];
  if (bad) parts.push(`${bad} bad`);
  if (problems.length - bad) parts.push(`${problems.length - bad} to look at`);
  const dcs = Object.keys(status.dcs ?? {}).length;
  const running = Object.values(status.dcs ?? {}).reduce((sum, dc) => sum + Object.keys(dc.instances ?? {}).length, 0);
  setText(
    el("says-more"),
    problems.length ? `${parts.join(", ")}; since ${moment(problems[0].since, now())}${oldest < problems[0].since ? `, the oldest since ${moment(oldest, now())}` : ""}` : `${many(running, "instance")} in ${many(dcs, "datacenter")}`,
  );
  setHidden(el("problems"), !problems.length);
  keyed(el("problem-list"), all ? problems : problems.slice(0, SHOWN), (each) => String(each.key), create, update);
  const more = el("problems-all");
  setHidden(more, problems.length <= SHOWN);
  setText(more, all ? "Show only the worst" : `Show ${problems.length - SHOWN} more`);
  setAttribute(more, "aria-expanded", String(all));
  const seen = status.seen_from ?? {};
  setText(el("seen-from"), `seen from ${seen.name} of ${seen.dc}, ${seen.version}`);
}

export function whenAllAreAsked(redraw) {
  el("problems-all").addEventListener("click", () => {
    all = !all;
    redraw();
  });
}

export function drawTitle(status, connection) {
  const live = connection.state === "live";
  const is = live && status ? health(status) : "lost";
  const sign = { ok: "✓", warn: "▲", bad: "✕", lost: "…" }[is];
  const problems = status ? Object.keys(status.problems ?? {}).length : 0;
  const says = live && status ? status.says : connection.state === "lost" ? "not connected" : "connecting";
  const node = document.querySelector("title");
  setText(node, `${sign} ${is !== "lost" && problems ? `(${problems}) ` : ""}${says} · hitmesh`);
  setAttribute(el("favicon"), "href", `static/icon-${is}.svg`);
}

export function drawConnection(status, connection, heardAt) {
  document.body.dataset.live = connection.state;
  setText(el("live-word"), { live: "live", lost: "not connected", connecting: "connecting" }[connection.state]);
  setText(el("clock"), status ? clock(connection.state === "live" ? now() : heardAt) : "");
  const lost = connection.state === "lost";
  setHidden(el("lost"), !lost);
  setText(el("lost-says"), !lost ? "" : status ? `Not connected to the dashboard. What is shown is as of ${clock(heardAt)}.` : "Not connected to the dashboard: nothing is known yet.");
  setText(el("lost-age"), lost && status ? `That is ${age(connection.silentMs / 1000)} old. Trying again.` : "");
}
