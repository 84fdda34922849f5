// The continuity ledger: proves, per partition, that what was applied is everything, once, in order.
// It keeps its own expectation of the next offset and compares each frame with it; the gateway's word is checked,
// not believed. Pure: no socket, no clock, no page. Offsets are BigInt, because they do not fit into a Number.

/** Ranges, violations and the like that are kept to be looked at; the counters beside them are never cut. */
const MISSED_SHOWN_MAX = 60;
const VIOLATIONS_SHOWN_MAX = 30;
/** Ranges announced ahead of the batch that covers them. A gateway sends one per poison record of a chunk. */
const EXPLAINED_MAX = 4096;
/** Partitions kept in one ledger: the gateway's own limit. */
const PARTITIONS_MAX = 1024;

/** An offset from a frame: a string of digits, or null when it is anything else. */
export function offset(text) {
  return typeof text === 'string' && /^\d{1,20}$/.test(text) ? BigInt(text) : null;
}

function newPartition(number) {
  return {
    partition: number,
    // The next offset that may be applied; null until the first answer or batch says where the partition starts.
    next: null,
    // Where the last batch ended. What lies between this and `next` was covered by gaps and dead letters alone.
    batchNext: null,
    // waiting: a resume is under way and frames of the old position are not ours · following · absent · not_here
    state: 'following',
    // A resume from earliest that repeats what we have, because no cursor can say "from 0": skip below this.
    skipBelow: null,
    explained: [],
    head: null,
    oldest: null,
    lag: null,
    records: 0,
    missed: 0,
    violations: 0,
    from: null,
  };
}

export class Ledger {
  /** `filtered`: the gateway leaves out what a filter does not let through, without a word, so that a jump is no loss. */
  constructor({ filtered = false } = {}) {
    this.filtered = filtered;
    this.stream = null;
    this.partitions = new Map();
    this.records = 0;
    this.events = 0;
    // Records that the gateway said we do not get, by reason. Told, therefore not lost.
    this.missed = {};
    this.missedTotal = 0;
    this.missedShown = [];
    // What must stay 0: offsets nobody explained, and records that came twice (they were not applied again).
    this.lost = 0n;
    this.repeated = 0;
    this.disorder = 0;
    this.violations = [];
    // Offsets that a filter passed over.
    this.withheld = 0n;
    // The resume under way: number, what it replayed, and where each partition stood when it was asked.
    this.resume = null;
    this.carried = null;
    this.resumesSent = 0;
  }

  partition(number) {
    let partition = this.partitions.get(number);
    if (!partition && Number.isInteger(number) && number >= 0 && this.partitions.size < PARTITIONS_MAX) {
      partition = newPartition(number);
      this.partitions.set(number, partition);
    }
    return partition;
  }

  /** A connection begins. True if this is the stream that the ledger knows, or its first one. */
  hello(frame) {
    const same = this.stream === null || this.stream === frame.stream;
    if (!same) Object.assign(this, new Ledger({ filtered: this.filtered }));
    this.stream = frame.stream;
    this.resumesSent = 0;
    // A resume that the last connection did not finish: what it brought belongs to the same return.
    this.carried = this.resume;
    this.resume = null;
    const present = new Set();
    for (const told of Array.isArray(frame.partitions) ? frame.partitions : []) {
      const partition = this.partition(told.partition);
      if (!partition) continue;
      present.add(told.partition);
      partition.state = 'following';
      partition.head = offset(told.next);
      partition.oldest = offset(told.oldest);
      partition.lag = offset(told.lag);
      partition.position = offset(told.position);
    }
    for (const partition of this.partitions.values()) {
      partition.explained = [];
      partition.skipBelow = null;
      if (!present.has(partition.partition)) partition.state = 'absent';
    }
    return same;
  }

  /** The connection has moved while this ledger did not look: a partition that no cursor can name begins anywhere. */
  wasAway() {
    for (const p of this.partitions.values()) p.position = (p.position ?? 0n) > 0n ? p.position : 1n;
  }

  /** Every partition that is served has a place that a cursor can name. */
  get nameable() {
    const known = [...this.partitions.values()].filter((p) => p.state !== 'absent' && p.state !== 'not_here');
    return known.length > 0 && known.every((p) => p.next !== null && p.next > 0n);
  }

  /** The frame that asks for one run, from its beginning, and for nothing else. For a filtered ledger that is new. */
  askRun({ thread, tenant }, number = this.resumesSent + 1) {
    this.begin(number);
    for (const p of this.partitions.values()) if (p.state !== 'absent') p.state = 'waiting';
    return { type: 'resume', from: 'run', stream: this.stream, thread, ...(tenant ? { tenant } : {}) };
  }

  /** A resume is under way. */
  begin(number) {
    this.resumesSent = number;
    const before = this.resume ?? this.carried;
    this.carried = null;
    this.resume = {
      number, records: before?.records ?? 0, events: before?.events ?? 0,
      missed: before?.missed ?? 0, violations: before?.violations ?? 0, from: before?.from ?? new Map(),
    };
  }

  /** The resume frame to send now. From here until its answer, a partition's frames belong to the old position. */
  ask(number = this.resumesSent + 1) {
    const known = [...this.partitions.values()].filter((p) => p.state !== 'absent');
    const cursor = {};
    // A partition of which we have nothing has no last offset to name, and an unnamed one begins at Hello's position:
    // if that is beyond what we have, only a resume from earliest brings the rest.
    let unsayable = false;
    for (const p of known) {
      if (p.next !== null && p.next > 0n) cursor[p.partition] = String(p.next - 1n);
      else unsayable ||= p.position !== null && p.position > 0n;
    }
    const fromCursor = Object.keys(cursor).length > 0 && !unsayable;
    this.begin(number);
    for (const p of known) {
      // Only what is asked for is answered.
      p.state = !fromCursor || p.partition in cursor ? 'waiting' : 'following';
      p.explained = [];
      p.batchNext = p.next;
      p.skipBelow = fromCursor ? null : p.next;
      p.from = null;
      if (!this.resume.from.has(p.partition)) this.resume.from.set(p.partition, p.next);
    }
    return fromCursor
      ? { type: 'resume', from: 'cursor', stream: this.stream, cursor }
      : { type: 'resume', from: 'earliest', stream: this.stream };
  }

  /** One answer. Returns what the caller has to do about it: nothing, restart from nothing, or ask again later. */
  answer(resume, answer) {
    if (this.resume === null || String(this.resume.number) !== String(resume)) return { act: 'none' };
    const p = this.partition(answer.partition);
    if (!p) return { act: 'none' };
    const asked = p.next;
    switch (answer.answer) {
      case 'resumed': {
        const from = offset(answer.from);
        if (from === null) break;
        this.follow(p, from);
        break;
      }
      case 'truncated': {
        const oldest = offset(answer.oldest);
        if (oldest === null) break;
        if (asked !== null && oldest > asked) this.miss(p, asked, oldest - 1n, String(answer.reason || 'truncated'));
        p.next = asked === null || oldest > asked ? oldest : asked;
        this.follow(p, oldest);
        break;
      }
      case 'future':
      case 'wrong_stream': {
        // Our past is not this partition's past: go on where the gateway goes on, and say so.
        const newest = offset(answer.newest);
        p.next = newest;
        p.batchNext = newest;
        p.state = 'following';
        p.skipBelow = null;
        p.from = newest;
        return { act: answer.answer === 'future' ? 'future' : 'restart' };
      }
      case 'unknown_partition':
      case 'not_here':
        p.state = answer.answer === 'not_here' ? 'not_here' : 'absent';
        break;
      case 'unavailable':
        return { act: 'again', after: Math.min(Math.max(Number(answer.retry_after_ms) || 1000, 200), 30000) };
      default:
        break;
    }
    return { act: 'none' };
  }

  follow(p, from) {
    p.state = 'following';
    p.from = from;
    if (p.next === null) {
      p.next = from;
      p.batchNext = from;
    } else if (from > p.next) {
      this.jump(p, from);
      p.batchNext = from;
    } else if (from < p.next && p.skipBelow === null) {
      // More than was asked for: the overlap is skipped when it comes, and counted then.
      p.batchNext = p.next;
    }
  }

  /** A batch. Returns the records to apply, in order: those not seen before. */
  batch(frame) {
    const p = this.partition(frame.partition);
    const from = offset(frame.from);
    const next = offset(frame.next);
    if (!p || from === null || next === null || next < from) {
      this.disorder += 1;
      return [];
    }
    if (p.state === 'waiting') return [];
    p.state = 'following';
    if (p.next === null) {
      p.next = from;
      p.batchNext = from;
    }
    if (from > p.next) this.bridge(p, from);
    if (from < p.batchNext && (p.skipBelow === null || from >= p.skipBelow)) {
      const again = next < p.batchNext ? next : p.batchNext;
      if (again > from) this.violate(p, 'repeated', from, again);
    }
    const fresh = [];
    let last = from - 1n;
    for (const record of Array.isArray(frame.records) ? frame.records : []) {
      const at = offset(record.offset);
      if (at === null || at <= last || at >= next) {
        this.disorder += 1;
        this.violate(p, 'disorder', from, next);
        continue;
      }
      last = at;
      if (at >= p.next) fresh.push(record);
    }
    if (next > p.next) {
      this.settle(p, next);
      p.next = next;
    }
    if (next > p.batchNext) p.batchNext = next;
    if (p.skipBelow !== null && p.next > p.skipBelow) p.skipBelow = null;
    if (p.head === null || p.head < p.next) p.head = p.next;
    p.records += fresh.length;
    this.records += fresh.length;
    if (this.resume) this.resume.records += fresh.length;
    this.walk(p);
    return fresh;
  }

  /** Events inside applied records. */
  countEvents(count) {
    this.events += count;
    if (this.resume) this.resume.events += count;
  }

  gap(frame) {
    const p = this.partition(frame.partition);
    const first = offset(frame.first);
    const last = offset(frame.last);
    if (!p || first === null || last === null || last < first) {
      this.disorder += 1;
      return;
    }
    this.explain(p, { first, last, reason: String(frame.reason || 'unknown'), id: null });
  }

  deadLettered(frame) {
    const p = this.partition(frame.partition);
    const at = offset(frame.offset);
    if (!p || at === null) {
      this.disorder += 1;
      return;
    }
    this.explain(p, { first: at, last: at, reason: String(frame.reason || 'unknown'), id: frame.id || null });
  }

  explain(p, range) {
    if (p.state === 'waiting') return;
    if (p.next !== null && range.last < p.next) {
      // About offsets that a batch already covered; if we had skipped that batch, we have counted this one too.
      if (p.skipBelow === null) this.countMissed(p, range);
      return;
    }
    if (p.explained.length >= EXPLAINED_MAX) p.explained.shift();
    p.explained.push(range);
    this.walk(p);
  }

  /** Go on over ranges that begin exactly at the next offset. */
  walk(p) {
    if (p.next === null) return;
    for (let moved = true; moved && p.explained.length > 0; ) {
      moved = false;
      for (let i = 0; i < p.explained.length; i += 1) {
        const range = p.explained[i];
        if (range.first > p.next) continue;
        p.explained.splice(i, 1);
        if (range.last >= p.next) {
          this.countMissed(p, { ...range, first: p.next });
          p.next = range.last + 1n;
        }
        moved = true;
        break;
      }
    }
    if (p.head !== null && p.head < p.next) p.head = p.next;
  }

  /** A batch begins beyond the next offset: whatever no range explains is lost. */
  bridge(p, from) {
    const ranges = p.explained.filter((r) => r.first < from).sort((a, b) => (a.first < b.first ? -1 : 1));
    p.explained = p.explained.filter((r) => r.first >= from);
    for (const range of ranges) {
      if (range.first > p.next) this.jump(p, range.first);
      if (range.last >= p.next) {
        this.countMissed(p, { ...range, first: p.next });
        p.next = range.last + 1n;
      }
    }
    if (from > p.next) this.jump(p, from);
    p.batchNext = p.next;
  }

  /** On to `to`, and nothing explains what lies between: a filter does, and otherwise it is lost. */
  jump(p, to) {
    if (this.filtered) this.withheld += to - p.next;
    else this.violate(p, 'lost', p.next, to);
    p.next = to;
  }

  /** A cursor of the gateway: up to there everything was sent, or withheld by the filter. */
  progress(cursor) {
    if (!this.filtered || typeof cursor !== 'object' || cursor === null) return;
    for (const [number, last] of Object.entries(cursor)) {
      const p = this.partitions.get(Number(number));
      const at = offset(last);
      if (!p || at === null || p.state !== 'following' || p.next === null || at < p.next) continue;
      this.bridge(p, at + 1n);
    }
  }

  /** A batch covers up to `next`: ranges inside it are now known to be passed. */
  settle(p, next) {
    if (p.explained.length === 0) return;
    const kept = [];
    for (const range of p.explained) {
      if (range.first >= next) kept.push(range);
      else if (range.last < next) this.countMissed(p, range);
      else {
        this.countMissed(p, { ...range, last: next - 1n });
        kept.push({ ...range, first: next });
      }
    }
    p.explained = kept;
  }

  miss(p, first, last, reason) {
    this.countMissed(p, { first, last, reason, id: null });
  }

  countMissed(p, range) {
    const count = Number(range.last - range.first + 1n);
    p.missed += count;
    this.missedTotal += count;
    this.missed[range.reason] = (this.missed[range.reason] || 0) + count;
    if (this.resume) this.resume.missed += count;
    const newest = this.missedShown[0];
    if (newest && newest.partition === p.partition && newest.reason === range.reason && !range.id
        && !newest.id && BigInt(newest.last) + 1n === range.first) {
      newest.last = String(range.last);
      newest.count += count;
      return;
    }
    this.missedShown.unshift({
      partition: p.partition, first: String(range.first), last: String(range.last), count,
      reason: range.reason, id: range.id,
    });
    this.missedShown.length = Math.min(this.missedShown.length, MISSED_SHOWN_MAX);
  }

  violate(p, kind, from, to) {
    p.violations += 1;
    if (this.resume) this.resume.violations += 1;
    if (kind === 'lost') this.lost += to - from;
    if (kind === 'repeated') this.repeated += Number(to - from);
    this.violations.unshift({ partition: p.partition, kind, from: String(from), to: String(to) });
    this.violations.length = Math.min(this.violations.length, VIOLATIONS_SHOWN_MAX);
  }

  /** Everything is caught up. Returns what the resume brought, per partition, as the proof to be shown. */
  live(frame) {
    if (this.resume === null || String(this.resume.number) !== String(frame.resume)) return null;
    const done = this.resume;
    this.resume = null;
    const ranges = [];
    for (const p of this.partitions.values()) {
      if (p.state === 'waiting') p.state = 'following';
      p.skipBelow = null;
      if (p.state !== 'following' || p.next === null) continue;
      const from = done.from.get(p.partition) ?? p.from;
      ranges.push({ partition: p.partition, from: from === null || from === undefined ? null : String(from), next: String(p.next) });
    }
    return {
      records: done.records, events: done.events, missed: done.missed, violations: done.violations,
      told: String(frame.replayed ?? ''), ranges,
    };
  }

  /** The gateway would not resume: go on from what comes, and name the rest as missed when it is known. */
  resumeRefused() {
    this.resume = null;
    this.resumesSent = Math.max(0, this.resumesSent - 1);
    for (const p of this.partitions.values()) {
      if (p.state !== 'waiting') continue;
      p.state = 'following';
      const position = p.position ?? null;
      if (p.next !== null && position !== null && position > p.next) {
        this.miss(p, p.next, position - 1n, 'resume_refused');
      }
      p.next = position;
      p.batchNext = position;
    }
  }

  get whole() {
    return this.lost === 0n && this.repeated === 0 && this.disorder === 0;
  }

  /** partition -> last offset applied, for whoever wants to keep it elsewhere. */
  get cursor() {
    const named = [...this.partitions.values()].filter((p) => p.next !== null && p.next > 0n);
    return Object.fromEntries(named.map((p) => [p.partition, String(p.next - 1n)]));
  }

  /** A plain object for the store; `restore` is its inverse. */
  save() {
    return {
      stream: this.stream,
      partitions: [...this.partitions.values()].filter((p) => p.next !== null).map((p) => ({
        partition: p.partition, next: String(p.next), records: p.records, missed: p.missed, violations: p.violations,
      })),
      records: this.records, events: this.events, missed: { ...this.missed }, missedTotal: this.missedTotal,
      missedShown: this.missedShown.map((m) => ({ ...m })), lost: String(this.lost), repeated: this.repeated,
      disorder: this.disorder, violations: this.violations.map((v) => ({ ...v })),
      filtered: this.filtered, withheld: String(this.withheld),
    };
  }

  /** Throws if it is not what `save` made. */
  static restore(saved) {
    check(saved);
    const ledger = new Ledger({ filtered: saved.filtered });
    ledger.stream = saved.stream;
    for (const s of saved.partitions) {
      const p = ledger.partition(s.partition);
      if (!p) throw new Error('the cursor is broken');
      p.next = BigInt(s.next);
      p.batchNext = p.next;
      p.state = 'absent';
      Object.assign(p, { records: s.records, missed: s.missed, violations: s.violations });
    }
    ledger.lost = BigInt(saved.lost);
    ledger.withheld = BigInt(saved.withheld);
    for (const key of ['records', 'events', 'missed', 'missedTotal', 'missedShown', 'repeated', 'disorder', 'violations']) {
      ledger[key] = saved[key];
    }
    return ledger;
  }
}

function check(saved) {
  const count = (value) => Number.isSafeInteger(value) && value >= 0;
  const flaws = [
    typeof saved?.stream !== 'string' || saved.stream === '', typeof saved?.filtered !== 'boolean',
    !Array.isArray(saved?.partitions) || !saved.partitions.every((p) => offset(p?.next) !== null && count(p.partition) && count(p.records) && count(p.missed) && count(p.violations)),
    new Set(saved?.partitions?.map?.((p) => p?.partition)).size !== saved?.partitions?.length,
    offset(saved?.lost) === null || offset(saved?.withheld) === null,
    !['records', 'events', 'missedTotal', 'repeated', 'disorder'].every((key) => count(saved?.[key])),
    !Array.isArray(saved?.missedShown) || !Array.isArray(saved?.violations),
    typeof saved?.missed !== 'object' || saved.missed === null || !Object.values(saved.missed).every(count),
  ];
  if (flaws.some(Boolean)) throw new Error('the cursor is broken');
}
