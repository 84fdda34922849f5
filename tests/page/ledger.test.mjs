// The continuity ledger notices every record that is lost, repeated or out of order, explains what it was told, and
// resumes exactly after what was applied. Run: node --test tests/page/

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger } from '../../src/page/assets/ledger.js';

const hello = (...partitions) => ({
  type: 'hello', stream: 'v3_a',
  partitions: partitions.map(([oldest, next, position], partition) => ({ partition, oldest: String(oldest), next: String(next), position: String(position ?? next) })),
});
const batch = (partition, from, next, offsets) => ({
  type: 'batch', partition, from: String(from), next: String(next),
  records: (offsets ?? Array.from({ length: next - from }, (_, i) => from + i)).map((o) => ({ offset: String(o), events: [] })),
});
const gap = (partition, first, last, reason) => ({ type: 'gap', partition, first: String(first), last: String(last), reason });
const dead = (partition, at) => ({ type: 'dead_lettered', partition, offset: String(at), reason: 'invalid_protobuf', id: 'x' });
const resumed = (partition, from) => ({ partition, answer: 'resumed', from: String(from) });

/** A ledger that follows one partition from `from`. */
function following(from = 0) {
  const ledger = new Ledger();
  ledger.hello(hello([from, from]));
  ledger.ask();
  ledger.answer('1', resumed(0, from));
  ledger.live({ resume: '1', replayed: '0' });
  return ledger;
}

function play(ledger, frames) {
  const applied = [];
  for (const frame of frames) {
    if (frame.type === 'batch') applied.push(...ledger.batch(frame).map((r) => Number(r.offset)));
    else if (frame.type === 'gap') ledger.gap(frame);
    else ledger.deadLettered(frame);
  }
  return { applied, next: ledger.partitions.get(0).next, lost: ledger.lost, repeated: ledger.repeated, missed: ledger.missedTotal, disorder: ledger.disorder };
}

function check(what, frames, expected) {
  test(what, () => {
    const got = play(following(0), frames);
    assert.deepEqual(got, { applied: [], next: 0n, lost: 0n, repeated: 0, missed: 0, disorder: 0, ...expected });
  });
}

check('batches that continue each other are whole', [batch(0, 0, 3), batch(0, 3, 5)], { applied: [0, 1, 2, 3, 4], next: 5n });
check('offsets inside a batch without a record are holes, not losses', [batch(0, 0, 10, [1, 7])], { applied: [1, 7], next: 10n });
check('an empty batch moves on', [batch(0, 0, 4, [])], { next: 4n });
check('a jump without a word is a loss', [batch(0, 0, 3), batch(0, 5, 6)], { applied: [0, 1, 2, 5], next: 6n, lost: 2n });
check('a jump over a gap is not', [batch(0, 0, 3), gap(0, 3, 9, 'slow_client'), batch(0, 10, 11)], { applied: [0, 1, 2, 10], next: 11n, missed: 7 });
check('a gap that does not reach is a loss of the rest', [gap(0, 0, 3, 'slow_client'), batch(0, 6, 7)], { applied: [6], next: 7n, lost: 2n, missed: 4 });
check('a gap that begins late is a loss before it', [gap(0, 2, 3, 'slow_client'), batch(0, 4, 5)], { applied: [4], next: 5n, lost: 2n, missed: 2 });
check('a record that comes twice is applied once', [batch(0, 0, 3), batch(0, 1, 5)], { applied: [0, 1, 2, 3, 4], next: 5n, repeated: 2 });
check('a dead letter before its batch', [dead(0, 1), batch(0, 0, 3, [0, 2])], { applied: [0, 2], next: 3n, missed: 1 });
check('a dead letter at the start of its batch', [dead(0, 0), batch(0, 0, 3, [1, 2])], { applied: [1, 2], next: 3n, missed: 1 });
check('a dead letter after its batch', [batch(0, 0, 3, [0, 2]), dead(0, 1)], { applied: [0, 2], next: 3n, missed: 1 });
check('a dead letter alone moves on', [dead(0, 0), dead(0, 1)], { next: 2n, missed: 2 });
check('a null inside a batch', [gap(0, 1, 1, 'null'), batch(0, 0, 3, [0, 2])], { applied: [0, 2], next: 3n, missed: 1 });
check('records out of order are not applied', [batch(0, 0, 4, [2, 1, 3])], { applied: [2, 3], next: 4n, disorder: 1 });
check('a record beyond its batch is not applied', [batch(0, 0, 2, [0, 7])], { applied: [0], next: 2n, disorder: 1 });
check('nonsense is counted and nothing moves', [{ type: 'batch', partition: 0, from: '-1', next: 'x' }, gap(0, 5, 2, 'r'), { type: 'gap', partition: 'a', first: '1', last: '2' }], { disorder: 3 });
check('offsets beyond 2^53 are exact', [gap(0, 0, '9007199254740992', 'retention'), { type: 'batch', partition: 0, from: '9007199254740993', next: '9007199254740994', records: [] }], { next: 9007199254740994n, missed: 9007199254740993 });

test('a resume asks for exactly what follows, and the proof names what came', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 10)]);
  assert.equal(ledger.hello(hello([0, 30, 30])), true);
  assert.deepEqual(ledger.ask(), { type: 'resume', from: 'cursor', stream: 'v3_a', cursor: { 0: '9' } });
  // What was under way for the old position is not ours.
  assert.deepEqual(play(ledger, [batch(0, 30, 31), dead(0, 31)]).applied, []);
  ledger.answer('1', resumed(0, 10));
  assert.equal(play(ledger, [batch(0, 10, 32)]).applied.length, 22);
  ledger.countEvents(40);
  assert.equal(ledger.live({ resume: '0', replayed: '0' }), null);
  const proof = ledger.live({ resume: '1', replayed: '22' });
  assert.deepEqual(proof, { records: 22, events: 40, missed: 0, violations: 0, told: '22', ranges: [{ partition: 0, from: '10', next: '32' }] });
  assert.equal(ledger.whole, true);
});

test('an answer that jumps is a loss', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 10)]);
  ledger.hello(hello([0, 30]));
  ledger.ask();
  ledger.answer('1', resumed(0, 12));
  assert.equal(ledger.lost, 2n);
  assert.equal(ledger.live({ resume: '1' }).violations, 1);
});

test('truncated is named, not lost', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 5)]);
  ledger.hello(hello([10, 30]));
  ledger.ask();
  ledger.answer('1', { partition: 0, answer: 'truncated', requested: '5', oldest: '10', reason: 'evicted' });
  play(ledger, [batch(0, 10, 30)]);
  assert.deepEqual([ledger.lost, ledger.missedTotal, ledger.missed], [0n, 5, { evicted: 5 }]);
});

test('a resume that is interrupted goes on in the next connection, and the proof covers both', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 5)]);
  ledger.hello(hello([0, 20]));
  ledger.ask();
  ledger.answer('1', resumed(0, 5));
  play(ledger, [batch(0, 5, 12)]);
  ledger.hello(hello([0, 25]));
  assert.deepEqual(ledger.ask().cursor, { 0: '11' });
  ledger.answer('1', resumed(0, 12));
  play(ledger, [batch(0, 12, 25)]);
  const proof = ledger.live({ resume: '1', replayed: '13' });
  assert.equal(proof.records, 20);
  assert.deepEqual(proof.ranges, [{ partition: 0, from: '5', next: '25' }]);
});

test('dead letters announced but not covered before a break are counted once', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 5), dead(0, 6)]);
  assert.equal(ledger.missedTotal, 0);
  ledger.hello(hello([0, 9]));
  assert.deepEqual(ledger.ask().cursor, { 0: '4' });
  ledger.answer('1', resumed(0, 5));
  play(ledger, [dead(0, 6), batch(0, 5, 9, [5, 7, 8])]);
  assert.deepEqual([ledger.missedTotal, ledger.lost, ledger.repeated], [1, 0n, 0]);
});

test('a partition of which nothing was seen cannot be named by a cursor: everything is asked for and the rest skipped', () => {
  const ledger = new Ledger();
  ledger.hello(hello([0, 0], [0, 0]));
  assert.equal(ledger.ask().from, 'earliest');
  ledger.answer('1', resumed(0, 0));
  ledger.answer('1', resumed(1, 0));
  ledger.live({ resume: '1' });
  play(ledger, [batch(0, 0, 5)]);
  ledger.hello(hello([0, 8], [0, 3]));
  assert.equal(ledger.ask().from, 'earliest');
  ledger.answer('1', resumed(0, 0));
  ledger.answer('1', resumed(1, 0));
  assert.deepEqual(play(ledger, [batch(0, 0, 8), batch(1, 0, 3)]).applied, [5, 6, 7, 0, 1, 2]);
  assert.equal(ledger.whole, true);
});

test('a partition that a cursor cannot name, and that is still empty, needs no answer', () => {
  const ledger = new Ledger();
  ledger.hello(hello([0, 0], [0, 0]));
  ledger.ask();
  ledger.answer('1', resumed(0, 0));
  ledger.answer('1', resumed(1, 0));
  ledger.live({ resume: '1' });
  play(ledger, [batch(0, 0, 5)]);
  ledger.hello(hello([0, 8], [0, 0]));
  assert.deepEqual(ledger.ask().cursor, { 0: '4' });
  ledger.answer('1', resumed(0, 5));
  assert.deepEqual(play(ledger, [batch(0, 5, 8), batch(1, 0, 3)]).applied, [5, 6, 7, 0, 1, 2]);
  assert.equal(ledger.whole, true);
});

test('another stream of the same name empties the ledger', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 5)]);
  assert.equal(ledger.hello({ ...hello([0, 9]), stream: 'v3_b' }), false);
  assert.deepEqual([ledger.records, ledger.ask().from], [0, 'earliest']);
});

test('future goes on live from the newest, wrong_stream starts again, unavailable asks later', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 5)]);
  ledger.hello(hello([0, 3]));
  ledger.ask();
  assert.deepEqual(ledger.answer('1', { partition: 0, answer: 'unavailable', retry_after_ms: 700 }), { act: 'again', after: 700 });
  assert.deepEqual(ledger.answer('1', { partition: 0, answer: 'future', requested: '5', newest: '3' }), { act: 'future' });
  assert.deepEqual(play(ledger, [batch(0, 3, 4)]).applied, [3]);
  ledger.ask();
  assert.deepEqual(ledger.answer('2', { partition: 0, answer: 'wrong_stream', newest: '3' }), { act: 'restart' });
  assert.deepEqual(ledger.answer('1', { partition: 0, answer: 'wrong_stream', newest: '3' }), { act: 'none' });
});

test('saved and restored, it continues where it was', () => {
  const ledger = following(0);
  play(ledger, [batch(0, 0, 5), gap(0, 5, 6, 'retention'), batch(0, 9, 10)]);
  const again = Ledger.restore(JSON.parse(JSON.stringify(ledger.save())));
  assert.deepEqual([again.lost, again.missed, again.records, again.whole], [2n, { retention: 2 }, 6, false]);
  assert.equal(again.hello(hello([0, 20])), true);
  assert.deepEqual(again.ask().cursor, { 0: '9' });
});

test('a flood of gaps and violations keeps a bounded memory and exact counters', () => {
  const ledger = following(0);
  for (let i = 0; i < 5000; i += 1) ledger.batch(batch(0, i * 3, i * 3 + 1));
  for (let i = 0; i < 5000; i += 1) ledger.deadLettered(dead(0, 20000 + i * 2));
  assert.equal(ledger.lost, 2n * 4999n);
  assert.ok(ledger.violations.length <= 30 && ledger.missedShown.length <= 60 && ledger.partitions.get(0).explained.length <= 4096);
});

test('any interleaving of breaks, dead letters and holes applies every record once', () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    let state = seed * 2654435761;
    const random = (n) => {
      state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
      return (state >>> 0) % n;
    };
    const log = Array.from({ length: 120 }, () => ['record', 'record', 'record', 'hole', 'dead', 'null'][random(6)]);
    const ledger = new Ledger();
    const seen = [];
    let guard = 0;
    while ((ledger.partitions.get(0)?.next ?? 0n) < 120n && (guard += 1) < 500) {
      ledger.hello(hello([0, 120, 120]));
      const ask = ledger.ask();
      let at = ask.from === 'cursor' ? Number(ask.cursor[0]) + 1 : 0;
      ledger.answer('1', resumed(0, at));
      for (let turns = random(4); turns >= 0 && at < 120; turns -= 1) {
        const next = Math.min(120, at + 1 + random(12));
        const span = log.slice(at, next).map((kind, i) => [kind, at + i]);
        const told = span.filter(([kind]) => kind === 'dead' || kind === 'null').map(([kind, o]) => (kind === 'dead' ? dead(0, o) : gap(0, o, o, 'null')));
        const frames = [...told, batch(0, at, next, span.filter(([kind]) => kind === 'record').map(([, o]) => o))];
        // The connection may end after any frame.
        const sent = turns === 0 ? frames.slice(0, random(frames.length + 1)) : frames;
        seen.push(...play(ledger, sent).applied);
        at = next;
      }
    }
    assert.deepEqual(seen, log.flatMap((kind, i) => (kind === 'record' ? [i] : [])), `seed ${seed}`);
    assert.ok(ledger.whole, `seed ${seed}`);
    assert.equal(ledger.missedTotal, log.filter((k) => k === 'dead' || k === 'null').length, `seed ${seed}`);
  }
});
