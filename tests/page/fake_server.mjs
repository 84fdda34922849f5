// A stand-in for the gateway, to look at the page and to test it without Kafka: serves `src/page/assets`, speaks
// `dashstream.json` over a hand-made WebSocket, and plays believable agent runs into a small log of four partitions.
// Usage: node tests/page/fake_server.mjs [--port 3999] [--rate 300] [--partitions 4] [--lose] [--seed 7]
// `--lose` silently drops a record now and then, which the page must notice. `--old` refuses runs, filters and pauses,
// as gateways did before they knew them.

import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const PORT = option('port', 3999);
const RATE = option('rate', 300);
const PARTITIONS = option('partitions', 4);
const LOSE = process.argv.includes('--lose');
const OLD = process.argv.includes('--old');
const KEPT_MAX = option('kept', 60000);

let seed = option('seed', 7);
const random = () => {
  seed = (seed * 1103515245 + 12345) & 0x7fffffff;
  return seed / 0x7fffffff;
};
const pick = (list) => list[Math.floor(random() * list.length)];
const between = (a, b) => a + random() * (b - a);

const logs = Array.from({ length: PARTITIONS }, () => ({ records: [], oldest: 0, next: 0 }));
const clients = new Set();
const closed = [];
let ids = 0;
const STREAM = 'v3_fake0000';

const GRAPHS = [
  { name: 'research_assistant', nodes: ['plan', 'search', 'read', 'reason', 'write', 'review'] },
  { name: 'support_triage', nodes: ['classify', 'lookup_customer', 'draft_reply', 'policy_check'] },
  { name: 'code_reviewer', nodes: ['fetch_diff', 'analyse', 'run_tests', 'summarise'] },
  { name: 'invoice_extraction', nodes: ['ocr', 'extract_fields', 'validate', 'store'] },
];
const TOOLS = ['web_search', 'fetch_page', 'sql_query', 'run_python', 'read_file', 'customer_lookup'];
const WORDS = `The evidence points in one direction: throughput rises with batch size until the socket buffer fills, after which
latency grows without any gain. Three sources agree on this, and the fourth measures something else. I would therefore keep the
default at five milliseconds, note the exception for small frames, and recommend a second look once the new kernel is out.
Before answering I checked the customer's plan, the last invoice and the open tickets; nothing contradicts the refund.`.split(/\s+/);
const MODELS = ['sonnet-large', 'gpt-mini', 'qwen-72b'];

function* run(number) {
  const graph = pick(GRAPHS);
  const thread = `run-${String(4100 + number)}-${Math.floor(random() * 0xffff).toString(16).padStart(4, '0')}`;
  let sequence = 0;
  const head = () => ({ message_id: randomUUID().replaceAll('-', ''), timestamp_us: String(Date.now() * 1000 + Math.floor(random() * 999)), tenant_id: pick(['acme', 'globex']) && 'acme', thread_id: thread, sequence: String((sequence += 1)), schema_version: 1 });
  const event = (event_type, node_id, more = {}) => ({ kind: 'event', ...head(), event_type, node_id, attributes: {}, ...more });
  const began = Date.now();
  const fails = random() < 0.14;
  const failing = pick(graph.nodes.slice(1));
  yield [event('GRAPH_START', '', { attributes: { graph_name: graph.name, graph_entry_point: graph.nodes[0], graph_node_count: String(graph.nodes.length), graph_manifest: JSON.stringify({ nodes: graph.nodes.map((id) => ({ id })), edges: [] }) } }), 0];
  for (const node of graph.nodes) {
    const started = Date.now();
    yield [event('NODE_START', node), between(2, 15)];
    if (random() < 0.4) yield [event('NODE_THINKING', node, { attributes: { thought: 'Compare the sources before drawing a conclusion.', step: '1' } }), 20];
    if (random() < 0.75) {
      const tools = 1 + Math.floor(random() * 2);
      for (let i = 0; i < tools; i += 1) {
        const call = randomUUID();
        const tool = pick(TOOLS);
        const at = Date.now();
        yield [{ kind: 'tool_execution', ...head(), call_id: call, tool_name: tool, stage: 'STARTED', arguments: { query: pick(WORDS), limit: 10 } }, between(80, 600)];
        const bad = random() < 0.08;
        yield [{ kind: 'tool_execution', ...head(), call_id: call, tool_name: tool, stage: bad ? 'FAILED' : 'COMPLETED', result: bad ? undefined : { rows: Math.floor(random() * 40), status: 'ok' }, error: bad ? 'upstream answered 503 after 3 attempts' : '', duration_us: String((Date.now() - at) * 1000), retry_count: bad ? 3 : 0 }, 5];
      }
    }
    if (random() < 0.7) {
      const id = randomUUID();
      const model = pick(MODELS);
      const at = Date.now();
      yield [event('LLM_START', node, { llm_request_id: id, attributes: { model } }), between(60, 300)];
      const count = Math.floor(between(20, 90));
      const offset = Math.floor(random() * WORDS.length);
      for (let i = 0; i < count; i += 1) {
        yield [{ kind: 'token_chunk', ...head(), request_id: id, text: `${WORDS[(offset + i) % WORDS.length]} `, chunk_index: i, is_final: i === count - 1, finish_reason: i === count - 1 ? 'STOP' : 'NONE', model, ...(i === count - 1 ? { stats: { prompt_tokens: 812, completion_tokens: count, total_tokens: 812 + count } } : {}) }, between(8, 45)];
      }
      yield [event('LLM_END', node, { llm_request_id: id, duration_us: String((Date.now() - at) * 1000) }), 3];
    }
    yield [{ kind: 'state_diff', ...head(), operations: [{ op: 'REPLACE', path: `/steps/${node}`, value: 'done' }, { op: 'ADD', path: '/messages/-', value: {} }] }, 3];
    if (fails && node === failing) {
      yield [event('NODE_ERROR', node, { attributes: { error: `${node}: model refused the request (context of 131,072 tokens exceeded)` }, duration_us: String((Date.now() - started) * 1000) }), 4];
      yield [{ kind: 'error', ...head(), error_code: 'CONTEXT_LENGTH', message: `${node}: context of 131,072 tokens exceeded`, severity: 'ERROR', exception_type: 'ContextLengthError' }, 4];
      yield [event('GRAPH_ERROR', '', { attributes: { error: `node ${node} failed` }, duration_us: String((Date.now() - began) * 1000) }), 4];
      return;
    }
    yield [event('NODE_END', node, { duration_us: String((Date.now() - started) * 1000) }), between(1, 10)];
    if (random() < 0.3) yield [{ kind: 'checkpoint', ...head(), checkpoint_id: randomUUID(), state: {}, metadata: {} }, 2];
  }
  yield [{ kind: 'metrics', ...head(), scope: 'quality', scope_id: thread, metrics: { accuracy: { value: 0.7 + random() * 0.3, unit: '', type: 'GAUGE' }, relevance: { value: 0.8 + random() * 0.2, unit: '', type: 'GAUGE' }, completeness: { value: 0.6 + random() * 0.4, unit: '', type: 'GAUGE' } }, tags: {} }, 2];
  yield [event('GRAPH_END', '', { duration_us: String((Date.now() - began) * 1000) }), 0];
}

const active = [];
let runs = 0;
let produced = 0;
const t0 = Date.now();
function play() {
  const due = ((Date.now() - t0) / 1000) * RATE - produced;
  const now = Date.now();
  const concurrent = Math.max(4, Math.round(RATE / 25));
  while (active.length < concurrent && random() < 0.3) {
    const number = (runs += 1);
    active.push({ steps: run(number), partition: number % PARTITIONS, at: now });
  }
  const appended = Array.from({ length: PARTITIONS }, () => null);
  for (let i = 0, done = 0; i < active.length && done < Math.max(due, 1) * 2; i += 1) {
    const one = active[i];
    while (one.at <= now) {
      const step = one.steps.next();
      if (step.done) {
        active.splice(i, 1);
        i -= 1;
        break;
      }
      produced += 1;
      done += 1;
      const log = logs[one.partition];
      const poison = random() < 0.0008;
      const offset = log.next;
      log.next += 1;
      if (random() < 0.01) log.next += 1; // a transaction marker: a hole
      log.records.push({ offset, timestamp_ms: Date.now(), events: [step.value[0]], poison, id: poison ? randomUUID() : null });
      appended[one.partition] ??= offset;
      one.at += step.value[1];
      if (one.at < now - 200) one.at = now;
    }
  }
  for (const log of logs) {
    if (log.records.length > KEPT_MAX) {
      log.records.splice(0, log.records.length - KEPT_MAX);
      log.oldest = log.records[0].offset;
    }
  }
  for (const client of clients) client.serve();
}
setInterval(play, 20);

function frameOf(text) {
  const body = Buffer.from(text);
  const head = body.length < 126 ? Buffer.from([0x81, body.length])
    : body.length < 65536 ? Buffer.from([0x81, 126, body.length >> 8, body.length & 255])
      : Buffer.concat([Buffer.from([0x81, 127, 0, 0, 0, 0]), Buffer.from([(body.length >>> 24) & 255, (body.length >>> 16) & 255, (body.length >>> 8) & 255, body.length & 255])]);
  return Buffer.concat([head, body]);
}

class Client {
  constructor(socket) {
    this.socket = socket;
    this.position = logs.map((l) => l.next);
    this.resumes = 0;
    this.owes = '0';
    this.replayed = 0;
    this.input = Buffer.alloc(0);
    // { threads, tenants } or null; and whether the client asked for silence.
    this.filter = null;
    this.paused = false;
    this.since = Date.now();
    this.toldAt = Date.now();
    this.sent = 0;
    this.id = (ids += 1);
    this.send({ type: 'hello', stream: STREAM, topic: 'dashstream-quality', identity: 'strong', assignment: 'all', server_version: '0.1.0', partitions: logs.map((l, partition) => ({ partition, oldest: String(l.oldest), next: String(l.next), lag: '0', position: String(l.next) })), limits: { message_max_bytes: 1048576, resume_partitions_max: 1024, stall_timeout_ms: 60000, idle_timeout_ms: 60000, ping_interval_ms: 20000 } });
    socket.on('data', (data) => this.read(data));
    const gone = () => {
      if (clients.delete(this)) closed.unshift({ ...this.row(), reason: 'client_closed', told: true, closed_at_ms: Date.now() });
      closed.length = Math.min(closed.length, 100);
    };
    socket.on('close', gone);
    socket.on('error', gone);
  }

  send(frame) {
    this.socket.write(frameOf(JSON.stringify(frame)));
  }

  read(data) {
    this.input = Buffer.concat([this.input, data]);
    for (;;) {
      if (this.input.length < 6) return;
      let length = this.input[1] & 127;
      let at = 2;
      if (length === 126) {
        length = this.input.readUInt16BE(2);
        at = 4;
      }
      if (this.input.length < at + 4 + length) return;
      const mask = this.input.subarray(at, at + 4);
      const body = Buffer.from(this.input.subarray(at + 4, at + 4 + length));
      for (let i = 0; i < body.length; i += 1) body[i] ^= mask[i & 3];
      const opcode = this.input[0] & 15;
      this.input = this.input.subarray(at + 4 + length);
      if (opcode === 8) this.socket.end(Buffer.concat([Buffer.from([0x88, body.length]), body]));
      else if (opcode === 1) this.said(JSON.parse(body.toString()));
    }
  }

  row() {
    return { id: this.id, address: '127.0.0.1', protocol: 'dashstream.json', connected_at_ms: this.since, connected_seconds: Math.floor((Date.now() - this.since) / 1000), records_sent: this.sent, gaps_told: 0 };
  }

  cursor() {
    return Object.fromEntries(this.position.map((next, partition) => [partition, String(next - 1)]).filter(([, last]) => Number(last) >= 0));
  }

  keeps(record) {
    if (this.filter === null) return true;
    const in_ = (list, value) => list.length === 0 || list.includes(value);
    return record.events.some((event) => in_(this.filter.threads, event.thread_id) && in_(this.filter.tenants, event.tenant_id));
  }

  said(frame) {
    if (OLD && (frame.from === 'run' || !['ping', 'resume'].includes(frame.type))) {
      this.send({ type: 'refused', what: frame.type === 'resume' ? 'resume' : 'type', why: 'unsupported' });
    } else if (frame.type === 'pause' || frame.type === 'continue') {
      this.paused = frame.type === 'pause';
      this.send({ type: 'applied', what: frame.type, cursor: this.cursor() });
      this.serve();
    } else if (frame.type === 'subscribe') {
      const { threads = [], tenants = [] } = frame;
      this.filter = threads.length + tenants.length > 0 ? { threads, tenants } : null;
      this.send({ type: 'applied', what: 'subscribe', cursor: this.cursor() });
    } else if (frame.type === 'ping') this.send({ type: 'pong', nonce: frame.nonce });
    else if (frame.type === 'resume') {
      this.resumes += 1;
      this.replayed = 0;
      this.paused = false;
      this.searching = frame.from === 'run';
      if (this.searching) this.filter = { threads: [frame.thread], tenants: frame.tenant ? [frame.tenant] : [] };
      const answers = logs.map((log, partition) => {
        const cursor = frame.cursor?.[partition];
        const want = frame.from === 'earliest' || this.searching ? log.oldest : cursor === undefined ? log.next : Number(cursor) + 1;
        if (want < log.oldest) {
          this.position[partition] = log.oldest;
          return { partition, answer: 'truncated', requested: String(want), oldest: String(log.oldest), reason: 'evicted' };
        }
        this.position[partition] = want;
        return { partition, answer: 'resumed', from: String(want) };
      });
      this.send({ type: 'answers', resume: String(this.resumes), answers });
      this.owes = String(this.resumes);
      this.serve();
    } else this.send({ type: 'refused', what: frame.type, why: 'unsupported' });
  }

  serve() {
    if (this.paused || this.socket.writableLength > 1 << 20) return;
    let whole = true;
    logs.forEach((log, partition) => {
      for (let turns = 0; this.position[partition] < log.next && turns < 8; turns += 1) {
        const from = this.position[partition];
        let low = 0;
        let high = log.records.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (log.records[middle].offset < from) low = middle + 1;
          else high = middle;
        }
        const chunk = log.records.slice(low, low + 400);
        const next = low + 400 < log.records.length ? log.records[low + 400].offset : log.next;
        if (this.filter !== null) {
          const kept = chunk.filter((r) => !r.poison && this.keeps(r)).map((r) => ({ offset: String(r.offset), timestamp_ms: r.timestamp_ms, events: r.events }));
          if (kept.length > 0) this.send({ type: 'batch', partition, from: String(from), next: String(next), records: kept });
          this.replayed += kept.length;
          this.sent += kept.length;
          this.position[partition] = next;
          continue;
        }
        for (const r of chunk) if (r.poison) this.send({ type: 'dead_lettered', partition, offset: String(r.offset), reason: 'invalid_protobuf', id: r.id });
        const records = chunk.filter((r) => !r.poison && !(LOSE && r.offset % 997 === 996)).map((r) => ({ offset: String(r.offset), timestamp_ms: r.timestamp_ms, events: r.events }));
        const skip = LOSE && random() < 0.002 ? 3 : 0;
        this.send({ type: 'batch', partition, from: String(from + skip), next: String(next), records: records.filter((r) => Number(r.offset) >= from + skip) });
        this.replayed += records.length;
        this.sent += records.length;
        this.position[partition] = next;
      }
      if (this.position[partition] < log.next) whole = false;
    });
    if (this.filter !== null && Date.now() - this.toldAt > 1000) {
      this.toldAt = Date.now();
      this.send({ type: 'progress', cursor: this.cursor() });
    }
    if (whole && this.owes !== null) {
      if (this.searching) logs.forEach((log, partition) => this.send({ type: 'searched', partition, from: String(log.oldest), to: String(log.next) }));
      this.searching = false;
      this.send({ type: 'live', resume: this.owes, replayed: String(this.replayed) });
      this.owes = null;
    }
  }
}

const TYPES = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' };
const server = createServer((request, response) => {
  const path = new URL(request.url, 'http://x').pathname;
  if (path === '/clients') {
    const list = [...clients].map((client) => ({ ...client.row(), state: client.paused ? 'paused' : client.owes === null ? 'live' : 'replaying', behind_records: logs.reduce((sum, log, p) => sum + log.next - client.position[p], 0), waiting_seconds: null, policy: 'gap' }));
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' });
    response.end(JSON.stringify({ total: list.length, shown: list.length, clients: list, closed: closed.map((one) => ({ ...one, closed_seconds_ago: Math.floor((Date.now() - one.closed_at_ms) / 1000) })) }));
    return;
  }
  const name = path === '/' ? 'index.html' : path.match(/^\/page\/([a-z_]+\.[a-z]+)$/)?.[1];
  try {
    const body = readFileSync(fileURLToPath(new URL(`../../src/page/assets/${name}`, import.meta.url)));
    response.writeHead(200, { 'content-type': TYPES[name.split('.')[1]], 'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", 'cache-control': 'no-store' });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
server.on('upgrade', (request, socket) => {
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: dashstream.json\r\n\r\n`);
  socket.setNoDelay(true);
  clients.add(new Client(socket));
});
server.listen(PORT, '127.0.0.1', () => process.stdout.write(`listening on ${server.address().port}\n`));
