// The application without its face: a client, what it applies records to, and in words what it reports. Keeps what the
// view shows about the stream itself.

import { Client } from './client.js';
import { KIND, RunsState } from './runs_state.js';
import { reason } from './words.js';

const RETURNS_MAX = 12;
const NOTICES_MAX = 20;

export class App {
  constructor({ storage, world, changed }) {
    this.world = world;
    this.changed = changed;
    const now = () => world.now();
    this.whole = new RunsState(now, () => this.client.awayWhy !== 'first');
    this.client = new Client({
      world, storage, state: this.whole, kind: KIND, changed: () => this.changed(), report: (report) => this.onReport(report),
    });
    // Each time we came back: how long we were away, and the proof of what the replay brought.
    this.returns = [];
    this.notices = [];
    // Partitions that already said so, for what every partition says.
    this.saidOnce = new Set();
  }

  get connection() {
    return this.client.connection;
  }

  get ledger() {
    return this.client.ledger;
  }

  get model() {
    return this.client.view.state.model;
  }

  get meter() {
    return this.client.view.state.meter;
  }

  get hello() {
    return this.client.hello;
  }

  /** `run`: { thread, tenant } to follow alone from the start. */
  start(run = null) {
    return this.client.start(run, run && this.stateOfRun());
  }

  stateOfRun() {
    return new RunsState(() => this.world.now(), () => false);
  }

  follow(run) {
    this.client.follow(run, this.stateOfRun());
  }

  unfollow() {
    this.client.unfollow();
  }

  stopOrContinue() {
    if (this.client.paused === 'no' || this.client.paused === 'continued') this.client.pause();
    else this.client.continue();
  }

  notice(tone, text) {
    this.notices.unshift({ at: this.world.now(), tone, text });
    this.notices.length = Math.min(this.notices.length, NOTICES_MAX);
  }

  /** Once per connection and kind. */
  noticeOnce(kind, tone, text) {
    const key = `${this.connection.connects} ${kind}`;
    if (this.saidOnce.has(key)) return;
    if (this.saidOnce.size > 64) this.saidOnce.clear();
    this.saidOnce.add(key);
    this.notice(tone, text);
  }

  onReport(report) {
    switch (report.type) {
      case 'gap':
      case 'dead_lettered': {
        const records = report.type === 'gap' ? Number(BigInt(report.last) - BigInt(report.first)) + 1 : 1;
        if (Number.isFinite(records)) this.meter.missed(records, this.world.now());
        break;
      }
      case 'returned':
        this.returns.unshift({ ...report, at: this.world.now() });
        this.returns.length = Math.min(this.returns.length, RETURNS_MAX);
        break;
      case 'stream_changed':
        this.returns = [];
        this.notice('warn', 'The stream was replaced by another one of the same name. What was shown belonged to the old one and is cleared.');
        break;
      case 'wrong_stream':
        this.returns = [];
        this.noticeOnce('wrong_stream', 'warn', 'Our cursor belonged to another stream. Starting again with this one.');
        break;
      case 'future':
        this.notice('warn', `Partition ${report.partition}: our cursor ${report.requested} is beyond the end of the topic (${report.newest}). Following live from there.`);
        break;
      case 'truncated':
        this.noticeOnce('truncated', 'warn', `Partition ${report.partition}: the gateway has records from ${report.oldest} on, we asked for those after ${report.requested} (${reason(String(report.reason))}).`);
        break;
      case 'unavailable':
        this.noticeOnce('unavailable', 'info', 'The gateway cannot say yet where some partitions go on; it is asked again.');
        break;
      case 'waiting':
        this.notice('info', 'Many clients are being replayed. The gateway will come to us; nothing is lost by waiting.');
        break;
      case 'falling_behind':
        this.notice('warn', 'This page takes less than arrives. From now on the gateway tells it what it does not get, instead of bringing it up to date.');
        break;
      case 'applied': {
        const words = { pause: 'The gateway sends nothing until we ask it to go on.', continue: 'The gateway sends again, from where it stopped.', subscribe: 'The gateway applied the filter.' };
        if (words[report.what]) this.notice('info', words[report.what]);
        break;
      }
      case 'refused':
        if (report.what === 'run') this.notice('warn', `This gateway cannot follow one run (${report.why ?? 'no reason given'}). The whole stream goes on.`);
        else if (report.what === 'pause') this.notice('warn', `This gateway cannot stop the stream (${report.why ?? 'no reason given'}). It goes on.`);
        else this.notice('warn', `The gateway refused ${report.what ?? 'a frame'}: ${report.why ?? 'no reason given'}.`);
        break;
      case 'bye':
        this.notice('info', `The gateway said goodbye: ${report.reason ?? ''}.`);
        break;
      case 'store_discarded':
        this.notice('warn', `What this browser kept could not be used (${report.why}). It was thrown away; the stream has it all.`);
        break;
      case 'storage_off':
        this.notice('info', `Nothing is kept for a reload: ${report.why}.`);
        break;
      case 'storage_taken':
        this.notice('info', 'A newer page of this browser keeps the state for a reload now. This one goes on without.');
        break;
      case 'failed':
        this.notice('warn', `This page has a bug and stopped: ${report.error?.message ?? report.error}. Load it again.`);
        break;
      default:
    }
  }

  /** Called by the view several times a second, so that the chart shows when we were away. */
  tick() {
    if (this.connection.state === 'waiting' || this.connection.state === 'broken') this.meter.away(this.world.now());
  }
}
