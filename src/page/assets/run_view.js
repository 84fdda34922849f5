// One run in full: its nodes on a time axis, the model's words as they come, tool calls, errors, and what happened.

import { attribute, h, hidden, rows, style, text } from './dom.js';
import { clock, compact, count, cut, duration } from './format.js';
import { progress } from './model.js';
import { STATUS_TEXT, elapsed } from './runs_view.js';

/** What is on the page at once; the model keeps more. */
const LANES_SHOWN = 24;
const STREAMS_SHOWN = 3;
const STREAM_CHARS_SHOWN = 6000;
const TOOLS_SHOWN = 12;
const ERRORS_SHOWN = 5;
const FEED_SHOWN = 60;
const TICKS = 4;

export class RunView {
  constructor(root, follow, only) {
    this.root = root;
    this.run = null;
    this.object = null;
    this.version = -1;
    this.streams = new Map();
    this.build(follow, only);
  }

  build(follow, only) {
    const p = (this.parts = {});
    p.status = h('span.status');
    p.name = h('h2');
    p.thread = h('code.thread');
    p.follow = h('button.button.small', { type: 'button', 'aria-pressed': 'true', click: follow, title: 'Show the newest running run, always (F)' }, h('span.icon.icon-follow', { 'aria-hidden': 'true' }), h('span', null, 'Follow newest'));
    p.onlyText = h('span', null, 'Only this run');
    p.only = h('button.button.small', { type: 'button', 'aria-pressed': 'false', click: only, id: 'only-this', title: 'Ask the gateway for this run alone, from its beginning (O)' }, p.onlyText);
    p.facts = h('dl.facts');
    p.fact = {};
    for (const [key, label] of [['took', 'duration'], ['nodes', 'nodes'], ['tokens', 'tokens'], ['tools', 'tools'], ['state', 'state changes'], ['events', 'events'], ['place', 'partition']]) {
      p.fact[key] = h('dd');
      p.facts.append(h('div', null, h('dt', null, label), p.fact[key]));
    }
    p.note = h('p.note');
    p.quality = h('ul.quality', { 'aria-label': 'Quality' });
    p.errors = h('ul.errors');
    p.errorsBox = h('section.block.errors-block', { 'aria-label': 'Errors' }, h('h3', null, 'Errors'), p.errors);
    p.axis = h('div.axis', { 'aria-hidden': 'true' });
    for (let i = 0; i <= TICKS; i += 1) {
      const tick = h('span');
      style(tick, 'left', `${(100 * i) / TICKS}%`);
      p.axis.append(tick);
    }
    p.now = h('span.now');
    p.lanes = h('div.lanes', { role: 'list' });
    p.lanesMore = h('p.more');
    p.streams = h('div.streams');
    p.streamsEmpty = h('p.empty', null, 'No model has spoken yet.');
    p.tools = h('ul.tools');
    p.toolsEmpty = h('p.empty', null, 'No tool has been called yet.');
    p.toolsCount = h('span.dim');
    p.streamsCount = h('span.dim');
    p.feed = h('ol.feed');
    p.feedCount = h('span.dim');
    p.body = h('div.run-body', null,
      h('header.run-head', null,
        h('div.run-title', null, p.status, p.name, p.only, p.follow),
        h('div.run-sub', null, p.thread, p.quality),
        p.facts, p.note),
      p.errorsBox,
      h('section.block', { 'aria-label': 'Nodes' }, h('h3', null, 'Nodes', p.now), h('div.gantt', null, h('div.axis-row', null, h('span'), p.axis, h('span')), p.lanes, p.lanesMore)),
      h('div.pair', null,
        h('section.block', { 'aria-label': 'Model output' }, h('h3', null, 'Model output', p.streamsCount), p.streamsEmpty, p.streams),
        h('section.block', { 'aria-label': 'Tool calls' }, h('h3', null, 'Tool calls', p.toolsCount), p.toolsEmpty, p.tools)),
      h('section.block', { 'aria-label': 'Events' }, h('h3', null, 'Events', p.feedCount), p.feed));
    p.blank = h('div.blank', null, h('p', null, 'A run appears here as soon as one starts.'), h('p.dim', null, 'The first records arrive the moment an agent writes to the topic.'));
    this.root.replaceChildren(h('div.scroll', null, p.blank, p.body));
  }

  paint(run, now, following, only) {
    const p = this.parts;
    hidden(p.blank, run !== null);
    hidden(p.body, run === null);
    attribute(p.follow, 'aria-pressed', String(following));
    attribute(p.only, 'aria-pressed', String(only));
    if (run === null) return;
    const other = this.run !== run.id;
    // The same run may have been read again from its beginning.
    if (this.object !== run) {
      this.object = run;
      this.version = -1;
    }
    if (other) {
      this.run = run.id;
      this.version = -1;
      this.streams.clear();
      p.streams.replaceChildren();
      this.root.firstElementChild.scrollTop = 0;
    }
    const changed = this.version !== run.version;
    if (changed || run.ended === null) this.paintTime(run, now);
    if (!changed) return;
    this.version = run.version;
    this.paintHead(run);
    this.paintErrors(run);
    this.paintStreams(run);
    this.paintTools(run);
    this.paintFeed(run);
  }

  paintHead(run) {
    const p = this.parts;
    attribute(p.status, 'data-status', run.status);
    text(p.status, STATUS_TEXT[run.status] ?? run.status);
    text(p.name, run.name ?? run.thread);
    text(p.thread, run.tenant ? `${run.tenant} / ${run.thread}` : run.thread);
    const planned = Math.max(run.planned.length, run.declared || 0, run.lanes.length);
    text(p.fact.nodes, `${Math.round(progress(run) * planned)} of ${planned}`);
    text(p.fact.tokens, compact(run.counts.tokens));
    text(p.fact.tools, count(run.counts.tools));
    text(p.fact.state, count(run.counts.diffs + run.counts.checkpoints));
    text(p.fact.events, count(run.counts.events));
    text(p.fact.place, run.partition === null ? '–' : `p${run.partition} @ ${count(run.offset)}`);
    const note = run.partial ? 'This run began before what this page could still get; its first part is not shown.' : run.note;
    hidden(p.note, !note);
    text(p.note, note ?? '');
    rows(p.quality, Object.entries(run.quality), () => h('li', null, h('span'), h('b')), (li, [key, metric]) => {
      text(li.children[0], key);
      text(li.children[1], `${typeof metric.value === 'number' ? Math.round(metric.value * 100) / 100 : metric.value}${metric.unit}`);
    });
  }

  /** Everything that moves with time alone: the duration, the axis and the bars. */
  paintTime(run, now) {
    const p = this.parts;
    const total = Math.max(elapsed(run, now), 1);
    text(p.fact.took, duration(total));
    let end = total;
    for (const lane of run.lanes) for (const e of lane.executions) if (e.end !== null) end = Math.max(end, e.end - run.started);
    const scale = 100 / end;
    for (let i = 0; i <= TICKS; i += 1) text(p.axis.children[i], i === 0 ? '0' : duration((end * i) / TICKS));
    const lanes = this.lanes(run);
    rows(p.lanes, lanes.slice(0, LANES_SHOWN), makeLane, (row, lane) => fillLane(row, lane, run, scale, end));
    const busy = run.ended === null ? run.lanes.findLast((l) => l.open > 0 && (l.note || l.percent !== null)) : null;
    text(p.now, busy ? `${busy.node}: ${busy.percent === null ? '' : `${Math.round(busy.percent * 100)}% `}${busy.note ?? ''}` : '');
    const more = lanes.length - LANES_SHOWN;
    hidden(p.lanesMore, more <= 0);
    if (more > 0) text(p.lanesMore, `and ${more} more nodes`);
  }

  /** Nodes that ran, in the order they ran, then those the manifest still promises. */
  lanes(run) {
    const seen = new Set(run.lanes.map((l) => l.node));
    const waiting = run.ended === null ? run.planned.filter((n) => !seen.has(n)) : [];
    return [...run.lanes, ...waiting.map((node) => ({ node, executions: [], spans: [], open: 0, times: 0, total: 0, failed: false, note: null, percent: null }))];
  }

  paintErrors(run) {
    const p = this.parts;
    hidden(p.errorsBox, run.errors.length === 0);
    rows(p.errors, run.errors.slice(-ERRORS_SHOWN).reverse(), () => h('li', null, h('b'), h('time'), h('p')), (li, e) => {
      text(li.children[0], e.title);
      text(li.children[1], clock(e.at));
      text(li.children[2], e.message || 'no message');
    });
  }

  paintStreams(run) {
    const p = this.parts;
    hidden(p.streamsEmpty, run.streams.length > 0);
    text(p.streamsCount, run.streams.length > 0 ? count(run.streams.length) : '');
    const wanted = run.streams.slice(-STREAMS_SHOWN).reverse();
    const keep = new Set(wanted.map((s) => s.id));
    for (const [id, box] of this.streams) {
      if (keep.has(id)) continue;
      box.root.remove();
      this.streams.delete(id);
    }
    wanted.forEach((stream, place) => {
      let box = this.streams.get(stream.id);
      if (!box) this.streams.set(stream.id, (box = makeStream()));
      if (p.streams.children[place] !== box.root) p.streams.insertBefore(box.root, p.streams.children[place] ?? null);
      fillStream(box, stream);
    });
  }

  paintTools(run) {
    const p = this.parts;
    hidden(p.toolsEmpty, run.tools.length > 0);
    text(p.toolsCount, run.counts.tools > 0 ? count(run.counts.tools) : '');
    rows(p.tools, run.tools.slice(-TOOLS_SHOWN).reverse(), () => h('li', null, h('span.dot', { 'aria-hidden': 'true' }), h('b'), h('span.took'), h('code.args'), h('code.result')), (li, tool) => {
      const [, title, took, args, result] = li.children;
      attribute(li, 'data-status', tool.status);
      text(title, tool.name);
      text(took, tool.took === null ? 'running' : `${duration(tool.took)}${tool.retries > 0 ? ` · ${tool.retries} retries` : ''}`);
      text(args, cut(tool.args, 160));
      text(result, cut(tool.result, 160));
      hidden(args, tool.args === '');
      hidden(result, tool.result === '');
    });
  }

  paintFeed(run) {
    text(this.parts.feedCount, count(run.counts.events));
    rows(this.parts.feed, run.feed.slice(-FEED_SHOWN).reverse(), () => h('li', null, h('time'), h('b'), h('span')), (li, item) => {
      attribute(li, 'data-tone', item.tone);
      text(li.children[0], clock(item.at));
      text(li.children[1], item.title);
      text(li.children[2], item.detail);
    });
  }
}

function makeLane() {
  return h('div.lane', { role: 'listitem' }, h('span.label', null, h('span.dot', { 'aria-hidden': 'true' }), h('span.node'), h('span.times')), h('div.track'), h('span.took'));
}

function fillLane(row, lane, run, scale, end) {
  const [label, track, took] = row.children;
  const running = lane.open > 0;
  const status = lane.executions.length === 0 ? 'planned' : running ? 'running' : lane.failed ? 'failed' : 'done';
  attribute(row, 'data-status', status);
  text(label.children[1], lane.node);
  attribute(label, 'title', lane.node);
  text(label.children[2], lane.times > 1 ? `×${lane.times}` : '');
  const bars = [];
  let total = lane.total;
  for (const e of lane.executions) {
    const from = Math.max(0, e.start - run.started);
    const to = e.end === null ? end : Math.min(end, e.end - run.started);
    if (e.end === null) total += to - from;
    bars.push({ from, to, kind: e.end === null ? 'running' : e.status, label: `${lane.node}: ${duration(to - from)}` });
  }
  for (const s of lane.spans) {
    const from = Math.max(0, s.start - run.started);
    bars.push({ from, to: s.end === null ? end : Math.min(end, s.end - run.started), kind: s.kind, label: s.label ?? s.kind });
  }
  rows(track, bars, () => h('span'), (bar, b) => {
    attribute(bar, 'data-kind', b.kind);
    attribute(bar, 'title', b.label);
    style(bar, 'left', `${(b.from * scale).toFixed(2)}%`);
    style(bar, 'width', `${Math.max(0, (b.to - b.from) * scale).toFixed(2)}%`);
  });
  text(took, lane.executions.length === 0 ? '' : duration(total));
}

function makeStream() {
  const words = document.createTextNode('');
  const box = { words, from: 0, shown: 0, model: h('b'), node: h('span.dim'), speed: h('span.took'), out: h('div.words', { tabindex: '0' }) };
  box.out.append(h('p', null, words, h('span.caret', { 'aria-hidden': 'true' })));
  box.root = h('article.tokens', null, h('header', null, box.model, box.node, box.speed), box.out);
  return box;
}

function fillStream(box, stream) {
  text(box.model, stream.model ?? 'model');
  text(box.node, stream.node ?? '');
  const seconds = (stream.last - (stream.first ?? stream.last)) / 1000;
  const speed = seconds > 0.2 && stream.chunks > 1 ? ` · ${compact(stream.tokens / seconds)} tok/s` : '';
  text(box.speed, `${compact(stream.tokens)} tok${speed}`);
  attribute(box.root, 'data-done', stream.done ? 'true' : 'false');
  // The box is laid out from its end, so that it stays at the newest words without anybody measuring it.
  // Absolute positions in all that the model ever said: what is shown grows at its end and is cut at its start.
  const end = stream.dropped + stream.text.length;
  if (end === box.shown && box.from >= stream.dropped) return;
  if (end < box.shown || box.shown < stream.dropped || end - box.from > STREAM_CHARS_SHOWN * 1.5) {
    box.from = Math.max(stream.dropped, end - STREAM_CHARS_SHOWN);
    box.words.data = stream.text.slice(box.from - stream.dropped);
  } else box.words.appendData(stream.text.slice(box.shown - stream.dropped));
  box.shown = end;
}
