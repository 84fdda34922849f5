// What survives a reload, in IndexedDB: the cursor and the state that it belongs to, written in one transaction, so
// that the two can never disagree. A reload therefore continues without loss and without repeating anything.
//
// Two pages of one gateway share a store under a lock: the newest to open owns it and writes. Every write looks at
// the lock inside its own transaction, so that a page that was taken over never writes again; it stays correct in
// memory. What is found is checked; what is broken, or of another program, version or filter, is thrown away.

const DATABASE = 'dashstream';
const VERSION = 2;
const FORMAT = 1;
const STORES = ['meta', 'entries'];
/** Characters kept, all entries together: what a reload reads and parses in well under a second. The entries that did
 *  not change for longest go first. */
export const CHARACTERS_MAX = 16 * 1024 * 1024;
/** One entry above this is not kept: it would push out everything else. */
const ENTRY_CHARACTERS_MAX = CHARACTERS_MAX / 8;
/** Another page may hold an older version of the database open; without an answer this page works without storage. */
const OPEN_TIMEOUT_MS = 5000;

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function openOnce(factory, name) {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, VERSION);
    const timer = setTimeout(() => reject(new Error('the browser does not open its storage')), OPEN_TIMEOUT_MS);
    request.onupgradeneeded = () => {
      const database = request.result;
      for (const old of [...database.objectStoreNames]) database.deleteObjectStore(old);
      for (const store of STORES) database.createObjectStore(store);
    };
    request.onsuccess = () => {
      clearTimeout(timer);
      resolve(request.result);
    };
    request.onerror = () => {
      clearTimeout(timer);
      reject(request.error);
    };
  });
}

async function openDatabase(factory, name) {
  let database = null;
  try {
    database = await openOnce(factory, name);
    if (STORES.every((store) => database.objectStoreNames.contains(store))) return database;
  } catch (refusal) {
    if (refusal?.name !== 'VersionError') throw refusal;
  }
  // A newer version of the page made it, or somebody else: not ours to understand.
  database?.close();
  await done(factory.deleteDatabase(name));
  return openOnce(factory, name);
}

export class Storage {
  constructor(database, why) {
    this.database = database;
    this.owner = `${Date.now()} ${Math.random()}`;
    // off: nothing is kept, `why` says why · on · taken: another page of this gateway writes now
    this.state = database ? 'on' : 'off';
    this.why = why;
    this.savedAt = null;
    // What the store holds: key -> { size, seq }, least recently changed first.
    this.held = new Map();
    this.characters = 0;
    this.seq = 0;
    // Entries that were left out because of the bound.
    this.dropped = 0;
  }

  /** Without storage everything works, and only a reload starts again. */
  static none(why) {
    return new Storage(null, why);
  }

  /** Never rejects. `place` tells apart what must not be mixed: one store per place and origin. */
  static async open(place, factory = globalThis.indexedDB) {
    if (!factory) return Storage.none('this browser has no IndexedDB');
    try {
      const database = await openDatabase(factory, `${DATABASE} ${place}`);
      const storage = new Storage(database, '');
      database.onversionchange = () => {
        database.close();
        storage.turnOff('another version of this page needs the storage');
      };
      return storage;
    } catch (refusal) {
      return Storage.none(String(refusal?.message || refusal?.name || 'the browser refuses'));
    }
  }

  turnOff(why) {
    if (this.state === 'off') return;
    this.state = 'off';
    this.why = why;
  }

  /**
   * Takes the lock and returns { ledger, meta, entries: [[key, value]] }, or null if there is nothing. `kind` names the
   * program and its filter: what another kind wrote is not returned but thrown away, like what is broken. `discarded`
   * says why.
   */
  async load(kind) {
    this.kind = kind;
    this.discarded = null;
    if (this.state !== 'on') return null;
    let found;
    try {
      const transaction = this.database.transaction(STORES, 'readwrite');
      const meta = transaction.objectStore('meta');
      const entries = transaction.objectStore('entries');
      const [state, keys, values] = await Promise.all([done(meta.get('state')), done(entries.getAllKeys()), done(entries.getAll())]);
      await done(meta.put(this.owner, 'owner'));
      found = { state, keys, values };
    } catch (refusal) {
      this.turnOff(String(refusal?.message || 'the storage cannot be read'));
      return null;
    }
    if (found.state === undefined && found.keys.length === 0) return null;
    try {
      return this.understand(found);
    } catch (flaw) {
      await this.discard(flaw.message);
      return null;
    }
  }

  understand({ state, keys, values }) {
    if (state?.format !== FORMAT || typeof state.text !== 'string') throw new Error('it is of another version');
    if (state.kind !== this.kind) throw new Error('it was kept for something else');
    if (state.count !== keys.length) throw new Error('it is not whole');
    const { ledger, meta } = JSON.parse(state.text);
    const entries = values.map((value, i) => {
      if (typeof value?.text !== 'string' || !Number.isInteger(value.seq)) throw new Error('an entry is broken');
      return { key: keys[i], size: value.text.length, seq: value.seq, value: JSON.parse(value.text) };
    });
    entries.sort((a, b) => a.seq - b.seq);
    this.held = new Map(entries.map(({ key, size, seq }) => [key, { size, seq }]));
    this.characters = entries.reduce((sum, entry) => sum + entry.size, 0);
    this.seq = Math.max(0, ...entries.map((entry) => entry.seq));
    return { ledger, meta, entries: entries.map(({ key, value }) => [key, value]) };
  }

  /** What was kept is of no use: nothing of it stays. */
  async discard(why) {
    this.discarded = why;
    this.held = new Map();
    this.characters = 0;
    if (this.state !== 'on') return;
    await this.write((meta, entries) => {
      meta.delete('state');
      entries.clear();
      return () => {};
    });
  }

  /**
   * Stores one moment. `take` is called inside the transaction and returns { ledger, meta, clear, put: [[key, value]],
   * remove: [key] }. Resolves to true when all of it is stored; otherwise nothing of it is.
   */
  save(take) {
    return this.write((meta, entries) => {
      const moment = take();
      const held = moment.clear ? new Map() : new Map(this.held);
      let { seq } = this;
      let dropped = 0;
      if (moment.clear) entries.clear();
      const texts = new Map();
      for (const key of moment.remove) held.delete(key);
      for (const [key, value] of moment.put) {
        const text = JSON.stringify(value);
        held.delete(key);
        if (text.length > ENTRY_CHARACTERS_MAX) {
          dropped += 1;
          continue;
        }
        seq += 1;
        texts.set(key, { text, seq });
        held.set(key, { size: text.length, seq });
      }
      let characters = 0;
      for (const { size } of held.values()) characters += size;
      for (const [key, { size }] of held) {
        if (characters <= CHARACTERS_MAX) break;
        held.delete(key);
        characters -= size;
        dropped += 1;
      }
      for (const key of moment.clear ? [] : new Set([...this.held.keys(), ...moment.remove])) if (!held.has(key)) entries.delete(key);
      for (const [key, entry] of texts) if (held.has(key)) entries.put(entry, key);
      meta.put({ format: FORMAT, kind: this.kind, count: held.size, text: JSON.stringify({ ledger: moment.ledger, meta: moment.meta }) }, 'state');
      return () => Object.assign(this, { held, seq, characters, dropped: this.dropped + dropped, savedAt: Date.now() });
    });
  }

  /** One transaction, if this page still owns the store. `act` returns what to do when it is done. */
  write(act) {
    if (this.state !== 'on') return Promise.resolve(false);
    return new Promise((resolve) => {
      let after = null;
      const fail = (why) => {
        this.turnOff(String(why?.message || why?.name || 'the browser could not write'));
        resolve(false);
      };
      try {
        const transaction = this.database.transaction(STORES, 'readwrite');
        const meta = transaction.objectStore('meta');
        transaction.oncomplete = () => {
          after?.();
          resolve(after !== null);
        };
        transaction.onabort = () => fail(transaction.error);
        meta.get('owner').onsuccess = (event) => {
          if (event.target.result !== this.owner) {
            this.state = 'taken';
            return;
          }
          try {
            after = act(meta, transaction.objectStore('entries'));
          } catch (flaw) {
            after = null;
            transaction.abort();
            fail(flaw);
          }
        };
      } catch (refusal) {
        fail(refusal);
      }
    });
  }
}
