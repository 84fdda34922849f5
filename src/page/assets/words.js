// What the gateway's labels and the connection's states mean, for people. Pure.

import { count } from './format.js';

/** Reasons as the gateway names them, in words. */
const REASONS = {
  slow_client: 'this page read too slowly', null: 'empty records (tombstones)', retention: 'Kafka no longer has them',
  evicted: 'no longer in the gateway’s log', dead_lettered: 'dead-lettered', resume_refused: 'the resume was refused',
  payload_too_large: 'too large', buffer_underflow: 'broken framing', schema_version_mismatch: 'other schema version',
  invalid_protobuf: 'not decodable', unknown_decode_error: 'broken compression', truncated: 'no longer in the gateway’s log',
};

export function reason(label) {
  return REASONS[label] ?? label.replaceAll('_', ' ');
}

function sentence(words) {
  return words === '' ? 'Not connected' : words[0].toUpperCase() + words.slice(1);
}

/** The state of the link as a short sentence, and as the name that decides its look. */
export function link(client, now) {
  const { connection, paused } = client;
  const left = connection.retryAt === null ? '' : ` in ${Math.max(0, Math.ceil((connection.retryAt - now) / 1000))} s`;
  const { state } = connection;
  if (connection.greeted && (paused === 'yes' || client.heldBack)) return { look: 'held', words: 'Stopped by you, the gateway keeps our place' };
  if (connection.greeted && paused === 'asked') return { look: state, words: 'Asking the gateway to stop' };
  if (state === 'catching_up') {
    if (client.view.turn) return { look: 'queued', words: 'Waiting for our turn to be replayed' };
    if (client.view.run !== null) return { look: state, words: searched(client.view) ?? 'Looking for the run' };
    return { look: state, words: 'Catching up' };
  }
  if (state === 'live') {
    if (client.fallingBehind) return { look: 'queued', words: 'Live, but too slow for all of it' };
    return { look: state, words: client.view.run === null ? 'Live' : 'Live, one run' };
  }
  const words = {
    idle: 'Starting', connecting: 'Connecting', greeting: 'Connecting', waiting: `${sentence(connection.reason)}, trying again${left}`,
    broken: `Broken on purpose, back${left}`, stopped: sentence(connection.reason),
  };
  return { look: state, words: words[state] };
}

/** How much was looked through for a run; null while nothing was. */
export function searched(view) {
  if (view.searched.size === 0) return null;
  let offsets = 0n;
  for (const { from, to } of view.searched.values()) {
    if (/^\d+$/.test(from) && /^\d+$/.test(to) && BigInt(to) > BigInt(from)) offsets += BigInt(to) - BigInt(from);
  }
  const { size } = view.searched;
  return `Looked through ${count(offsets)} offsets of ${size} ${size === 1 ? 'partition' : 'partitions'}`;
}
