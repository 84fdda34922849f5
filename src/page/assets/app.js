// The application without its face: frames in, state out. Wires ledger, model and meter to the connection, decides
// when to save, and keeps what the view shows about the stream itself.

import { Connection } from './connection.js';
import { Ledger } from './ledger.js';
import { Meter } from './meter.js';
import { Model } from './model.js';

const RETURNS_MAX = 12;
const NOTICES_MAX = 20;
const SAVE_EVERY_MS = 1000;
/** A save may take at most this share of the time, however much changes. */
const SAVE_SHARE = 20;

export class App {
  constructor({ store, world, changed }) {
    this.store = store;
    this.world = world;
    this.changed = changed;
    this.ledger = new Ledger();
    this.model = new Model();
    this.meter = new Meter();
    this.hello = null;
    this.restored = null;
    // Each time we came back: how long we were away, and the proof of what the replay brought.
    this.returns = [];
    this.notices = [];
    this.frames = { unknown: 0, unreadable: 0 };
    this.awayFrom = null;
    this.awayWhy = 'first';
    this.awayMs = 0;
    this.stopped = false;
    this.clearStore = false;
    this.unsaved = false;
    this.connection = new Connection({
      state: (connection) => this.onState(connection),
      hello: (frame) => this.onHello(frame),
      frame: (frame) => this.onFrame(frame),
      unreadable: () => {
        this.frames.unreadable += 1;
        this.changed();
      },
    }, world);
  }

  async start() {
    const saved = await this.store.load();
    if (saved) {
      try {
        this.ledger = Ledger.restore(saved.ledger);
        this.model.restore({ runs: saved.runs, totals: saved.totals, evicted: saved.evicted });
        this.meter.slots = saved.slots;
        this.restored = { runs: saved.runs.length, records: this.ledger.records };
        this.awayFrom = saved.at;
        this.awayWhy = 'reload';
      } catch {
        // Written by another version of the page: start again, the stream has it all.
        this.ledger = new Ledger();
        this.model = new Model();
        this.clearStore = true;
      }
    }
    this.connection.open();
    this.saveSoon(SAVE_EVERY_MS);
  }

  notice(tone, text) {
    this.notices.unshift({ at: this.world.now(), tone, text });
    this.notices.length = Math.min(this.notices.length, NOTICES_MAX);
  }

  onState(connection) {
    const away = connection.state === 'waiting' || connection.state === 'broken';
    if (away && this.awayFrom === null) {
      this.awayFrom = this.world.now();
      this.awayWhy = connection.state === 'broken' ? 'broken' : 'lost';
    }
    this.changed();
  }

  onHello(frame) {
    this.hello = frame;
    this.awayMs = this.awayFrom === null ? 0 : Math.max(0, this.world.now() - this.awayFrom);
    if (!this.ledger.hello(frame)) this.begin('The stream was replaced by another one of the same name. What was shown belonged to the old one and is cleared.');
    return this.ledger.ask();
  }

  /** Forget everything: the stream we knew is gone. */
  begin(why) {
    this.notice('warn', why);
    this.model.clear();
    this.meter = new Meter();
    this.returns = [];
    this.awayWhy = 'first';
    this.clearStore = true;
    this.unsaved = true;
  }

  onFrame(frame) {
    const now = this.world.now();
    switch (frame?.type) {
      case 'batch': {
        const fresh = this.ledger.batch(frame);
        const live = this.ledger.resume === null;
        const came = { live, replayed: !live && this.awayWhy !== 'first' };
        let events = 0;
        for (const record of fresh) {
          events += this.model.apply(record, frame.partition, now);
          this.meter.add(record, now, came);
        }
        this.ledger.countEvents(events);
        this.unsaved = true;
        break;
      }
      case 'gap':
      case 'dead_lettered': {
        const before = this.ledger.missedTotal;
        if (frame.type === 'gap') this.ledger.gap(frame);
        else this.ledger.deadLettered(frame);
        this.meter.missed(this.ledger.missedTotal - before, now);
        this.unsaved = true;
        break;
      }
      case 'answers':
        for (const answer of Array.isArray(frame.answers) ? frame.answers : []) this.onAnswer(frame.resume, answer);
        break;
      case 'live':
        this.onLive(frame);
        break;
      case 'refused':
        this.notice('warn', `The gateway refused ${frame.what ?? 'a frame'}: ${frame.why ?? 'no reason given'}.`);
        if (frame.what === 'resume') {
          this.ledger.resumeRefused();
          this.onLive({ resume: null });
        }
        break;
      case 'bye':
        this.notice('info', `The gateway said goodbye: ${frame.reason ?? ''}.`);
        break;
      case 'progress':
        break;
      default:
        this.frames.unknown += 1;
    }
    this.changed();
  }

  onAnswer(resume, answer) {
    const todo = this.ledger.answer(resume, answer);
    switch (todo.act) {
      case 'restart':
        this.ledger = Object.assign(new Ledger(), { resumesSent: this.ledger.resumesSent });
        this.ledger.stream = this.hello?.stream ?? null;
        this.begin('Our cursor belonged to another stream. Starting again with this one.');
        this.readPartitions();
        this.connection.send(this.ledger.ask());
        break;
      case 'future':
        this.notice('warn', `Partition ${answer.partition}: our cursor ${answer.requested} is beyond the end of the topic (${answer.newest}). Following live from there.`);
        break;
      case 'again':
        this.world.setTimeout(() => {
          if (this.connection.state === 'catching_up') this.connection.send(this.ledger.ask());
        }, todo.after);
        break;
      default:
    }
  }

  readPartitions() {
    const sent = this.ledger.resumesSent;
    this.ledger.hello(this.hello);
    this.ledger.resumesSent = sent;
  }

  onLive(frame) {
    const proof = frame.resume === null ? null : this.ledger.live(frame);
    if (proof === null && frame.resume !== null) return;
    if (proof !== null) {
      this.returns.unshift({ ...proof, at: this.world.now(), why: this.awayWhy, awayMs: this.awayMs });
      this.returns.length = Math.min(this.returns.length, RETURNS_MAX);
    }
    this.awayFrom = null;
    this.connection.caughtUp();
  }

  /** Called by the view several times a second, so that the chart shows when we were away. */
  tick() {
    if (this.connection.state === 'waiting' || this.connection.state === 'broken') this.meter.away(this.world.now());
  }

  saveSoon(ms) {
    this.world.setTimeout(() => this.save().then((took) => this.saveSoon(Math.max(SAVE_EVERY_MS, took * SAVE_SHARE))), ms);
  }

  /** Cursor and runs of one moment, together. Returns how long it took. */
  async save() {
    if (!this.unsaved || this.ledger.stream === null) return 0;
    const began = this.world.now();
    await this.store.save(() => {
      this.unsaved = false;
      const { model } = this;
      const all = this.clearStore;
      const put = (all ? [...model.runs.keys()] : [...model.dirty])
        .filter((id) => model.runs.has(id))
        .map((id) => [id, { order: model.runs.get(id).order, run: model.runs.get(id) }]);
      const moment = {
        clear: all, put, remove: all ? [] : [...model.removed],
        meta: { at: this.world.now(), ledger: this.ledger.save(), totals: { ...model.totals }, evicted: model.evicted, slots: this.meter.slots },
      };
      model.dirty.clear();
      model.removed.clear();
      this.clearStore = false;
      return moment;
    });
    return this.world.now() - began;
  }
}
