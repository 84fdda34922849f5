// The health of the stream: the connection, the proof that nothing is missing, what we are told we do not get,
// and where every partition stands.

import { attribute, h, hidden, rows, style, text } from './dom.js';
import { ago, compact, count, duration } from './format.js';
import { reason, searched } from './words.js';

const PARTITIONS_SHOWN = 16;
const RANGES_SHOWN = 6;
const RETURNS_SHOWN = 4;
const MISSED_SHOWN = 8;

const WHY = {
  broken: 'Back after a break', lost: 'Back after a lost connection', reload: 'Continued after a reload', first: 'History read',
  run: 'The run was read', run_left: 'Back to the whole stream',
};

/** Offsets from first to last, inclusive. */
function range(first, last) {
  return String(first) === String(last) ? count(first) : `${count(first)}–${count(last)}`;
}

/** What a return was, in words. */
export function howBack(back) {
  const away = back.awayMs > 0 && (back.why === 'broken' || back.why === 'lost');
  return away ? `${WHY[back.why]} of ${duration(back.awayMs)}` : WHY[back.why];
}

export class StreamView {
  constructor(app, root) {
    this.app = app;
    const p = (this.parts = {});
    p.verdict = h('b');
    p.verdictMore = h('span');
    p.verdictBox = h('div.verdict', null, h('span.seal', { 'aria-hidden': 'true' }), h('div', null, p.verdict, p.verdictMore));
    p.proof = h('dl.proof-figures');
    p.figure = {};
    for (const [key, label] of [['records', 'records applied'], ['lost', 'missing'], ['repeated', 'repeated'], ['missed', 'withheld, with reason']]) {
      p.figure[key] = h('dd');
      p.proof.append(h('div', { 'data-key': key }, p.figure[key], h('dt', null, label)));
    }
    p.violations = h('ul.violations');
    p.returns = h('ol.returns');
    p.returnsBox = h('section.block', { 'aria-label': 'Replays' }, h('h3', null, 'Replays'), p.returns);
    p.link = h('dl.pairs');
    p.linkValue = {};
    for (const [key, label] of [['state', 'connection'], ['round', 'round trip'], ['connects', 'connections made'], ['server', 'gateway'], ['stream', 'stream'], ['store', 'kept for a reload']]) {
      p.linkValue[key] = h('dd');
      p.link.append(h('div', null, h('dt', null, label), p.linkValue[key]));
    }
    p.partitions = h('div.partitions', { role: 'list' });
    p.partitionsMore = h('p.more');
    p.partitionsCount = h('span.dim');
    p.missedWhy = h('ul.why');
    p.missed = h('ol.missed');
    p.missedEmpty = h('p.empty', null, 'Every record so far was delivered.');
    p.notices = h('ol.notices');
    p.noticesBox = h('section.block', { 'aria-label': 'Notices' }, h('h3', null, 'Notices'), p.notices);
    root.replaceChildren(h('div.scroll', null,
      h('section.block', { 'aria-label': 'Continuity' }, h('h3', null, 'Continuity'), p.verdictBox, p.proof, p.violations),
      p.returnsBox,
      h('section.block', { 'aria-label': 'Partitions' }, h('h3', null, 'Partitions', p.partitionsCount), p.partitions, p.partitionsMore),
      h('section.block', { 'aria-label': 'Missed records' }, h('h3', null, 'Missed, and why'), p.missedEmpty, p.missedWhy, p.missed),
      h('section.block', { 'aria-label': 'Connection' }, h('h3', null, 'Connection'), p.link),
      p.noticesBox));
    this.speeds = new Map();
    this.speedAt = 0;
  }

  paint(now) {
    this.paintProof(now);
    this.paintPartitions(now);
    this.paintMissed();
    this.paintLink(now);
  }

  paintProof(now) {
    const { ledger, returns, client } = this.app;
    const p = this.parts;
    const whole = ledger.whole;
    attribute(p.verdictBox, 'data-whole', String(whole));
    const following = [...ledger.partitions.values()].filter((x) => x.state === 'following' && x.next !== null).length;
    text(p.verdict, !whole ? 'The stream is not whole' : ledger.filtered ? 'In order, none twice' : 'Nothing is missing');
    const followed = `${client.view.run === null ? '' : searched(client.view) ?? ''}`;
    text(p.verdictMore, whole && ledger.filtered
      ? `Only one run is asked for, so that offsets are left out. ${followed || 'The rest is not asked for'}.`
      : whole ? `Every offset of ${following} ${following === 1 ? 'partition' : 'partitions'} is accounted for, once and in order.`
      : 'Offsets came that continue nothing, or came twice. The ranges are below.');
    text(p.figure.records, count(ledger.records));
    text(p.figure.lost, count(ledger.lost));
    text(p.figure.repeated, count(ledger.repeated));
    text(p.figure.missed, count(ledger.missedTotal));
    hidden(p.violations, ledger.violations.length === 0);
    rows(p.violations, ledger.violations.slice(0, 4), () => h('li'), (li, v) => text(li, `p${v.partition} ${v.kind}: ${range(v.from, BigInt(v.to) - 1n)}`));
    const shown = returns.filter((r) => r.why !== 'first' || r.records > 0).slice(0, RETURNS_SHOWN);
    hidden(p.returnsBox, shown.length === 0);
    rows(p.returns, shown, makeReturn, (li, r, i) => fillReturn(li, r, now, i === 0));
  }

  paintPartitions(now) {
    const { ledger } = this.app;
    const p = this.parts;
    const all = [...ledger.partitions.values()].sort((a, b) => a.partition - b.partition);
    // With many partitions, those in trouble come first.
    if (all.length > PARTITIONS_SHOWN) all.sort((a, b) => b.violations - a.violations || Number(a.state === 'following') - Number(b.state === 'following') || a.partition - b.partition);
    text(p.partitionsCount, count(all.length));
    if (now - this.speedAt >= 1000) {
      const seconds = (now - this.speedAt) / 1000;
      for (const x of all) {
        const before = this.speeds.get(x.partition);
        this.speeds.set(x.partition, { records: x.records, rate: before ? (x.records - before.records) / seconds : 0 });
      }
      this.speedAt = now;
    }
    const top = Math.max(1, ...all.map((x) => this.speeds.get(x.partition)?.rate ?? 0));
    rows(p.partitions, all.slice(0, PARTITIONS_SHOWN), makePartition, (row, x) => {
      const [name, position, behind, speed, rail] = row.children;
      const rate = this.speeds.get(x.partition)?.rate ?? 0;
      text(name, `p${x.partition}`);
      text(position, x.next === null ? '–' : x.next === 0n ? 'empty' : count(x.next - 1n));
      const lag = x.next !== null && x.head !== null && x.head > x.next ? x.head - x.next : 0n;
      const state = x.violations > 0 ? 'broken' : x.state !== 'following' ? x.state : lag > 0n ? 'behind' : 'whole';
      attribute(row, 'data-state', state);
      text(behind, { broken: 'not whole', waiting: 'asking', absent: 'not served', not_here: 'on another host', behind: `${compact(Number(lag))} to go`, whole: 'at the head' }[state]);
      text(speed, `${compact(Math.max(0, Math.round(rate)))}/s`);
      style(rail.firstElementChild, 'transform', `scaleX(${Math.max(0, Math.min(1, rate / top)).toFixed(3)})`);
    });
    const more = all.length - PARTITIONS_SHOWN;
    hidden(p.partitionsMore, more <= 0);
    if (more > 0) text(p.partitionsMore, `and ${count(more)} more`);
  }

  paintMissed() {
    const { ledger } = this.app;
    const p = this.parts;
    hidden(p.missedEmpty, ledger.missedTotal > 0);
    rows(p.missedWhy, Object.entries(ledger.missed).sort((a, b) => b[1] - a[1]).slice(0, 8), () => h('li', null, h('b'), h('span')), (li, [label, n]) => {
      text(li.children[0], count(n));
      text(li.children[1], reason(label));
    });
    rows(p.missed, ledger.missedShown.slice(0, MISSED_SHOWN), () => h('li', null, h('code'), h('span'), h('code.id')), (li, m) => {
      text(li.children[0], `p${m.partition} ${range(m.first, m.last)}`);
      text(li.children[1], reason(m.reason));
      text(li.children[2], m.id ?? '');
      attribute(li.children[2], 'title', m.id ? `Dead letter ${m.id}` : null);
    });
  }

  paintLink(now) {
    const { connection, hello, client, notices } = this.app;
    const { storage, frames, restored } = client;
    const v = this.parts.linkValue;
    text(v.state, connection.liveSince !== null ? `live for ${duration(now - connection.liveSince)}` : connection.reason || connection.state.replace('_', ' '));
    text(v.round, connection.roundTrip === null ? '–' : `${Math.round(connection.roundTrip)} ms`);
    text(v.connects, count(connection.connects));
    text(v.server, hello ? `${hello.server_version ?? '?'}${hello.assignment === 'group' ? ', holds a share of the partitions' : ''}` : '–');
    text(v.stream, hello ? `${hello.stream}${hello.identity === 'weak' ? ' (weak identity)' : ''}` : '–');
    const kept = { on: restored ? `yes; ${count(restored.entries)} runs came from this browser` : 'yes', off: `no: ${storage.why}`, taken: 'by a newer page of this browser' };
    text(v.store, kept[storage.state]);
    const odd = frames.unknown + frames.unreadable;
    hidden(this.parts.noticesBox, notices.length === 0 && odd === 0);
    const list = odd > 0 ? [{ at: now, tone: 'info', text: `${count(odd)} frames were not understood and passed over.` }, ...notices] : notices;
    rows(this.parts.notices, list.slice(0, 6), () => h('li', null, h('span'), h('time')), (li, n) => {
      attribute(li, 'data-tone', n.tone);
      text(li.children[0], n.text);
      text(li.children[1], ago(now - n.at));
    });
  }
}

function makePartition() {
  return h('div.partition', { role: 'listitem' }, h('b'), h('code'), h('span.behind'), h('span.speed'), h('span.rail', { 'aria-hidden': 'true' }, h('span.bar')));
}

function makeReturn() {
  return h('li', null, h('header', null, h('b'), h('time')), h('p.sum'), h('ul.ranges'));
}

function fillReturn(li, r, now, newest) {
  const [head, sum, ranges] = li.children;
  attribute(li, 'data-whole', String(r.violations === 0));
  text(head.children[0], howBack(r));
  text(head.children[1], ago(now - r.at));
  text(sum, `${count(r.events)} events replayed · ${r.violations === 0 ? (r.run ? 'in order' : '0 missing') : `${r.violations} breaks in the sequence`}${r.missed > 0 ? ` · ${count(r.missed)} withheld, with reason` : ''}`);
  attribute(sum, 'title', `${count(r.records)} records; the gateway counted ${r.told === '' ? 'nothing' : count(r.told)}`);
  const shown = newest ? r.ranges.slice(0, RANGES_SHOWN) : [];
  rows(ranges, shown, () => h('li', null, h('b'), h('code'), h('span')), (row, x) => {
    text(row.children[0], `p${x.partition}`);
    text(row.children[1], x.from === null ? `→ ${count(x.next)}` : `${count(x.from)} → ${count(x.next)}`);
    text(row.children[2], x.from === null ? '' : `${compact(Number(BigInt(x.next) - BigInt(x.from)))} offsets`);
  });
}
