// When is drawn: once a frame at most, what has changed; in a hidden tab nothing, until it is shown again.

const waiting = new Map();
let asked = false;

function draw() {
  asked = false;
  if (document.hidden) return;
  const jobs = [...waiting.values()];
  waiting.clear();
  for (const job of jobs) job();
}

function ask() {
  if (asked || document.hidden || !waiting.size) return;
  asked = true;
  requestAnimationFrame(draw);
}

/** Do `job` with the next frame; of several by one name the last. */
export function soon(name, job) {
  waiting.set(name, job);
  ask();
}

document.addEventListener("visibilitychange", () => {
  asked = false;
  ask();
});

export const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
