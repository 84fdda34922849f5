// The clients of this gateway, slowest first, and why the last ones were closed. Asked for only while it is shown.

import { attribute, h, hidden, rows, text } from './dom.js';
import { ago, compact, count, duration } from './format.js';

const EVERY_MS = 2000;
/** Rows on the page; the gateway gives up to a thousand, and `/clients` has them all. */
const ROWS_SHOWN = 100;

const STATES = {
  live: 'live', replaying: 'replaying', cold: 'replaying from Kafka', waiting: 'waits for its turn', paused: 'paused by itself', closing: 'saying goodbye',
};
const POLICIES = { catchup: 'brought up to date', gap: 'told gaps', close: 'closed' };

/** One client as the cells of its row: what is shown, by the keys of the gateway. */
export function clientCells(row) {
  const seconds = row.waiting_seconds;
  return [
    `#${row.id} ${row.address}`, short(row.protocol), STATES[row.state] ?? String(row.state),
    row.behind_records === null ? 'not counted' : compact(row.behind_records),
    Number.isFinite(seconds) ? duration(seconds * 1000) : '–',
    compact(row.records_sent), count(row.gaps_told), POLICIES[row.policy] ?? String(row.policy), duration(row.connected_seconds * 1000),
  ];
}

export function closedCells(row) {
  return [
    `#${row.id} ${row.address}`, short(row.protocol), String(row.reason).replaceAll('_', ' '), row.told ? 'yes' : 'no',
    ago(row.closed_seconds_ago * 1000), compact(row.records_sent), count(row.gaps_told), duration(row.connected_seconds * 1000),
  ];
}

/** What an answer means: rows, or why there are none. */
export function understand(status, body) {
  if (status === 403) return { why: 'This port is open to others: the list is on the admin port only, at /clients.' };
  if (status === 404) return { why: 'This gateway is older and has no list of its clients.' };
  if (status !== 200 || !Array.isArray(body?.clients) || !Array.isArray(body?.closed)) return { why: 'The gateway gives no list at the moment.' };
  return { total: Number(body.total) || 0, clients: body.clients.slice(0, ROWS_SHOWN), closed: body.closed.slice(0, ROWS_SHOWN), more: body.clients.length - ROWS_SHOWN };
}

function short(protocol) {
  return String(protocol).replace('dashstream.', '');
}

const CLIENT_HEADS = ['client', 'protocol', 'state', 'records behind', 'socket full for', 'records sent', 'gaps told', 'if it falls off', 'connected'];
const CLOSED_HEADS = ['client', 'protocol', 'why', 'was told', 'when', 'records sent', 'gaps told', 'was connected'];

function table(label, heads) {
  const body = h('tbody');
  const root = h('table', { 'aria-label': label }, h('thead', null, h('tr', null, ...heads.map((head) => h('th', { scope: 'col' }, head)))), body);
  return { root, body, make: () => h('tr', null, ...heads.map((head) => h('td', { 'data-label': head }))) };
}

function fill(tr, cells) {
  cells.forEach((cell, i) => text(tr.children[i], cell));
}

export class ClientsView {
  constructor(root, changed) {
    this.changed = changed;
    this.shown = false;
    this.dirty = true;
    this.timer = null;
    this.answer = { why: 'Asking the gateway.' };
    const p = (this.parts = {});
    p.count = h('span.dim');
    p.why = h('p.empty');
    p.more = h('p.more');
    p.clients = table('Clients, slowest first', CLIENT_HEADS);
    p.closed = table('The last closed clients', CLOSED_HEADS);
    p.closedTitle = h('h3', null, 'Closed lately, and why');
    root.replaceChildren(h('div.scroll', null, h('section.block', { 'aria-label': 'Clients' },
      h('h3', null, 'Clients, slowest first', p.count), p.why, p.clients.root, p.more, p.closedTitle, p.closed.root)));
  }

  show(on) {
    if (this.shown === on) return;
    this.shown = on;
    clearTimeout(this.timer);
    if (on) this.ask();
  }

  async ask() {
    try {
      const response = await fetch('./clients', { cache: 'no-store' });
      const body = response.status === 200 ? await response.json() : null;
      this.answer = understand(response.status, body);
    } catch {
      this.answer = understand(0, null);
    }
    this.dirty = true;
    this.changed();
    clearTimeout(this.timer);
    if (this.shown) this.timer = setTimeout(() => this.ask(), EVERY_MS);
  }

  paint() {
    if (!this.shown || !this.dirty) return;
    this.dirty = false;
    const p = this.parts;
    const { why, total = 0, clients = [], closed = [], more = 0 } = this.answer;
    text(p.count, why ? '' : count(total));
    hidden(p.why, !why && clients.length > 0);
    text(p.why, why ?? 'Nobody is connected.');
    hidden(p.clients.root, clients.length === 0);
    rows(p.clients.body, clients, p.clients.make, (tr, row) => {
      attribute(tr, 'data-state', String(row.state));
      attribute(tr, 'data-slow', row.waiting_seconds > 1);
      fill(tr, clientCells(row));
    });
    hidden(p.more, more <= 0);
    text(p.more, `and ${count(Math.max(more, 0))} more at /clients`);
    hidden(p.closedTitle, closed.length === 0);
    hidden(p.closed.root, closed.length === 0);
    rows(p.closed.body, closed, p.closed.make, (tr, row) => fill(tr, closedCells(row)));
  }
}
