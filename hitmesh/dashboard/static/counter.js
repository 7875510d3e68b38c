// A number that ticks: up to what is known and never beyond, evenly over the time until the next is likely known,
// and never backwards, unless what is known stays lower for LOWER_MS: then it was wrong.

import { isCalm, nextStep, STEP_MS } from "./frames.js";
import { count, UNKNOWN } from "./words.js";
import { setText } from "./dom.js";

const LOWER_MS = 30_000;
const counters = new Set();
let timer = null;

export class Counter {
  constructor(node) {
    this.node = node;
    this.shown = null;
    this.known = null;
    this.heardAt = 0;
    this.everyMs = 500; // between two that were known
    this.lowerSince = null;
    counters.add(this);
  }

  tell(value) {
    const now = performance.now();
    if (typeof value !== "number") {
      this.known = this.shown = null;
      return this.draw();
    }
    if (value === this.known) return;
    if (this.heardAt) this.everyMs = Math.min(2000, Math.max(200, 0.7 * this.everyMs + 0.3 * (now - this.heardAt)));
    this.heardAt = now;
    this.known = value;
    if (this.shown === null) this.shown = value;
    this.lowerSince = value < this.shown ? (this.lowerSince ?? now) : null;
    if (this.lowerSince !== null && now - this.lowerSince > LOWER_MS) {
      this.shown = value;
      this.lowerSince = null;
    }
    if (isCalm.matches) this.shown = Math.max(this.shown, value);
    this.draw();
    run();
  }

  step(now) {
    if (this.known === null || this.shown >= this.known) return false;
    const leftMs = Math.max(STEP_MS, this.heardAt + this.everyMs - now);
    this.shown = Math.min(this.known, this.shown + Math.max(1, Math.ceil(((this.known - this.shown) * STEP_MS) / leftMs)));
    this.draw();
    return this.shown < this.known;
  }

  draw() {
    setText(this.node, this.shown === null ? UNKNOWN : count(this.shown));
  }

  end() {
    counters.delete(this);
  }
}

function run() {
  if (timer !== null || document.hidden) return;
  timer = nextStep(() => {
    timer = null;
    const now = performance.now();
    let more = false;
    for (const each of counters) more = each.step(now) || more;
    if (more) run();
  });
}

document.addEventListener("visibilitychange", run);
