// The list of runs. Rows are kept per run and only those that changed are written. While the reader is in the list
// (pointer, focus or scrolled) its order stands still, and newer runs wait behind a button.

import { progress } from './model.js';
import { attribute, h, hidden, style, text } from './dom.js';
import { compact, count, duration } from './format.js';

const REORDER_EVERY_MS = 400;
export const STATUS_TEXT = { running: 'running', done: 'finished', failed: 'failed', waiting: 'waits for a human' };

/** Milliseconds a run has taken by now; a running one goes on between its events, for a while. */
export function elapsed(run, now) {
  if (run.ended !== null) return Number.isFinite(run.took) && run.took > 0 ? run.took : run.ended - run.started;
  return run.last - run.started + Math.min(Math.max(now - run.heard, 0), 10000);
}

export class RunsView {
  constructor(app, root, select) {
    this.app = app;
    this.select = select;
    this.list = root.querySelector('#runs');
    this.count = root.querySelector('#runs-count');
    this.empty = root.querySelector('#runs-empty');
    this.newer = root.querySelector('#newer');
    this.filter = 'all';
    this.query = '';
    this.rows = new Map();
    this.model = app.model;
    this.order = [];
    this.reorderedAt = 0;
    this.force = true;
    this.pointer = false;
    // Kept by an event, because asking the list for it while painting would force a layout.
    this.scrolled = false;
    this.list.addEventListener('scroll', () => {
      this.scrolled = this.list.scrollTop > 8;
    }, { passive: true });
    this.list.addEventListener('pointerenter', (event) => {
      this.pointer = event.pointerType === 'mouse';
    });
    this.list.addEventListener('pointerleave', () => {
      this.pointer = false;
    });
    this.list.addEventListener('keydown', (event) => this.onKey(event));
    this.newer.addEventListener('click', () => {
      this.list.scrollTop = 0;
      this.force = true;
    });
    const buttons = root.querySelectorAll('[data-filter]');
    for (const button of buttons) {
      button.addEventListener('click', () => {
        this.filter = button.dataset.filter;
        for (const other of buttons) attribute(other, 'aria-pressed', String(other === button));
        this.force = true;
        this.app.changed();
      });
    }
    root.querySelector('#search').addEventListener('input', (event) => {
      this.query = event.target.value.trim().toLowerCase();
      this.force = true;
      this.app.changed();
    });
  }

  onKey(event) {
    const down = event.key === 'ArrowDown' || event.key === 'j';
    const up = event.key === 'ArrowUp' || event.key === 'k';
    if (!down && !up) return;
    const row = event.target.closest('.run-row');
    const next = down ? row?.nextElementSibling : row?.previousElementSibling;
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  }

  wanted() {
    const { filter, query } = this;
    const out = [];
    for (const run of this.app.model.runs.values()) {
      if (filter === 'running' && run.ended !== null) continue;
      if (filter === 'failed' && run.status !== 'failed') continue;
      if (query !== '' && !`${run.name ?? ''} ${run.thread} ${run.tenant}`.toLowerCase().includes(query)) continue;
      out.push(run);
    }
    return out.reverse();
  }

  paint(now, selected) {
    if (this.model !== this.app.model) {
      // One run is followed alone, or no longer: other runs, and the same ones with another count of changes.
      this.model = this.app.model;
      this.force = true;
      for (const row of this.rows.values()) row.seen = null;
    }
    const wanted = this.wanted();
    text(this.count, wanted.length === this.app.model.runs.size ? count(wanted.length) : `${wanted.length} of ${this.app.model.runs.size}`);
    hidden(this.empty, wanted.length > 0);
    text(this.empty, this.app.model.runs.size > 0 ? 'No run matches.' : 'Waiting for the first run.');
    const held = this.pointer || this.scrolled || this.list.contains(document.activeElement);
    if (this.force || this.order.length === 0 || (!held && now - this.reorderedAt > REORDER_EVERY_MS)) {
      this.arrange(wanted);
      this.reorderedAt = now;
      this.force = false;
    }
    const unseen = held && wanted.length > 0 && this.order.length > 0 ? wanted.findIndex((r) => r.id === this.order[0]) : 0;
    hidden(this.newer, unseen === 0);
    if (unseen !== 0) text(this.newer, unseen > 0 ? `${unseen} newer` : 'newer runs');
    for (const id of this.order) {
      const run = this.app.model.runs.get(id);
      const row = this.rows.get(id);
      // One stop for the tabulator, from which the arrow keys go on: nobody tabs through two hundred runs.
      attribute(row.root, 'tabindex', id === selected || (id === this.order[0] && !this.rows.has(selected)) ? '0' : '-1');
      if (run) this.fill(row, run, now, id === selected);
      else attribute(row.root, 'data-status', 'gone');
    }
  }

  arrange(wanted) {
    const keep = new Set(wanted.map((r) => r.id));
    for (const [id, row] of this.rows) {
      if (keep.has(id)) continue;
      row.root.remove();
      this.rows.delete(id);
    }
    this.order = wanted.map((r) => r.id);
    let place = this.list.firstElementChild;
    for (const run of wanted) {
      let row = this.rows.get(run.id);
      if (!row) this.rows.set(run.id, (row = this.make(run.id)));
      if (row.root === place) place = place.nextElementSibling;
      else this.list.insertBefore(row.root, place);
    }
  }

  make(id) {
    const parts = {
      dot: h('span.dot', { 'aria-hidden': 'true' }), name: h('span.name'), took: h('span.took'), thread: h('span.thread'),
      badges: h('span.badges'), bar: h('span.bar'), status: h('span.visually-hidden'), seen: null,
    };
    parts.root = h('button.run-row', { type: 'button', click: () => this.select(id, true) },
      parts.dot, parts.name, parts.took, parts.thread, parts.badges, h('span.rail', { 'aria-hidden': 'true' }, parts.bar), parts.status);
    return parts;
  }

  fill(row, run, now, selected) {
    attribute(row.root, 'aria-current', selected ? 'true' : null);
    if (row.seen !== run.version || run.ended === null) text(row.took, duration(elapsed(run, now)));
    if (row.seen === run.version) return;
    row.seen = run.version;
    attribute(row.root, 'data-status', run.status);
    text(row.name, run.name ?? run.thread);
    text(row.thread, run.name ? run.thread : run.tenant);
    text(row.status, STATUS_TEXT[run.status] ?? run.status);
    const { counts } = run;
    text(row.badges, [counts.tokens > 0 ? `${compact(counts.tokens)} tok` : '', counts.tools > 0 ? `${counts.tools} ${counts.tools === 1 ? 'tool' : 'tools'}` : ''].filter(Boolean).join(' · '));
    style(row.bar, 'transform', `scaleX(${progress(run).toFixed(3)})`);
  }
}
