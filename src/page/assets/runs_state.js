// What the page applies records to: the runs, and the events per second. The state of the client in client.js; one for
// the whole stream, which is kept for a reload, and one for every run that is followed alone.

import { Meter } from './meter.js';
import { Model } from './model.js';

/** Goes up with every change of what is stored: an older store is then thrown away. */
export const KIND = 'runs 1';

export class RunsState {
  /** `now`: the clock; `marks`: whether what is replayed is to be marked in the chart. */
  constructor(now, marks = () => true) {
    this.now = now;
    this.marks = marks;
    this.model = new Model();
    this.meter = new Meter();
    this.cleared = false;
  }

  apply(records, { partition, replayed }) {
    const now = this.now();
    const came = { live: !replayed, replayed: replayed && this.marks() };
    let events = 0;
    for (const record of records) {
      events += this.model.apply(record, partition, now);
      this.meter.add(record, now, came);
    }
    return events;
  }

  clear() {
    this.model.clear();
    this.meter = new Meter();
    this.cleared = true;
  }

  changes() {
    const { model } = this;
    const clear = this.cleared;
    const ids = clear ? [...model.runs.keys()] : [...model.dirty].filter((id) => model.runs.has(id));
    const remove = clear ? [] : [...model.removed];
    model.dirty.clear();
    model.removed.clear();
    this.cleared = false;
    return {
      clear, remove, put: ids.map((id) => [id, model.runs.get(id)]),
      meta: { totals: { ...model.totals }, evicted: model.evicted, slots: this.meter.slots },
    };
  }

  restore({ meta, entries }) {
    const runs = entries.map(([, run]) => run).sort((a, b) => a?.order - b?.order);
    if (entries.some(([id, run]) => run?.id !== id)) throw new Error('a run is broken');
    this.model.restore({ runs, totals: meta.totals, evicted: meta.evicted });
    this.meter.restore(meta.slots);
  }
}
