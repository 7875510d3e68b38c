// The stream, and whether it lives. A link that is muted raises no error, so a watchdog counts the silence: each
// second there is a `tick` whatever happens, and after LOST_MS without any the connection is given up and made anew.

export const LOST_MS = 3000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 2000;
const LOOK_MS = 250;

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
    this.source = new EventSource(this.url);
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
    if (this.source && now - Math.max(this.last, this.opened) > LOST_MS) this.fail();
    if (!this.source && now >= this.retryAt) this.open();
    if (this.state === "live" && this.silentMs > LOST_MS) this.turn("lost");
  }

  turn(state) {
    this.state = state;
    this.changed();
  }
}
