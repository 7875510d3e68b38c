// When is drawn: once a frame at most, what has changed; in a hidden tab nothing, until it is shown again. Nor while
// a button is pressed: what is moved away from under it isn't clicked.

const PRESSED_MS = 1000; // at most: whoever drags or selects for longer sees what goes on
const waiting = new Map();
let asked = false;
let pressed = null; // the timer that ends it

function draw() {
  asked = false;
  if (document.hidden || pressed != null) return;
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

function release() {
  clearTimeout(pressed);
  pressed = null;
  ask();
}

addEventListener("pointerdown", () => {
  clearTimeout(pressed);
  pressed = setTimeout(release, PRESSED_MS);
}, true);
// The click comes after the button is up.
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(release), true);

export const STEP_MS = 125; // 8 a second look even, and cost half as much as 16

/** Call it at the next eighth of a second: all that moves in steps moves with the same frame. */
export const nextStep = (call) => setTimeout(call, STEP_MS - (performance.now() % STEP_MS));

export const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
