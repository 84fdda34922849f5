// Events per second, over the last minute, by the time their records were written: after a break the replayed events
// fill the hole that the break left. Pure: the clock is brought by the caller.

export const KINDS = ['event', 'token_chunk', 'tool_execution', 'state', 'metrics', 'error'];
export const SLOT_MS = 500;
export const SLOTS = 120;

const SLOT_OF_KIND = {
  event: 0, execution_trace: 0, token_chunk: 1, tool_execution: 2, state_diff: 3, checkpoint: 3, metrics: 4, error: 5,
};

function emptySlot(id) {
  return { id, kinds: [0, 0, 0, 0, 0, 0], replayed: 0, missed: 0, away: false };
}

export class Meter {
  constructor() {
    this.slots = new Array(SLOTS).fill(null);
    // The gateway's clock may differ from ours: the smallest difference seen while live is taken for it.
    this.skew = null;
    this.arrivals = new Array(20).fill(null);
  }

  slot(ms) {
    const id = Math.floor(ms / SLOT_MS);
    const place = ((id % SLOTS) + SLOTS) % SLOTS;
    let slot = this.slots[place];
    if (slot === null || slot.id < id) slot = this.slots[place] = emptySlot(id);
    return slot.id === id ? slot : null;
  }

  /** One record's events. Only a record that comes `live` tells about clocks; `replayed` ones are marked. */
  add(record, now, { live, replayed }) {
    const events = Array.isArray(record.events) ? record.events : [];
    const written = Number(record.timestamp_ms);
    let at = now;
    if (Number.isFinite(written) && written > 0) {
      const difference = now - written;
      if (live) this.skew = this.skew === null || difference < this.skew ? difference : this.skew + 0.001 * (difference - this.skew);
      const skew = this.skew !== null && Math.abs(this.skew) > 2000 ? this.skew : 0;
      at = Math.min(now, written + skew);
    }
    const arrival = this.arrival(now);
    arrival.events += events.length;
    if (now - at > SLOTS * SLOT_MS) return;
    const slot = this.slot(at);
    if (!slot) return;
    for (const event of events) slot.kinds[SLOT_OF_KIND[event?.kind] ?? 0] += 1;
    if (replayed) slot.replayed += events.length;
  }

  /** Takes back what was kept; throws if it is something else. */
  restore(slots) {
    const count = (value) => Number.isSafeInteger(value) && value >= 0;
    const sound = (slot) => slot === null || (Number.isSafeInteger(slot?.id) && Array.isArray(slot.kinds) && slot.kinds.length === KINDS.length
      && slot.kinds.every(count) && count(slot.replayed) && count(slot.missed) && typeof slot.away === 'boolean');
    if (!Array.isArray(slots) || slots.length !== SLOTS || !slots.every(sound)) throw new Error('the chart is broken');
    this.slots = slots;
  }

  arrival(now) {
    const id = Math.floor(now / 250);
    const place = id % this.arrivals.length;
    if (this.arrivals[place]?.id !== id) this.arrivals[place] = { id, events: 0 };
    return this.arrivals[place];
  }

  missed(count, now) {
    const slot = this.slot(now);
    if (slot) slot.missed += count;
  }

  away(now) {
    const slot = this.slot(now);
    if (slot) slot.away = true;
  }

  /** Events that arrived per second, over the last two whole seconds. */
  rate(now) {
    const current = Math.floor(now / 250);
    let sum = 0;
    for (const arrival of this.arrivals) if (arrival && arrival.id < current && arrival.id >= current - 8) sum += arrival.events;
    return sum / 2;
  }

  /** The last minute, oldest first, without the slot that is still filling. */
  window(now) {
    const last = Math.floor(now / SLOT_MS) - 1;
    const out = [];
    for (let id = last - SLOTS + 2; id <= last; id += 1) {
      const slot = this.slots[((id % SLOTS) + SLOTS) % SLOTS];
      out.push(slot && slot.id === id ? slot : null);
    }
    return out;
  }
}
