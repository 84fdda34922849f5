// The face of the application: one paint per animation frame, and only of what changed. Holds what belongs to the
// reader alone: the selection, pause, the theme, the panel on a narrow screen.

import { Chart } from './chart.js';
import { ClientsView } from './clients_view.js';
import { attribute, h, hidden, text } from './dom.js';
import { compact, count, rate } from './format.js';
import { RunView } from './run_view.js';
import { RunsView } from './runs_view.js';
import { StreamView, howBack } from './stream_view.js';
import { link, searched } from './words.js';

const CHART_EVERY_MS = 250;
const STREAM_EVERY_MS = 200;
/** A running bar grows between events; this often is smooth enough. */
const TIME_EVERY_MS = 80;
const TOAST_MS = 15000;
/** A followed run that ended stays for so long, so that its end can be seen. */
const LINGER_MS = 2500;
const THEMES = { auto: 'as the system', dark: 'dark', light: 'light' };

export class View {
  constructor(app, remember) {
    this.app = app;
    this.remember = remember;
    this.selected = null;
    this.following = true;
    this.paused = false;
    this.pausedAt = 0;
    this.dirty = true;
    this.scheduled = false;
    this.painted = { chart: 0, stream: 0, time: 0 };
    this.lastReturn = null;
    this.toastUntil = 0;
    this.calm = matchMedia('(prefers-reduced-motion: reduce)');
    const id = (name) => document.getElementById(name);
    this.e = {
      topic: id('topic'), link: id('link'), linkText: id('link-text'), pause: id('pause'), pauseText: id('pause-text'),
      break: id('break'), breakText: id('break-text'), breakFor: id('break-for'), theme: id('theme'), themeText: id('theme-text'),
      rate: id('k-rate'), running: id('k-running'), done: id('k-done'), failed: id('k-failed'), missing: id('k-missing'),
      proof: id('k-proof'), toast: id('toast'), columns: id('columns'), stop: id('stop'), stopText: id('stop-text'), clientsOpen: id('clients-open'),
      only: id('only'), onlyThread: id('only-thread'), onlyBar: id('only-bar'), onlyText: id('only-text'), onlyClear: id('only-clear'),
    };
    this.chart = new Chart(id('chart'), id('legend'));
    this.runs = new RunsView(app, id('runs-panel'), (run, chosen) => this.choose(run, chosen));
    this.run = new RunView(id('run'), () => this.follow(!this.following), () => this.only());
    this.stream = new StreamView(app, id('stream'));
    this.clients = new ClientsView(id('clients'), () => this.schedule());
    this.panelBefore = 'run';
    this.theme(remember.get('theme') ?? 'auto');
    this.listen();
    setInterval(() => {
      this.app.tick();
      this.schedule();
    }, CHART_EVERY_MS);
  }

  listen() {
    const { e } = this;
    e.pause.addEventListener('click', () => this.pause());
    e.break.addEventListener('click', () => this.breakOrReturn());
    e.theme.addEventListener('click', () => this.nextTheme());
    e.stop.addEventListener('click', () => this.app.stopOrContinue());
    e.clientsOpen.addEventListener('click', () => this.toggleClients());
    e.onlyClear.addEventListener('click', () => this.followRun(null));
    e.only.addEventListener('submit', (event) => {
      event.preventDefault();
      const thread = e.onlyThread.value.trim();
      if (thread !== '') this.followRun({ thread, tenant: '' });
    });
    for (const button of document.querySelectorAll('[data-panel]')) {
      if (button.tagName === 'BUTTON') button.addEventListener('click', () => this.panel(button.dataset.panel));
    }
    document.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      const act = { p: () => this.pause(), s: () => this.app.stopOrContinue(), o: () => this.only(), c: () => this.toggleClients(), b: () => this.breakOrReturn(), t: () => this.nextTheme(), f: () => this.follow(!this.following), 1: () => this.panel('runs'), 2: () => this.panel('run'), 3: () => this.panel('stream'), 4: () => this.panel('clients') }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.recolour());
    document.addEventListener('visibilitychange', () => this.schedule());
  }

  recolour() {
    this.chart.colours = null;
    this.painted.chart = 0;
    this.schedule();
  }

  theme(name) {
    const known = name in THEMES ? name : 'auto';
    this.themeName = known;
    attribute(document.documentElement, 'data-theme', known === 'auto' ? null : known);
    attribute(this.e.theme, 'data-theme-name', known);
    attribute(this.e.theme, 'title', `Theme: ${THEMES[known]} (T)`);
    text(this.e.themeText, `Theme: ${THEMES[known]}`);
    this.recolour();
  }

  nextTheme() {
    const names = Object.keys(THEMES);
    this.theme(names[(names.indexOf(this.themeName) + 1) % names.length]);
    this.remember.set('theme', this.themeName);
  }

  panel(name) {
    attribute(this.e.columns, 'data-panel', name);
    attribute(this.e.clientsOpen, 'aria-pressed', String(name === 'clients'));
    this.clients.show(name === 'clients');
    if (name !== 'clients') this.panelBefore = name;
    for (const button of document.querySelectorAll('.tabs button')) attribute(button, 'aria-pressed', String(button.dataset.panel === name));
    this.schedule();
  }

  pause() {
    this.paused = !this.paused;
    this.pausedAt = this.app.model.totals.events;
    attribute(this.e.pause, 'aria-pressed', String(this.paused));
    attribute(document.documentElement, 'data-paused', this.paused);
    this.changed();
  }

  toggleClients() {
    this.panel(this.e.columns.dataset.panel === 'clients' ? this.panelBefore : 'clients');
  }

  /** Only the selected run, or everything again. */
  only() {
    const run = this.app.model.runs.get(this.selected);
    if (this.app.client.run !== null) this.followRun(null);
    else if (run) this.followRun({ thread: run.thread, tenant: run.tenant });
  }

  /** One run alone, or null for the whole stream. The address says it, so that a reload does the same. */
  followRun(run) {
    const words = new URLSearchParams(run ? { run: run.thread, ...(run.tenant ? { tenant: run.tenant } : {}) } : {});
    history.replaceState(null, '', run ? `#${words}` : location.pathname + location.search);
    if (run) this.app.follow(run);
    else this.app.unfollow();
    if (run) this.panel('run');
    this.repaintRun = true;
    this.changed();
  }

  breakOrReturn() {
    const { connection } = this.app;
    if (connection.state === 'broken' || connection.state === 'waiting') connection.now();
    else connection.breakFor(Number(this.e.breakFor.value));
  }

  choose(id, chosen) {
    this.selected = id;
    this.app.model.pinned = id;
    if (chosen) {
      this.following = false;
      this.panel('run');
      this.repaintRun = true;
    }
    this.changed();
  }

  follow(on) {
    this.following = on;
    this.repaintRun = true;
    this.changed();
  }

  changed() {
    this.dirty = true;
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.paint();
    });
  }

  paint() {
    const now = this.app.world.now();
    const dirty = this.dirty;
    this.dirty = false;
    this.paintTop(now);
    if (now - this.painted.chart >= CHART_EVERY_MS) {
      this.painted.chart = now;
      this.chart.draw(this.app.meter.window(now));
    }
    if (now - this.painted.stream >= STREAM_EVERY_MS) {
      this.painted.stream = now;
      this.stream.paint(now);
    } else if (dirty) this.later(STREAM_EVERY_MS);
    this.clients.paint();
    const quiet = this.app.connection.state !== 'live' && this.app.connection.state !== 'catching_up';
    const moving = !quiet && now - this.painted.time >= (this.calm.matches ? 1000 : TIME_EVERY_MS);
    if (this.paused && !this.repaintRun) return;
    if (!dirty && !moving && !this.repaintRun) return;
    this.painted.time = now;
    if (this.app.client.view.run !== null) this.followOnly();
    else if (this.following && !this.paused) this.followNewest(now);
    const run = this.app.model.runs.get(this.selected) ?? null;
    const at = quiet && run ? Math.min(now, run.heard) : now;
    this.runs.paint(quiet ? (this.quietAt ??= now) : ((this.quietAt = null), now), this.selected);
    this.run.paint(run, at, this.following, this.app.client.run !== null);
    this.repaintRun = false;
    if (run && run.ended === null && !quiet) this.later(TIME_EVERY_MS);
  }

  later(ms) {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => {
      this.waiting = false;
      this.schedule();
    }, ms);
  }

  /** The run to look at while following: stay with one until shortly after its end, then take the newest running. */
  followNewest(now) {
    const { runs } = this.app.model;
    const current = runs.get(this.selected);
    if (current && (current.ended === null ? now - current.heard < 8000 : now - current.heard < LINGER_MS)) return;
    let best = null;
    for (const run of runs.values()) {
      if (run.ended === null && now - run.heard < 5000) best = run;
      else if (best === null || (best.ended !== null && run.order > best.order)) best = run;
    }
    if (best) this.choose(best.id, false);
  }

  /** Of one thread there may be several runs: the newest. */
  followOnly() {
    const { runs } = this.app.model;
    const newest = [...runs.keys()].at(-1);
    if (newest !== undefined && (this.following || !runs.has(this.selected))) this.choose(newest, false);
  }

  paintTop(now) {
    const { e } = this;
    const { client, connection, hello, ledger, model, meter, returns } = this.app;
    text(e.topic, hello ? hello.topic : '');
    const { look, words } = link(client, now);
    attribute(e.link, 'data-state', look);
    text(e.linkText, words);
    const stopped = client.paused === 'yes' || client.paused === 'asked';
    attribute(e.stop, 'aria-pressed', String(stopped));
    text(e.stopText, stopped ? 'Go on' : 'Stop the stream');
    const { run } = client;
    hidden(e.only, run !== null);
    hidden(e.onlyBar, run === null);
    if (run !== null) text(e.onlyText, `${client.view.run === run ? 'Only' : 'Asking for only'} ${run.tenant ? `${run.tenant} / ` : ''}${run.thread}. ${(client.view.run === run && searched(client.view)) || ''}`);
    const away = connection.state === 'broken' || connection.state === 'waiting';
    text(e.breakText, away ? 'Reconnect now' : 'Break connection');
    attribute(e.break, 'data-away', away);
    text(e.pauseText, this.paused ? `Resume · ${compact(model.totals.events - this.pausedAt)} new` : 'Pause');
    text(e.rate, rate(meter.rate(now)));
    let running = 0;
    for (const run of model.runs.values()) if (run.ended === null) running += 1;
    text(e.running, compact(running));
    text(e.done, compact(model.totals.done));
    text(e.failed, compact(model.totals.failed));
    text(e.missing, count(ledger.lost));
    attribute(e.proof, 'data-whole', String(ledger.whole));
    const newest = returns[0];
    if (newest && newest !== this.lastReturn) {
      this.lastReturn = newest;
      if (newest.why !== 'first') this.toast(newest, now);
    }
    if (this.toastUntil > 0 && now > this.toastUntil) {
      this.toastUntil = 0;
      hidden(e.toast, true);
    }
  }

  toast(back, now) {
    const whole = back.violations === 0;
    const { e } = this;
    attribute(e.toast, 'data-whole', String(whole));
    e.toast.replaceChildren(
      h('span.seal', { 'aria-hidden': 'true' }),
      h('p', null,
        h('b', null, `${howBack(back)}: `),
        h('span', { id: 'replayed', 'data-events': back.events, 'data-records': back.records }, `${count(back.events)} events replayed`), ', ',
        h('strong', { id: 'none-missing', 'data-violations': back.violations }, !whole ? 'the sequence is not whole' : back.run ? 'in order, none twice' : 'none is missing'),
        h('span.dim', null, back.run ? '. The gateway was asked for this run alone.' : `. Every offset of ${back.ranges.length} ${back.ranges.length === 1 ? 'partition' : 'partitions'} checked${back.missed > 0 ? `; ${count(back.missed)} withheld, with reason` : ''}.`)),
      h('button.close', { type: 'button', 'aria-label': 'Dismiss', click: () => hidden(e.toast, true) }, '×'));
    hidden(e.toast, false);
    this.toastUntil = now + TOAST_MS;
  }
}
