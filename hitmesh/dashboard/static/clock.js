// The dashboard's wall clock, as its events tell it: a browser's own may be anywhere.

let told = Date.now() / 1000;
let at = performance.now();

export function tell(now) {
  if (!Number.isFinite(now)) return;
  told = now;
  at = performance.now();
}

export const now = () => told + (performance.now() - at) / 1000;
