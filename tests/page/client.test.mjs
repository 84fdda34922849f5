// The client as an integrator uses it: cursor and state move together through reloads and kills, nothing is missing
// and nothing comes twice; one run is followed and left again; the gateway is asked to stop; whatever the gateway says
// is reported; and a gateway that knows less is no trouble. Run: node --test tests/page/

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Client, Storage } from '../../src/page/assets/client.js';
import { FakeIndexedDB, fakeWorld } from './world.mjs';

/** A state that remembers every offset it was given, which is what the tests ask about. */
class Offsets {
  constructor() {
    this.seen = [];
    this.told = 0;
    this.cleared = [];
  }

  apply(records, { partition }) {
    for (const record of records) this.seen.push(`${partition}:${record.offset}`);
    return records.length;
  }

  clear(why) {
    this.seen = [];
    this.told = 0;
    this.cleared.push(why);
  }

  changes() {
    const from = this.told;
    this.told = this.seen.length;
    return { clear: false, put: this.seen.slice(from).map((offset, i) => [from + i, offset]), remove: [], meta: { length: this.seen.length } };
  }

  restore({ meta, entries }) {
    if (meta.length !== entries.length) throw new Error('not all of it');
    this.seen = entries.sort(([a], [b]) => a - b).map(([, offset]) => offset);
    this.told = this.seen.length;
  }
}

const hello = (nexts, stream = 's') => ({ type: 'hello', stream, topic: 't', partitions: nexts.map((next, partition) => ({ partition, oldest: '0', next: String(next), position: String(next) })) });
const batch = (from, next, partition = 0, offsets = null) => ({ type: 'batch', partition, from: String(from), next: String(next), records: (offsets ?? Array.from({ length: next - from }, (_, i) => from + i)).map((offset) => ({ offset: String(offset), events: [{}] })) });
const resumed = (resume, ...froms) => ({ type: 'answers', resume: String(resume), answers: froms.map((from, partition) => ({ partition, answer: 'resumed', from: String(from) })) });
const live = (resume) => ({ type: 'live', resume: String(resume), replayed: '0' });
const range = (from, next, partition = 0) => Array.from({ length: next - from }, (_, i) => `${partition}:${from + i}`);

function made(world, options = {}) {
  const reports = [];
  const state = new Offsets();
  const client = new Client({ world, state, report: (r) => reports.push(r), ...options });
  return { client, state, reports, told: (type) => reports.filter((r) => r.type === type) };
}

/** Live with `count` records of one partition. */
async function started(count = 5, options = {}) {
  const world = fakeWorld();
  const all = made(world, options);
  await all.client.start();
  const socket = () => world.sockets.at(-1);
  socket().gives(hello([0]), resumed(1, 0), batch(0, count), live(1));
  return { world, socket, ...all };
}

test('a reload takes back what was stored and resumes right after it', async () => {
  const factory = new FakeIndexedDB();
  const first = await started(5, { storage: await Storage.open('x', factory) });
  assert.equal(first.client.stored, null, 'nothing is stored yet, however much was applied');
  await first.client.save();
  assert.deepEqual(first.client.stored, { 0: '4' });
  first.socket().gives(batch(5, 9));
  assert.deepEqual([first.client.stored, first.client.ledger.cursor], [{ 0: '4' }, { 0: '8' }], 'applied, not yet stored');

  const world = fakeWorld();
  const { client, state, told } = made(world, { storage: await Storage.open('x', factory.reborn()) });
  await client.start();
  assert.deepEqual([state.seen, client.stored], [range(0, 5), { 0: '4' }]);
  assert.deepEqual(told('restored'), [{ type: 'restored', entries: 5, records: 5 }]);
  world.sockets[0].gives(hello([9]));
  assert.deepEqual(world.sockets[0].said, [{ type: 'resume', from: 'cursor', stream: 's', cursor: { 0: '4' } }]);
  world.sockets[0].gives(resumed(1, 5), batch(5, 9), live(1));
  assert.deepEqual([state.seen, client.ledger.whole], [range(0, 9), true]);
  assert.deepEqual([told('returned')[0].why, told('returned')[0].records], ['reload', 4]);
});

test('killed anywhere between saving and receiving, nothing is missing and nothing comes twice', async () => {
  const cursors = new Set();
  for (let at = 0; at < 60; at += 3) {
    const factory = new FakeIndexedDB();
    const { client, socket } = await started(3, { storage: await Storage.open('x', factory) });
    factory.killAfter = at;
    const life = (async () => {
      for (let i = 3; i < 12; i += 3) {
        await client.save();
        socket().gives(batch(i, i + 3));
      }
      await client.save();
    })();
    await Promise.race([life, new Promise((resolve) => setTimeout(resolve, 30))]);
    const world = fakeWorld();
    const next = made(world, { storage: await Storage.open('x', factory.reborn()) });
    await next.client.start();
    world.sockets[0].gives(hello([12]));
    const [ask] = world.sockets[0].said;
    const from = ask.from === 'earliest' ? 0 : Number(ask.cursor[0]) + 1;
    cursors.add(from);
    world.sockets[0].gives(resumed(1, from), batch(from, 12), live(1));
    assert.deepEqual(next.state.seen, range(0, 12), `killed at request ${at}, resumed from ${from}`);
    assert.ok(next.client.ledger.whole);
    assert.deepEqual(next.told('store_discarded'), []);
  }
  assert.ok(cursors.size >= 4, `kills at every stage: ${[...cursors]}`);
});

test('a store of another stream is not used', async () => {
  const factory = new FakeIndexedDB();
  const first = await started(5, { storage: await Storage.open('x', factory) });
  await first.client.save();
  const world = fakeWorld();
  const { client, state, told } = made(world, { storage: await Storage.open('x', factory) });
  await client.start();
  world.sockets[0].gives(hello([7], 'other'));
  assert.deepEqual([state.seen, client.stored, told('stream_changed').length], [[], null, 1]);
  assert.equal(world.sockets[0].said[0].from, 'earliest');
  world.sockets[0].gives(resumed(1, 0), batch(0, 2), live(1));
  await client.save();
  const after = made(fakeWorld(), { storage: await Storage.open('x', factory.reborn()) });
  await after.client.start();
  assert.deepEqual([after.state.seen, after.client.ledger.stream], [range(0, 2), 'other']);
});

test('a store that the state does not understand, or of another filter or kind, is thrown away and said', async () => {
  for (const [what, options, spoil] of [
    ['another filter', { filter: { tenants: ['a'] } }, null],
    ['another kind', { kind: '2' }, null],
    ['the state refuses', {}, (stores) => { stores.get('meta').get('state').text = stores.get('meta').get('state').text.replace('"length":5', '"length":6'); }],
    ['a broken cursor', {}, (stores) => { stores.get('meta').get('state').text = stores.get('meta').get('state').text.replace('"next":"5"', '"next":"-5"'); }],
    ['no ledger', {}, (stores) => { stores.get('meta').get('state').text = '{"meta":{"state":{"length":5}}}'; }],
  ]) {
    const factory = new FakeIndexedDB();
    const first = await started(5, { storage: await Storage.open('x', factory) });
    await first.client.save();
    const next = factory.reborn();
    spoil?.(next.databases.get('dashstream x').stores);
    const world = fakeWorld();
    const { client, state, told } = made(world, { storage: await Storage.open('x', next), ...options });
    await client.start();
    assert.deepEqual([state.seen, client.stored, told('store_discarded').length], [[], null, 1], what);
    world.sockets[0].gives(hello([5]));
    assert.equal(world.sockets[0].said.at(-1).from, 'earliest', what);
  }
});

test('two pages: the newer one keeps, the older one says so and stays right', async () => {
  const factory = new FakeIndexedDB();
  const first = await started(5, { storage: await Storage.open('x', factory) });
  await first.client.save();
  const second = made(fakeWorld(), { storage: await Storage.open('x', factory) });
  await second.client.start();
  first.socket().gives(batch(5, 8));
  await first.client.save();
  assert.deepEqual([first.told('storage_taken').length, first.state.seen, first.client.stored], [1, range(0, 8), { 0: '4' }]);
  second.client.world.sockets[0].gives(hello([8]), resumed(1, 5), batch(5, 6), live(1));
  await second.client.save();
  const third = made(fakeWorld(), { storage: await Storage.open('x', factory.reborn()) });
  await third.client.start();
  assert.deepEqual(third.state.seen, range(0, 6));
});

test('an exception of apply ends it: what was stored stays as it was, and is what the next start goes on from', async () => {
  const factory = new FakeIndexedDB();
  const { client, state, socket, world, told } = await started(5, { storage: await Storage.open('x', factory) });
  await client.save();
  state.apply = () => {
    throw new Error('a bug');
  };
  socket().gives(batch(5, 6));
  assert.deepEqual([client.connection.state, told('failed').length, told('failed')[0].error.message], ['stopped', 1, 'a bug']);
  world.pass(100000);
  await client.save();
  assert.equal(world.sockets.length, 1, 'it does not come back');
  const next = made(fakeWorld(), { storage: await Storage.open('x', factory.reborn()) });
  await next.client.start();
  assert.deepEqual([next.state.seen, next.client.stored], [range(0, 5), { 0: '4' }]);
});

test('a filter is sent before every resume; a jump is then withheld, not lost; progress moves the cursor', async () => {
  const world = fakeWorld();
  const { client, state, told } = made(world, { filter: { tenants: ['a'], kinds: ['error'] } });
  await client.start();
  world.sockets[0].gives(hello([20]));
  assert.deepEqual(world.sockets[0].said.map((f) => f.type), ['subscribe', 'resume']);
  assert.deepEqual(world.sockets[0].said[0], { type: 'subscribe', tenants: ['a'], kinds: ['error'] });
  world.sockets[0].gives({ type: 'applied', what: 'subscribe', cursor: {} }, resumed(1, 0), batch(4, 9, 0, [5]), batch(15, 20, 0, [17]), live(1));
  assert.deepEqual([state.seen, client.ledger.lost, client.ledger.withheld, client.ledger.whole], [['0:5', '0:17'], 0n, 10n, true]);
  world.sockets[0].gives({ type: 'progress', cursor: { 0: '99', 7: '3', x: 'y' } });
  assert.deepEqual(client.ledger.cursor, { 0: '99' });
  world.sockets[0].gives(batch(98, 101, 0, [98, 100]));
  assert.equal(client.ledger.whole, false, 'what comes twice is still noticed');
  assert.deepEqual(state.seen, ['0:5', '0:17', '0:100']);
  assert.equal(told('applied').length, 1);
});

test('without a filter progress moves nothing, and a jump is reported as lost', async () => {
  const { client, socket, told } = await started(5);
  socket().gives({ type: 'progress', cursor: { 0: '9' } });
  assert.deepEqual(client.ledger.cursor, { 0: '4' });
  socket().gives(batch(7, 8));
  assert.deepEqual(told('lost'), [{ type: 'lost', partition: 0, kind: 'lost', from: '5', to: '7' }]);
});

const RUN = { thread: 'run-1', tenant: 'acme' };

/** Follows a run from a live client, up to its live. */
async function following() {
  const all = await started(5);
  const run = new Offsets();
  all.client.follow(RUN, run);
  all.socket().gives(batch(5, 7), resumed(2, 1), { type: 'searched', partition: 0, from: '1', to: '7' }, batch(1, 7, 0, [2, 6]), live(2));
  return { ...all, run };
}

test('a run is followed from its beginning with a state of its own, and the main state stands still', async () => {
  const { client, state, socket, run, told } = await following();
  assert.deepEqual(socket().said.at(-1), { type: 'resume', from: 'run', stream: 's', thread: 'run-1', tenant: 'acme' });
  assert.deepEqual([state.seen, run.seen], [range(0, 7), ['0:2', '0:6']], 'what came before the answer was the stream’s');
  assert.deepEqual([client.run, client.connection.state, [...client.view.searched]], [RUN, 'live', [[0, { from: '1', to: '7' }]]]);
  socket().gives(batch(9, 12, 0, [10]));
  assert.deepEqual([run.seen, state.seen.length, client.ledger.whole], [['0:2', '0:6', '0:10'], 7, true]);
  assert.equal(told('lost').length, 0);
});

test('left again, the stream goes on right after what was applied of it', async () => {
  const { client, state, socket, told } = await following();
  socket().gives(batch(9, 12, 0, [10]));
  client.unfollow();
  assert.deepEqual(socket().said.slice(-2), [{ type: 'subscribe' }, { type: 'resume', from: 'cursor', stream: 's', cursor: { 0: '6' } }]);
  socket().gives({ type: 'applied', what: 'subscribe', cursor: { 0: '11' } }, batch(12, 13), resumed(3, 7), batch(7, 13), live(3));
  assert.deepEqual([state.seen, client.ledger.whole, client.run], [range(0, 13), true, null]);
  assert.equal(told('returned').at(-1).why, 'run_left');
});

test('left again, a partition of which nothing is known yet is not forgotten', async () => {
  const world = fakeWorld();
  const { client, state } = made(world);
  await client.start();
  world.sockets[0].gives(hello([0, 0]), resumed(1, 0, 0), batch(0, 4), live(1));
  client.follow(RUN, new Offsets());
  world.sockets[0].gives(resumed(2, 0, 0), live(2));
  client.unfollow();
  // Nobody can name "before 0" in a cursor, and the connection has moved on meanwhile.
  assert.equal(world.sockets[0].said.at(-1).from, 'earliest');
  world.sockets[0].gives(resumed(3, 0, 0), batch(0, 4), batch(0, 3, 1), live(3));
  assert.deepEqual([state.seen, client.ledger.whole], [[...range(0, 4), ...range(0, 3, 1)], true]);
});

test('after a break a followed run goes on from its own cursor, filtered', async () => {
  const { client, socket, run, world } = await following();
  client.breakFor(1000);
  world.pass(1000);
  socket().gives(hello([30]));
  assert.deepEqual(socket().said, [
    { type: 'subscribe', threads: ['run-1'], tenants: ['acme'] },
    { type: 'resume', from: 'cursor', stream: 's', cursor: { 0: '6' } },
  ]);
  socket().gives(resumed(1, 7), batch(20, 30, 0, [25]), live(1));
  assert.deepEqual([run.seen, run.cleared, client.ledger.whole], [['0:2', '0:6', '0:25'], [], true]);
});

test('a run that no cursor can name is read again from its beginning', async () => {
  const { client, socket, run, world } = await following();
  client.breakFor(1000);
  world.pass(1000);
  socket().gives(hello([30, 4]));
  assert.deepEqual([socket().said.map((f) => f.from), run.cleared], [['run'], ['run']]);
  socket().gives(resumed(1, 1, 0), batch(1, 30, 0, [2, 6, 25]), live(1));
  assert.deepEqual([run.seen, client.ledger.whole], [['0:2', '0:6', '0:25'], true]);
});

test('a gateway that cannot follow a run says so, and the stream goes on untouched', async () => {
  const { client, state, socket, told } = await started(5);
  client.follow(RUN, new Offsets());
  socket().gives(batch(5, 6), { type: 'refused', what: 'resume', why: 'unsupported' }, batch(6, 8));
  assert.deepEqual([state.seen, client.run, client.connection.state, client.ledger.whole], [range(0, 8), null, 'live', true]);
  assert.deepEqual(told('refused').map((r) => [r.what, r.why]), [['run', 'unsupported']]);
  // The refused one was not numbered.
  client.breakFor(0);
  client.reconnect();
  socket().gives(hello([8]), resumed(1, 8), live(1));
  client.follow(RUN, new Offsets());
  socket().gives({ type: 'refused', what: 'resume', why: 'unsupported' });
  client.follow(RUN, new Offsets());
  socket().gives(resumed(2, 0), live(2));
  assert.deepEqual(client.run, RUN);
});

test('a run from the start, refused: the stream comes instead', async () => {
  const world = fakeWorld();
  const { client, state } = made(world);
  await client.start(RUN, new Offsets());
  world.sockets[0].gives(hello([5]));
  assert.equal(world.sockets[0].said[0].from, 'run');
  world.sockets[0].gives({ type: 'refused', what: 'resume', why: 'unsupported' });
  assert.equal(world.sockets[0].said[1].from, 'earliest');
  world.sockets[0].gives(resumed(1, 0), batch(0, 5), live(1));
  assert.deepEqual([state.seen, client.run, client.ledger.whole], [range(0, 5), null, true]);
});

test('changing one’s mind before the gateway answered ends where it was wished', async () => {
  for (const refused of [false, true]) {
    const { client, state, socket } = await started(5);
    const other = new Offsets();
    const answer = (number) => (refused ? { type: 'refused', what: 'resume', why: 'unsupported' } : resumed(number, 0));
    client.follow(RUN, new Offsets());
    client.follow({ thread: 'run-2', tenant: '' }, other);
    assert.equal(client.run.thread, 'run-2');
    client.unfollow();
    assert.equal(client.run, null);
    socket().gives(batch(5, 6), answer(2));
    if (!refused) {
      assert.deepEqual(socket().said.slice(-2).map((f) => f.type), ['subscribe', 'resume']);
      socket().gives(resumed(3, 6));
    }
    socket().gives(batch(6, 8));
    assert.deepEqual([state.seen, client.ledger.whole, client.run], [range(0, 8), true, null], `refused: ${refused}`);
  }
});

test('stopped by the gateway at our wish: said, kept over a break, and gone on with', async () => {
  const { client, state, socket, world, told } = await started(5);
  client.pause();
  assert.deepEqual([client.paused, socket().said.at(-1)], ['asked', { type: 'pause' }]);
  socket().gives(batch(5, 6), { type: 'applied', what: 'pause', cursor: { 0: '5' } });
  assert.deepEqual([client.paused, state.seen], ['yes', range(0, 6)]);
  client.breakFor(500);
  world.pass(500);
  socket().gives(hello([40]));
  assert.deepEqual(socket().said, [{ type: 'pause' }], 'no resume while stopped: that would start it again');
  socket().gives({ type: 'applied', what: 'pause', cursor: {} });
  client.continue();
  assert.deepEqual(socket().said.slice(1).map((f) => [f.type, f.cursor]), [['continue', undefined], ['resume', { 0: '5' }]]);
  socket().gives({ type: 'applied', what: 'continue', cursor: {} }, batch(40, 41), resumed(1, 6), batch(6, 41), live(1));
  assert.deepEqual([client.paused, state.seen, client.ledger.whole], ['no', range(0, 41), true]);
  assert.deepEqual(told('applied').map((r) => r.what), ['pause', 'pause', 'continue']);
});

test('a gateway that cannot stop says so, also after a break, and nothing is missing', async () => {
  for (const what of ['type', 'pause']) {
    const { client, state, socket, world, told } = await started(5);
    client.pause();
    socket().gives({ type: 'refused', what, why: 'unsupported' }, batch(5, 6));
    assert.deepEqual([client.paused, told('refused')[0].what, state.seen], ['no', 'pause', range(0, 6)]);
    client.pause();
    client.breakFor(0);
    world.pass(1);
    socket().gives(hello([9]), { type: 'refused', what, why: 'unsupported' });
    assert.equal(socket().said.at(-1).from, 'cursor');
    socket().gives(resumed(1, 6), batch(6, 9), live(1));
    assert.deepEqual([state.seen, client.ledger.whole], [range(0, 9), true]);
  }
});

test('following a run while stopped goes on first', async () => {
  const { client, socket } = await started(5);
  client.pause();
  socket().gives({ type: 'applied', what: 'pause', cursor: {} });
  client.follow(RUN, new Offsets());
  assert.deepEqual(socket().said.slice(-2).map((f) => f.type), ['continue', 'resume']);
});

test('what the gateway says of us is reported', async () => {
  const { client, socket, world, told } = await started(5);
  socket().gives({ type: 'gap', partition: 0, first: '5', last: '6', reason: 'slow_client' }, { type: 'dead_lettered', partition: 0, offset: '7', reason: 'invalid_protobuf', id: 'i' }, { type: 'falling_behind' });
  assert.deepEqual([client.fallingBehind, told('gap')[0].last, told('dead_lettered')[0].id], [true, '6', 'i']);
  client.breakFor(0);
  world.pass(1);
  socket().gives(hello([50]), { type: 'waiting', resume: '1' });
  assert.deepEqual([client.view.turn, client.fallingBehind, told('waiting').length], [true, false, 1]);
  socket().gives({ type: 'answers', resume: '1', answers: [{ partition: 0, answer: 'truncated', requested: '7', oldest: '40', reason: 'evicted' }] }, batch(40, 50), live(1), { type: 'bye', reason: 'shutting_down', cursor: {}, reconnect_after_ms: 0 });
  assert.deepEqual([client.view.turn, told('truncated')[0].oldest, told('bye')[0].reason, client.ledger.lost], [false, '40', 'shutting_down', 0n]);
});

test('a wrong stream is told once per partition and starts again once', async () => {
  const { client, state, socket, world, told } = await started(5);
  client.breakFor(0);
  world.pass(1);
  socket().gives(hello([9, 9]), { type: 'answers', resume: '1', answers: [{ partition: 0, answer: 'wrong_stream', newest: '9' }, { partition: 1, answer: 'wrong_stream', newest: '9' }] });
  assert.deepEqual([told('wrong_stream').length, socket().said.length, state.cleared], [2, 2, ['wrong_stream']]);
  socket().gives(resumed(2, 0, 0), batch(0, 9), batch(0, 9, 1), live(2));
  assert.deepEqual([state.seen.length, client.ledger.whole], [18, true]);
});

test('stopped for good, it stores what it has and does not come back', async () => {
  const factory = new FakeIndexedDB();
  const { client, world } = await started(5, { storage: await Storage.open('x', factory) });
  await client.stop();
  world.pass(100000);
  assert.deepEqual([client.connection.state, world.sockets.length, client.stored], ['stopped', 1, { 0: '4' }]);
});

test('the state in the README does what it should', async () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const code = readme.split('```js\n').find((block) => block.includes('const state =')).split('const storage =')[0];
  const fresh = () => new Function(`${code.replace(/^import.*$/m, '')}; return state;`)();
  const factory = new FakeIndexedDB();
  for (const [from, next, keys] of [[0, 3, 3], [3, 5, 5], [5, 6, 6]]) {
    const world = fakeWorld();
    const state = fresh();
    const client = new Client({ world, state, storage: await Storage.open('x', factory) });
    await client.start();
    world.sockets[0].gives(hello([next]), resumed(1, from), batch(from, next), live(1));
    assert.deepEqual([state.seen.size, client.ledger.whole, world.sockets[0].said[0].from], [keys, true, from === 0 ? 'earliest' : 'cursor']);
    await client.stop();
  }
});
