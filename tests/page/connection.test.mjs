// The connection never gives up, waits longer each time but not for ever, answers Hello with a resume, and finds out
// by itself that the peer is gone; the application proves what a break brought. Run: node --test tests/page/

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { App } from '../../src/page/assets/app.js';
import { delay } from '../../src/page/assets/backoff.js';
import { Meter, SLOTS, SLOT_MS } from '../../src/page/assets/meter.js';
import { Storage } from '../../src/page/assets/client.js';
import { fakeWorld } from './world.mjs';

const HELLO = { type: 'hello', stream: 's', topic: 't', partitions: [{ partition: 0, oldest: '0', next: '0', position: '0' }] };
const record = (offset) => ({ offset: String(offset), timestamp_ms: 1, events: [{ kind: 'event', event_type: 'NODE_START', thread_id: 'a', node_id: 'n', timestamp_us: '1' }] });
const batch = (from, next) => ({ type: 'batch', partition: 0, from: String(from), next: String(next), records: Array.from({ length: next - from }, (_, i) => record(from + i)) });

async function started() {
  const world = fakeWorld();
  const app = new App({ storage: Storage.none('a test'), world, changed: () => {} });
  await app.start();
  world.sockets[0].gives(HELLO, { type: 'answers', resume: '1', answers: [{ partition: 0, answer: 'resumed', from: '0' }] }, batch(0, 5), { type: 'live', resume: '1', replayed: '5' });
  return { world, app };
}

test('Hello is answered with a resume from the beginning, and live makes it live', async () => {
  const { world, app } = await started();
  assert.equal(world.sockets[0].protocol, 'dashstream.json');
  assert.deepEqual(world.sockets[0].sent[0], { type: 'resume', from: 'earliest', stream: 's' });
  assert.equal(app.connection.state, 'live');
  assert.equal(app.ledger.records, 5);
});

test('a break on purpose comes back after its time with the cursor, and shows what it brought', async () => {
  const { world, app } = await started();
  app.connection.breakFor(3000);
  assert.deepEqual([app.connection.state, world.sockets[0].closedWith], ['broken', 1000]);
  world.pass(2999);
  assert.equal(world.sockets.length, 1);
  world.pass(1);
  world.sockets[1].gives(HELLO);
  assert.deepEqual(world.sockets[1].sent[0].cursor, { 0: '4' });
  world.sockets[1].gives({ type: 'answers', resume: '1', answers: [{ partition: 0, answer: 'resumed', from: '5' }] }, batch(5, 25), { type: 'live', resume: '1', replayed: '20' });
  const [back] = app.returns;
  assert.deepEqual([back.why, back.awayMs, back.events, back.violations, app.connection.state], ['broken', 3000, 20, 0, 'live']);
  assert.ok(app.ledger.whole);
});

test('a dead peer is noticed without a word from TCP, and a lost connection is tried for ever', async () => {
  const { world, app } = await started();
  world.pass(60000);
  assert.notEqual(app.connection.state, 'live');
  for (let i = 0; i < 50; i += 1) {
    world.pass(20000);
    world.sockets.at(-1).onclose?.({ code: 1006, reason: '' });
  }
  assert.ok(world.sockets.length > 50);
  assert.equal(app.connection.state, 'waiting');
});

test('what a poison frame or an unknown one does: it is counted, and the connection stays', async () => {
  const { world, app } = await started();
  world.sockets[0].gives('{', 'null', '7', { type: 'surprise' }, { type: 'batch' }, { type: 'answers' }, batch(5, 6));
  assert.deepEqual([app.connection.state, app.ledger.records, app.client.frames.unreadable, world.sockets.length], ['live', 6, 1, 1]);
  assert.ok(app.client.frames.unknown >= 1 && app.ledger.disorder === 1);
});

test('another stream: everything is cleared and said', async () => {
  const { world, app } = await started();
  world.sockets[0].gives({ type: 'bye', reason: 'stream_changed', cursor: {}, reconnect_after_ms: 0 });
  world.sockets[0].onclose({ code: 4004, reason: 'stream_changed' });
  world.pass(600);
  world.sockets[1].gives({ ...HELLO, stream: 'other' });
  assert.deepEqual([app.model.runs.size, app.ledger.records, world.sockets[1].sent[0].from], [0, 0, 'earliest']);
  assert.match(app.notices[0].text, /replaced/);
});

test('a refused resume is said, and live goes on', async () => {
  const world = fakeWorld();
  const app = new App({ storage: Storage.none('a test'), world, changed: () => {} });
  await app.start();
  world.sockets[0].gives({ ...HELLO, partitions: [{ partition: 0, oldest: '0', next: '50', position: '50' }] }, { type: 'refused', what: 'resume', why: 'unsupported' }, batch(50, 51));
  assert.deepEqual([app.connection.state, app.ledger.records, app.ledger.lost], ['live', 1, 0n]);
});

test('waiting times grow, are spread, and end at a ceiling', () => {
  const at = (failures, random, more = {}) => delay({ failures, random, ...more });
  assert.ok(at(0, 0) >= 50 && at(0, 0.99) <= 400);
  assert.ok(at(5, 0.99) > at(1, 0.99));
  for (const random of [0, 0.5, 0.999]) assert.ok(at(1000, random) <= 15000 && at(1000, random) >= 1000);
  assert.ok(at(0, 0.5, { askedMs: 5000 }) >= 3000);
  assert.ok(at(9, 0.5, { code: 4004 }) < 1000);
});

test('the chart puts replayed events where they were written, and stays bounded', () => {
  const meter = new Meter();
  const now = 1_000_000_000;
  const one = { timestamp_ms: now - 10000, events: [{ kind: 'event' }, { kind: 'error' }] };
  meter.add(one, now, { live: false, replayed: true });
  const slot = meter.window(now + SLOT_MS).find((s) => s);
  assert.deepEqual([slot.id, slot.replayed, slot.kinds], [Math.floor((now - 10000) / SLOT_MS), 2, [1, 0, 0, 0, 0, 1]]);
  meter.add({ timestamp_ms: 1, events: [{ kind: 'event' }] }, now, { live: false, replayed: false });
  meter.add({ timestamp_ms: now + 9e9, events: [{ kind: 'event' }] }, now, { live: false, replayed: false });
  assert.ok(meter.slots.length === SLOTS && meter.window(now).length === SLOTS - 1);
});
