// What the page says and keeps: the states of the link in words, the gateway's clients as rows, and runs that come
// back from the store or are thrown away with it. Run: node --test tests/page/

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { App } from '../../src/page/assets/app.js';
import { Storage } from '../../src/page/assets/client.js';
import { clientCells, closedCells, understand } from '../../src/page/assets/clients_view.js';
import { RUNS_MAX } from '../../src/page/assets/model.js';
import { RunsState } from '../../src/page/assets/runs_state.js';
import { link } from '../../src/page/assets/words.js';
import { FakeIndexedDB, fakeWorld } from './world.mjs';

const HELLO = { type: 'hello', stream: 's', topic: 't', partitions: [{ partition: 0, oldest: '0', next: '0', position: '0' }] };
const record = (offset, thread = 'a', event_type = 'NODE_START') => ({ offset: String(offset), timestamp_ms: 1, events: [{ kind: 'event', event_type, thread_id: thread, tenant_id: 'acme', node_id: 'n', timestamp_us: '1700000000000000' }] });
const batch = (from, records) => ({ type: 'batch', partition: 0, from: String(from), next: String(from + records.length), records });
const resumed = (resume, from) => ({ type: 'answers', resume: String(resume), answers: [{ partition: 0, answer: 'resumed', from: String(from) }] });
const live = (resume) => ({ type: 'live', resume: String(resume), replayed: '0' });

async function opened(factory) {
  const world = fakeWorld();
  const app = new App({ storage: factory ? await Storage.open('/', factory) : Storage.none('a test'), world, changed: () => {} });
  await app.start();
  return { world, app, socket: () => world.sockets.at(-1) };
}

test('after a reload the page shows the runs it had, and goes on with them', async () => {
  const factory = new FakeIndexedDB();
  const first = await opened(factory);
  first.socket().gives(HELLO, resumed(1, 0), batch(0, [record(0, 'a'), record(1, 'b')]), live(1));
  await first.app.client.save();
  first.socket().gives(batch(2, [record(2, 'c')]));
  const second = await opened(factory.reborn());
  assert.deepEqual([...second.app.model.runs.keys()], ['acme/a', 'acme/b']);
  assert.equal(second.app.client.restored.entries, 2);
  second.socket().gives(HELLO, resumed(1, 2), batch(2, [record(2, 'c'), record(3, 'a', 'NODE_END')]), live(1));
  assert.deepEqual([...second.app.model.runs.keys()], ['acme/a', 'acme/b', 'acme/c']);
  assert.equal(second.app.model.runs.get('acme/a').counts.events, 2);
  assert.deepEqual([second.app.ledger.whole, second.app.ledger.records, second.app.returns[0].why], [true, 4, 'reload']);
});

test('runs go through the store unchanged, removed ones are removed', async () => {
  const state = new RunsState(() => 5);
  state.apply([record(0, 'a'), record(1, 'b')], { partition: 0, replayed: false });
  const kept = new Map(state.changes().put);
  for (let i = 0; i < RUNS_MAX; i += 1) state.apply([record(2, `t${i}`)], { partition: 0, replayed: false });
  const changes = state.changes();
  changes.remove.forEach((id) => kept.delete(id));
  changes.put.forEach(([id, run]) => kept.set(id, run));
  assert.deepEqual([changes.remove.length, kept.size, state.changes().put.length], [2, RUNS_MAX, 0]);
  const again = new RunsState(() => 5);
  again.restore(JSON.parse(JSON.stringify({ meta: changes.meta, entries: [...kept].reverse() })));
  assert.deepEqual([...again.model.runs.values()], [...state.model.runs.values()]);
  assert.deepEqual([again.model.totals, again.meter.slots], [state.model.totals, state.meter.slots]);
});

test('runs of another shape are not taken', () => {
  const state = new RunsState(() => 5);
  state.apply([record(0, 'a')], { partition: 0, replayed: false });
  const { put, meta } = state.changes();
  const taken = (change) => {
    const saved = JSON.parse(JSON.stringify({ meta, entries: put }));
    change(saved);
    try {
      new RunsState(() => 5).restore(saved);
      return true;
    } catch {
      return false;
    }
  };
  assert.equal(taken(() => {}), true);
  for (const change of [
    (s) => { s.entries[0][1] = null; }, (s) => { s.entries[0][0] = 'other'; }, (s) => { s.entries[0][1].lanes = {}; },
    (s) => { s.entries[0][1].lanes = [null]; }, (s) => { s.entries[0][1].streams = [{ text: 5, ahead: {} }]; },
    (s) => { delete s.entries[0][1].feed; }, (s) => { s.entries[0][1].counts = { events: 1 }; }, (s) => { s.entries[0][1].started = '1'; },
    (s) => { s.meta.totals = null; }, (s) => { s.meta.slots = [1]; }, (s) => { s.meta.slots[0] = { id: 'x' }; }, (s) => { s.meta = null; },
  ]) assert.equal(taken(change), false, String(change));
});

test('one run alone: its own runs and chart, and the whole stream as it was when it is left', async () => {
  const { app, socket } = await opened(null);
  socket().gives(HELLO, resumed(1, 0), batch(0, [record(0, 'a'), record(1, 'b')]), live(1));
  app.follow({ thread: 'a', tenant: 'acme' });
  assert.match(link(app.client, 0).words, /Live$/, 'until the gateway answers, it is what it was');
  socket().gives(resumed(2, 0), { type: 'searched', partition: 0, from: '0', to: '1200' });
  assert.match(link(app.client, 0).words, /1,200 offsets of 1 partition$/);
  socket().gives(batch(0, [record(0, 'a')]), live(2));
  assert.deepEqual([[...app.model.runs.keys()], link(app.client, 0)], [['acme/a'], { look: 'live', words: 'Live, one run' }]);
  app.unfollow();
  assert.deepEqual([...app.model.runs.keys()], ['acme/a', 'acme/b']);
});

test('the link in words: waiting for a turn, too slow, stopped', async () => {
  const { app, socket } = await opened(null);
  socket().gives(HELLO, { type: 'waiting', resume: '1' });
  assert.deepEqual(link(app.client, 0), { look: 'queued', words: 'Waiting for our turn to be replayed' });
  socket().gives(resumed(1, 0), batch(0, [record(0)]));
  assert.equal(link(app.client, 0).words, 'Catching up');
  socket().gives(live(1), { type: 'falling_behind' });
  assert.equal(link(app.client, 0).words, 'Live, but too slow for all of it');
  app.stopOrContinue();
  assert.equal(link(app.client, 0).words, 'Asking the gateway to stop');
  socket().gives({ type: 'applied', what: 'pause', cursor: {} });
  assert.deepEqual(link(app.client, 0), { look: 'held', words: 'Stopped by you, the gateway keeps our place' });
  app.stopOrContinue();
  assert.notEqual(link(app.client, 0).look, 'held');
  assert.ok(app.notices.length >= 3);
});

test('what an older gateway refuses is a sentence, and nothing else happens', async () => {
  const { app, socket } = await opened(null);
  socket().gives(HELLO, resumed(1, 0), live(1));
  app.follow({ thread: 'a', tenant: '' });
  socket().gives({ type: 'refused', what: 'resume', why: 'unsupported' });
  app.stopOrContinue();
  socket().gives({ type: 'refused', what: 'type', why: 'unsupported' });
  assert.match(app.notices[1].text, /cannot follow one run/);
  assert.match(app.notices[0].text, /cannot stop the stream/);
  assert.equal(link(app.client, 0).words, 'Live');
});

test('clients as rows: what is not known is not a number', () => {
  const row = { id: 7, address: '10.0.0.1', protocol: 'dashstream.v2', state: 'replaying', behind_records: 12345, waiting_seconds: 2.5, policy: 'gap', records_sent: 99, gaps_told: 3, connected_seconds: 61, connected_at_ms: 1 };
  assert.deepEqual(clientCells(row), ['#7 10.0.0.1', 'v2', 'replaying', '12.3K', '2.50 s', '99', '3', 'told gaps', '1m 01s']);
  assert.deepEqual(clientCells({ ...row, behind_records: null, waiting_seconds: null, state: 'new', policy: 'new' }).slice(2, 5), ['new', 'not counted', '–']);
  assert.deepEqual(closedCells({ ...row, reason: 'fell_behind', told: false, closed_seconds_ago: 70 }).slice(2, 5), ['fell behind', 'no', '1m ago']);
});

test('the list of clients: shown up to a bound, and a sentence where there is none', () => {
  const list = Array.from({ length: 250 }, (_, id) => ({ id }));
  const page = understand(200, { total: 9000, shown: 250, clients: list, closed: list });
  assert.deepEqual([page.total, page.clients.length, page.closed.length, page.more], [9000, 100, 100, 150]);
  for (const [status, body, words] of [[403, null, /admin port/], [404, null, /older/], [200, { clients: 7 }, /no list/], [503, null, /no list/], [0, null, /no list/]]) {
    assert.match(understand(status, body).why, words);
  }
});
