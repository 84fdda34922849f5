// The store holds one moment, whole: cursor and state agree wherever the page is killed; what is broken, foreign or of
// another filter is thrown away; two pages never mix; the size has a bound. Run: node --test tests/page/

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHARACTERS_MAX, Storage } from '../../src/page/assets/storage.js';
import { FakeIndexedDB } from './world.mjs';

const moment = (n, put, more = {}) => () => ({ ledger: { n }, meta: { n }, clear: false, put, remove: [], ...more });

async function opened(factory, kind = 'k') {
  const storage = await Storage.open('place', factory);
  return { factory, storage, found: await storage.load(kind) };
}

test('what was stored is found again, least recently changed first', async () => {
  const factory = new FakeIndexedDB();
  const { storage, found } = await opened(factory);
  assert.equal(found, null);
  assert.equal(await storage.save(moment(1, [['a', { v: 1 }], ['b', { v: 1 }]])), true);
  assert.equal(await storage.save(moment(2, [['a', { v: 2 }]])), true);
  assert.equal(await storage.save(moment(3, [['c', { v: 3 }]], { remove: ['b'] })), true);
  const again = await opened(factory.reborn());
  assert.deepEqual(again.found, { ledger: { n: 3 }, meta: { n: 3 }, entries: [['a', { v: 2 }], ['c', { v: 3 }]] });
  await again.storage.save(moment(4, [['d', 4]], { clear: true }));
  assert.deepEqual((await opened(again.factory)).found.entries, [['d', 4]]);
});

test('killed at any request, the store is one whole moment', async () => {
  let moments = new Set();
  for (let at = 0; at < 40; at += 1) {
    const factory = new FakeIndexedDB();
    const { storage } = await opened(factory);
    await storage.save(moment(1, [['a', 1], ['b', 1]]));
    factory.killAfter = at;
    const all = (async () => {
      await storage.save(moment(2, [['a', 2], ['c', 2]], { remove: ['b'] }));
      await storage.save(moment(3, [['b', 3]], { clear: true }));
    })();
    await Promise.race([all, new Promise((resolve) => setTimeout(resolve, 20))]);
    const { found } = await opened(factory.reborn());
    const expected = { 1: [['a', 1], ['b', 1]], 2: [['a', 2], ['c', 2]], 3: [['b', 3]] };
    assert.deepEqual(found.entries, expected[found.ledger.n], `killed at request ${at}`);
    moments.add(found.ledger.n);
  }
  assert.deepEqual([...moments].sort(), [1, 2, 3], 'the kill hit every stage');
});

test('a write that fails changes nothing, and the page goes on without storage', async () => {
  const factory = new FakeIndexedDB();
  const { storage } = await opened(factory);
  await storage.save(moment(1, [['a', 1]]));
  factory.failPut = 'QuotaExceededError';
  assert.equal(await storage.save(moment(2, [['a', 2]])), false);
  assert.deepEqual([storage.state, storage.why], ['off', 'QuotaExceededError']);
  assert.equal(await storage.save(moment(3, [])), false);
  assert.equal((await opened(factory.reborn())).found.ledger.n, 1);
});

test('a state that cannot be told is a failed write, not half a one', async () => {
  const factory = new FakeIndexedDB();
  const { storage } = await opened(factory);
  await storage.save(moment(1, [['a', 1]]));
  const broken = () => {
    throw new Error('no');
  };
  assert.equal(await storage.save(broken), false);
  assert.deepEqual([storage.state, storage.why], ['off', 'no']);
  assert.equal((await opened(factory.reborn())).found.ledger.n, 1);
});

test('the newest page writes; one that was taken over never does again', async () => {
  const factory = new FakeIndexedDB();
  const first = await opened(factory);
  await first.storage.save(moment(1, [['a', 1]]));
  const second = await opened(factory);
  assert.equal(second.found.ledger.n, 1);
  assert.equal(await first.storage.save(moment(9, [['a', 9]], { clear: true })), false);
  assert.equal(first.storage.state, 'taken');
  // Both at once, in any order.
  await Promise.all([first.storage.save(moment(9, [['x', 9]])), second.storage.save(moment(2, [['b', 2]]))]);
  assert.deepEqual((await opened(factory.reborn())).found, { ledger: { n: 2 }, meta: { n: 2 }, entries: [['a', 1], ['b', 2]] });
});

test('what cannot be trusted is thrown away, and the place is used anew', async () => {
  const breakings = {
    'another kind': (stores) => { stores.get('meta').get('state').kind = 'other'; },
    'another format': (stores) => { stores.get('meta').get('state').format = 7; },
    'no cursor': (stores) => stores.get('meta').delete('state'),
    'a cursor that is not JSON': (stores) => { stores.get('meta').get('state').text = '{'; },
    'a state that is something else': (stores) => stores.get('meta').set('state', 7),
    'an entry too few': (stores) => stores.get('entries').delete('a'),
    'an entry too many': (stores) => stores.get('entries').set('z', { text: '1', seq: 9 }),
    'an entry that is not JSON': (stores) => { stores.get('entries').get('a').text = 'x'; },
    'an entry that is something else': (stores) => stores.get('entries').set('a', null),
  };
  for (const [what, breaking] of Object.entries(breakings)) {
    const factory = new FakeIndexedDB();
    const { storage } = await opened(factory);
    await storage.save(moment(1, [['a', 1], ['b', 2]]));
    const next = factory.reborn();
    breaking(next.databases.get('dashstream place').stores);
    const again = await opened(next);
    assert.equal(again.found, null, what);
    assert.ok(again.storage.discarded, what);
    assert.equal(again.storage.state, 'on', what);
    const { stores } = next.databases.get('dashstream place');
    assert.deepEqual([stores.get('entries').size, stores.get('meta').has('state')], [0, false], what);
    assert.equal(await again.storage.save(moment(2, [['c', 3]])), true, what);
    assert.deepEqual((await opened(next.reborn())).found.entries, [['c', 3]], what);
  }
});

test('a database of another program or a newer version is made anew; an older version is replaced', async () => {
  for (const [version, names] of [[9, ['meta', 'entries']], [2, ['things']], [1, ['meta', 'runs']]]) {
    const factory = new FakeIndexedDB();
    factory.databases.set('dashstream place', { version, stores: new Map(names.map((name) => [name, new Map([['state', 1]])])), open: [], tail: Promise.resolve() });
    const { storage, found } = await opened(factory);
    assert.deepEqual([storage.state, found], ['on', null], `version ${version}`);
    assert.equal(await storage.save(moment(1, [['a', 1]])), true);
    assert.equal((await opened(factory.reborn())).found.ledger.n, 1);
  }
});

test('a page of another version that needs the place gets it', async () => {
  const factory = new FakeIndexedDB();
  const { storage } = await opened(factory);
  await new Promise((resolve) => { factory.open('dashstream place', 3).onsuccess = resolve; });
  assert.equal(storage.state, 'off');
  assert.equal(await storage.save(moment(1, [])), false);
});

test('without IndexedDB, or when it refuses, everything else works', async () => {
  for (const factory of [undefined, { open() { throw new Error('private window'); } }]) {
    const storage = await Storage.open('place', factory ?? null);
    assert.equal(storage.state, 'off');
    assert.ok(storage.why.length > 5);
    assert.deepEqual([await storage.load('k'), await storage.save(moment(1, []))], [null, false]);
  }
});

test('the size is bounded: what did not change for longest goes, and one entry cannot push out the rest', async () => {
  const factory = new FakeIndexedDB();
  const { storage } = await opened(factory);
  const big = 'x'.repeat(CHARACTERS_MAX / 9);
  for (let i = 0; i < 12; i += 1) await storage.save(moment(i, [[`r${i}`, big], ['small', i]]));
  await storage.save(moment(12, [['huge', big.repeat(2)]]));
  assert.ok(storage.characters <= CHARACTERS_MAX);
  const { found } = await opened(factory);
  assert.deepEqual(found.entries.map(([key]) => key), ['r4', 'r5', 'r6', 'r7', 'r8', 'r9', 'r10', 'r11', 'small']);
  assert.equal(found.ledger.n, 12);
});
