// The stream, and whether it lives. A link that is muted raises no error, so a watchdog counts the silence: each
// second there is a `tick` whatever happens, and after LOST_MS without any the connection is given up and made anew.

export const LOST_MS = 3000;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 2000;
const LOOK_MS = 250;
// How long a new attempt may hear nothing: short at first, since a browser sends it over the connections that it has
// kept, one after the other, and after a cut all of them may be dead.
const FIRST_PATIENCE_MS = 1000;

export class Connection {
  /** `heard(kind, data)` for each event; `changed()` when it is lost or back. */
  constructor(url, heard, changed) {
    this.url = url;
    this.heard = heard;
    this.changed = changed;
    this.state = "connecting"; // then live, or lost
    this.last = performance.now(); // that anything was heard
    this.retryMs = FIRST_RETRY_MS;
    this.retryAt = 0;
    this.patienceMs = LOST_MS;
    this.attempts = 0;
    this.source = null;
    this.hasWhole = false; // patches mean nothing before it
    this.open();
    setInterval(() => this.look(), LOOK_MS);
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  get silentMs() {
    return performance.now() - this.last;
  }

  open() {
    this.close();
    this.hasWhole = false;
    this.opened = performance.now();
    // Each by a name of its own: Chromium lets one request to the same URL wait up to 20 s for the one before.
    this.source = new EventSource(`${this.url}?attempt=${++this.attempts}`);
    for (const kind of ["status", "patch", "tick"]) this.source.addEventListener(kind, (event) => this.hear(kind, event));
    this.source.addEventListener("error", () => this.fail());
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  hear(kind, event) {
    if (event.target !== this.source) return;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return this.fail(); // half a document: begin anew
    }
    if (kind === "status") this.hasWhole = true;
    else if (!this.hasWhole) return;
    this.last = performance.now();
    this.retryMs = FIRST_RETRY_MS;
    this.patienceMs = LOST_MS;
    if (this.state !== "live") this.turn("live");
    this.heard(kind, data);
  }

  /** The connection has ended, or can't be made: later again. */
  fail() {
    this.close();
    this.retryAt = performance.now() + this.retryMs * (0.75 + Math.random() / 2);
    this.retryMs = Math.min(this.retryMs * 2, LONGEST_RETRY_MS);
    if (this.state === "connecting") this.turn("lost");
  }

  hurry() {
    this.retryAt = 0;
    this.look();
  }

  look() {
    const now = performance.now();
    if (this.source && now - Math.max(this.last, this.opened) > this.patienceMs) {
      this.patienceMs = this.last > this.opened ? FIRST_PATIENCE_MS : Math.min(LOST_MS, this.patienceMs * 1.5);
      this.fail();
    }
    if (!this.source && now >= this.retryAt) this.open();
    if (this.state === "live" && this.silentMs > LOST_MS) this.turn("lost");
  }

  turn(state) {
    this.state = state;
    this.changed();
  }
}
