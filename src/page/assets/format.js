// Numbers, times and values as short text. Pure.

const GROUPED = new Intl.NumberFormat('en-US');
const COMPACT = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });

/** A count, grouped: 12,345. Takes Number, BigInt or a string of digits. */
export function count(value) {
  if (typeof value === 'string') return /^\d+$/.test(value) ? GROUPED.format(BigInt(value)) : value;
  return GROUPED.format(value);
}

/** A count where there is little room: 12.3K. */
export function compact(value) {
  return value < 10000 ? GROUPED.format(Math.round(value)) : COMPACT.format(value);
}

/** A rate: one decimal below ten. */
export function rate(value) {
  if (value > 0 && value < 9.95) return value.toFixed(1);
  return compact(Math.round(value));
}

/** A duration in milliseconds, as people say it. */
export function duration(ms) {
  if (!Number.isFinite(ms) || ms < 0) return '–';
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 60) return `${minutes}m ${String(Math.floor((ms % 60000) / 1000)).padStart(2, '0')}s`;
  return `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, '0')}m`;
}

/** The time of day with milliseconds, in the reader's zone. */
export function clock(ms) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return '–';
  const two = (n) => String(n).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

/** How long ago, coarsely. */
export function ago(ms) {
  if (!Number.isFinite(ms) || ms < 1500) return 'now';
  if (ms < 60000) return `${Math.round(ms / 1000)}s ago`;
  if (ms < 3600000) return `${Math.round(ms / 60000)}m ago`;
  return `${Math.round(ms / 3600000)}h ago`;
}

/** Any JSON value as one line, cut at `max` characters without splitting a surrogate pair. */
export function oneLine(value, max) {
  let text;
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') text = value;
  else {
    try {
      text = JSON.stringify(value);
    } catch {
      text = String(value);
    }
  }
  return cut(text.replace(/\s+/g, ' '), max);
}

export function cut(text, max) {
  if (text.length <= max) return text;
  const end = /[\uD800-\uDBFF]/.test(text[max - 2]) ? max - 2 : max - 1;
  return `${text.slice(0, end)}…`;
}
