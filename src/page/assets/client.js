// A client of the gateway for browsers and Node: follows the stream over `dashstream.json`, comes back by itself, and
// always knows what it has, what it missed and why. Import it from here; it needs connection.js, backoff.js, ledger.js
// and storage.js beside it, and nothing of the page.
//
//   const state = new MyState();
//   const storage = await Storage.open('my place');
//   const client = new Client({ url: 'ws://127.0.0.1:3002/ws', state, storage, report: (r) => console.log(r) });
//   await client.start();
//
// `state` is what records are applied to. The cursor and the state move together, always:
//   apply(records, context)  applies records, in order, each once; returns how many events were in them (or nothing).
//                            context: { partition, replayed: true while a resume is under way }
//   clear(why)               forgets everything: what is applied next belongs to another stream, or is all of it
//   changes()                what changed since the last call: { clear, put: [[key, value]], remove: [key], meta }
//   restore({ meta, entries: [[key, value]] })   takes back what `changes` gave, or throws if it is not that
// The last two are called only if there is a storage. What is stored is one moment: values, meta and the cursor of that
// moment in one transaction. After a reload, the stored cursor is resumed from, never a later one. An exception of
// `apply` ends the client for good, since nobody can say how much of the records was applied: what was stored stays as
// it was, so that the next start applies them again.
//
// `report` is told, as { type, ... }: gap, dead_lettered (records that do not come, with the reason) · lost (an offset
// that nobody explained; must never happen) · truncated, future, wrong_stream, unknown_partition, not_here,
// unavailable (answers to a cursor) · stream_changed · waiting, searched, falling_behind, applied, refused, bye (see
// the frames of those names) · returned (a resume is through, with the proof) · restored, store_discarded, stored,
// storage_off, storage_taken · failed.

import { Connection } from './connection.js';
import { Ledger } from './ledger.js';
import { Storage } from './storage.js';

export { Ledger, Storage };

const SAVE_EVERY_MS = 1000;
/** A save may take at most this share of the time, however much changes. */
const SAVE_SHARE = 20;

/** What a browser gives; whoever tests gives something else. */
function browser(url) {
  return {
    url,
    WebSocket: globalThis.WebSocket,
    setTimeout: (act, ms) => setTimeout(act, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    // Monotonic, unlike Date.now(), and still comparable with what an earlier page saved.
    now: () => performance.timeOrigin + performance.now(),
    random: () => Math.random(),
  };
}

/** A ledger and the state that it is the ledger of. */
function newView(run, state, filtered) {
  return { run, state, ledger: new Ledger({ filtered }), searched: new Map(), turn: false };
}

export class Client {
  /**
   * url, or a `world` that holds it; state; storage (or nothing); filter: what `subscribe` takes (or nothing), for the
   * whole life of this client; kind: name and version of the state's own format; report(report); changed().
   */
  constructor({ url, world, state, storage, filter = null, kind = '1', report = () => {}, changed = () => {} }) {
    this.world = world ?? browser(url);
    this.storage = storage ?? Storage.none('this program keeps nothing');
    this.filter = filter;
    this.kind = JSON.stringify([kind, filter]);
    this.report = report;
    this.changed = changed;
    // `main` is kept and goes on after a run was followed; `view` is the one that frames belong to.
    this.main = newView(null, state, filter !== null);
    this.view = this.main;
    // A run that was asked for and not yet answered: { view, number, then }. What is wanted meanwhile waits in `then`,
    // since whether the gateway went along shows only in its answer.
    this.asked = null;
    this.hello = null;
    this.restored = null;
    this.resumes = 0;
    // Server-side pause: no · asked · yes · continued (on its way back)
    this.paused = 'no';
    // A resume that waits for the end of the pause.
    this.heldBack = false;
    this.fallingBehind = false;
    this.frames = { unknown: 0, unreadable: 0 };
    // When and why we were away, for the proof of the return.
    this.awayFrom = null;
    this.awayWhy = 'first';
    this.awayMs = 0;
    // The cursor that is stored with its state: what a reload resumes from.
    this.stored = null;
    this.unsaved = false;
    this.clearStore = false;
    this.saving = Promise.resolve();
    this.saveTimer = null;
    this.connection = new Connection({
      state: (connection) => this.onState(connection),
      hello: (frame) => this.onHello(frame),
      frame: (frame) => this.onFrame(frame),
      unreadable: () => {
        this.frames.unreadable += 1;
        this.changed();
      },
    }, this.world);
  }

  get ledger() {
    return this.view.ledger;
  }

  /** The run that is followed, or asked for; null: the whole stream. */
  get run() {
    if (this.asked?.then) return this.asked.then.run;
    return (this.asked?.view ?? this.view).run;
  }

  /** Takes back what was stored, and connects. `run`: follow it from the start, with its own state. */
  async start(run = null, state = null) {
    await this.restore();
    if (run) this.view = newView(run, state, true);
    this.connection.open();
    this.saveSoon(SAVE_EVERY_MS);
  }

  async restore() {
    const saved = await this.storage.load(this.kind);
    if (saved) {
      try {
        const ledger = Ledger.restore(saved.ledger);
        if (ledger.filtered !== (this.filter !== null)) throw new Error('it was kept for something else');
        this.main.state.restore({ meta: saved.meta.state, entries: saved.entries });
        this.main.ledger = ledger;
        this.stored = ledger.cursor;
        this.awayFrom = Number.isFinite(saved.meta.at) ? saved.meta.at : this.world.now();
        this.awayWhy = 'reload';
        this.restored = { entries: saved.entries.length, records: ledger.records };
        this.report({ type: 'restored', ...this.restored });
      } catch (flaw) {
        // The stream has it all.
        this.main.state.clear('store_discarded');
        await this.storage.discard(String(flaw?.message ?? flaw));
      }
    }
    if (this.storage.discarded) this.report({ type: 'store_discarded', why: this.storage.discarded });
    if (this.storage.state === 'off') this.report({ type: 'storage_off', why: this.storage.why });
  }

  /** Ends it for good. What was applied is stored first. */
  async stop() {
    await this.save();
    this.world.clearTimeout(this.saveTimer);
    this.connection.stop('stopped');
  }

  fail(error) {
    this.failed = error;
    this.world.clearTimeout(this.saveTimer);
    this.connection.stop('what was received could not be applied');
    this.report({ type: 'failed', error });
    this.changed();
  }

  // --- what the user wants ---

  /** Follows one run from its beginning, applied to a `state` of its own; the main state stands still meanwhile. */
  follow(run, state) {
    if (this.asked) {
      this.asked.then = { run, state };
      this.changed();
      return;
    }
    const view = newView(run, state, true);
    if (this.paused !== 'no') this.continue();
    if (this.connection.greeted && this.hello && !this.heldBack) {
      // What comes until the answer still belongs to what is followed now.
      view.ledger.hello(this.hello);
      this.resumes += 1;
      this.asked = { view, number: this.resumes, then: null };
      this.awayWhy = 'run';
      this.awayMs = 0;
      this.connection.send(view.ledger.askRun(run, this.resumes));
    } else this.view = view;
    this.changed();
  }

  /** Back to the whole stream, right after what was applied of it. */
  unfollow() {
    if (this.asked) {
      this.asked.then = { run: null };
      this.changed();
      return;
    }
    if (this.view === this.main) return;
    const held = this.heldBack;
    this.view = this.main;
    if (this.paused !== 'no') this.continue();
    if (this.connection.greeted && this.hello && !held) {
      this.main.ledger.hello(this.hello);
      this.main.ledger.wasAway();
      this.awayWhy = 'run_left';
      this.awayMs = 0;
      this.connection.send({ type: 'subscribe', ...this.filter });
      this.resume();
      this.connection.catchingUp();
    }
    this.changed();
  }

  /** Asks the gateway to send nothing until `continue`; it keeps only our place. */
  pause() {
    if (this.paused === 'yes' || this.paused === 'asked') return;
    this.paused = 'asked';
    if (this.connection.greeted) this.connection.send({ type: 'pause' });
    this.changed();
  }

  continue() {
    if (this.paused === 'no') return;
    this.paused = this.connection.greeted ? 'continued' : 'no';
    if (this.connection.greeted) this.connection.send({ type: 'continue' });
    if (this.heldBack) {
      this.heldBack = false;
      this.begin().forEach((frame) => this.connection.send(frame));
    }
    this.changed();
  }

  breakFor(ms) {
    this.connection.breakFor(ms);
  }

  reconnect() {
    this.connection.now();
  }

  // --- asking ---

  /** The frames that begin a connection: the filter, and the resume. */
  begin() {
    const { view } = this;
    this.resumes += 1;
    if (view.run === null) {
      const ask = view.ledger.ask(this.resumes);
      return this.filter ? [{ type: 'subscribe', ...this.filter }, ask] : [ask];
    }
    if (view.ledger.nameable && view.caughtUp) {
      const { thread, tenant } = view.run;
      return [{ type: 'subscribe', threads: [thread], tenants: tenant ? [tenant] : [] }, view.ledger.ask(this.resumes)];
    }
    // No cursor can say what of the run is missing: it is small, and comes again from its beginning.
    this.restart(view);
    return [view.ledger.askRun(view.run, this.resumes)];
  }

  restart(view) {
    view.ledger = new Ledger({ filtered: true });
    view.ledger.hello(this.hello);
    view.searched.clear();
    view.caughtUp = false;
    view.state.clear('run');
  }

  /** The main view's resume on a connection that stands. */
  resume() {
    this.resumes += 1;
    this.fallingBehind = false;
    this.connection.send(this.view.ledger.ask(this.resumes));
  }

  // --- what the gateway says ---

  onState(connection) {
    const away = connection.state === 'waiting' || connection.state === 'broken';
    if (away && this.awayFrom === null) {
      this.awayFrom = this.world.now();
      this.awayWhy = connection.state === 'broken' ? 'broken' : 'lost';
    }
    if (away && this.asked) {
      // It goes on as a wish for the next connection.
      const { view, then } = this.asked;
      this.asked = null;
      if (then === null) this.view = view;
      else this.view = then.run === null ? this.main : newView(then.run, then.state, true);
    }
    if (away && this.paused === 'continued') this.paused = 'no';
    this.changed();
  }

  onHello(frame) {
    this.hello = frame;
    this.resumes = 0;
    this.fallingBehind = false;
    this.view.turn = false;
    this.awayMs = this.awayFrom === null ? 0 : Math.max(0, this.world.now() - this.awayFrom);
    if (!this.main.ledger.hello(frame)) {
      this.forget('stream_changed');
      this.report({ type: 'stream_changed', stream: frame.stream });
    }
    if (this.view !== this.main && !this.view.ledger.hello(frame)) this.restart(this.view);
    if (this.paused !== 'no') {
      this.heldBack = true;
      this.paused = 'asked';
      return [{ type: 'pause' }];
    }
    this.heldBack = false;
    return this.begin();
  }

  /** The stream that the main state is of is gone. */
  forget(why) {
    this.main.state.clear(why);
    this.awayWhy = 'first';
    this.stored = null;
    this.clearStore = true;
    this.unsaved = true;
  }

  onFrame(frame) {
    if (this.failed) return;
    const { view } = this;
    switch (frame?.type) {
      case 'batch':
        this.onBatch(view, frame);
        break;
      case 'gap':
      case 'dead_lettered':
        if (frame.type === 'gap') view.ledger.gap(frame);
        else view.ledger.deadLettered(frame);
        this.unsaved ||= view === this.main;
        this.report(frame);
        break;
      case 'answers':
        this.take(frame.resume);
        for (const answer of Array.isArray(frame.answers) ? frame.answers : []) this.onAnswer(frame.resume, answer);
        break;
      case 'live':
        this.onLive(frame);
        break;
      case 'waiting':
        this.take(frame.resume);
        this.view.turn = true;
        this.report(frame);
        break;
      case 'searched':
        view.searched.set(frame.partition, { from: String(frame.from), to: String(frame.to) });
        this.report(frame);
        break;
      case 'falling_behind':
        this.fallingBehind = true;
        this.report(frame);
        break;
      case 'progress':
        view.ledger.progress(frame.cursor);
        view.turn = false;
        break;
      case 'applied':
        this.onApplied(frame);
        break;
      case 'refused':
        this.onRefused(frame);
        break;
      case 'bye':
        this.report(frame);
        break;
      default:
        this.frames.unknown += 1;
    }
    this.changed();
  }

  onBatch(view, frame) {
    const { lost } = view.ledger;
    const fresh = view.ledger.batch(frame);
    view.turn = false;
    if (fresh.length > 0) {
      try {
        const events = view.state.apply(fresh, { partition: frame.partition, replayed: view.ledger.resume !== null });
        view.ledger.countEvents(Number.isFinite(events) ? events : 0);
      } catch (error) {
        this.fail(error);
        return;
      }
    }
    this.unsaved ||= view === this.main;
    if (view.ledger.lost > lost) this.report({ type: 'lost', ...view.ledger.violations[0] });
  }

  /** The answer to a run that was asked for: from here on frames are its own. */
  take(number) {
    if (this.asked === null || String(this.asked.number) !== String(number)) return;
    const { view, then } = this.asked;
    this.view = view;
    this.asked = null;
    this.fallingBehind = false;
    this.connection.catchingUp();
    this.nowWant(then);
  }

  nowWant(then) {
    if (then?.run) this.follow(then.run, then.state);
    else if (then) this.unfollow();
  }

  onAnswer(resume, answer) {
    const { view } = this;
    if (answer.answer !== 'resumed') this.report({ type: answer.answer, ...answer });
    this.unsaved ||= view === this.main;
    const todo = view.ledger.answer(resume, answer);
    if (todo.act === 'restart') {
      if (view.run !== null) this.restart(view);
      else {
        view.ledger = new Ledger({ filtered: view.ledger.filtered });
        view.ledger.hello(this.hello);
        this.forget('wrong_stream');
      }
      this.begin().forEach((frame) => this.connection.send(frame));
    } else if (todo.act === 'again') {
      this.world.setTimeout(() => {
        if (this.connection.state !== 'catching_up' || this.view !== view || this.heldBack) return;
        this.begin().forEach((frame) => this.connection.send(frame));
      }, todo.after);
    }
  }

  onApplied(frame) {
    if (frame.what === 'pause' && this.paused === 'asked') this.paused = 'yes';
    if (frame.what === 'continue' && this.paused === 'continued') this.paused = 'no';
    this.report(frame);
  }

  onRefused(frame) {
    const { what } = frame;
    if (what === 'resume' && this.asked) {
      // An older gateway knows no runs: what was followed goes on, untouched.
      const { then } = this.asked;
      this.asked = null;
      this.resumes -= 1;
      this.report({ ...frame, what: 'run' });
      this.nowWant(then);
      return;
    }
    if (what === 'resume') {
      this.resumes = Math.max(0, this.resumes - 1);
      if (this.view.run !== null) {
        // The same, at the start of a connection.
        this.report({ ...frame, what: 'run' });
        this.view = this.main;
        this.begin().forEach((ask) => this.connection.send(ask));
        return;
      }
      this.view.ledger.resumeRefused();
      this.report(frame);
      this.onLive({ resume: null });
      return;
    }
    // An older gateway calls whatever it does not know `type`.
    if (this.paused !== 'no' && (what === 'pause' || what === 'continue' || what === 'type')) {
      this.paused = 'no';
      this.report({ ...frame, what: 'pause' });
      if (this.heldBack) {
        this.heldBack = false;
        this.begin().forEach((ask) => this.connection.send(ask));
      }
      return;
    }
    this.report(frame);
  }

  onLive(frame) {
    const { view } = this;
    const proof = frame.resume === null ? null : view.ledger.live(frame);
    if (proof === null && frame.resume !== null) return;
    view.caughtUp = true;
    view.turn = false;
    if (proof !== null) this.report({ type: 'returned', ...proof, why: this.awayWhy, awayMs: this.awayMs, run: view.run });
    this.awayFrom = null;
    this.connection.caughtUp();
  }

  // --- keeping ---

  saveSoon(ms) {
    this.saveTimer = this.world.setTimeout(() => this.save().then((took) => {
      if (!this.failed && this.connection.state !== 'stopped') this.saveSoon(Math.max(SAVE_EVERY_MS, took * SAVE_SHARE));
    }), ms);
  }

  /** State and cursor of one moment, in one transaction. Returns how long it took, ms. */
  save() {
    this.saving = this.saving.then(() => this.saveNow());
    return this.saving;
  }

  async saveNow() {
    const { ledger, state } = this.main;
    if (this.failed || !this.unsaved || ledger.stream === null || this.storage.state !== 'on') return 0;
    const began = this.world.now();
    let cursor = null;
    const wrote = await this.storage.save(() => {
      // Between two frames: the state and its cursor are of one moment.
      this.unsaved = false;
      const changes = state.changes();
      const clear = this.clearStore || changes.clear === true;
      this.clearStore = false;
      cursor = this.main.ledger.cursor;
      return { ledger: this.main.ledger.save(), meta: { at: this.world.now(), state: changes.meta }, clear, put: changes.put, remove: changes.remove };
    });
    if (wrote) {
      this.stored = cursor;
      this.report({ type: 'stored', cursor });
    } else if (this.storage.state === 'taken') this.report({ type: 'storage_taken' });
    else this.report({ type: 'storage_off', why: this.storage.why });
    this.changed();
    return this.world.now() - began;
  }
}
