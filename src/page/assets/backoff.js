// How long to wait before the next attempt. Pure: the caller brings the random number.
// Full jitter, so that ten thousand pages do not come back in the same second, and never an end of trying.

const FIRST_MS = 400;
const MAX_MS = 15000;

/** `failures` in a row so far, `random` in [0, 1), and what the gateway asked for, if it did. */
export function delay({ failures, random, askedMs, code }) {
  if (code === 4004) return Math.round(100 + random * 400);
  const ceiling = Math.min(MAX_MS, FIRST_MS * 2 ** Math.min(failures, 10));
  const own = Math.round(ceiling * (0.25 + 0.75 * random));
  if (Number.isFinite(askedMs) && askedMs > 0) return Math.max(own, Math.round(Math.min(askedMs, 60000) * (0.6 + 0.8 * random)));
  return own;
}
