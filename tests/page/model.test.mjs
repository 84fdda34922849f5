// The run model reads what producers write: status, durations from `duration_us`, tokens in order, tool calls, errors;
// it survives any shape of event and stays bounded. Run: node --test tests/page/

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Model, RUNS_MAX, TOKEN_TEXT_MAX, millis, progress } from '../../src/page/assets/model.js';

const event = (event_type, at, more = {}) => ({ kind: 'event', timestamp_us: String(1_700_000_000_000_000 + at * 1000), thread_id: 't', tenant_id: 'a', event_type, attributes: {}, ...more });
const other = (kind, at, more) => ({ kind, timestamp_us: String(1_700_000_000_000_000 + at * 1000), thread_id: 't', tenant_id: 'a', ...more });

function model(...events) {
  const m = new Model();
  m.apply({ offset: '1', events }, 0, 0);
  return m;
}
const only = (m) => [...m.runs.values()][0];

test('a run from start to end, with durations from duration_us', () => {
  const m = model(
    event('GRAPH_START', 0, { attributes: { graph_name: 'g', graph_node_count: '2', graph_manifest: JSON.stringify({ nodes: [{ id: 'x' }, { id: 'y' }] }) } }),
    event('NODE_START', 5, { node_id: 'x' }), event('NODE_END', 99, { node_id: 'x', duration_us: '20000', attributes: { duration_ms: 7 } }),
    event('NODE_START', 100, { node_id: 'y' }));
  const run = only(m);
  assert.deepEqual([run.name, run.status, run.planned, progress(run)], ['g', 'running', ['x', 'y'], 0.5]);
  assert.equal(run.lanes[0].total, 20);
  m.apply({ offset: '2', events: [event('NODE_END', 130, { node_id: 'y', duration_us: '30000' }), event('GRAPH_END', 140, { duration_us: '140000' })] }, 0, 0);
  assert.deepEqual([run.status, run.took, m.totals.done, progress(run)], ['done', 140, 1, 1]);
});

test('a manifest with nodes by name, and one that is not JSON', () => {
  assert.deepEqual(only(model(event('GRAPH_START', 0, { attributes: { graph_manifest: '{"nodes":{"a":{},"__start__":{},"b":{}}}' } }))).planned, ['a', 'b']);
  const edges = '[{"from":"__start__","to":"z"},{"from":"z","to":"b"},{"from":"b","to":"z"},{"from":"b","to":"a"}]';
  assert.deepEqual(only(model(event('GRAPH_START', 0, { attributes: { graph_entry_point: 'z', graph_manifest: `{"nodes":{"a":{},"b":{},"c":{},"z":{}},"edges":${edges}}` } }))).planned, ['z', 'b', 'a', 'c']);
  assert.deepEqual(only(model(event('GRAPH_START', 0, { attributes: { graph_manifest: '{' } }))).planned, []);
});

test('a node that loops is one lane with several executions', () => {
  const run = only(model(...[0, 1, 2].flatMap((i) => [event('NODE_START', i * 10, { node_id: 'n' }), event('NODE_END', i * 10 + 5, { node_id: 'n', duration_us: '5000' })])));
  assert.deepEqual([run.lanes.length, run.lanes[0].times, run.lanes[0].total, run.lanes[0].open], [1, 3, 15, 0]);
});

test('an end without a start is placed by its duration', () => {
  const run = only(model(event('NODE_END', 50, { node_id: 'n', duration_us: '30000' })));
  const [execution] = run.lanes[0].executions;
  assert.equal(execution.end - execution.start, 30);
  assert.equal(run.partial, true);
});

test('a failure: node, run and the error are all told', () => {
  const m = model(event('GRAPH_START', 0), event('NODE_START', 1, { node_id: 'n' }), event('NODE_ERROR', 9, { node_id: 'n', attributes: { error: 'boom' } }), event('GRAPH_ERROR', 10, { attributes: { error: 'n failed' } }));
  const run = only(m);
  assert.deepEqual([run.status, run.lanes[0].failed, run.errors[0].message, m.totals.failed], ['failed', true, 'boom', 1]);
  m.apply({ offset: '2', events: [event('GRAPH_END', 11)] }, 0, 0);
  assert.deepEqual([run.status, m.totals.failed, m.totals.done], ['failed', 1, 0]);
});

test('a thread that starts its graph again is a new run', () => {
  const m = model(event('GRAPH_START', 0), event('GRAPH_END', 5), event('GRAPH_START', 10), event('NODE_START', 11, { node_id: 'n' }), event('GRAPH_END', 12), event('GRAPH_START', 13));
  assert.deepEqual([...m.runs.values()].map((r) => [r.id, r.status]), [['a/t', 'done'], ['a/t#2', 'done'], ['a/t#3', 'running']]);
  assert.equal(m.runs.get('a/t#2').lanes.length, 1);
});

const chunk = (i, text, more = {}) => other('token_chunk', 10 + i, { request_id: 'r', chunk_index: i, text, model: 'm', ...more });

test('tokens are shown in the order of their index, whatever the order of arrival', () => {
  const run = only(model(event('GRAPH_START', 0), chunk(0, 'a'), chunk(2, 'c'), chunk(1, 'b'), chunk(3, 'd', { is_final: true, finish_reason: 'STOP', stats: { completion_tokens: 9 } })));
  assert.deepEqual([run.streams[0].text, run.streams[0].done, run.counts.tokens], ['abcd', true, 9]);
});

test('a chunk that never comes does not hold the rest for ever', () => {
  const run = only(model(event('GRAPH_START', 0), ...Array.from({ length: 60 }, (_, i) => chunk(i + 1, 'x'))));
  assert.ok(run.streams[0].text.length >= 28);
  const ended = only(model(event('GRAPH_START', 0), chunk(0, 'a'), chunk(2, 'c', { is_final: true })));
  assert.equal(ended.streams[0].text, 'ac');
});

test('a tool call: called, tried again, failed', () => {
  const call = (stage, at, more) => other('tool_execution', at, { call_id: 'c', tool_name: 'search', stage, ...more });
  const run = only(model(event('GRAPH_START', 0), call('STARTED', 1, { arguments: { q: 1 } }), call('RETRYING', 2, { error: 'slow' }), call('FAILED', 9, { error: 'gone', duration_us: '8000', retry_count: 1 })));
  assert.deepEqual([run.tools.length, run.tools[0].status, run.tools[0].took, run.tools[0].args, run.tools[0].retries, run.errors.length], [1, 'failed', 8, '{"q":1}', 1, 1]);
});

test('a tool call told by events and by records is one call, in the lane of its node', () => {
  const call = (stage, at, more) => other('tool_execution', at, { call_id: 'c', tool_name: 'search', stage, ...more });
  const about = (kind, at, more) => event(kind, at, { node_id: 'x', attributes: { call_id: 'c', tool_name: 'search' }, ...more });
  const run = only(model(event('GRAPH_START', 0), event('NODE_START', 1, { node_id: 'x' }), event('NODE_START', 2, { node_id: 'y' }),
    call('REQUESTED', 3), about('TOOL_START', 4), call('COMPLETED', 9, { duration_us: '6000' }), about('TOOL_ERROR', 10)));
  assert.deepEqual([run.counts.tools, run.tools[0].status, run.errors.length, run.lanes.map((l) => l.spans.length)], [1, 'done', 0, [1, 0]]);
  const told = only(model(event('GRAPH_START', 0), event('NODE_START', 1, { node_id: 'x' }), about('TOOL_START', 4), about('TOOL_END', 9, { duration_us: '5000' })));
  assert.deepEqual([told.counts.tools, told.tools[0].took], [1, 5]);
});

test('quality, human in the loop, severity', () => {
  const run = only(model(event('GRAPH_START', 0), event('HUMAN_INTERRUPT', 1), other('metrics', 2, { scope: 'quality', scope_id: 't', metrics: { accuracy: { value: 0.9, unit: '', type: 'GAUGE' } } }), other('error', 3, { severity: 'WARNING', message: 'w' }), other('error', 4, { severity: 'ERROR', message: 'e' })));
  assert.deepEqual([run.status, run.quality.accuracy.value, run.errors.map((e) => e.message)], ['waiting', 0.9, ['e']]);
});

test('nothing that comes can throw', () => {
  const odd = [null, 7, 'x', [], {}, { kind: 'event' }, { kind: 'event', thread_id: 't', event_type: 7, attributes: [] }, { kind: 'token_chunk', thread_id: 't', chunk_index: -1, text: 5 }, { kind: 'metrics', thread_id: 't', metrics: { a: null, b: [], c: { value: {} } } }, { kind: 'tool_execution', thread_id: 't', arguments: { deep: [[[]]] }, duration_us: 'NaN' }, { kind: '__proto__', thread_id: 't' }, { kind: 'constructor', thread_id: 't' }, { kind: 'event', thread_id: '__proto__', event_type: 'constructor', timestamp_us: '999999999999999999999' }, { kind: 'state_diff', thread_id: 't', operations: [null, 1] }, { kind: 'error', thread_id: 't', context: 3 }];
  const m = new Model();
  for (const events of [odd, null, 'x', [odd]]) m.apply({ offset: '1', events }, 0, 0);
  m.apply({}, 0, 0);
  assert.ok(m.totals.events > 10);
});

test('everything is bounded', () => {
  const m = new Model();
  m.pinned = 'a/t0';
  for (let i = 0; i < RUNS_MAX + 300; i += 1) {
    m.apply({ offset: '1', events: [event('GRAPH_START', i, { thread_id: `t${i}` }), ...(i % 2 ? [event('GRAPH_END', i, { thread_id: `t${i}` })] : [])] }, 0, 0);
  }
  assert.equal(m.runs.size, RUNS_MAX);
  assert.equal(m.current.size, RUNS_MAX);
  assert.ok(m.runs.has('a/t0'), 'the run being looked at stays');
  const events = [];
  for (let i = 0; i < 3000; i += 1) {
    events.push(event('NODE_START', i, { node_id: `n${i % 300}` }), chunk(i, 'y'.repeat(100), { request_id: `r${i % 40}` }), other('tool_execution', i, { call_id: `${i}`, error: 'z'.repeat(9000), stage: 'FAILED' }));
  }
  m.apply({ offset: '2', events }, 0, 0);
  const run = m.runs.get(m.current.get('a/t'));
  const size = JSON.stringify(run).length;
  assert.ok(run.streams.reduce((n, s) => n + s.text.length, 0) <= TOKEN_TEXT_MAX);
  assert.ok(size < 512 * 1024, `one run takes ${size} bytes`);
});

test('saved runs continue', () => {
  const m = model(event('GRAPH_START', 0), event('NODE_START', 1, { node_id: 'n' }));
  const again = new Model();
  again.restore(structuredClone({ runs: [...m.runs.values()], totals: m.totals, evicted: 0 }));
  again.apply({ offset: '2', events: [event('NODE_END', 5, { node_id: 'n', duration_us: '4000' })] }, 0, 0);
  assert.deepEqual([again.runs.size, only(again).lanes[0].total], [1, 4]);
});

test('microseconds', () => {
  assert.equal(millis('1700000000000123'), 1700000000000.123);
  assert.equal(millis('9223372036854775807'), 9223372036854775);
  for (const bad of ['', 'x', '1.5', null, undefined, {}]) assert.ok(Number.isNaN(millis(bad)), String(bad));
});
