// What people are told of: what fires or is about to, what is silenced by whom, and how telling goes.

import { el, h, icon, keyed, setAttribute, setHidden, setIcon, setText } from "./dom.js";
import { byName, iso, many, moment } from "./words.js";
import { now } from "./clock.js";

const STATES = { firing: 0, silenced: 1, pending: 2 };
const WORDS = { firing: "fires", silenced: "silenced", pending: "soon" };
const MORE = { silenced: ", silenced", pending: ", hasn't lasted long enough yet" };

const createAlert = () => h("li", {}, icon("warn"), h("span", { class: "level" }), h("span", { class: "says foreign" }), h("span", { class: "since muted" }, h("time", {}), h("span", {})));

function updateAlert(line, alert) {
  const [shape, level, says, since] = line.children;
  const is = alert.state !== "firing" ? "unknown" : alert.level === "warn" ? "warn" : "bad";
  setIcon(shape, is);
  setAttribute(line, "data-level", is);
  setText(level, WORDS[alert.state] ?? String(alert.state));
  setText(says, `${alert.says} (${alert.dc} ${alert.name}${MORE[alert.state] ?? ""})`);
  setText(since.firstChild, `since ${moment(alert.since, now())}`);
  setAttribute(since.firstChild, "datetime", iso(alert.since));
  setText(since.lastChild, alert.told ? `, told ${many(alert.told, "time")}` : "");
}

const createLine = () => h("li", { class: "foreign" });

const held = (silence) => `${silence.name} ${silence.dc === "*" ? "everywhere" : `in ${silence.dc}`} until ${moment(silence.until, now())}, by ${silence.who}: ${silence.why}`;

function lineOf(dc, way) {
  const lost = way.lost ? `, ${way.lost} given up` : "";
  return `${dc} ${way.key}: ${way.sent ?? 0} sent, ${many(way.failed ?? 0, "failed try", "failed tries")}${lost}${way.why ? `; now: ${way.why}` : ""}`;
}

export function drawAlerts(status) {
  const alerts = Object.values(status.alerts ?? {}).sort((a, b) => (STATES[a.state] ?? 3) - (STATES[b.state] ?? 3) || (a.level === "bad" ? 0 : 1) - (b.level === "bad" ? 0 : 1) || byName(String(a.key), String(b.key)));
  const silences = Object.values(status.silences ?? {}).filter((each) => each.until > now()).sort((a, b) => byName(String(a.key), String(b.key)));
  const ways = Object.values(status.dcs ?? {}).flatMap((dc) => Object.values(dc.ways ?? {}).map((way) => ({ key: `${dc.key} ${way.key}`, says: lineOf(dc.key, way) })));
  keyed(el("alert-list"), alerts, (each) => String(each.key), createAlert, updateAlert);
  keyed(el("silence-list"), silences, (each) => String(each.key), createLine, (line, each) => setText(line, held(each)));
  keyed(el("way-list"), ways, (each) => each.key, createLine, (line, each) => setText(line, each.says));
  setHidden(el("alerts-none"), alerts.length > 0);
  setHidden(el("silences"), !silences.length);
  setHidden(el("ways"), !ways.length);
}
