// A world for the client to live in: a hand-driven clock, scripted sockets, and a stand-in for IndexedDB that keeps
// the promise that matters here: a transaction happens as a whole or not at all, also when the page is killed in it.

/** A clock that moves only by `pass`, and sockets that say what they are told to. */
export function fakeWorld() {
  const world = { url: 'ws://x/ws', clock: 1_000_000, timers: [], sockets: [], random: () => 0.5, now: () => world.clock };
  world.setTimeout = (act, ms) => {
    const timer = { act, at: world.clock + ms };
    world.timers.push(timer);
    return timer;
  };
  world.clearTimeout = (timer) => {
    world.timers = world.timers.filter((t) => t !== timer);
  };
  world.pass = (ms) => {
    const end = world.clock + ms;
    for (;;) {
      const due = world.timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      world.clock = Math.max(world.clock, due.at);
      world.clearTimeout(due);
      due.act();
    }
    world.clock = end;
  };
  world.WebSocket = class {
    constructor(url, protocol) {
      Object.assign(this, { url, protocol, readyState: 1, sent: [], closedWith: null });
      world.sockets.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close(code) {
      this.closedWith = code ?? 1005;
    }

    gives(...frames) {
      for (const frame of frames) this.onmessage({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    }

    /** What was sent apart from pings. */
    get said() {
      return this.sent.filter((frame) => frame.type !== 'ping');
    }
  };
  return world;
}

class Failure extends Error {
  constructor(name) {
    super(name);
    this.name = name;
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

/** What storage.js uses of `indexedDB`. `killAfter`: the page dies at so many more requests; nothing happens after. */
export class FakeIndexedDB {
  constructor() {
    this.databases = new Map();
    this.killAfter = Infinity;
    this.dead = false;
    // The name of the error with which the next write aborts its transaction.
    this.failPut = null;
  }

  /** Another life: the same disk, no open connections. */
  reborn() {
    const next = new FakeIndexedDB();
    for (const [name, { version, stores }] of this.databases) next.databases.set(name, { version, stores: structuredClone(stores), open: [], tail: Promise.resolve() });
    return next;
  }

  open(name, version) {
    const request = {};
    this.opening(request, name, version);
    return request;
  }

  async opening(request, name, version) {
    await settle();
    if (this.dead) return;
    let disk = this.databases.get(name);
    if (disk && disk.version > version) {
      request.error = new Failure('VersionError');
      request.onerror?.({ target: request });
      return;
    }
    if (!disk) this.databases.set(name, (disk = { version: 0, stores: new Map(), open: [], tail: Promise.resolve() }));
    if (disk.version < version) {
      for (const other of [...disk.open]) other.onversionchange?.();
      if (disk.open.length > 0) {
        request.onblocked?.();
        return;
      }
      disk.version = version;
      request.result = new FakeDatabase(this, disk);
      request.onupgradeneeded?.({ target: request });
    } else request.result = new FakeDatabase(this, disk);
    disk.open.push(request.result);
    request.onsuccess?.({ target: request });
  }

  deleteDatabase(name) {
    const request = {};
    settle().then(() => {
      this.databases.delete(name);
      request.onsuccess?.({ target: request });
    });
    return request;
  }
}

class FakeDatabase {
  constructor(factory, disk) {
    this.factory = factory;
    this.disk = disk;
  }

  get objectStoreNames() {
    const names = [...this.disk.stores.keys()];
    return Object.assign(names, { contains: (name) => names.includes(name) });
  }

  createObjectStore(name) {
    this.disk.stores.set(name, new Map());
  }

  deleteObjectStore(name) {
    this.disk.stores.delete(name);
  }

  close() {
    this.disk.open = this.disk.open.filter((other) => other !== this);
    this.closed = true;
  }

  transaction(names) {
    if (this.closed) throw new Failure('InvalidStateError');
    for (const name of names) if (!this.disk.stores.has(name)) throw new Failure('NotFoundError');
    return new FakeTransaction(this);
  }
}

class FakeTransaction {
  constructor(database) {
    const { factory, disk } = database;
    Object.assign(this, { factory, disk, requests: [], error: null, aborted: false });
    // One at a time.
    disk.tail = disk.tail.then(() => this.run());
  }

  objectStore(name) {
    const ask = (act) => {
      const request = { act };
      this.requests.push(request);
      return request;
    };
    const store = () => this.stores.get(name);
    const ordered = () => [...store().entries()].sort(([a], [b]) => (a < b ? -1 : 1));
    return {
      get: (key) => ask(() => structuredClone(store().get(key))),
      getAll: () => ask(() => structuredClone(ordered().map(([, value]) => value))),
      getAllKeys: () => ask(() => ordered().map(([key]) => key)),
      put: (value, key) => {
        const copy = structuredClone(value);
        return ask(() => {
          if (this.factory.failPut && name === 'entries') {
            this.error = new Failure(this.factory.failPut);
            this.factory.failPut = null;
            throw this.error;
          }
          store().set(key, copy);
        });
      },
      delete: (key) => ask(() => store().delete(key)),
      clear: () => ask(() => store().clear()),
    };
  }

  abort() {
    this.aborted = true;
  }

  async run() {
    this.stores = structuredClone(this.disk.stores);
    await settle();
    while (this.requests.length > 0 && !this.aborted) {
      if ((this.factory.killAfter -= 1) < 0) this.factory.dead = true;
      if (this.factory.dead) return;
      const request = this.requests.shift();
      try {
        request.result = request.act();
        request.onsuccess?.({ target: request });
      } catch (error) {
        request.error = error;
        request.onerror?.({ target: request });
        this.aborted = true;
      }
      await settle();
    }
    if (this.factory.dead) return;
    if (this.aborted) this.onabort?.();
    else {
      this.disk.stores = this.stores;
      this.oncomplete?.();
    }
  }
}
