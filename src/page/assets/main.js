// Entry point: gives the application its world (socket, clock, storage) and its face.

import { App } from './app.js';
import { Storage } from './client.js';
import { View } from './view.js';

// Tells `boot.js` that every part arrived.
document.documentElement.dataset.loaded = 'true';

const address = new URL('./ws', location.href);
address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
address.search = '';
address.hash = '';

const world = {
  url: address.href,
  WebSocket,
  setTimeout: (act, ms) => setTimeout(act, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  // Monotonic, unlike Date.now(), and still comparable with what an earlier page saved.
  now: () => performance.timeOrigin + performance.now(),
  random: () => Math.random(),
};

/** Small preferences; a browser that forbids storage simply forgets them. */
const remember = {
  get(key) {
    try {
      return localStorage.getItem(`dashstream.${key}`);
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(`dashstream.${key}`, value);
    } catch {
      // Forgotten at the next load, which is all that happens.
    }
  },
};

/** The run that the address names: a reload, or somebody who got the link, follows it again. */
function named() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const thread = wanted.get('run');
  return thread ? { thread, tenant: wanted.get('tenant') ?? '' } : null;
}

let view = null;
const app = new App({ storage: await Storage.open(location.pathname), world, changed: () => view?.changed() });
view = new View(app, remember);
addEventListener('pagehide', () => app.client.save());
await app.start(named());
