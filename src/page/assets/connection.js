// The connection: opens the socket, answers Hello with a resume, keeps trying for ever, notices a dead peer by pings.
// It knows frames by their type only; what they mean is decided by the `handlers` it is given.

import { delay } from './backoff.js';

const SUBPROTOCOL = 'dashstream.json';
const HELLO_TIMEOUT_MS = 10000;
const PING_EVERY_MS = 10000;
/** No frame at all for this long, although we asked: the peer is gone, whatever TCP thinks. */
const SILENCE_MAX_MS = 30000;

/** Close codes of the gateway, as a sentence for people. */
const CLOSE_REASONS = {
  1000: 'closed', 1001: 'the gateway is shutting down', 1002: 'protocol error', 1006: 'connection lost',
  1007: 'invalid text', 1008: 'the resume was too large', 1009: 'message too large', 1011: 'a bug in the gateway',
  1013: 'the gateway is not ready yet', 4001: 'this page did not read for too long', 4002: 'no answer to pings',
  4003: 'this page fell behind', 4004: 'the stream was replaced', 4005: 'the gateway is out of memory for clients',
};

export class Connection {
  /**
   * handlers: state(connection), hello(frame) -> frames to send, frame(frame), unreadable()
   * world: { url, WebSocket, setTimeout, clearTimeout, now, random }
   */
  constructor(handlers, world) {
    this.handlers = handlers;
    this.world = world;
    this.socket = null;
    // idle · connecting · greeting · catching_up · live · waiting · broken · stopped
    this.state = 'idle';
    this.failures = 0;
    this.connects = 0;
    this.reason = '';
    this.code = null;
    this.retryAt = null;
    this.liveSince = null;
    this.roundTrip = null;
    this.bye = null;
    this.timer = null;
    this.pinger = null;
    this.lastHeard = 0;
    this.pings = 0;
    this.pingAt = null;
  }

  become(state) {
    this.state = state;
    this.handlers.state(this);
  }

  open() {
    this.world.clearTimeout(this.timer);
    this.retryAt = null;
    this.bye = null;
    this.connects += 1;
    this.become('connecting');
    let socket;
    try {
      socket = new this.world.WebSocket(this.world.url, SUBPROTOCOL);
    } catch (refusal) {
      this.closed(1006, String(refusal?.message ?? 'refused'));
      return;
    }
    this.socket = socket;
    this.timer = this.world.setTimeout(() => this.drop('no greeting from the gateway'), HELLO_TIMEOUT_MS);
    socket.onopen = () => {
      if (this.socket === socket) this.become('greeting');
    };
    socket.onmessage = (message) => {
      if (this.socket === socket) this.heard(message.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(event.code, event.reason);
    };
  }

  heard(data) {
    this.lastHeard = this.world.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      this.handlers.unreadable();
      return;
    }
    switch (frame?.type) {
      case 'hello': {
        this.world.clearTimeout(this.timer);
        this.become('catching_up');
        for (const ask of this.handlers.hello(frame)) this.send(ask);
        this.ping();
        break;
      }
      case 'pong':
        if (this.pingAt !== null && frame.nonce === String(this.pings)) {
          this.roundTrip = this.world.now() - this.pingAt;
          this.pingAt = null;
        }
        break;
      case 'bye':
        this.bye = frame;
        this.handlers.frame(frame);
        break;
      default:
        this.handlers.frame(frame);
    }
  }

  send(frame) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(frame));
  }

  /** There was a greeting, and the connection stands. */
  get greeted() {
    return this.state === 'catching_up' || this.state === 'live';
  }

  /** A resume is under way. */
  catchingUp() {
    this.liveSince = null;
    this.become('catching_up');
  }

  /** The application found everything caught up. */
  caughtUp() {
    this.failures = 0;
    this.liveSince = this.world.now();
    this.become('live');
  }

  ping() {
    this.world.clearTimeout(this.pinger);
    this.pings += 1;
    this.pingAt = this.world.now();
    this.send({ type: 'ping', nonce: String(this.pings) });
    this.pinger = this.world.setTimeout(() => {
      if (this.world.now() - this.lastHeard > SILENCE_MAX_MS) this.drop('the gateway fell silent');
      else this.ping();
    }, PING_EVERY_MS);
  }

  /** Give up on this socket, whatever its state, without waiting for a polite end. */
  drop(reason) {
    const socket = this.socket;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      try {
        socket.close();
      } catch {
        // It was closed already.
      }
    }
    this.closed(1006, reason);
  }

  closed(code, reason) {
    this.socket = null;
    this.world.clearTimeout(this.timer);
    this.world.clearTimeout(this.pinger);
    this.liveSince = null;
    this.roundTrip = null;
    this.pingAt = null;
    this.code = code;
    this.reason = code === 1006 && reason ? reason : CLOSE_REASONS[code] ?? (reason || `closed with code ${code}`);
    const wait = delay({ failures: this.failures, random: this.world.random(), askedMs: Number(this.bye?.reconnect_after_ms), code });
    this.failures += 1;
    this.retryIn(wait, 'waiting');
  }

  retryIn(ms, state) {
    this.retryAt = this.world.now() + ms;
    this.world.clearTimeout(this.timer);
    this.timer = this.world.setTimeout(() => this.open(), ms);
    this.become(state);
  }

  /** Break the connection on purpose, and come back after so many milliseconds. */
  breakFor(ms) {
    const socket = this.socket;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000, 'broken on purpose');
    }
    this.socket = null;
    this.world.clearTimeout(this.pinger);
    this.liveSince = null;
    this.roundTrip = null;
    this.code = null;
    this.reason = 'broken on purpose';
    this.retryIn(ms, 'broken');
  }

  /** For good: nothing is tried again. */
  stop(reason) {
    this.breakFor(0);
    this.world.clearTimeout(this.timer);
    this.retryAt = null;
    this.reason = reason;
    this.become('stopped');
  }

  /** Do not wait any longer. */
  now() {
    if (this.state === 'waiting' || this.state === 'broken') this.open();
  }
}
