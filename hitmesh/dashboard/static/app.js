// The page: hears the stream, keeps the document, and has drawn what has changed.

import { bare, merge } from "./merge.js";
import { Connection } from "./connection.js";
import { soon } from "./frames.js";
import * as clock from "./clock.js";
import * as sentence from "./sentence.js";
import * as links from "./links.js";
import * as datacenters from "./datacenters.js";
import * as instances from "./instances.js";
import * as stores from "./stores.js";
import * as balancers from "./balancers.js";
import * as alerts from "./alerts.js";
import * as pages from "./pages.js";
import * as events from "./events.js";
import * as drawer from "./drawer.js";
import { tips } from "./bars.js";
import { el } from "./dom.js";

let status = null;
let heardAt = 0; // the dashboard's clock, when anything was last heard

const DRAW = {
  sentence: () => sentence.drawSentence(status),
  links: () => links.drawLinks(status),
  datacenters: () => datacenters.drawDatacenters(status),
  instances: () => instances.drawInstances(status),
  stores: () => stores.drawStores(status),
  balancers: () => balancers.drawBalancers(status),
  alerts: () => alerts.drawAlerts(status),
  top: () => pages.drawTop(status),
  events: () => events.drawEvents(status),
  drawer: () => drawer.refresh(),
};

function draw(...names) {
  for (const name of names) soon(name, () => status && DRAW[name]());
}

const SECTIONS = { ok: ["sentence"], says: ["sentence"], problems: ["sentence"], seen_from: ["sentence"], total: ["datacenters"], links: ["links"], top: ["top"], events: ["events"], alerts: ["alerts"], silences: ["alerts"] };
const PARTS = { state: ["datacenters", "links", "stores", "instances", "balancers"], age_s: ["datacenters"], hits: ["datacenters"], spools: ["datacenters", "stores"], store: ["datacenters", "stores"], books: ["datacenters", "stores"], balancers: ["datacenters", "balancers"], virtual_ip: ["balancers"], ways: ["alerts"] };
const TURNS = ["state", "failing", "why", "role", "name", "since"]; // of an instance: more than its row is drawn for

/** What a patch makes to be drawn anew; instances that only beat are rows of their own. Before it is merged. */
function affected(patch) {
  const names = new Set();
  for (const key of Object.keys(patch)) for (const name of SECTIONS[key] ?? []) names.add(name);
  for (const dc of Object.keys(patch.dcs ?? {})) {
    const part = patch.dcs[dc];
    const known = status.dcs?.[dc];
    if (!part || !known) {
      for (const name of Object.keys(DRAW)) names.add(name);
      continue;
    }
    for (const key of Object.keys(part)) for (const name of PARTS[key] ?? []) names.add(name);
    for (const name of Object.keys(part.instances ?? {})) {
      const one = part.instances[name];
      if (one && known.instances?.[name] && !TURNS.some((key) => key in one)) instances.touch(dc, name);
      else for (const each of ["instances", "datacenters", "sentence", "drawer"]) names.add(each);
    }
  }
  return names;
}

function heard(kind, data) {
  if (kind === "status") {
    status = bare(data);
    clock.tell(status.now);
    draw(...Object.keys(DRAW));
    sentence.drawTitle(status, connection);
  } else if (kind === "patch") {
    const names = affected(data);
    merge(status, data);
    if ("now" in data) clock.tell(status.now);
    draw(...names);
    if (names.has("sentence")) sentence.drawTitle(status, connection);
  } else clock.tell(data.now);
  heardAt = clock.now();
}

function drawConnection() {
  sentence.drawConnection(status, connection, heardAt);
}

const connection = new Connection("events", heard, () => {
  sentence.drawTitle(status, connection);
  soon("connection", drawConnection);
});

setInterval(() => {
  if (document.hidden) return;
  soon("connection", drawConnection);
  if (connection.state !== "live" || !status) return;
  soon("seconds", instances.eachSecond);
  draw("sentence");
}, 1000);

// What is jumped to is below the sentence, however long that is.
new ResizeObserver(([{ target }]) => {
  document.documentElement.style.scrollPaddingTop = getComputedStyle(target).position === "sticky" ? `${target.offsetHeight + 12}px` : "";
}).observe(document.querySelector(".top"));

sentence.whenAllAreAsked(() => draw("sentence"));
links.whenWidthChanges(() => draw("links"));
instances.whenFiltered(() => draw("instances"));
balancers.whenOpened(() => draw("balancers"));
events.whenFiltered(() => draw("events"));
pages.whenPageIsAsked();
drawer.begin(() => status);
tips(el("instances"), el("tip"), instances.whose);
tips(el("drawer-body"), el("tip"), instances.whose);
