// What the records mean: runs, their nodes, tokens, tool calls and errors. A reducer over decoded events.
// Pure: no clock, no page, no socket; time is what the producers wrote. Everything is bounded, because the stream is
// not. Whether the stream is complete is the ledger's business, not the model's.

import { cut, oneLine } from './format.js';

export const RUNS_MAX = 200;
const LANES_MAX = 64;
const EXECUTIONS_PER_LANE_MAX = 48;
const SPANS_PER_LANE_MAX = 64;
const FEED_MAX = 240;
const TOOLS_MAX = 80;
const ERRORS_MAX = 40;
const STREAMS_MAX = 16;
/** Characters of model output kept per run; the oldest text goes first. */
export const TOKEN_TEXT_MAX = 64 * 1024;
/** Chunks that may arrive ahead of a missing one before the order of arrival is taken. */
const CHUNKS_AHEAD_MAX = 32;
const QUALITY_MAX = 12;
const TEXT_MAX = 400;
const NAME_MAX = 120;

/** A decimal string or a number of microseconds as milliseconds; NaN if it is neither. */
export function millis(us) {
  if (typeof us === 'string' && /^-?\d{1,19}$/.test(us)) return us.length <= 15 ? Number(us) / 1000 : Number(BigInt(us) / 1000n) + Number(BigInt(us) % 1000n) / 1000;
  return typeof us === 'number' ? us / 1000 : NaN;
}

function number(value) {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && value !== '' ? Number(value) : NaN;
}

function name(value, otherwise) {
  return typeof value === 'string' && value !== '' ? cut(value, NAME_MAX) : otherwise;
}

function push(list, item, max) {
  list.push(item);
  if (list.length > max) list.splice(0, list.length - max);
}

function newRun(id, thread, tenant, ms) {
  return {
    id, thread, tenant, name: null, status: 'running', partial: false,
    started: ms, last: ms, ended: null, took: null,
    planned: [], entry: null, lanes: [], streams: [], tools: [], errors: [], feed: [], quality: {},
    counts: { events: 0, chunks: 0, tokens: 0, tools: 0, errors: 0, diffs: 0, checkpoints: 0, retries: 0 },
    note: null, partition: null, offset: null, heard: 0, order: 0, version: 0,
  };
}

export class Model {
  constructor() {
    // In order of arrival; the newest is the last.
    this.runs = new Map();
    // thread -> id of its current run: a thread that starts its graph again begins a new run.
    this.current = new Map();
    this.totals = { events: 0, chunks: 0, started: 0, done: 0, failed: 0, errors: 0, unread: 0, truncated: 0 };
    this.evicted = 0;
    this.nextOrder = 1;
    this.version = 0;
    this.pinned = null;
    // For the store: ids changed and removed since it last looked.
    this.dirty = new Set();
    this.removed = new Set();
  }

  clear() {
    const { pinned, version } = this;
    Object.assign(this, new Model(), { pinned, version: version + 1 });
  }

  /** One record's events. Returns how many there were. `now` is only remembered, as the moment the run was heard of. */
  apply(record, partition, now) {
    if (record.truncated) this.totals.truncated += 1;
    const events = Array.isArray(record.events) ? record.events : [];
    for (const event of events) {
      try {
        this.event(event, partition, record.offset, now);
      } catch {
        // A shape we do not know must not stop the stream: it is counted, and the next event is read.
        this.totals.unread += 1;
      }
    }
    return events.length;
  }

  event(event, partition, offset, now) {
    this.totals.events += 1;
    this.version += 1;
    const ms = millis(event.timestamp_us);
    const run = this.runOf(event, Number.isFinite(ms) ? ms : 0);
    if (!run) {
      this.totals.unread += 1;
      return;
    }
    const at = Number.isFinite(ms) ? ms : run.last;
    run.counts.events += 1;
    run.last = Math.max(run.last, at);
    run.partition = partition;
    run.offset = offset;
    run.heard = now;
    run.version = this.version;
    this.dirty.add(run.id);
    const reader = READERS[event.kind];
    if (reader) reader(this, run, event, at);
    else feed(run, at, 'other', String(event.kind), '');
  }

  runOf(event, ms) {
    const thread = name(event.thread_id, null) || (event.kind === 'metrics' ? name(event.scope_id, null) : null);
    if (!thread) return null;
    const tenant = name(event.tenant_id, '');
    const key = `${tenant}/${thread}`;
    const begins = event.kind === 'event' && event.event_type === 'GRAPH_START';
    let run = this.runs.get(this.current.get(key));
    if (run && !(begins && run.ended !== null)) return run;
    const again = run ? run.id.match(/#(\d+)$/) : null;
    const id = run ? `${key}#${again ? Number(again[1]) + 1 : 2}` : key;
    run = newRun(id, thread, tenant, ms);
    run.partial = !begins;
    run.order = this.nextOrder;
    this.nextOrder += 1;
    this.runs.set(id, run);
    this.current.set(key, id);
    this.removed.delete(id);
    this.totals.started += 1;
    if (this.runs.size > RUNS_MAX) this.evict();
    return run;
  }

  /** The oldest finished run goes first, then the oldest of all; never the one being looked at. */
  evict() {
    let victim = null;
    for (const run of this.runs.values()) {
      if (run.id === this.pinned) continue;
      victim ??= run;
      if (run.ended !== null) {
        victim = run;
        break;
      }
    }
    if (!victim) return;
    this.runs.delete(victim.id);
    const key = `${victim.tenant}/${victim.thread}`;
    if (this.current.get(key) === victim.id) this.current.delete(key);
    this.dirty.delete(victim.id);
    this.removed.add(victim.id);
    this.evicted += 1;
  }

  finish(run, status, at) {
    if (run.ended === null) this.totals[status === 'failed' ? 'failed' : 'done'] += 1;
    run.status = status;
    run.ended = at;
    for (const lane of run.lanes) {
      for (const execution of lane.executions) {
        if (execution.end === null) Object.assign(execution, { end: Math.max(at, execution.start), status: status === 'failed' ? 'failed' : 'done' });
      }
      lane.open = 0;
    }
  }

  /** Takes back what was kept; throws, having changed nothing, if it is something else. */
  restore(saved) {
    const flawed = saved.runs.find((run) => !isRun(run));
    const counts = Object.keys(this.totals).every((key) => Number.isSafeInteger(saved.totals?.[key]));
    if (flawed !== undefined || saved.runs.length > RUNS_MAX || !counts || !Number.isSafeInteger(saved.evicted)) throw new Error('a run is broken');
    for (const run of saved.runs) {
      this.runs.set(run.id, run);
      this.current.set(`${run.tenant}/${run.thread}`, run.id);
      this.version = Math.max(this.version, run.version);
      this.nextOrder = Math.max(this.nextOrder, run.order + 1);
    }
    for (const key of Object.keys(this.totals)) this.totals[key] = saved.totals[key];
    this.evicted = saved.evicted;
  }
}

/** Whether a value has the shape that the readers and the view rely on. */
function isRun(run) {
  const like = newRun('', '', '', 0);
  const same = (value, sample) => (Array.isArray(sample) ? Array.isArray(value) : sample === null || typeof value === typeof sample);
  if (typeof run !== 'object' || run === null || run.id === '') return false;
  if (!Object.entries(like).every(([key, sample]) => key in run && same(run[key], sample))) return false;
  if (!Object.keys(like.counts).every((key) => Number.isFinite(run.counts?.[key])) || typeof run.quality !== 'object' || run.quality === null) return false;
  const objects = [run.lanes, run.streams, run.tools, run.errors, run.feed].flat();
  return objects.every((item) => typeof item === 'object' && item !== null)
    && run.lanes.every((lane) => Array.isArray(lane.executions) && Array.isArray(lane.spans))
    && run.streams.every((stream) => typeof stream.text === 'string' && typeof stream.ahead === 'object' && stream.ahead !== null);
}

function feed(run, at, tone, title, detail) {
  push(run.feed, { at, tone, title, detail: cut(detail, TEXT_MAX) }, FEED_MAX);
}

export function laneOf(run, node) {
  let lane = run.lanes.find((l) => l.node === node);
  if (!lane) {
    if (run.lanes.length >= LANES_MAX) return null;
    lane = { node, executions: [], spans: [], open: 0, times: 0, total: 0, failed: false, note: null, percent: null };
    run.lanes.push(lane);
  }
  return lane;
}

function startNode(run, node, at) {
  const lane = laneOf(run, node);
  if (!lane) return;
  lane.open += 1;
  lane.times += 1;
  lane.note = null;
  lane.percent = null;
  push(lane.executions, { start: at, end: null, status: 'running' }, EXECUTIONS_PER_LANE_MAX);
}

function endNode(run, node, at, took, status) {
  const lane = laneOf(run, node);
  if (!lane) return;
  let execution = lane.executions.find((e) => e.end === null);
  if (execution) lane.open = Math.max(0, lane.open - 1);
  else if (status === 'failed' && lane.executions.length > 0 && lane.executions.at(-1).end === at) execution = lane.executions.at(-1);
  else {
    // Its start came before we did, or will not come: the duration tells where it was.
    execution = { start: Number.isFinite(took) ? at - took : at, end: null, status };
    lane.times += 1;
    push(lane.executions, execution, EXECUTIONS_PER_LANE_MAX);
    run.started = Math.min(run.started, execution.start);
  }
  execution.end = Number.isFinite(took) ? execution.start + took : Math.max(at, execution.start);
  execution.status = status;
  lane.total += execution.end - execution.start;
  lane.failed = status === 'failed';
  lane.percent = null;
}

function span(run, node, kind, id, label, at) {
  const lane = node ? laneOf(run, node) : run.lanes.findLast((l) => l.open > 0);
  if (lane) push(lane.spans, { kind, id, label, start: at, end: null }, SPANS_PER_LANE_MAX);
}

function endSpan(run, id, at) {
  for (const lane of run.lanes) {
    const open = lane.spans.find((s) => s.id === id && s.end === null);
    if (open) {
      open.end = Math.max(at, open.start);
      return;
    }
  }
}

function error(model, run, at, title, message, more) {
  run.counts.errors += 1;
  model.totals.errors += 1;
  push(run.errors, { at, title, message: cut(message, 2000), ...more }, ERRORS_MAX);
  feed(run, at, 'error', title, message);
}

/** The nodes that a manifest promises, in the order of its edges from the entry. */
function promised(graph, entry) {
  const list = graph?.nodes;
  const names = (Array.isArray(list) ? list.map((n) => (typeof n === 'string' ? n : n?.id ?? n?.name)) : Object.keys(list ?? {}))
    .filter((n) => typeof n === 'string' && n !== '' && !/^__(start|end)__$/i.test(n)).slice(0, LANES_MAX);
  const after = new Map();
  for (const edge of Array.isArray(graph?.edges) ? graph.edges.slice(0, LANES_MAX * 8) : []) {
    if (typeof edge?.from === 'string') after.set(edge.from, [...(after.get(edge.from) ?? []), edge.to]);
  }
  const known = new Set(names);
  const order = new Set();
  const next = [entry ?? names[0]];
  for (let i = 0; i < next.length && i < LANES_MAX * 8; i += 1) {
    if (!known.has(next[i]) || order.has(next[i])) continue;
    order.add(next[i]);
    next.push(...(after.get(next[i]) ?? []));
  }
  return [...order, ...names.filter((n) => !order.has(n))].map((n) => cut(n, NAME_MAX));
}

function manifest(run, attributes) {
  run.name = name(attributes.graph_name, run.name);
  run.entry = name(attributes.graph_entry_point, run.entry);
  if (typeof attributes.graph_manifest === 'string' && attributes.graph_manifest.length <= 512 * 1024) {
    try {
      const graph = JSON.parse(attributes.graph_manifest);
      run.name ??= name(graph?.graph_name ?? graph?.name, null);
      run.planned = promised(graph, run.entry);
    } catch {
      run.note = 'The manifest of this graph is not JSON.';
    }
  }
  const declared = number(attributes.graph_node_count);
  run.declared = Number.isFinite(declared) ? declared : run.planned.length;
}

const EVENTS = {
  GRAPH_START(model, run, event, at, attributes) {
    run.started = Math.min(run.started || at, at);
    run.partial = false;
    manifest(run, attributes);
    feed(run, at, 'graph', 'Run started', run.name ?? '');
  },
  GRAPH_END(model, run, event, at) {
    run.took = millis(event.duration_us);
    const failed = run.status === 'failed';
    model.finish(run, failed ? 'failed' : 'done', at);
    feed(run, at, 'graph', failed ? 'Run ended after a failure' : 'Run finished', '');
  },
  GRAPH_ERROR(model, run, event, at, attributes) {
    run.took = millis(event.duration_us);
    error(model, run, at, 'Run failed', String(attributes.error ?? attributes.message ?? ''), { node: null });
    model.finish(run, 'failed', at);
  },
  NODE_START(model, run, event, at) {
    startNode(run, name(event.node_id, '(no name)'), at);
    feed(run, at, 'node', `${name(event.node_id, '(no name)')} started`, '');
  },
  NODE_END(model, run, event, at) {
    endNode(run, name(event.node_id, '(no name)'), at, durationOf(event), 'done');
    feed(run, at, 'node', `${name(event.node_id, '(no name)')} finished`, '');
  },
  NODE_ERROR(model, run, event, at, attributes) {
    const node = name(event.node_id, '(no name)');
    endNode(run, node, at, durationOf(event), 'failed');
    error(model, run, at, `${node} failed`, String(attributes.error ?? attributes.message ?? ''), { node });
  },
  NODE_PROGRESS(model, run, event, at, attributes) {
    const lane = laneOf(run, name(event.node_id, '(no name)'));
    if (!lane) return;
    const percent = number(attributes.percent);
    lane.percent = Number.isFinite(percent) ? Math.min(Math.max(percent, 0), 1) : null;
    lane.note = oneLine(attributes.message, 140);
  },
  NODE_THINKING(model, run, event, at, attributes) {
    const lane = laneOf(run, name(event.node_id, '(no name)'));
    if (lane) lane.note = oneLine(attributes.thought, 140);
    feed(run, at, 'node', `${name(event.node_id, 'node')} is thinking`, oneLine(attributes.thought, TEXT_MAX));
  },
  NODE_SUBSTEP(model, run, event, at, attributes) {
    const lane = laneOf(run, name(event.node_id, '(no name)'));
    if (lane) lane.note = oneLine(`${attributes.substep_name ?? 'step'}: ${attributes.status ?? ''}`, 140);
  },
  NODE_WARNING(model, run, event, at, attributes) {
    feed(run, at, 'warn', `${name(event.node_id, 'node')} warns`, oneLine(attributes.message ?? attributes.warning ?? attributes, TEXT_MAX));
  },
  LLM_START(model, run, event, at, attributes) {
    const id = name(event.llm_request_id, null);
    const node = name(event.node_id, null);
    span(run, node, 'llm', id, name(attributes.model, 'model'), at);
    if (id) streamOf(run, id, at, { node, model: name(attributes.model, null) });
    feed(run, at, 'llm', 'Model called', name(attributes.model, node ?? ''));
  },
  LLM_END(model, run, event, at) {
    endSpan(run, name(event.llm_request_id, null), at);
    const stream = run.streams.find((s) => s.id === event.llm_request_id);
    if (stream) finishStream(stream, at, stream.finish ?? 'STOP');
    feed(run, at, 'llm', 'Model answered', name(event.node_id, ''));
  },
  LLM_ERROR(model, run, event, at, attributes) {
    endSpan(run, name(event.llm_request_id, null), at);
    const stream = run.streams.find((s) => s.id === event.llm_request_id);
    if (stream) finishStream(stream, at, 'ERROR');
    error(model, run, at, 'Model call failed', String(attributes.error ?? attributes.message ?? ''), { node: name(event.node_id, null) });
  },
  LLM_RETRY(model, run, event, at, attributes) {
    run.counts.retries += 1;
    feed(run, at, 'warn', 'Model call retried', oneLine(attributes.reason ?? attributes.error ?? '', TEXT_MAX));
  },
  HUMAN_INTERRUPT(model, run, event, at) {
    if (run.ended === null) run.status = 'waiting';
    feed(run, at, 'warn', 'Waits for a human', name(event.node_id, ''));
  },
  HUMAN_RESUME(model, run, event, at) {
    if (run.ended === null) run.status = 'running';
    feed(run, at, 'graph', 'A human answered', name(event.node_id, ''));
  },
  TOOL_START(model, run, event, at, attributes) {
    const tool = toolEvent(run, event, at, attributes);
    const lane = tool && name(event.node_id, null) ? laneOf(run, event.node_id) : null;
    if (!lane) return;
    // The record does not say whose call it is; this event does.
    for (const other of run.lanes) {
      const index = other === lane ? -1 : other.spans.findIndex((s) => s.id === `tool:${tool.id}`);
      if (index >= 0) push(lane.spans, ...other.spans.splice(index, 1), SPANS_PER_LANE_MAX);
    }
  },
  TOOL_END(model, run, event, at, attributes) {
    const tool = toolEvent(run, event, at, attributes);
    if (tool) endTool(model, run, tool, at, durationOf(event), null);
  },
  TOOL_ERROR(model, run, event, at, attributes) {
    const tool = toolEvent(run, event, at, attributes);
    if (tool) endTool(model, run, tool, at, durationOf(event), String(attributes.error ?? ''));
    else error(model, run, at, 'Tool failed', String(attributes.error ?? ''), { node: name(event.node_id, null) });
  },
  PARALLEL_START(model, run, event, at, attributes) {
    feed(run, at, 'edge', 'In parallel', Array.isArray(attributes.branches) ? oneLine(attributes.branches.join(', '), TEXT_MAX) : '');
  },
  PARALLEL_END() {},
  EDGE_TRAVERSAL(model, run, event, at, attributes) {
    feed(run, at, 'edge', `${oneLine(attributes.edge_from ?? event.node_id ?? '', 60)} → ${oneLine(attributes.edge_to ?? '', 60)}`, '');
  },
  CONDITIONAL_BRANCH(model, run, event, at, attributes) {
    feed(run, at, 'edge', 'Branch taken', oneLine(attributes.edge_to ?? attributes, TEXT_MAX));
  },
};

/** Events that say again what a record of another kind says better. */
const QUIET = new Set(['CHECKPOINT_SAVE']);

function toolOf(run, id, toolName, at, node, args) {
  let tool = run.tools.find((t) => t.id === id);
  if (!tool) {
    tool = { id, name: toolName, status: 'running', started: at, took: null, args: '', result: '', retries: 0 };
    run.counts.tools += 1;
    push(run.tools, tool, TOOLS_MAX);
    span(run, node, 'tool', `tool:${id}`, tool.name, at);
    feed(run, at, 'tool', `${tool.name} called`, oneLine(args, TEXT_MAX));
  }
  return tool;
}

function endTool(model, run, tool, at, took, problem) {
  if (tool.status !== 'running') return;
  tool.took = Number.isFinite(took) ? took : Math.max(0, at - tool.started);
  tool.status = problem === null ? 'done' : 'failed';
  endSpan(run, `tool:${tool.id}`, at);
  if (problem === null) feed(run, at, 'tool', `${tool.name} returned`, tool.result);
  else {
    tool.result = oneLine(problem, TEXT_MAX);
    error(model, run, at, `${tool.name} failed`, problem, { node: null });
  }
}

/** A tool call is told twice, by events and by tool_execution records; whichever comes first counts. */
function toolEvent(run, event, at, attributes) {
  const id = name(attributes.call_id, null);
  if (id === null) return null;
  return toolOf(run, id, name(attributes.tool_name, 'tool'), at, name(event.node_id, null), '');
}

function durationOf(event) {
  const took = millis(event.duration_us);
  return took > 0 ? took : NaN;
}

function streamOf(run, id, at, seed) {
  let stream = run.streams.find((s) => s.id === id);
  if (!stream) {
    stream = {
      id, node: null, model: null, text: '', dropped: 0, next: 0, ahead: {}, tokens: 0, chunks: 0,
      first: null, last: at, started: at, done: false, finish: null, prompt: null,
    };
    push(run.streams, stream, STREAMS_MAX);
  }
  if (seed?.node) stream.node = seed.node;
  if (seed?.model) stream.model = seed.model;
  return stream;
}

function finishStream(stream, at, reason) {
  for (const index of Object.keys(stream.ahead).map(Number).sort((a, b) => a - b)) stream.text += stream.ahead[index];
  stream.ahead = {};
  stream.done = true;
  stream.finish = reason;
  stream.last = Math.max(stream.last, at);
}

function trimText(run) {
  let size = run.streams.reduce((sum, s) => sum + s.text.length, 0);
  for (const stream of run.streams) {
    if (size <= TOKEN_TEXT_MAX) return;
    // A quarter more than needed, so that the copying is rare.
    const drop = Math.min(stream.text.length, size - TOKEN_TEXT_MAX + TOKEN_TEXT_MAX / 4);
    stream.text = stream.text.slice(drop);
    stream.dropped += drop;
    size -= drop;
  }
}

const READERS = {
  event(model, run, event, at) {
    const attributes = event.attributes && typeof event.attributes === 'object' ? event.attributes : {};
    const reader = EVENTS[event.event_type];
    if (reader) reader(model, run, event, at, attributes);
    else if (!QUIET.has(event.event_type)) {
      feed(run, at, 'other', String(event.event_type ?? 'event').toLowerCase().replaceAll('_', ' '), oneLine(attributes, TEXT_MAX));
    }
    if (attributes.alert_type === 'LOW_QUALITY') feed(run, at, 'warn', 'Low quality', oneLine(attributes, TEXT_MAX));
  },

  token_chunk(model, run, event, at) {
    model.totals.chunks += 1;
    run.counts.chunks += 1;
    const stream = streamOf(run, name(event.request_id, '(no request)'), at, { model: name(event.model, null) });
    stream.chunks += 1;
    stream.first ??= at;
    stream.last = Math.max(stream.last, at);
    const text = typeof event.text === 'string' ? cut(event.text, TOKEN_TEXT_MAX / 4) : '';
    const index = Number.isInteger(event.chunk_index) ? event.chunk_index : stream.next;
    if (stream.chunks === 1 && run.partial) stream.next = index;
    if (index > stream.next && Object.keys(stream.ahead).length < CHUNKS_AHEAD_MAX) stream.ahead[index] = text;
    else {
      stream.text += text;
      stream.next = Math.max(stream.next, index + 1);
      while (stream.next in stream.ahead) {
        stream.text += stream.ahead[stream.next];
        delete stream.ahead[stream.next];
        stream.next += 1;
      }
    }
    const stats = event.stats && typeof event.stats === 'object' ? event.stats : {};
    // A chunk may hold several tokens; their ids tell how many, until the statistics at the end do.
    const counted = stream.tokens + (Array.isArray(event.token_ids) ? event.token_ids.length : 1);
    const tokens = number(stats.completion_tokens) || counted;
    run.counts.tokens += Math.max(0, tokens - stream.tokens);
    stream.tokens = Math.max(stream.tokens, tokens);
    stream.prompt = number(stats.prompt_tokens) || stream.prompt;
    if (event.is_final) finishStream(stream, at, name(event.finish_reason, 'STOP'));
    trimText(run);
  },

  tool_execution(model, run, event, at) {
    const stage = String(event.stage ?? '').toUpperCase();
    const tool = toolOf(run, name(event.call_id, `${run.counts.tools}`), name(event.tool_name, 'tool'), at, name(event.node_id, null), event.arguments);
    if (hasValue(event.arguments)) tool.args = oneLine(event.arguments, TEXT_MAX);
    if (hasValue(event.result)) tool.result = oneLine(event.result, TEXT_MAX);
    tool.retries = Math.max(tool.retries, number(event.retry_count) || 0);
    const problem = typeof event.error === 'string' && event.error !== '' ? event.error : null;
    if (stage === 'RETRYING') {
      run.counts.retries += 1;
      feed(run, at, 'warn', `${tool.name} is tried again`, oneLine(event.error, TEXT_MAX));
    } else if (stage === 'FAILED' || problem !== null) endTool(model, run, tool, at, durationOf(event), problem ?? '');
    else if (stage === 'COMPLETED') endTool(model, run, tool, at, durationOf(event), null);
  },

  state_diff(model, run, event, at) {
    run.counts.diffs += 1;
    const operations = Array.isArray(event.operations) ? event.operations : [];
    const said = operations.slice(0, 3).map((o) => `${String(o?.op ?? '')} ${o?.path ?? ''}`).join(', ');
    const more = operations.length > 3 ? ` and ${operations.length - 3} more` : '';
    feed(run, at, 'state', 'State changed', operations.length > 0 ? said + more : 'whole state');
  },

  checkpoint(model, run, event, at) {
    run.counts.checkpoints += 1;
    feed(run, at, 'state', 'Checkpoint saved', oneLine(event.checkpoint_id, 36));
  },

  metrics(model, run, event, at) {
    const metrics = event.metrics && typeof event.metrics === 'object' ? event.metrics : {};
    const said = [];
    for (const [key, metric] of Object.entries(metrics).slice(0, QUALITY_MAX)) {
      const value = metric && typeof metric === 'object' ? metric.value : metric;
      const unit = metric && typeof metric === 'object' && typeof metric.unit === 'string' ? metric.unit : '';
      const plain = typeof value === 'number' ? value : oneLine(value, 40);
      if (key in run.quality || Object.keys(run.quality).length < QUALITY_MAX) {
        run.quality[cut(key, 40)] = { value: plain, unit: cut(unit, 12), scope: name(event.scope, '') };
      }
      said.push(`${key} ${typeof plain === 'number' ? Math.round(plain * 1000) / 1000 : plain}`);
    }
    feed(run, at, 'metric', event.scope === 'quality' ? 'Quality judged' : 'Metrics', said.join(', '));
  },

  error(model, run, event, at) {
    const severity = String(event.severity ?? '').replace('SEVERITY_', '');
    if (severity === 'DEBUG' || severity === 'INFO' || severity === 'WARNING') {
      feed(run, at, severity === 'WARNING' ? 'warn' : 'other', name(event.error_code, 'notice'), oneLine(event.message, TEXT_MAX));
      return;
    }
    error(model, run, at, name(event.error_code, name(event.exception_type, 'error')), String(event.message ?? ''), {
      node: name(event.context?.node_id ?? event.context?.node, null), severity,
    });
  },

  execution_trace(model, run, event, at) {
    const nodes = Array.isArray(event.nodes_executed) ? event.nodes_executed : [];
    feed(run, at, 'graph', 'Trace', `${nodes.length} node executions, ${oneLine(event.total_tokens ?? 0, 20)} tokens`);
  },
};

function hasValue(value) {
  return value !== undefined && value !== null && value !== '';
}

/** How far a run is, between 0 and 1: distinct nodes that ran, of those its manifest names. */
export function progress(run) {
  if (run.status === 'done') return 1;
  const planned = Math.max(run.planned.length, run.declared || 0, run.lanes.length);
  if (planned === 0) return 0;
  const done = run.lanes.filter((l) => l.open === 0 && l.executions.length > 0).length;
  return Math.min(1, done / planned);
}
